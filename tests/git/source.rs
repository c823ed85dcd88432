//! The desired repository on this machine, and the copy of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use windlass::adapters::git::{Source, SourceConfig};
use windlass::kinds::binding::Oid;
use windlass::ports::source::{
    Answer, Call, CommitInfo, FileContent, FileEntry, FileKind, Relation, Survey,
};
use windlass::ports::{Fault, FaultKind};

use crate::support::{git, must_git, scratch};

/// A repository that people push to, and a place for copies of it.
pub(crate) struct Shelf {
    pub(crate) dir: tempfile::TempDir,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        let dir = scratch("wgit-source-");
        must_git(dir.path(), &["init", "-q", "--bare", "-b", "main", "desired.git"]);
        must_git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let bare = dir.path().join("desired.git");
        must_git(
            &dir.path().join("work"),
            &["remote", "add", "origin", &bare.display().to_string()],
        );
        Self { dir }
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.dir.path().join("desired.git")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("data/desired.git")
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        must_git(&self.work(), args)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes");
        std::fs::write(path, text).expect("writes");
    }

    /// Commits everything and pushes it; returns the commit.
    pub(crate) fn push(&self, message: &str) -> Oid {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
        Oid::new(&self.git(&["rev-parse", "HEAD"]))
    }

    pub(crate) fn config(&self) -> SourceConfig {
        self.config_for(&self.bare().display().to_string())
    }

    pub(crate) fn config_for(&self, url: &str) -> SourceConfig {
        SourceConfig { timeouts: super::timeouts(), ..SourceConfig::new(url, self.cache()) }
    }

    pub(crate) fn open(&self) -> Source {
        Source::open(self.config()).expect("opens")
    }
}

pub(crate) async fn fetch(source: &Source) -> Result<Option<Oid>, Fault> {
    match source.perform(Call::Fetch).await? {
        Answer::Fetched { tip, .. } => Ok(tip),
        other => panic!("fetch: {other:?}"),
    }
}

pub(crate) async fn survey(
    source: &Source,
    commit: &Oid,
    since: Option<&Oid>,
) -> Result<Survey, Fault> {
    let call = Call::Survey { commit: commit.clone(), since: since.cloned() };
    match source.perform(call).await? {
        Answer::Surveyed(survey) => Ok(*survey),
        other => panic!("survey: {other:?}"),
    }
}

pub(crate) async fn read(source: &Source, files: &[FileEntry]) -> Result<Vec<FileContent>, Fault> {
    let call = Call::Read { files: files.to_vec() };
    match source.perform(call).await? {
        Answer::Contents(contents) => Ok(contents),
        other => panic!("read: {other:?}"),
    }
}

async fn show(source: &Source, commit: &Oid, path: &str) -> Result<Vec<(String, String)>, Fault> {
    let call = Call::Show { commit: commit.clone(), path: path.into() };
    match source.perform(call).await? {
        Answer::Contents(contents) => Ok(texts(&contents)),
        other => panic!("show: {other:?}"),
    }
}

async fn keep(source: &Source, commits: &[&Oid]) -> Result<(), Fault> {
    let commits = commits.iter().map(|id| (*id).clone()).collect();
    source.perform(Call::Keep { commits }).await.map(drop)
}

pub(crate) async fn resolve(source: &Source, text: &str) -> Result<Oid, Fault> {
    match source.perform(Call::Resolve { text: text.into() }).await? {
        Answer::Resolved(id) => Ok(id),
        other => panic!("resolve: {other:?}"),
    }
}

pub(crate) fn texts(contents: &[FileContent]) -> Vec<(String, String)> {
    let text = |bytes: &Arc<[u8]>| String::from_utf8_lossy(bytes).into_owned();
    contents.iter().map(|file| (file.path.to_string(), text(&file.bytes))).collect()
}

pub(crate) fn paths(survey: &Survey) -> Vec<&str> {
    survey.files.iter().map(|file| &*file.path).collect()
}

#[tokio::test]
async fn a_commit_is_fetched_listed_and_read() {
    let shelf = Shelf::new();
    shelf.write("web.yaml", "kind: Deployment\n");
    shelf.write("shop/db.yaml", "kind: Service\n");
    shelf.write("shop.md", "text");
    let first = shelf.push("the shop opens");
    let source = shelf.open();
    assert_eq!(fetch(&source).await, Ok(Some(first.clone())));
    let seen = survey(&source, &first, None).await.expect("lists");
    assert_eq!(paths(&seen), ["shop.md", "shop/db.yaml", "web.yaml"]);
    assert_eq!(seen.relation, Relation::First);
    assert_eq!((seen.files[1].bytes, seen.files[1].kind), (14, FileKind::File));
    assert_eq!(seen.commits.len(), 1);
    assert_eq!(seen.commits[0].subject(), "the shop opens");
    assert_eq!(seen.commits[0].author, "Ada <ada@example.org>");
    let contents = read(&source, &seen.files[1..]).await.expect("reads");
    assert_eq!(
        texts(&contents),
        [
            ("shop/db.yaml".into(), "kind: Service\n".into()),
            ("web.yaml".into(), "kind: Deployment\n".into())
        ]
    );
    // Only what changed is opened the next time, and the rest is as it was.
    shelf.write("shop/db.yaml", "kind: StatefulSet\n");
    shelf.write("shop/new/a.yaml", "a");
    std::fs::remove_file(shelf.work().join("shop.md")).expect("removes");
    let second = shelf.push("more");
    assert_eq!(fetch(&source).await, Ok(Some(second.clone())));
    let seen = survey(&source, &second, Some(&first)).await.expect("lists");
    assert_eq!(paths(&seen), ["shop/db.yaml", "shop/new/a.yaml", "web.yaml"]);
    assert_eq!((seen.relation, seen.files[0].bytes), (Relation::Descends, 18));
    let again = survey(&source, &first, None).await.expect("lists");
    assert_eq!(paths(&again), ["shop.md", "shop/db.yaml", "web.yaml"]);
    let fresh = survey(&source, &second, None).await.expect("lists");
    assert_eq!(fresh.files, seen.files);
}

#[tokio::test]
async fn a_listing_made_from_the_last_one_is_the_same_as_a_new_one() {
    let shelf = Shelf::new();
    let source = shelf.open();
    // Names that sort oddly: `a.b` before `a/`, `a-` before both.
    for round in 0..12u32 {
        for n in 0..6u32 {
            let path = ["a/x", "a.b/x", "a-/y/x", "a/b/c/x", "z", "a/b.d"][n as usize];
            if (round * 7 + n * 5) % 3 != 0 {
                shelf.write(&format!("{path}{}", (round + n) % 4), &format!("{round}"));
            }
        }
        if round % 4 == 3 {
            let _ = std::fs::remove_dir_all(shelf.work().join("a/b"));
        }
        let tip = shelf.push("a round");
        fetch(&source).await.expect("fetches");
        let by_changes = survey(&source, &tip, None).await.expect("lists");
        let mut listed: Vec<_> = shelf
            .git(&["ls-tree", "-r", "--name-only", "HEAD"])
            .lines()
            .map(str::to_owned)
            .collect();
        listed.sort();
        assert_eq!(paths(&by_changes), listed, "round {round}");
        for file in &by_changes.files {
            let blob = shelf.git(&["rev-parse", &format!("HEAD:{}", file.path)]);
            assert_eq!(file.blob.as_str(), blob);
        }
    }
}

#[tokio::test]
async fn a_directory_taken_over_twice_is_still_the_same() {
    let shelf = Shelf::new();
    let source = shelf.open();
    let list = async |message: &str| {
        let tip = shelf.push(message);
        fetch(&source).await.expect("fetches");
        let seen = survey(&source, &tip, None).await.expect("lists");
        paths(&seen).join(" ")
    };
    shelf.write("a/b/c/x", "1");
    shelf.write("a/b/y", "1");
    shelf.write("a/z", "1");
    assert_eq!(list("begin").await, "a/b/c/x a/b/y a/z");
    shelf.write("0", "1");
    assert_eq!(list("all of a moves").await, "0 a/b/c/x a/b/y a/z");
    shelf.write("a/z", "2");
    assert_eq!(list("a is opened, b is not").await, "0 a/b/c/x a/b/y a/z");
    shelf.write("00", "1");
    shelf.write("a/b/y", "2");
    assert_eq!(list("b is opened, c is not").await, "0 00 a/b/c/x a/b/y a/z");
}

#[tokio::test]
async fn links_and_submodules_are_told_by_kind() {
    let shelf = Shelf::new();
    shelf.write("real.yaml", "a");
    std::os::unix::fs::symlink("real.yaml", shelf.work().join("link.yaml")).expect("links");
    shelf.push("one");
    let id = shelf.git(&["rev-parse", "HEAD"]);
    shelf.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},sub")]);
    shelf.git(&["commit", "-q", "-m", "two"]);
    shelf.git(&["push", "-q", "origin", "HEAD:main"]);
    let source = shelf.open();
    let tip = fetch(&source).await.expect("fetches").expect("a tip");
    let seen = survey(&source, &tip, None).await.expect("lists");
    let kinds: Vec<_> = seen.files.iter().map(|f| (&*f.path, f.kind, f.bytes)).collect();
    assert_eq!(
        kinds,
        [
            ("link.yaml", FileKind::Symlink, 9),
            ("real.yaml", FileKind::File, 1),
            ("sub", FileKind::Submodule, 0)
        ]
    );
    assert_eq!(show(&source, &tip, "").await, Ok(vec![("real.yaml".into(), "a".into())]));
    for path in ["link.yaml", "sub", "none", "real.yaml/x", "../x"] {
        let fault = show(&source, &tip, path).await.expect_err(path);
        assert_eq!(fault.kind, FaultKind::NotFound, "{path}: {fault}");
    }
}

#[tokio::test]
async fn only_the_sub_directory_counts_and_it_may_be_missing() {
    let shelf = Shelf::new();
    shelf.write("prod/web/web.yaml", "a");
    shelf.write("test/web.yaml", "b");
    let tip = shelf.push("one");
    let config = SourceConfig { directory: "/prod/".into(), ..shelf.config() };
    let source = Source::open(config).expect("opens");
    fetch(&source).await.expect("fetches");
    let seen = survey(&source, &tip, None).await.expect("lists");
    assert_eq!(paths(&seen), ["web/web.yaml"]);
    let tree = shelf.git(&["rev-parse", "HEAD:prod"]);
    assert_eq!(seen.tree, Some(Oid::new(&tree)));
    assert_eq!(show(&source, &tip, "web").await, Ok(vec![("web/web.yaml".into(), "a".into())]));
    shelf.git(&["rm", "-rq", "prod"]);
    let gone = shelf.push("two");
    fetch(&source).await.expect("fetches");
    let seen = survey(&source, &gone, Some(&tip)).await.expect("lists");
    assert_eq!((seen.tree, seen.files.len()), (None, 0));
    shelf.write("prod", "a file now");
    let file = shelf.push("three");
    fetch(&source).await.expect("fetches");
    assert_eq!(survey(&source, &file, None).await.expect("lists").tree, None);
    assert_eq!(show(&source, &file, "web").await.expect_err("gone").kind, FaultKind::NotFound);
}

#[tokio::test]
async fn how_a_commit_follows_from_another_is_told() {
    let shelf = Shelf::new();
    let base = shelf.push("base");
    let a1 = shelf.push("a1");
    shelf.push("a2\n\nWindlass-Allow-Prune: yes");
    let a3 = shelf.push("a3");
    let source = shelf.open();
    fetch(&source).await.expect("fetches");
    keep(&source, &[&a3]).await.expect("keeps");
    let relation = async |commit: &Oid, since: &Oid| {
        survey(&source, commit, Some(since)).await.expect("lists").relation
    };
    assert_eq!(relation(&a3, &a1).await, Relation::Descends);
    assert_eq!(relation(&a3, &a3).await, Relation::Same);
    // A trailer is found on any commit between.
    let between = survey(&source, &a3, Some(&a1)).await.expect("lists").commits;
    let subjects: Vec<_> = between.iter().map(CommitInfo::subject).collect();
    assert_eq!(subjects, ["a3", "a2"]);
    let allowed = between.iter().any(|c| c.trailer("Windlass-Allow-Prune") == Some("yes"));
    assert!(allowed);
    // Set back.
    shelf.git(&["reset", "-q", "--hard", a1.as_str()]);
    shelf.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
    assert_eq!(fetch(&source).await, Ok(Some(a1.clone())));
    assert_eq!(relation(&a1, &a3).await, Relation::Precedes);
    // Rewritten.
    let b = shelf.push("b");
    assert_eq!(fetch(&source).await, Ok(Some(b.clone())));
    assert_eq!(relation(&b, &a3).await, Relation::Diverged);
    let since_a3 = survey(&source, &b, Some(&a3)).await.expect("lists").commits;
    assert_eq!(since_a3.len(), 1);
    // Nothing in common.
    shelf.git(&["checkout", "-q", "--orphan", "other"]);
    let other = shelf.push("other");
    assert_eq!(fetch(&source).await, Ok(Some(other.clone())));
    assert_eq!(relation(&other, &a3).await, Relation::Unrelated);
    // A commit that is in force but gone from here: told as what it looks like.
    let unknown = Oid::new("1234567890123456789012345678901234567890");
    assert_eq!(relation(&other, &unknown).await, Relation::Unrelated);
    let absent = survey(&source, &unknown, None).await.expect_err("absent");
    assert_eq!(absent.kind, FaultKind::NotFound);
    assert!(relation(&a3, &base).await == Relation::Descends);
}

#[tokio::test]
async fn the_list_of_commits_has_an_end() {
    let shelf = Shelf::new();
    let mut stream = String::new();
    for n in 1..=1100 {
        stream += &format!(
            "commit refs/heads/main\nmark :{n}\ncommitter A <a@b> {} +0000\ndata 1\nx\n{}M 644 inline a\ndata 4\n{n:04}\n",
            1_700_000_000 + n,
            if n > 1 { format!("from :{}\n", n - 1) } else { String::new() }
        );
    }
    let file = shelf.dir.path().join("stream");
    std::fs::write(&file, stream).expect("writes");
    let line =
        format!("git -C {} fast-import --quiet < {}", shelf.bare().display(), file.display());
    crate::support::must_run("sh", &["-c", &line]);
    let source = shelf.open();
    let tip = fetch(&source).await.expect("fetches").expect("a tip");
    let seen = survey(&source, &tip, None).await.expect("lists");
    assert_eq!(seen.commits.len(), 1000);
    assert_eq!(seen.commits[0].id, tip);
}

#[tokio::test]
async fn a_missing_branch_is_no_fault_and_loses_nothing() {
    let shelf = Shelf::new();
    let source = shelf.open();
    assert_eq!(fetch(&source).await, Ok(None));
    let tip = shelf.push("one");
    assert_eq!(fetch(&source).await, Ok(Some(tip.clone())));
    must_git(&shelf.bare(), &["update-ref", "-d", "refs/heads/main"]);
    assert_eq!(fetch(&source).await, Ok(None));
    survey(&source, &tip, None).await.expect("still here");
    shelf.git(&["push", "-q", "origin", "HEAD:main"]);
    assert_eq!(fetch(&source).await, Ok(Some(tip)));
}

#[tokio::test]
async fn a_repository_that_is_not_there_or_not_readable_is_said_plainly() {
    let shelf = Shelf::new();
    let config = |url: &str| shelf.config_for(url);
    for (url, part) in [
        ("/nonexistent/wgit", "no such repository"),
        ("/etc/hostname", "is a file"),
        ("/tmp", "no such repository"),
    ] {
        let source = Source::open(config(url)).expect("opens");
        let fault = fetch(&source).await.expect_err(url);
        assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
        assert!(fault.message.contains(part) && fault.message.contains(url), "{fault}");
    }
    let format =
        git(shelf.dir.path(), &["init", "-q", "--bare", "--ref-format=reftable", "table.git"]);
    if format.status.success() {
        let url = shelf.dir.path().join("table.git").display().to_string();
        let fault = fetch(&Source::open(config(&url)).expect("opens")).await.expect_err("reftable");
        assert!(
            fault.kind == FaultKind::Stalled && fault.message.contains("git refs migrate"),
            "{fault}"
        );
    }
    for bad in ["", "a..b", "a b", "-"] {
        let config = SourceConfig { branch: bad.into(), ..shelf.config() };
        if bad != "-" {
            assert!(Source::open(config).is_err(), "{bad:?}");
        }
    }
}

#[tokio::test]
async fn a_broken_ref_that_nobody_asked_for_is_no_matter() {
    let shelf = Shelf::new();
    let tip = shelf.push("one");
    std::fs::write(shelf.bare().join("refs/heads/other"), "garbage").expect("writes");
    std::fs::write(
        shelf.bare().join("refs/heads/gone"),
        "1234567890123456789012345678901234567890\n",
    )
    .expect("writes");
    let source = shelf.open();
    assert_eq!(fetch(&source).await, Ok(Some(tip)));
    // The one that was asked for is.
    std::fs::write(shelf.bare().join("refs/heads/main"), "").expect("writes");
    let fault = fetch(&source).await.expect_err("torn");
    assert!(fault.message.contains("refs/heads/main can't be read"), "{fault}");
    assert!(shelf.cache().join("refs/windlass/tip").exists());
}

#[tokio::test]
async fn names_are_found_as_people_write_them() {
    let shelf = Shelf::new();
    let one = shelf.push("one");
    shelf.git(&["tag", "-a", "v1", "-m", "release"]);
    shelf.git(&["tag", "light"]);
    shelf.git(&["push", "-q", "origin", "v1", "light"]);
    let two = shelf.push("two");
    let three = shelf.push("three");
    shelf.git(&["checkout", "-q", "-b", "feature"]);
    shelf.git(&["commit", "-q", "--allow-empty", "-m", "feature"]);
    shelf.git(&["push", "-q", "origin", "feature"]);
    let feature = Oid::new(&shelf.git(&["rev-parse", "HEAD"]));
    let source = shelf.open();
    fetch(&source).await.expect("fetches");
    let table = [
        ("main", &three),
        ("HEAD", &three),
        ("refs/heads/main", &three),
        ("origin/main", &three),
        (" HEAD~1 ", &two),
        ("main^^", &one),
        ("main~2", &one),
        ("v1", &one),
        ("light", &one),
        ("refs/tags/v1", &one),
        (&two.as_str()[..7], &two),
        (two.as_str(), &two),
        (&format!("{}^", &two.as_str()[..9]), &one),
        ("feature", &feature),
        ("feature~1", &three),
    ];
    for (text, expected) in table {
        assert_eq!(resolve(&source, text).await.as_ref(), Ok(expected), "{text}");
    }
    survey(&source, &feature, None).await.expect("was brought");
    for text in [
        "", "none", "main~99", "v1:x", "@{-1}", "main@{1}", "^main", "ffffffff", "a b", "main..v1",
        "~1", "-x",
    ] {
        let fault = resolve(&source, text).await.expect_err(text);
        assert_eq!(fault.kind, FaultKind::NotFound, "{text}: {fault}");
    }
    // With the remote gone, what is here is found, and the rest is said to be out of reach.
    std::fs::rename(shelf.bare(), shelf.dir.path().join("aside")).expect("moves");
    assert_eq!(resolve(&source, "main~1").await, Ok(two));
    let fault = resolve(&source, "v2").await.expect_err("away");
    assert!(fault.message.contains("can't be asked"), "{fault}");
}

#[tokio::test]
async fn kept_commits_stay_and_others_go() {
    let shelf = Shelf::new();
    shelf.write("a", "old");
    let old = shelf.push("old");
    let source = shelf.open();
    fetch(&source).await.expect("fetches");
    keep(&source, &[&old]).await.expect("keeps");
    let unknown = Oid::new("1234567890123456789012345678901234567890");
    assert_eq!(keep(&source, &[&unknown]).await.expect_err("absent").kind, FaultKind::NotFound);
    shelf.git(&["checkout", "-q", "--orphan", "new"]);
    shelf.write("a", "new");
    let new = shelf.push("new");
    fetch(&source).await.expect("fetches");
    keep(&source, &[&old, &new]).await.expect("keeps");
    keep(&source, &[&old, &new]).await.expect("again");
    drop(source);
    // The remote is gone for ever; an agent that starts now finds its revisions.
    std::fs::remove_dir_all(shelf.bare()).expect("removes");
    let source = shelf.open();
    assert_eq!(fetch(&source).await.expect_err("gone").kind, FaultKind::Stalled);
    for (commit, text) in [(&old, "old"), (&new, "new")] {
        let seen = survey(&source, commit, None).await.expect("here");
        assert_eq!(texts(&read(&source, &seen.files).await.expect("reads"))[0].1, text);
    }
    keep(&source, &[&new]).await.expect("keeps");
    let refs = must_git(&shelf.cache(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, format!("refs/windlass/keep/{new}\nrefs/windlass/tip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_stays_small_over_hundreds_of_fetches() {
    let shelf = Shelf::new();
    let source = shelf.open();
    let packs = || {
        std::fs::read_dir(shelf.cache().join("objects/pack"))
            .expect("lists")
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|e| e == "pack"))
            .count()
    };
    let mut tip = None;
    let mut most = 0;
    for n in 0..215 {
        shelf.write("a", &format!("{n}"));
        shelf.push("next");
        tip = fetch(&source).await.expect("fetches");
        most = most.max(packs());
    }
    for _ in 0..200 {
        if packs() < 20 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(most > 190 && packs() < 20, "{most} then {}", packs());
    let seen = survey(&source, &tip.expect("a tip"), None).await.expect("lists");
    assert_eq!(seen.commits.len(), 215);
    super::conformance::fsck(&shelf.cache());
}

#[tokio::test]
async fn one_agent_at_a_time_uses_a_copy() {
    let shelf = Shelf::new();
    let first = shelf.open();
    let fault = Source::open(shelf.config()).err().expect("in use");
    assert!(
        fault.kind == FaultKind::Stalled && fault.message.contains("in use by process"),
        "{fault}"
    );
    drop(first);
    shelf.open();
    // A directory that is not ours is never made anew.
    let other = shelf.dir.path().join("precious");
    std::fs::create_dir(&other).expect("makes");
    std::fs::write(other.join("file"), "x").expect("writes");
    let config = SourceConfig { cache: other.clone(), ..shelf.config() };
    assert_eq!(Source::open(config).err().expect("refused").kind, FaultKind::Stalled);
    assert!(other.join("file").exists());
}

/// Overwrites every file that `find` names, as a failing disk would.
pub(crate) fn spoil(cache: &Path, pattern: &str) -> usize {
    let line = format!(
        "find {} -path '{pattern}' -type f | while read f; do chmod u+w $f; s=$(stat -c %s $f); head -c $((s/2)) $f > $f.x; head -c $((s - s/2)) /dev/zero >> $f.x; mv $f.x $f; echo $f; done",
        cache.display()
    );
    crate::support::must_run("sh", &["-c", &line]).lines().count()
}

#[tokio::test]
async fn a_damaged_copy_is_made_anew_and_keeps_what_can_be_read() {
    // What is spoilt, while the agent is down or up, and whether kept commits can survive it.
    let table = [
        ("*/HEAD", true),
        ("*/config", true),
        ("*/refs/windlass/tip", true),
        ("*/refs/windlass/keep/*", true),
        ("*/objects/pack/*.pack", false),
        ("*/objects/pack/*.idx", false),
    ];
    for (pattern, survives) in table {
        for running in [false, true] {
            let shelf = Shelf::new();
            shelf.write("a", "kept");
            let kept = shelf.push("kept");
            let mut source = Some(shelf.open());
            fetch(source.as_ref().expect("open")).await.expect("fetches");
            keep(source.as_ref().expect("open"), &[&kept]).await.expect("keeps");
            shelf.git(&["checkout", "-q", "--orphan", "new"]);
            shelf.write("a", "new");
            let new = shelf.push("new");
            if !running {
                source = None;
            }
            assert!(spoil(&shelf.cache(), pattern) > 0, "{pattern}");
            let source = source.unwrap_or_else(|| shelf.open());
            let what = format!("{pattern}, running: {running}");
            let mut tip = fetch(&source).await;
            if tip.is_err() {
                tip = fetch(&source).await;
            }
            assert_eq!(tip, Ok(Some(new.clone())), "{what}");
            let mut seen = survey(&source, &new, Some(&kept)).await;
            if seen.is_err() {
                fetch(&source).await.expect("fetches");
                seen = survey(&source, &new, Some(&kept)).await;
            }
            let seen = seen.expect(&what);
            assert_eq!(texts(&read(&source, &seen.files).await.expect(&what))[0].1, "new");
            if survives {
                let old = survey(&source, &kept, None).await.expect(&what);
                assert_eq!(texts(&read(&source, &old.files).await.expect(&what))[0].1, "kept");
            }
            drop(source);
            // What no call came upon is mended at the next start.
            drop(shelf.open());
            super::conformance::fsck(&shelf.cache());
        }
    }
}

#[tokio::test]
async fn a_kept_commit_survives_the_loss_of_its_history() {
    let shelf = Shelf::new();
    shelf.write("a", "1");
    let one = shelf.push("one");
    let source = shelf.open();
    fetch(&source).await.expect("fetches");
    let first_pack = must_git(&shelf.cache(), &["rev-parse", "--git-path", "objects/pack"]);
    let packs = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir.join(&first_pack))
            .expect("lists")
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "pack"))
            .collect()
    };
    let history = packs(&shelf.cache());
    shelf.write("a", "2");
    let two = shelf.push("two");
    fetch(&source).await.expect("fetches");
    keep(&source, &[&two]).await.expect("keeps");
    drop(source);
    // The pack that holds "one" is lost, and so is a ref, so that the damage is seen at once.
    for pack in history {
        std::fs::remove_file(pack.with_extension("idx")).expect("removes");
        std::fs::remove_file(pack).expect("removes");
    }
    std::fs::write(shelf.cache().join("refs/windlass/tip"), "").expect("tears");
    let aside = shelf.dir.path().join("aside");
    std::fs::rename(shelf.bare(), &aside).expect("moves");
    let source = shelf.open();
    let seen = survey(&source, &two, None).await.expect("kept");
    assert_eq!(texts(&read(&source, &seen.files).await.expect("reads"))[0].1, "2");
    // When the remote is back, so is the history.
    std::fs::rename(&aside, shelf.bare()).expect("moves");
    assert_eq!(fetch(&source).await, Ok(Some(two.clone())));
    let seen = survey(&source, &two, Some(&one)).await.expect("lists");
    assert_eq!((seen.relation, seen.commits.len()), (Relation::Descends, 1));
    super::conformance::fsck(&shelf.cache());
}

#[tokio::test]
async fn a_mending_that_was_cut_short_is_finished() {
    let shelf = Shelf::new();
    shelf.write("a", "kept");
    let kept = shelf.push("kept");
    let source = shelf.open();
    fetch(&source).await.expect("fetches");
    keep(&source, &[&kept]).await.expect("keeps");
    drop(source);
    let beside = |what: &str| PathBuf::from(format!("{}{what}", shelf.cache().display()));
    std::fs::remove_dir_all(shelf.bare()).expect("removes");
    // Killed between moving the old one away and the new one in.
    std::fs::rename(shelf.cache(), beside(".rescued")).expect("moves");
    std::fs::create_dir(beside(".broken")).expect("makes");
    let source = shelf.open();
    survey(&source, &kept, None).await.expect("kept");
    drop(source);
    assert!(!beside(".broken").exists() && !beside(".rescued").exists());
    // Killed while the new one was being made: the old one still counts.
    std::fs::create_dir(beside(".rescued")).expect("makes");
    let source = shelf.open();
    survey(&source, &kept, None).await.expect("kept");
    assert!(!beside(".rescued").exists());
}
