//! What every state store must do, wherever it is. Each backend runs all of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windlass::adapters::git::{Store, StoreConfig};
use windlass::kinds::binding::{Generation, Oid};
use windlass::kinds::name::Name;
use windlass::ports::store::{
    Answer, Call, Decision, Edit, Glance, Landing, Register, Scope, Tree,
};
use windlass::ports::{Fault, FaultKind};

/// A place where stores can be opened.
pub(crate) trait Backend {
    /// How one node reaches the (one) store, with a data directory of its own.
    fn config(&self, node: &str) -> StoreConfig;

    /// The repository that holds the registers.
    fn repository(&self) -> PathBuf;

    fn open(&self, node: &str) -> Store {
        Store::open(self.config(node)).expect("opens")
    }
}

pub(crate) async fn look(store: &Store) -> Glance {
    match store.perform(Call::Look(Scope::All)).await {
        Ok(Answer::Seen(glance)) => glance,
        other => panic!("look: {other:?}"),
    }
}

pub(crate) async fn read(store: &Store, register: &Register, rev: &Oid) -> Result<Tree, Fault> {
    let call = Call::Read { register: register.clone(), rev: rev.clone() };
    match store.perform(call).await? {
        Answer::Tree(tree) => Ok(tree),
        other => panic!("read: {other:?}"),
    }
}

pub(crate) async fn commit(
    store: &Store,
    register: &Register,
    base: Option<&Oid>,
    edits: Vec<Edit>,
    why: &str,
) -> Result<Landing, Fault> {
    let call =
        Call::Commit { register: register.clone(), base: base.cloned(), edits, why: why.into() };
    match store.perform(call).await? {
        Answer::Landing(landing) => Ok(landing),
        other => panic!("commit: {other:?}"),
    }
}

pub(crate) async fn landed(
    store: &Store,
    register: &Register,
    base: Option<&Oid>,
    edits: Vec<Edit>,
    why: &str,
) -> Oid {
    match commit(store, register, base, edits, why).await {
        Ok(Landing::Landed(rev)) => rev,
        other => panic!("commit of {why:?}: {other:?}"),
    }
}

pub(crate) async fn history(store: &Store, limit: usize) -> Vec<Decision> {
    match store.perform(Call::History { limit }).await {
        Ok(Answer::History(list)) => list,
        other => panic!("history: {other:?}"),
    }
}

pub(crate) fn put(path: &str, content: &str) -> Edit {
    Edit { path: path.into(), content: Some(content.as_bytes().into()) }
}

pub(crate) fn remove(path: &str) -> Edit {
    Edit { path: path.into(), content: None }
}

pub(crate) fn text(tree: &Tree) -> BTreeMap<&str, &str> {
    let text = |bytes: &'_ Arc<[u8]>| std::str::from_utf8(bytes).expect("text").to_owned();
    tree.files.iter().map(|(path, bytes)| (path.as_str(), &*text(bytes).leak())).collect()
}

pub(crate) fn node(name: &str) -> Register {
    Register::Node(Name::trusted(name))
}

const COORDINATOR: Register = Register::Coordinator;

/// All of it, on an empty store.
pub(crate) async fn all(backend: &dyn Backend) {
    a_register_is_made_read_and_changed(backend).await;
    a_stale_base_loses(backend).await;
    nothing_to_change_is_no_write(backend).await;
    a_node_writes_its_own_register_only(backend).await;
    a_read_of_nonsense_is_a_fault(backend).await;
    history_is_the_audit_log_and_has_an_end(backend).await;
    the_fence_is_the_nodes_own(backend).await;
    a_beat_moves_a_register_and_costs_no_objects(backend).await;
    a_deleted_nodes_register_is_removed_as_it_was_seen(backend).await;
    what_was_seen_is_recalled(backend).await;
    compaction_loses_nothing(backend).await;
}

async fn a_register_is_made_read_and_changed(backend: &dyn Backend) {
    let a = backend.open("n1");
    let glance = look(&a).await;
    assert_eq!((glance.coordinator, glance.nodes.len()), (None, 0));
    let first =
        landed(&a, &COORDINATOR, None, vec![put("lease.json", "1"), put("pods/x/a", "A")], "begin")
            .await;
    assert_eq!(look(&a).await.coordinator, Some(first.clone()));
    let second = landed(
        &a,
        &COORDINATOR,
        Some(&first),
        vec![put("lease.json", "2"), put("pods/y/b", "B"), remove("pods/x/a"), remove("none")],
        "change",
    )
    .await;
    let b = backend.open("n2");
    assert_eq!(look(&b).await.coordinator, Some(second.clone()));
    let tree = read(&b, &COORDINATOR, &second).await.expect("reads");
    assert_eq!(text(&tree), BTreeMap::from([("lease.json", "2"), ("pods/y/b", "B")]));
    let old = read(&a, &COORDINATOR, &first).await.expect("reads");
    assert_eq!(text(&old), BTreeMap::from([("lease.json", "1"), ("pods/x/a", "A")]));
}

async fn a_stale_base_loses(backend: &dyn Backend) {
    let a = backend.open("n1");
    let b = backend.open("n2");
    let base = look(&a).await.coordinator.expect("made before");
    look(&b).await;
    read(&b, &COORDINATOR, &base).await.expect("reads");
    let won = landed(&a, &COORDINATOR, Some(&base), vec![put("lease.json", "a")], "a").await;
    let lost = commit(&b, &COORDINATOR, Some(&base), vec![put("lease.json", "b")], "b").await;
    assert_eq!(lost, Ok(Landing::Raced { theirs: Some(won.clone()) }));
    let made = commit(&b, &COORDINATOR, None, vec![put("lease.json", "b")], "b").await;
    assert_eq!(made, Ok(Landing::Raced { theirs: Some(won.clone()) }));
    assert_eq!(look(&b).await.coordinator, Some(won.clone()));
    // Who lost may try again from what is there now.
    landed(&b, &COORDINATOR, Some(&won), vec![put("lease.json", "b")], "b again").await;
    let absent = commit(&a, &node("n1"), Some(&won), vec![put("x", "y")], "wrong").await;
    assert_eq!(absent, Ok(Landing::Raced { theirs: None }));
}

async fn nothing_to_change_is_no_write(backend: &dyn Backend) {
    let a = backend.open("n1");
    let base = look(&a).await.coordinator.expect("made before");
    assert_eq!(landed(&a, &COORDINATOR, Some(&base), vec![], "nothing").await, base);
    let same = read(&a, &COORDINATOR, &base).await.expect("reads");
    let content = String::from_utf8_lossy(&same.files["lease.json"]).into_owned();
    // Asked for, it is a write, even if it says the same: the register moves.
    let moved =
        landed(&a, &COORDINATOR, Some(&base), vec![put("lease.json", &content)], "same").await;
    assert_ne!(moved, base);
    assert_eq!(read(&a, &COORDINATOR, &moved).await.expect("reads"), same);
}

async fn a_node_writes_its_own_register_only(backend: &dyn Backend) {
    let a = backend.open("n1");
    let b = backend.open("n2");
    look(&a).await;
    let mine = landed(&a, &node("n1"), None, vec![put("status/x", "Running")], "up").await;
    let theirs = landed(&b, &node("n2"), None, vec![put("status/y", "Running")], "up").await;
    let next =
        landed(&a, &node("n1"), Some(&mine), vec![put("status/x", "Succeeded")], "done").await;
    let glance = look(&b).await;
    let nodes =
        BTreeMap::from([(Name::trusted("n1"), next.clone()), (Name::trusted("n2"), theirs)]);
    assert_eq!(*glance.nodes, nodes);
    let tree = read(&b, &node("n1"), &next).await.expect("reads");
    assert_eq!(text(&tree), BTreeMap::from([("status/x", "Succeeded")]));
    let fault = commit(&b, &node("n1"), Some(&next), vec![put("a", "b")], "not mine").await;
    assert_eq!(fault.expect_err("refused").kind, FaultKind::Stalled);
}

async fn a_read_of_nonsense_is_a_fault(backend: &dyn Backend) {
    let a = backend.open("n1");
    look(&a).await;
    for rev in ["x", "", "1234567890123456789012345678901234567890"] {
        let fault = read(&a, &COORDINATOR, &Oid::new(rev)).await.expect_err(rev);
        assert_eq!(fault.kind, FaultKind::NotFound, "{rev}: {fault}");
    }
    let base = look(&a).await.coordinator;
    for path in ["", "../x", ".git/x"] {
        let fault = commit(&a, &COORDINATOR, base.as_ref(), vec![put(path, "x")], "bad").await;
        assert_eq!(fault.expect_err(path).kind, FaultKind::Stalled);
    }
}

async fn history_is_the_audit_log_and_has_an_end(backend: &dyn Backend) {
    let mut config = backend.config("n1");
    config.history = (12, 4);
    let a = Store::open(config).expect("opens");
    let mut base = look(&a).await.coordinator.expect("made before");
    for n in 0..20 {
        let why = format!("decision {n}\n\nbecause {n}");
        base = landed(&a, &COORDINATOR, Some(&base), vec![put("n", &n.to_string())], &why).await;
        let list = history(&a, 100).await;
        assert!(list.len() <= 12, "{}", list.len());
        assert_eq!((&list[0].rev, list[0].why.as_str()), (&base, why.as_str()));
        assert_eq!(list[0].by, "n1");
    }
    let list = history(&a, 4).await;
    let whys: Vec<_> = list.iter().map(|d| d.why.lines().next().expect("a line")).collect();
    assert_eq!(whys, ["decision 19", "decision 18", "decision 17", "decision 16"]);
    let older = read(&a, &COORDINATOR, &list[3].rev).await.expect("reads");
    assert_eq!(&*older.files["n"], b"16");
    let b = backend.open("n2");
    assert_eq!(look(&b).await.coordinator, Some(base.clone()));
    let tree = read(&b, &COORDINATOR, &base).await.expect("reads");
    assert_eq!(&*tree.files["n"], b"19");
}

async fn the_fence_is_the_nodes_own(backend: &dyn Backend) {
    let generation = |number| Generation { epoch: 1, number };
    {
        let a = backend.open("n1");
        let done = a.perform(Call::Fence(generation(7))).await;
        assert!(matches!(done, Ok(Answer::Fenced)), "{done:?}");
        a.perform(Call::Fence(generation(3))).await.expect("is above");
        assert_eq!(look(&a).await.fence, generation(7));
    }
    assert_eq!(look(&backend.open("n1")).await.fence, generation(7));
    assert_eq!(look(&backend.open("n2")).await.fence, Generation::default());
}

pub(crate) async fn beat(store: &Store, register: &Register, base: &Oid) -> Result<Landing, Fault> {
    let call = Call::Beat { register: register.clone(), base: base.clone() };
    match store.perform(call).await? {
        Answer::Landing(landing) => Ok(landing),
        other => panic!("beat: {other:?}"),
    }
}

async fn take_away(store: &Store, register: &Register, rev: &Oid) -> Result<Landing, Fault> {
    let call = Call::Remove { register: register.clone(), rev: rev.clone() };
    match store.perform(call).await? {
        Answer::Landing(landing) => Ok(landing),
        other => panic!("take away: {other:?}"),
    }
}

async fn a_deleted_nodes_register_is_removed_as_it_was_seen(backend: &dyn Backend) {
    let (a, b) = (backend.open("n1"), backend.open("n2"));
    let seen = look(&a).await.nodes[&Name::trusted("n1")].clone();
    // Its node writes once more.
    let Ok(Landing::Landed(now)) = beat(&a, &node("n1"), &seen).await else { panic!("a beat") };
    let late = take_away(&b, &node("n1"), &seen).await;
    assert_eq!(late, Ok(Landing::Raced { theirs: Some(now.clone()) }));
    assert!(take_away(&a, &node("n1"), &now).await.is_err(), "nobody removes his own");
    let coordinator = look(&b).await.coordinator.expect("decisions");
    assert!(take_away(&b, &Register::Coordinator, &coordinator).await.is_err());
    let name = Name::trusted("n1");
    assert_eq!(look(&b).await.nodes.get(&name), Some(&now), "all is as it was");
    assert_eq!(take_away(&b, &node("n1"), &now).await, Ok(Landing::Landed(now.clone())));
    assert_eq!(look(&b).await.nodes.get(&name), None);
    assert_eq!(take_away(&b, &node("n1"), &now).await, Ok(Landing::Raced { theirs: None }));
    // Its node writes it anew.
    landed(&a, &node("n1"), None, vec![put("node.json", "{}")], "is back").await;
}

async fn a_beat_moves_a_register_and_costs_no_objects(backend: &dyn Backend) {
    let a = backend.open("n1");
    let begun = look(&a).await.nodes[&Name::trusted("n1")].clone();
    let content = read(&a, &node("n1"), &begun).await.expect("reads");
    let objects = || crate::support::must_git(&backend.repository(), &["count-objects", "-v"]);
    let mut base = begun.clone();
    let mut ring = std::collections::BTreeSet::new();
    let mut after_a_round = None;
    for n in 0..20 {
        let Ok(Landing::Landed(next)) = beat(&a, &node("n1"), &base).await else {
            panic!("beat {n}");
        };
        assert_ne!(next, base);
        if n == 0 {
            let stale = beat(&a, &node("n1"), &base).await;
            let theirs = Some(next.clone());
            assert_eq!(stale, Ok(Landing::Raced { theirs }));
        }
        ring.insert(next.clone());
        base = next;
        match n {
            16 => after_a_round = Some(objects()),
            19 => assert_eq!(Some(objects()), after_a_round),
            _ => {}
        }
    }
    assert_eq!(ring.len(), 16);
    let b = backend.open("n2");
    assert_eq!(look(&b).await.nodes[&Name::trusted("n1")], base);
    assert_eq!(read(&b, &node("n1"), &base).await, Ok(content));
    // A new state begins a ring of its own.
    let news = landed(&a, &node("n1"), Some(&base), vec![put("status/x", "news")], "news").await;
    let Ok(Landing::Landed(next)) = beat(&a, &node("n1"), &news).await else {
        panic!("beat");
    };
    assert!(!ring.contains(&next));
    let tree = read(&b, &node("n1"), &next).await.expect("reads");
    assert_eq!(&*tree.files["status/x"], b"news");
    let leader = look(&a).await.coordinator.expect("made before");
    let fault = beat(&a, &COORDINATOR, &leader).await.expect_err("a history has no beats");
    assert_eq!(fault.kind, FaultKind::Stalled);
    let fault = beat(&b, &node("n1"), &next).await.expect_err("not its own");
    assert_eq!(fault.kind, FaultKind::Stalled);
}

pub(crate) async fn recall(store: &Store) -> Glance {
    match store.perform(Call::Recall).await {
        Ok(Answer::Seen(glance)) => glance,
        other => panic!("recall: {other:?}"),
    }
}

async fn what_was_seen_is_recalled(backend: &dyn Backend) {
    let a = backend.open("n1");
    let seen = look(&a).await;
    let rev = seen.coordinator.clone().expect("made before");
    read(&a, &COORDINATOR, &rev).await.expect("reads");
    let own = node("n1");
    let seen_own = seen.nodes.get(&Name::trusted("n1")).expect("made before");
    let said = read(&a, &own, seen_own).await.expect("reads");
    drop(a);
    let again = backend.open("n1");
    let recalled = recall(&again).await;
    assert!(!recalled.holds_lock);
    assert_eq!((recalled.coordinator, recalled.fence), (seen.coordinator, seen.fence));
    // Perhaps from before some beats, which say nothing.
    let own_rev = recalled.nodes.get(&Name::trusted("n1")).expect("is recalled");
    assert_eq!(read(&again, &own, own_rev).await.expect("reads"), said);
}

async fn compaction_loses_nothing(backend: &dyn Backend) {
    let a = backend.open("n1");
    let b = backend.open("n2");
    let before = look(&a).await;
    let rev = before.coordinator.clone().expect("made before");
    let tree = read(&b, &COORDINATOR, &rev).await.expect("reads");
    let done = a.perform(Call::Compact).await;
    assert!(matches!(done, Ok(Answer::Compacted)), "{done:?}");
    b.perform(Call::Compact).await.expect("compacts");
    assert_eq!(look(&a).await.nodes, before.nodes);
    assert_eq!(read(&b, &COORDINATOR, &rev).await.expect("reads"), tree);
    assert_eq!(read(&backend.open("n3"), &COORDINATOR, &rev).await, { Ok(tree) });
    let next = landed(&a, &COORDINATOR, Some(&rev), vec![put("after", "1")], "after").await;
    assert!(
        read(&b, &COORDINATOR, &next).await.is_ok() || look(&b).await.coordinator == Some(next)
    );
}

/// `writers` agents raise a counter `each` times; every acknowledged write must be in it.
pub(crate) async fn no_write_is_lost(backend: &dyn Backend, writers: usize, each: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..writers {
        let store = backend.open(&format!("w{n}"));
        tasks.spawn(async move {
            for _ in 0..each {
                raise(&store, &COORDINATOR).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let store = backend.open("judge");
    let rev = look(&store).await.coordinator.expect("written");
    let tree = read(&store, &COORDINATOR, &rev).await.expect("reads");
    assert_eq!(count(&tree), writers * each);
}

/// Raises the counter in a register by one, however often it takes.
pub(crate) async fn raise(store: &Store, register: &Register) {
    loop {
        let glance = match store.perform(Call::Look(Scope::All)).await {
            Ok(Answer::Seen(glance)) => glance,
            Err(fault) if fault.kind == FaultKind::Transient => continue,
            other => panic!("look: {other:?}"),
        };
        let base = glance.coordinator;
        let now = match &base {
            None => 0,
            Some(rev) => match read(store, register, rev).await {
                Ok(tree) => count(&tree),
                // Moved on since the look.
                Err(fault) if fault.kind != FaultKind::Stalled => continue,
                Err(fault) => panic!("read: {fault}"),
            },
        };
        let edits = vec![put("counter", &(now + 1).to_string())];
        match commit(store, register, base.as_ref(), edits, "raise").await {
            Ok(Landing::Landed(_)) => return,
            Ok(Landing::Raced { .. }) => {}
            Err(fault) if fault.kind == FaultKind::Transient => {}
            Err(fault) => panic!("commit: {fault}"),
        }
    }
}

pub(crate) fn count(tree: &Tree) -> usize {
    let bytes = tree.files.get("counter").map_or(&b"0"[..], |bytes| bytes);
    std::str::from_utf8(bytes).expect("text").parse().expect("a number")
}

/// Several agents make the same register at once: one of them does.
pub(crate) async fn one_creator_wins(
    open: impl Fn(usize) -> Box<dyn Backend>,
    rounds: usize,
    creators: usize,
) {
    for round in 0..rounds {
        let backend = open(round);
        let gate = Arc::new(tokio::sync::Barrier::new(creators));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..creators {
            let store = backend.open(&format!("w{n}"));
            let gate = Arc::clone(&gate);
            tasks.spawn(async move {
                gate.wait().await;
                commit(&store, &COORDINATOR, None, vec![put("by", &n.to_string())], "make").await
            });
        }
        let mut winners = Vec::new();
        while let Some(outcome) = tasks.join_next().await {
            match outcome.expect("no panic") {
                Ok(Landing::Landed(rev)) => winners.push(rev),
                Ok(Landing::Raced { .. }) => {}
                Err(fault) => panic!("round {round}: {fault}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let seen = look(&backend.open("judge")).await.coordinator;
        assert_eq!(seen.as_ref(), winners.first());
    }
}

/// Whether `git` finds nothing wrong with a repository.
pub(crate) fn fsck(repo: &Path) {
    /// A compaction in the background may still take packs away that have been listed.
    const TRIES: u32 = 5;
    let mut said = String::new();
    for _ in 0..TRIES {
        let out = crate::support::git(repo, &["fsck", "--full", "--strict"]);
        if out.status.success() {
            return;
        }
        said = String::from_utf8_lossy(&out.stderr).into_owned();
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("{said}");
}
