//! Histories: who may follow whom.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Distrust, TRUST_FILE, commit, vouch};
use super::Hand;
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::time::Wall;
use crate::ports::source::{Ancestor, CommitInfo, FileContent, Lineage};

const ADA: Hand = Hand(1);
const BOB: Hand = Hand(2);
const EVE: Hand = Hand(3);

/// A `trust.yaml` that names these.
fn names(hands: &[Hand]) -> String {
    let lines: String =
        hands.iter().map(|hand| format!("  h{} {}\n", hand.0, hand.public())).collect();
    format!("allowedSigners: |\n{lines}")
}

fn tip_only(hands: &[Hand]) -> String {
    format!("signed: tip\n{}", names(hands))
}

/// A repository: commits by a letter.
#[derive(Clone, Default)]
struct Book {
    commits: BTreeMap<&'static str, Ancestor>,
    order: Vec<&'static str>,
    next_time: i64,
}

impl Book {
    /// Adds a commit with this `trust.yaml`; without a hand it is not signed.
    fn add(
        &mut self,
        name: &'static str,
        parents: &[&'static str],
        trust: Option<&str>,
        hand: Option<Hand>,
    ) -> &mut Self {
        self.next_time += 60;
        self.add_at(name, parents, trust, hand, 1_700_000_000 + self.next_time)
    }

    fn add_at(
        &mut self,
        name: &'static str,
        parents: &[&'static str],
        trust: Option<&str>,
        hand: Option<Hand>,
        time: i64,
    ) -> &mut Self {
        let ids: Vec<Oid> = parents.iter().map(|name| self.id(name)).collect();
        let lines: String = ids.iter().map(|id| format!("parent {id}\n")).collect();
        let tree = &Digest::of(name.as_bytes()).hex()[..40];
        let who = format!("H <h@x> {time} +0000");
        let head = format!("tree {tree}\n{lines}author {who}\ncommitter {who}\n");
        let body = format!("\n{name}\n");
        let seal = hand.map(|hand| hand.sign("git", format!("{head}{body}").as_bytes()));
        let seal = seal.map(|text| format!("gpgsig {}\n", text.trim_end().replace('\n', "\n ")));
        let raw = format!("{head}{}{body}", seal.unwrap_or_default());
        assert!(commit::read(raw.as_bytes()).is_ok());
        let file = trust.map(|text| FileContent {
            path: TRUST_FILE.into(),
            blob: Oid::new(&Digest::of(text.as_bytes()).hex()[..40]),
            bytes: text.as_bytes().into(),
        });
        let info = CommitInfo {
            id: Oid::new(&Digest::of(raw.as_bytes()).hex()[..40]),
            author: format!("{name} <h@x>"),
            time: Wall::from_seconds(time),
            message: name.to_owned(),
        };
        let commit = Ancestor {
            info,
            parents: ids,
            raw: raw.into_bytes().into(),
            file,
            follows: true,
            tags: Vec::new(),
            steps: Vec::new(),
        };
        self.commits.insert(name, commit);
        self.order.push(name);
        self
    }

    /// Puts a tag on a commit, made an hour after it.
    fn tag(&mut self, commit: &'static str, name: &str, hand: Option<Hand>) -> &mut Self {
        let commit = self.commits.get_mut(commit).expect("is there");
        let time = commit.info.time.seconds() + 3600;
        let id = &commit.info.id;
        let head =
            format!("object {id}\ntype commit\ntag {name}\ntagger H <h@x> {time} +0000\n\nx\n");
        let seal = hand.map(|hand| hand.sign("git", head.as_bytes())).unwrap_or_default();
        commit.tags.push(format!("{head}{seal}").into_bytes().into());
        self
    }

    fn id(&self, name: &str) -> Oid {
        self.commits[name].info.id.clone()
    }

    fn by_id(&self, id: &Oid) -> &'static str {
        self.order.iter().find(|name| self.id(name) == *id).expect("is there")
    }

    /// A commit and all it stands on.
    fn reach(&self, name: &'static str) -> Vec<&'static str> {
        let mut found = vec![name];
        let mut at = 0;
        while at < found.len() {
            for parent in &self.commits[found[at]].parents {
                let parent = self.by_id(parent);
                if !found.contains(&parent) {
                    found.push(parent);
                }
            }
            at += 1;
        }
        found
    }

    /// What the adapter would bring; `known` is found good already.
    fn lineage(&self, tip: &'static str, pin: &Digest, known: Option<&'static str>) -> Lineage {
        let below = self.reach(tip);
        let is_root = |name: &&&str| {
            let file = self.commits[**name].file.as_ref();
            below.contains(*name) && file.is_some_and(|file| Digest::of(&file.bytes) == *pin)
        };
        let Some(root) = self.order.iter().find(is_root) else {
            let commits = vec![self.commits[tip].clone()];
            return Lineage { root: None, commits, edge: Vec::new(), is_whole: true };
        };
        let mut hidden = self.reach(root);
        hidden.extend(known.map(|known| self.reach(known)).unwrap_or_default());
        let mut within: Vec<&str> = self.order.clone();
        within.retain(|name| below.contains(name) && !hidden.contains(name) && *name != tip);
        within.push(tip);
        let mut edge: Vec<&'static str> = Vec::new();
        for name in within.iter().filter(|name| *name != root) {
            let parents = self.commits[name].parents.iter().map(|id| self.by_id(id));
            edge.extend(parents.filter(|parent| !within.contains(parent)));
        }
        edge.sort_unstable();
        edge.dedup();
        let around = edge.iter().map(|name| Ancestor {
            follows: self.reach(name).contains(root),
            ..self.commits[name].clone()
        });
        Lineage {
            root: Some(self.id(root)),
            commits: within.iter().map(|name| self.commits[name].clone()).collect(),
            edge: around.collect(),
            is_whole: known.is_none(),
        }
    }

    /// Who signed it, or who did what wrong.
    fn ask(&self, tip: &'static str, pin: &str) -> Result<String, (String, Distrust)> {
        let pin = Digest::of(pin.as_bytes());
        match vouch(&self.lineage(tip, &pin, None), &pin) {
            Ok(vouched) => Ok(vouched.signer.name.to_string()),
            Err(refusal) => Err((refusal.culprit.message.clone(), refusal.why)),
        }
    }
}

fn at_fault<T: std::fmt::Debug>(answer: &Result<T, (String, Distrust)>) -> &str {
    &answer.as_ref().expect_err("is refused").0
}

#[test]
fn what_a_named_key_signed_is_taken_and_nothing_else() {
    let first = names(&[ADA]);
    let mut book = Book::default();
    book.add("old", &[], None, None)
        .add("root", &["old"], Some(&first), Some(ADA))
        .add("good", &["root"], Some(&first), Some(ADA))
        .add("plain", &["good"], Some(&first), None)
        .add("eve", &["good"], Some(&first), Some(EVE))
        .add("after", &["plain"], Some(&first), Some(ADA));
    assert_eq!(book.ask("root", &first), Ok("h1".into()));
    assert_eq!(book.ask("good", &first), Ok("h1".into()));
    assert_eq!(book.ask("plain", &first), Err(("plain".into(), Distrust::Unsigned)));
    assert_eq!(book.ask("eve", &first), Err(("eve".into(), Distrust::Unknown(EVE.fingerprint()))));
    assert_eq!(book.ask("after", &first), Err(("plain".into(), Distrust::Unsigned)));
    assert_eq!(book.ask("old", &first), Err(("old".into(), Distrust::NoRoot)));
    assert_eq!(book.ask("good", &names(&[EVE])), Err(("good".into(), Distrust::NoRoot)));
}

#[test]
fn with_signed_tip_commits_between_need_no_signature() {
    let first = tip_only(&[ADA]);
    let mut book = Book::default();
    book.add("root", &[], Some(&first), None)
        .add("plain", &["root"], Some(&first), None)
        .add("good", &["plain"], Some(&first), Some(ADA))
        .add("sneaks", &["root"], Some(&tip_only(&[ADA, EVE])), None)
        .add("uses", &["sneaks"], Some(&tip_only(&[ADA, EVE])), Some(EVE));
    assert_eq!(book.ask("good", &first), Ok("h1".into()));
    assert_eq!(book.ask("plain", &first), Err(("plain".into(), Distrust::Unsigned)));
    assert_eq!(book.ask("root", &first), Err(("root".into(), Distrust::Unsigned)));
    assert_eq!(at_fault(&book.ask("uses", &first)), "sneaks", "whoever changes it signs it");
}

#[test]
fn with_signed_tag_the_newest_bears_one() {
    let first = format!("signed: tag\ntags: v*\n{}", names(&[ADA]));
    let second = format!("signed: tag\n{}", names(&[ADA, EVE]));
    let none = || Distrust::Untagged("v*".to_owned());
    let mut book = Book::default();
    book.add("root", &[], Some(&first), None)
        .tag("root", "v0", Some(ADA))
        .add("plain", &["root"], Some(&first), None)
        .add("signed", &["plain"], Some(&first), Some(ADA))
        .tag("signed", "x1", Some(ADA))
        .add("good", &["signed"], Some(&first), None)
        .tag("good", "v1", None)
        .tag("good", "v2", Some(ADA))
        .add("eve", &["good"], Some(&first), Some(ADA))
        .tag("eve", "v3", Some(EVE))
        .add("sneaks", &["good"], Some(&second), None)
        .tag("sneaks", "x2", Some(ADA))
        .add("uses", &["sneaks"], Some(&second), None)
        .tag("uses", "any", Some(EVE))
        .add("turns", &["good"], Some(&second), Some(ADA))
        .add("follows", &["turns"], Some(&second), None)
        .tag("follows", "any", Some(EVE));
    assert_eq!(book.ask("root", &first), Ok("h1".into()));
    assert_eq!(book.ask("plain", &first), Err(("plain".into(), none())));
    assert_eq!(book.ask("signed", &first), Err(("signed".into(), none())), "a tag it must be");
    assert_eq!(book.ask("good", &first), Ok("h1".into()), "one that counts is enough");
    let Err((_, Distrust::Tag { name, why })) = book.ask("eve", &first) else {
        panic!("eve's tag counts");
    };
    assert_eq!((name.as_str(), *why), ("v3", Distrust::Unknown(EVE.fingerprint())));
    assert_eq!(
        at_fault(&book.ask("uses", &first)),
        "sneaks",
        "whoever changes it signs or tags it"
    );
    assert_eq!(book.ask("turns", &first), Err(("turns".into(), none())));
    assert_eq!(book.ask("follows", &first), Ok("h3".into()), "by the new ones, from there");

    // The same words on another commit.
    let stolen = book.commits["good"].tags.clone();
    book.commits.get_mut("plain").expect("is there").tags = stolen;
    assert_eq!(book.ask("plain", &first), Err(("plain".into(), none())));
}

/// That it may be followed is said by the tag; whose the changes are, by the commit.
#[test]
fn with_roles_a_tag_does_not_stand_for_the_signature_nor_the_signature_for_the_tag() {
    let first = names(&[ADA]);
    let roles = format!("signed: tag\ntags: v*\nauthorize: roles\n{first}");
    let mut book = Book::default();
    book.add("root", &[], Some(&first), Some(ADA))
        .add("turn", &["root"], Some(&roles), Some(ADA))
        .add("signed", &["turn"], Some(&roles), Some(ADA))
        .add("tagged", &["turn"], Some(&roles), None)
        .tag("tagged", "v1", Some(ADA))
        .add("both", &["turn"], Some(&roles), Some(ADA))
        .tag("both", "v1", Some(ADA));
    let pin = Digest::of(first.as_bytes());
    let why = |tip| {
        let known = book.lineage(tip, &pin, Some("turn"));
        vouch(&known, &pin).expect_err("what they change is in no book").why
    };
    assert_eq!(why("signed"), Distrust::Untagged("v*".into()));
    assert_eq!(why("tagged"), Distrust::Unsigned);
    assert_eq!(why("both"), Distrust::Malformed("what it changes did not come".into()));
}

#[test]
fn keys_are_changed_by_a_commit_signed_with_an_old_one() {
    let (first, second) = (names(&[ADA]), names(&[BOB]));
    let mut book = Book::default();
    book.add("root", &[], Some(&first), Some(ADA))
        .add("turn", &["root"], Some(&second), Some(ADA))
        .add("bob", &["turn"], Some(&second), Some(BOB))
        .add("ada", &["turn"], Some(&second), Some(ADA))
        .add("takes", &["root"], Some(&second), Some(BOB))
        .add("drops", &["bob"], None, Some(BOB))
        .add("back", &["drops"], Some(&second), Some(BOB))
        .add("breaks", &["bob"], Some("x: y"), Some(BOB))
        .add("reverts", &["bob"], Some(&first), Some(ADA));
    assert_eq!(book.ask("turn", &first), Ok("h1".into()));
    assert_eq!(book.ask("bob", &first), Ok("h2".into()), "pushed together, they are taken as well");
    assert_eq!(at_fault(&book.ask("ada", &first)), "ada", "the old key is out");
    assert_eq!(at_fault(&book.ask("takes", &first)), "takes", "nobody names himself");
    assert_eq!(book.ask("drops", &first), Err(("drops".into(), Distrust::Dropped)));
    assert_eq!(book.ask("back", &first), Err(("drops".into(), Distrust::Dropped)));
    assert!(matches!(book.ask("breaks", &first), Err((_, Distrust::BadPolicy(_)))));
    assert_eq!(at_fault(&book.ask("reverts", &first)), "reverts", "the pin is no way back");
    // Whoever is pinned to the second begins there.
    assert_eq!(book.ask("bob", &second), Ok("h2".into()));
}

#[test]
fn a_revoked_key_can_not_sign_beside_its_revocation() {
    let (both, one) = (names(&[ADA, EVE]), names(&[ADA]));
    let mut book = Book::default();
    book.add("root", &[], Some(&both), Some(ADA))
        .add("beside", &["root"], Some(&both), Some(EVE))
        .add("revoke", &["root"], Some(&one), Some(ADA))
        .add("takes in", &["revoke", "beside"], Some(&one), Some(ADA))
        .add("other way", &["beside", "revoke"], Some(&one), Some(ADA))
        .add("by eve", &["beside", "revoke"], Some(&both), Some(EVE))
        .add("undoes", &["revoke", "beside"], Some(&both), Some(ADA))
        .add("third", &["revoke", "beside"], Some(&names(&[ADA, BOB])), Some(ADA));
    assert_eq!(book.ask("beside", &both), Ok("h3".into()), "on its own it was in time");
    assert_eq!(at_fault(&book.ask("takes in", &both)), "beside");
    assert_eq!(at_fault(&book.ask("other way", &both)), "beside");
    assert_eq!(at_fault(&book.ask("by eve", &both)), "by eve", "both parents must let it");
    assert_eq!(book.ask("undoes", &both), Ok("h1".into()), "who may change it may give it back");
    assert_eq!(book.ask("third", &both), Err(("third".into(), Distrust::ChangedInMerge)));
}

#[test]
fn what_comes_from_beside_the_root_is_not_taken() {
    let first = names(&[ADA]);
    let mut book = Book::default();
    book.add("old", &[], None, None)
        .add("root", &["old"], Some(&first), Some(ADA))
        .add("branch", &["old"], None, Some(ADA))
        .add("late", &["old"], Some(&first), Some(ADA))
        .add("stranger", &[], Some(&first), Some(ADA))
        .add("merge", &["root", "branch"], Some(&first), Some(ADA))
        .add("merge 2", &["root", "late"], Some(&first), Some(ADA))
        .add("merge 3", &["root", "stranger"], Some(&first), Some(ADA))
        .add("merge 4", &["root", "old"], Some(&first), Some(ADA));
    assert_eq!(book.ask("merge", &first), Err(("branch".into(), Distrust::Dropped)));
    assert_eq!(book.ask("merge 2", &first), Err(("late".into(), Distrust::Beside)));
    assert_eq!(book.ask("merge 3", &first), Err(("stranger".into(), Distrust::Beside)));
    assert_eq!(book.ask("merge 4", &first), Err(("merge 4".into(), Distrust::Beside)));
}

#[test]
fn a_date_can_not_be_set_back_behind_the_parent() {
    let until = format!(
        "allowedSigners: |\n  h1 {}\n  h3 valid-before=\"20260101Z\" {}\n",
        ADA.public(),
        EVE.public()
    );
    let (early, late) = (1_760_000_000, 1_770_000_000);
    let mut book = Book::default();
    book.add_at("root", &[], Some(&until), Some(ADA), early)
        .add_at("in time", &["root"], Some(&until), Some(EVE), early + 60)
        .add_at("too late", &["in time"], Some(&until), Some(EVE), late)
        .add_at("ada", &["in time"], Some(&until), Some(ADA), late)
        .add_at("set back", &["ada"], Some(&until), Some(EVE), early + 120)
        .add_at("after", &["ada"], Some(&until), Some(ADA), early);
    assert_eq!(book.ask("in time", &until), Ok("h3".into()));
    assert!(matches!(book.ask("too late", &until), Err((_, Distrust::TooLate { .. }))));
    assert!(matches!(book.ask("set back", &until), Err((_, Distrust::TooLate { .. }))));
    assert_eq!(book.ask("after", &until), Ok("h1".into()), "what was good in its time stays so");
}

#[test]
fn a_refusal_names_the_commit_and_what_to_do() {
    let first = names(&[ADA]);
    let mut book = Book::default();
    book.add("root", &[], Some(&first), Some(ADA)).add("plain", &["root"], Some(&first), None).add(
        "good",
        &["plain"],
        Some(&first),
        Some(ADA),
    );
    let pin = Digest::of(first.as_bytes());
    let text = |tip| vouch(&book.lineage(tip, &pin, None), &pin).expect_err("refused").to_string();
    assert!(
        text("plain").starts_with("it is not signed; sign it: git commit"),
        "{}",
        text("plain")
    );
    let plain = book.id("plain");
    let expected =
        format!("commit {} by plain, on which it stands, is not signed; ", plain.short());
    assert!(text("good").starts_with(&expected), "{}", text("good"));
}

const LETTERS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

prop_compose! {
    /// A commit: its parents among those before, its policy, who signs.
    fn step()(
        one in any::<prop::sample::Index>(),
        other in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        policy in 0..4_usize,
        keeps in prop::bool::weighted(0.7),
        hand in prop::option::weighted(0.9, 1..4_u8),
    ) -> (prop::sample::Index, Option<prop::sample::Index>, usize, bool, Option<u8>) {
        (one, other, policy, keeps, hand)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a node has seen before, it says the same; and without a key that the root names
    /// nothing is ever taken.
    #[test]
    fn the_answer_does_not_depend_on_what_was_seen_before(
        steps in prop::collection::vec(step(), 1..LETTERS.len()),
    ) {
        let policies = [names(&[ADA]), names(&[ADA, BOB]), tip_only(&[BOB, EVE]), names(&[EVE])];
        let mut book = Book::default();
        book.add(LETTERS[0], &[], Some(&policies[0]), Some(ADA));
        let mut used = vec![0_usize];
        for (at, (one, other, policy, keeps, hand)) in steps.into_iter().enumerate() {
            let at = at + 1;
            let first = one.index(at);
            let mut parents = vec![LETTERS[first]];
            if let Some(second) = other.map(|other| other.index(at)).filter(|second| *second != first) {
                parents.push(LETTERS[second]);
            }
            let policy = if keeps { used[first] } else { policy };
            used.push(policy);
            book.add(LETTERS[at], &parents, Some(&policies[policy]), hand.map(Hand));
        }
        let pin = Digest::of(policies[0].as_bytes());
        let good: Vec<&'static str> =
            book.order.iter().copied().filter(|name| book.ask(name, &policies[0]).is_ok()).collect();
        for tip in &book.order {
            let whole = vouch(&book.lineage(tip, &pin, None), &pin);
            for known in &good {
                let part = vouch(&book.lineage(tip, &pin, Some(known)), &pin);
                if part.as_ref().is_err_and(|refusal| refusal.why == Distrust::Short) {
                    continue;
                }
                prop_assert_eq!(part.is_ok(), whole.is_ok(), "{} after {}", tip, known);
                if let (Ok(part), Ok(whole)) = (part, &whole) {
                    prop_assert_eq!(&part, whole);
                }
            }
        }
        if !book.order.iter().any(|name| *name != LETTERS[0] && good.contains(name)) {
            return Ok(());
        }
        // The first that was taken after the root was signed by somebody the root names.
        let first = book.order.iter().find(|name| **name != LETTERS[0] && good.contains(name));
        let signer = book.ask(first.expect("is one"), &policies[0]);
        prop_assert_eq!(signer, Ok("h1".to_owned()));
    }
}
