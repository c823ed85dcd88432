//! The state store on this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use windlass::adapters::git::{Store, StoreConfig};
use windlass::kinds::name::Name;
use windlass::ports::FaultKind;
use windlass::ports::store::{Call, Register, Scope};

use super::conformance::{self, Backend, commit, fsck, landed, look, node, put, read};
use crate::support::{must_git, scratch};

/// A store in a directory of this machine.
pub(crate) struct Local {
    dir: tempfile::TempDir,
    as_url: bool,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self { dir: scratch("wgit-local-"), as_url: false }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("state.git")
    }
}

impl Backend for Local {
    fn repository(&self) -> PathBuf {
        self.store()
    }

    fn config(&self, node: &str) -> StoreConfig {
        let path = self.store();
        let url = if self.as_url {
            format!("file://{}", path.display())
        } else {
            path.display().to_string()
        };
        StoreConfig {
            timeouts: super::timeouts(),
            ..StoreConfig::new(&url, Name::trusted(node), self.dir.path().join(node))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_store_does_what_a_store_must() {
    let backend = Local::new();
    conformance::all(&backend).await;
    fsck(&backend.store());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_url_is_a_path() {
    let backend = Local { as_url: true, ..Local::new() };
    conformance::all(&backend).await;
    fsck(&backend.store());
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_threads_lose_no_write() {
    let backend = Local::new();
    conformance::no_write_is_lost(&backend, 8, 100).await;
    fsck(&backend.store());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_eight_makes_a_register_and_the_store() {
    // The store itself is made in the same race.
    conformance::one_creator_wins(|_| Box::new(Local::new()), 40, 8).await;
}

#[tokio::test]
async fn a_second_agent_of_the_same_name_is_told_so() {
    let backend = Local::new();
    let first = backend.open("n1");
    look(&first).await;
    let second =
        Store::open(StoreConfig { data: backend.dir.path().join("other"), ..backend.config("n1") })
            .expect("opens");
    for call in [
        Call::Look(Scope::All),
        Call::Commit {
            register: Register::Coordinator,
            base: None,
            edits: vec![put("a", "b")],
            why: "no".into(),
        },
    ] {
        let fault = second.perform(call).await.expect_err("refused");
        assert_eq!(fault.kind, FaultKind::Stalled);
        let who = format!("process {}", std::process::id());
        assert!(
            fault.message.contains("under the name n1") && fault.message.contains(&who),
            "{fault}"
        );
    }
    drop(first);
    // It waits, and goes on by itself.
    assert!(look(&second).await.holds_lock);
}

#[tokio::test]
async fn one_agent_at_a_time_leads_without_waiting() {
    let backend = Local::new();
    let a = backend.open("n1");
    let b = backend.open("n2");
    assert!(look(&a).await.holds_lock);
    assert!(!look(&b).await.holds_lock);
    assert!(look(&a).await.holds_lock);
    drop(a);
    assert!(look(&b).await.holds_lock);
    // Somebody who replaces the store replaces its locks.
    let aside = backend.dir.path().join("aside");
    std::fs::rename(backend.store(), &aside).expect("moves");
    let fault = b.perform(Call::Look(Scope::All)).await.expect_err("gone");
    assert!(fault.kind == FaultKind::Stalled && fault.message.contains("gone"), "{fault}");
    must_git(backend.dir.path(), &["clone", "-q", "--bare", "aside", "state.git"]);
    let c = backend.open("n3");
    assert!(look(&c).await.holds_lock);
    assert!(!look(&b).await.holds_lock);
}

#[tokio::test]
async fn a_lock_left_by_a_killed_writer_is_removed() {
    let backend = Local::new();
    let a = backend.open("n1");
    let first = landed(&a, &Register::Coordinator, None, vec![put("a", "1")], "one").await;
    let lock = backend.store().join("refs/windlass/coordinator.lock");
    std::fs::write(&lock, "").expect("writes");
    let next = landed(&a, &Register::Coordinator, Some(&first), vec![put("a", "2")], "two").await;
    assert!(!lock.exists());
    assert_eq!(look(&a).await.coordinator, Some(next));
}

#[tokio::test]
async fn what_stands_in_the_stores_place_is_not_overwritten() {
    let backend = Local::new();
    std::fs::create_dir_all(backend.store()).expect("makes");
    std::fs::write(backend.store().join("precious"), "x").expect("writes");
    let fault = Store::open(backend.config("n1")).err().expect("refused");
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
    std::fs::remove_dir_all(backend.store()).expect("removes");
    std::fs::write(backend.store(), "x").expect("writes");
    let fault = Store::open(backend.config("n1")).err().expect("refused");
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
}

#[tokio::test]
async fn a_torn_ref_is_named_and_can_be_mended_as_told() {
    let backend = Local::new();
    let a = backend.open("n1");
    let mut rev = landed(&a, &Register::Coordinator, None, vec![put("a", "0")], "zero").await;
    for n in 1..4 {
        let edits = vec![put("a", &n.to_string())];
        rev = landed(&a, &Register::Coordinator, Some(&rev), edits, "more").await;
    }
    let file = backend.store().join("refs/windlass/coordinator");
    for torn in [
        "",
        "0123",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        std::fs::write(&file, torn).expect("tears");
        let fault = a.perform(Call::Look(Scope::All)).await.expect_err("torn");
        assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
        assert!(fault.message.contains("refs/windlass/coordinator is damaged"), "{fault}");
        let refused =
            commit(&a, &Register::Coordinator, Some(&rev), vec![put("a", "x")], "x").await;
        assert_eq!(refused.expect_err("torn").kind, FaultKind::Stalled);
        mend(&fault.message);
        assert_eq!(look(&a).await.coordinator, Some(rev.clone()), "{torn:?}");
        assert_eq!(&*read(&a, &Register::Coordinator, &rev).await.expect("reads").files["a"], b"3");
    }
}

#[tokio::test]
async fn a_damaged_object_is_named_and_the_state_before_is_found() {
    for damage in ["removed", "empty", "halved"] {
        let backend = Local::new();
        let a = backend.open("n1");
        let one = landed(&a, &Register::Coordinator, None, vec![put("a", "1")], "one").await;
        let kept = packs(&backend.store());
        let two = landed(&a, &Register::Coordinator, Some(&one), vec![put("a", "2")], "two").await;
        let damaged: Vec<_> = packs(&backend.store()).difference(&kept).cloned().collect();
        landed(&a, &node("n1"), None, vec![put("s", "x")], "up").await;
        drop(a);
        let pack = &damaged[0];
        let bytes = std::fs::read(pack).expect("reads");
        std::fs::remove_file(pack).expect("removes");
        match damage {
            "removed" => std::fs::remove_file(pack.with_extension("idx")).expect("removes"),
            "empty" => std::fs::write(pack, "").expect("writes"),
            _ => std::fs::write(pack, &bytes[..bytes.len() / 2]).expect("writes"),
        }
        let a = backend.open("n1");
        look(&a).await;
        let fault = read(&a, &Register::Coordinator, &two).await.expect_err("damaged");
        assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
        assert!(fault.message.contains(&format!("can be read is {one}")), "{fault}");
        mend(&fault.message);
        assert_eq!(look(&a).await.coordinator, Some(one.clone()));
        read(&a, &Register::Coordinator, &one).await.expect("reads");
        // Nothing of the node's is touched.
        assert_eq!(look(&a).await.nodes.len(), 1);
    }
}

fn packs(store: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(store.join("objects/pack"))
        .expect("lists")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "pack"))
        .collect()
}

/// Does what the message tells an operator to do.
fn mend(message: &str) {
    let from = message.find("`rm -f ").expect("a command") + 1;
    let command = &message[from..from + message[from..].find('`').expect("its end")];
    let out = std::process::Command::new("sh").args(["-c", command]).output().expect("runs");
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
}
