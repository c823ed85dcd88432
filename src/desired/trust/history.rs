//! Is a commit vouched for? The judgement over all commits between the pinned `trust.yaml` and it; the
//! rules stand in [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::super::authorize::{self, Parsed, Who, World};
use super::commit::{self, Commit};
use super::policy::{Extent, Policy};
use super::seal::Seal;
use super::{Distrust, Signer, TRUST_FILE};
use super::{signers, tag};
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::time::Wall;
use crate::ports::source::{Ancestor, CommitInfo, Lineage};

/// That a commit is vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The commit that brought the pinned `trust.yaml`.
    pub root: Oid,
    /// Who signed the commit.
    pub signer: Arc<Signer>,
}

/// That a commit is not vouched for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The commit that was asked about.
    pub tip: CommitInfo,
    /// What is wrong with which commit: that one or one that it stands on.
    pub culprit: CommitInfo,
    /// What is wrong with it.
    pub why: Distrust,
}

/// `commit 1a2b3c4 by Mallory is not signed; sign it: …`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tip, culprit, why } = self;
        if tip.id == culprit.id {
            f.write_str("it ")?;
        } else {
            let author = culprit.author.split(" <").next().unwrap_or_default();
            write!(f, "commit {} by {author}, on which it stands, ", culprit.id.short())?;
        }
        write!(f, "{why}; {}", why.hint())
    }
}

/// Judges the last of these commits. Pure: whoever has the same pin and the same commits says the same.
pub fn vouch(lineage: &Lineage, pin: &Digest) -> Result<Vouched, Box<Refusal>> {
    let Some(tip) = lineage.commits.last() else {
        let nobody = CommitInfo {
            id: Oid::new(""),
            author: String::new(),
            time: Wall::default(),
            message: String::new(),
        };
        let why = Distrust::Malformed("it did not come with the question".into());
        return Err(Box::new(Refusal { tip: nobody.clone(), culprit: nobody, why }));
    };
    let refusal = |culprit: &Ancestor, why: Distrust| {
        Box::new(Refusal { tip: tip.info.clone(), culprit: culprit.info.clone(), why })
    };
    let Some(root) = &lineage.root else {
        return Err(refusal(tip, Distrust::NoRoot));
    };
    let mut court = Court::of(lineage, tip, pin);
    let mut signer = None;
    for commit in &lineage.commits {
        signer = court.judge(commit, root).map_err(|(culprit, why)| refusal(culprit, why))?;
    }
    match signer {
        Some(signer) => Ok(Vouched { root: root.clone(), signer: Arc::new(signer) }),
        None => Err(refusal(tip, Distrust::Unsigned)),
    }
}

/// What is wrong with which commit.
type Charge<'l> = (&'l Ancestor, Distrust);

struct Court<'l> {
    is_whole: bool,
    tip: &'l Ancestor,
    pin: &'l Digest,
    commits: BTreeMap<&'l Oid, &'l Ancestor>,
    edge: BTreeMap<&'l Oid, &'l Ancestor>,
    /// By the file's blob.
    policies: BTreeMap<&'l Oid, Result<Arc<Policy>, String>>,
    /// Commits that had to be signed.
    signed: BTreeSet<&'l Oid>,
    /// Files that were parsed for what commits change.
    parsed: Parsed,
}

impl<'l> Court<'l> {
    fn of(lineage: &'l Lineage, tip: &'l Ancestor, pin: &'l Digest) -> Self {
        let by_id = |list: &'l [Ancestor]| list.iter().map(|one| (&one.info.id, one)).collect();
        Self {
            is_whole: lineage.is_whole,
            tip,
            pin,
            commits: by_id(&lineage.commits),
            edge: by_id(&lineage.edge),
            policies: BTreeMap::new(),
            signed: BTreeSet::new(),
            parsed: Parsed::new(),
        }
    }

    /// Judges a commit, all before it having been found good; who signed it, if it had to be signed.
    fn judge(&mut self, commit: &'l Ancestor, root: &Oid) -> Result<Option<Signer>, Charge<'l>> {
        let guilty = |why: Distrust| (commit, why);
        let own = self.policy(commit).map_err(guilty)?;
        if commit.info.id == *root {
            let content = commit.file.as_ref().map(|file| Digest::of(&file.bytes));
            if content.as_ref() != Some(self.pin) {
                return Err(guilty(Distrust::NoRoot));
            }
            self.find_keeper(commit, &own).map_err(guilty)?;
            // What it stands on is from before there was trust; that it is followed at all rests on
            // a signature.
            return self.sealed(commit, &own, &[]).map(Some).map_err(guilty);
        }
        let parents = self.parents(commit).map_err(guilty)?;
        let mut policies: Vec<Arc<Policy>> = Vec::new();
        for parent in &parents {
            let policy = self.policy(parent).map_err(|_| guilty(Distrust::Beside))?;
            if !policies.contains(&policy) {
                policies.push(policy);
            }
        }
        let changes = parents.iter().any(|parent| blob(parent) != blob(commit));
        let must = changes
            || commit.info.id == self.tip.info.id
            || policies.iter().any(|policy| policy.extent == Extent::Commits || policy.authorize);
        let mut signers: Vec<(Arc<Policy>, Signer)> = Vec::new();
        if must {
            self.signed.insert(&commit.info.id);
            for policy in &policies {
                let found = self.sealed(commit, policy, &parents).map_err(guilty)?;
                signers.push((policy.clone(), found));
            }
        }
        for parent in &parents {
            let policy = self.policy(parent).map_err(|_| guilty(Distrust::Beside))?;
            let signer = signers.iter().find(|(its, _)| policy.authorize && *its == policy);
            if let Some((_, signer)) = signer {
                self.judge_rights(commit, parent, signer).map_err(guilty)?;
            }
        }
        self.find_keeper(commit, &own).map_err(guilty)?;
        if changes && parents.len() > 1 {
            self.judge_merge(commit, &parents, &own)?;
        }
        Ok(signers.into_iter().next().map(|(_, signer)| signer))
    }

    /// Who vouches for a commit, by one policy: by a signature in it, or by a tag on it.
    fn sealed(
        &self,
        commit: &Ancestor,
        policy: &Policy,
        parents: &[&Ancestor],
    ) -> Result<Signer, Distrust> {
        if policy.extent != Extent::Tag {
            return check(commit, policy, parents);
        }
        // Asked only where it counts: each tag costs the check of a signature.
        let tagger = || tagged(commit, policy, parents);
        match (commit.info.id == self.tip.info.id, policy.authorize) {
            (true, false) => tagger(),
            // Whose the changes are is said by the commit alone.
            (true, true) => tagger().and_then(|_| check(commit, policy, parents)),
            (false, true) => check(commit, policy, parents),
            (false, false) => {
                check(commit, policy, parents).or_else(|why| tagger().map_err(|_| why))
            }
        }
    }

    /// Whether the signer may change what a commit changes beside one of its parents.
    fn judge_rights(
        &mut self,
        commit: &Ancestor,
        parent: &Ancestor,
        signer: &Signer,
    ) -> Result<(), Distrust> {
        let step = commit.steps.iter().find(|step| step.parent.as_ref() == Some(&parent.info.id));
        let step =
            step.ok_or_else(|| Distrust::Malformed("what it changes did not come".into()))?;
        let before = World::remembering(&step.before, &mut self.parsed);
        let after = World::remembering(&step.after, &mut self.parsed);
        let findings = authorize::lacks(&before, &after, &Who::from(signer));
        match findings.is_empty() {
            true => Ok(()),
            false => Err(Distrust::Oversteps { signer: signer.name.to_string(), findings }),
        }
    }

    /// Where roles say who may change what, somebody must be left who may change that.
    fn find_keeper(&mut self, commit: &Ancestor, own: &Policy) -> Result<(), Distrust> {
        if !own.authorize {
            return Ok(());
        }
        let step = commit.steps.first();
        let step =
            step.ok_or_else(|| Distrust::Malformed("what it changes did not come".into()))?;
        let after = World::remembering(&step.after, &mut self.parsed);
        let has_keeper = authorize::has_keeper(&after, own.everybody());
        has_keeper.then_some(()).ok_or(Distrust::LocksOut)
    }

    /// What a merge brings in is good by the policy that it keeps as well: or a key that one side has
    /// revoked would still count for what was signed on the other.
    fn judge_merge(
        &self,
        merge: &'l Ancestor,
        parents: &[&'l Ancestor],
        kept: &Policy,
    ) -> Result<(), Charge<'l>> {
        let keeps = parents.iter().find(|parent| blob(parent) == blob(merge));
        let Some(keeps) = keeps else {
            return Err((merge, Distrust::ChangedInMerge));
        };
        if !self.is_whole {
            return Err((merge, Distrust::Short));
        }
        let there = self.reachable(keeps);
        let brought = self.reachable(merge).into_iter().filter(|id| !there.contains(id));
        for id in brought.filter(|id| **id != merge.info.id && self.signed.contains(id)) {
            if let Some(commit) = self.commits.get(id) {
                let parents = self.parents(commit).map_err(|why| (*commit, why))?;
                self.sealed(commit, kept, &parents).map_err(|why| (*commit, why))?;
            }
        }
        Ok(())
    }

    /// A commit and those that it stands on, as far as they are judged here.
    fn reachable(&self, from: &'l Ancestor) -> BTreeSet<&'l Oid> {
        let mut found = BTreeSet::new();
        let mut ahead = vec![&from.info.id];
        while let Some(id) = ahead.pop() {
            if let Some(commit) = self.commits.get(id)
                && found.insert(&commit.info.id)
            {
                ahead.extend(&commit.parents);
            }
        }
        found
    }

    /// A commit's parents, if all of them are under the rule of the root.
    fn parents(&self, commit: &'l Ancestor) -> Result<Vec<&'l Ancestor>, Distrust> {
        let parent = |id: &Oid| {
            let within = self.commits.get(id).copied();
            within.or_else(|| self.edge.get(id).copied().filter(|edge| edge.follows))
        };
        let parents: Option<Vec<&Ancestor>> = commit.parents.iter().map(parent).collect();
        parents.filter(|parents| !parents.is_empty()).ok_or(Distrust::Beside)
    }

    fn policy(&mut self, commit: &'l Ancestor) -> Result<Arc<Policy>, Distrust> {
        let file = commit.file.as_ref().ok_or(Distrust::Dropped)?;
        let read = || {
            let policy = Policy::of(&file.bytes);
            policy.map(Arc::new).map_err(|findings| {
                let first = findings.iter().find(|finding| finding.is_error());
                first.map_or_else(|| TRUST_FILE.to_owned(), ToString::to_string)
            })
        };
        let policy = self.policies.entry(&file.blob).or_insert_with(read);
        policy.clone().map_err(Distrust::BadPolicy)
    }
}

fn blob(commit: &Ancestor) -> Option<&Oid> {
    commit.file.as_ref().map(|file| &file.blob)
}

/// Who signed a tag on a commit that the policy asks for.
fn tagged(commit: &Ancestor, policy: &Policy, parents: &[&Ancestor]) -> Result<Signer, Distrust> {
    let mut why = Distrust::Untagged(policy.tags().to_owned());
    for raw in &commit.tags {
        let tag = match tag::read(raw) {
            Ok(tag) if tag.commit == commit.info.id => tag,
            // One that can't be read, or is on something else, has no say, and keeps none from it.
            _ => continue,
        };
        if !signers::matches(policy.tags().as_bytes(), tag.name.as_bytes()) {
            continue;
        }
        let seal = tag.signature.ok_or(Distrust::Unsigned).and_then(|armour| Seal::read(&armour));
        let at = latest(tag.time.max(commit.info.time), parents);
        match seal.and_then(|seal| policy.check(&seal, &tag.payload, at)) {
            Ok(signer) => return Ok(signer),
            Err(fault) => why = Distrust::Tag { name: tag.name, why: Box::new(fault) },
        }
    }
    Err(why)
}

/// A date may not be set back behind what the commit stands on.
fn latest(time: Wall, parents: &[&Ancestor]) -> Wall {
    parents.iter().map(|parent| parent.info.time).fold(time, std::cmp::Ord::max)
}

/// Checks a commit's signature by one policy.
fn check(commit: &Ancestor, policy: &Policy, parents: &[&Ancestor]) -> Result<Signer, Distrust> {
    let Commit { parents: own, time, signature, payload } =
        commit::read(&commit.raw).map_err(Distrust::Malformed)?;
    if own != commit.parents {
        return Err(Distrust::Malformed("its parents can be read in two ways".into()));
    }
    let seal = Seal::read(&signature.ok_or(Distrust::Unsigned)?)?;
    policy.check(&seal, &payload, latest(time, parents))
}
