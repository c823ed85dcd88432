use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy;

use super::*;
use crate::kinds::name::Name;
use crate::kinds::time::Wall;
use crate::ports::larder::Place;

const GB: u64 = 1 << 30;

fn at(seconds: u64) -> Now {
    Now { elapsed: Elapsed::new(Duration::from_secs(seconds)), wall: Wall::default() }
}

/// `app:1 30`: a name and gigabytes; `used`, `foreign`, `store` as said.
fn image(line: &str) -> Image {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is = |word: &str| words.contains(&word);
    let name = words[0].to_owned();
    let place = if is("store") { Place::Store } else { Place::Docker };
    Image {
        key: (place, format!("id of {name}")),
        disk: 1,
        digests: [format!("sha256:{name}")].into(),
        names: [name].into(),
        bytes: words[1].parse::<u64>().expect("gigabytes") * GB,
        is_used: is("used"),
        is_ours: !is("foreign"),
    }
}

/// A disk of 100 GB with so many in use.
fn stock(used: u64, images: &str) -> Stock {
    let disk = Disk { path: "/".into(), bytes_total: 100 * GB, bytes_free: (100 - used) * GB };
    Stock {
        disks: [(1, disk)].into(),
        images: images.split(';').filter(|line| !line.is_empty()).map(image).collect(),
        named: Named::default(),
    }
}

fn names(keys: &[ImageKey]) -> String {
    let names = keys.iter().map(|(_, id)| id.trim_start_matches("id of "));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_goes_when_the_disk_fills() {
    let three = "a:1 3;b:1 3;c:1 3";
    for (what, used, images, kept, going, is_full) in [
        ("below the high mark nothing goes", 84, three, "", "", false),
        ("at the high mark so much that the low one is reached", 85, three, "", "a:1 b:1", false),
        ("what is named stays", 85, three, "a:1", "b:1 c:1", false),
        ("what is pinned by its digest stays", 85, three, "x/y@sha256:a:1", "b:1 c:1", false),
        ("what is named by its id stays", 85, three, "sha256:b:1", "a:1 c:1", false),
        ("what a container has stays", 85, "a:1 3 used;b:1 3", "", "b:1", false),
        ("what the agent did not bring stays", 85, "a:1 9 foreign;b:1 3", "", "b:1", false),
        ("the store counts as Docker does", 85, "a:1 3 store;b:1 9", "", "b:1", false),
        ("where nothing may go that is said", 90, "a:1 9 used;b:1 9 foreign", "", "", true),
    ] {
        let kept = kept.split_whitespace().map(str::to_owned).collect();
        let stock = stock(used, images);
        let (limits, mut memory) = (Limits::default(), Memory::default());
        let early = collect(&stock, &kept, &limits, &mut memory, at(1));
        assert_eq!(early.remove, [], "{what}: it has only just been seen");
        let again = (!going.is_empty()).then_some(at(121).elapsed);
        assert_eq!(early.again, again, "{what}: until it may go");
        let verdict = collect(&stock, &kept, &limits, &mut memory, at(200));
        assert_eq!(names(&verdict.remove), going, "{what}");
        assert_eq!(!verdict.full.is_empty(), is_full, "{what}");
    }
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let (limits, mut memory, none) = (Limits::default(), Memory::default(), BTreeSet::new());
    collect(&stock(10, "a:1 1 used;b:1 1 used;c:1 1"), &none, &limits, &mut memory, at(0));
    collect(&stock(10, "a:1 1;b:1 1 used;c:1 1;d:1 1"), &none, &limits, &mut memory, at(100));
    let verdict =
        collect(&stock(99, "a:1 1;b:1 1;c:1 1;d:1 1"), &none, &limits, &mut memory, at(900));
    assert_eq!(names(&verdict.remove), "c:1 d:1 a:1 b:1");
}

#[test]
fn it_goes_on_to_the_low_mark_and_not_beyond() {
    let (limits, mut memory, none) = (Limits::default(), Memory::default(), BTreeSet::new());
    let mut look = |second, used, images| {
        names(&collect(&stock(used, images), &none, &limits, &mut memory, at(second)).remove)
    };
    let three = "a:1 9;b:1 9;c:1 9";
    look(0, 50, three);
    assert_eq!(look(500, 86, three), "a:1");
    // Its layers were shared, so less went than was thought.
    assert_eq!(look(501, 83, "b:1 9;c:1 9"), "b:1", "between the marks, on the way down");
    assert_eq!(look(502, 80, "c:1 9"), "");
    assert_eq!(look(503, 84, "c:1 9"), "", "between the marks, on the way up");
}

#[test]
fn what_could_not_be_removed_is_let_be_for_a_while() {
    let (limits, mut memory, none) = (Limits::default(), Memory::default(), BTreeSet::new());
    let full = stock(90, "a:1 9;b:1 9");
    collect(&full, &none, &limits, &mut memory, at(0));
    let first = collect(&full, &none, &limits, &mut memory, at(200)).remove;
    assert_eq!(names(&first), "a:1 b:1");
    memory.refused(&first[0], at(200));
    assert_eq!(names(&collect(&full, &none, &limits, &mut memory, at(201)).remove), "b:1");
    assert_eq!(names(&collect(&full, &none, &limits, &mut memory, at(600)).remove), "a:1 b:1");
}

#[test]
fn never_and_foreign_are_the_operator_s_choice() {
    let full = stock(99, "a:1 9 foreign;b:1 9");
    for (limits, going) in [
        (Limits { high_percent: 100, ..Limits::default() }, ""),
        (Limits { takes_foreign: true, ..Limits::default() }, "a:1 b:1"),
    ] {
        let (mut memory, none) = (Memory::default(), BTreeSet::new());
        collect(&full, &none, &limits, &mut memory, at(0));
        let verdict = collect(&full, &none, &limits, &mut memory, at(200));
        assert_eq!(names(&verdict.remove), going);
    }
}

fn kept(named: &Named, revisions: u64) -> String {
    named.kept(revisions).map(|(_, name)| name.clone()).collect::<Vec<_>>().join(" ")
}

/// What is kept after commits that name these images, one after the other: `c1=a,b;c2=a`.
fn follow(named: &mut Named, app: &str, commits: &str, revisions: u64) -> String {
    for step in commits.split(';') {
        let (commit, images) = step.split_once('=').expect("a commit");
        let images = images.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        named.follow(&Name::trusted(app), &Oid::new(commit), &images, revisions);
    }
    kept(named, revisions)
}

#[test]
fn the_last_revisions_keep_their_images() {
    for (what, commits, kept) in [
        ("as many before it as are asked for", "c1=a;c2=b;c3=c;c4=d", "b c d"),
        ("a commit that changes no image pushes none out", "c1=a;c2=b;c3=b;c4=b;c5=c", "a b c"),
        ("a revert names what it reverts to anew", "c1=a;c2=b;c3=a;c4=c;c5=d", "a c d"),
        ("waves of one commit are one change", "c1=a,x;c2=b,x;c3=c,x;c3=c,y;c3=c,z", "a b c x y z"),
        ("a commit that names nothing counts, too", "c1=a;c2=;c3=b;c4=c", "b c"),
    ] {
        assert_eq!(follow(&mut Named::default(), "shop", commits, 2), kept, "{what}");
    }
}

#[test]
fn an_app_s_commits_push_out_no_other_s_images_and_one_that_is_gone_ages() {
    let mut named = Named::default();
    follow(&mut named, "shop", "c1=a;c2=b", 2);
    assert_eq!(follow(&mut named, "bank", "c1=p;c2=q;c3=r;c4=s", 2), "q r s a b");
    let present = [Name::trusted("bank")].into();
    for (round, kept) in [(1, "q r s a b"), (2, "q r s b"), (3, "q r s")] {
        named.age_others(&present, 2);
        assert_eq!(self::kept(&named, 2), kept, "after {round}");
    }
    let text = serde_json::to_string(&named).expect("JSON");
    assert_eq!(serde_json::from_str::<Named>(&text).expect("read"), named, "as it is kept");
}

/// By number and whether they are in the store: gigabytes, whether used, whether foreign.
fn some_images() -> impl Strategy<Value = BTreeMap<(u8, bool), (u64, bool, bool)>> {
    let image = (0..20_u64, any::<bool>(), any::<bool>());
    prop::collection::btree_map((0..12_u8, any::<bool>()), image, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_goes_that_is_needed_and_no_more_than_must(
        images in some_images(),
        kept in prop::collection::btree_set((0..12_u8).prop_map(|n| format!("i{n}:1")), 0..6),
        used in 0..101_u64,
        later in 0..400_u64,
    ) {
        let lines: Vec<String> = images
            .iter()
            .map(|((name, is_stored), (gb, is_used, is_foreign))| {
                let word = |is: bool, word| if is { word } else { "" };
                let used = word(*is_used, "used");
                let foreign = word(*is_foreign, "foreign");
                format!("i{name}:1 {gb} {used} {foreign} {}", word(*is_stored, "store"))
            })
            .collect();
        let stock = stock(used, &lines.join(";"));
        let limits = Limits::default();
        let decide = || {
            let mut memory = Memory::default();
            collect(&stock, &kept, &limits, &mut memory, at(1000));
            collect(&stock, &kept, &limits, &mut memory, at(1000 + later))
        };
        let verdict = decide();
        prop_assert_eq!(&verdict, &decide(), "the same input gives the same answer");
        let going: Vec<&Image> =
            stock.images.iter().filter(|image| verdict.remove.contains(&image.key)).collect();
        prop_assert_eq!(going.len(), verdict.remove.len());
        for image in &going {
            prop_assert!(!image.is_used && image.is_ours, "{image:?}");
            prop_assert!(image.names.is_disjoint(&kept), "{image:?}");
        }
        prop_assert!(verdict.remove.is_empty() || used >= 85 && later >= 120);
        // Without the last of them, the low mark would not be reached.
        let last = verdict.remove.last();
        let all_but_last: u64 =
            going.iter().filter(|image| Some(&image.key) != last).map(|image| image.bytes).sum();
        prop_assert!(verdict.remove.is_empty() || (used - 80) * GB > all_but_last);
    }
}
