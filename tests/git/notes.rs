//! Notes on commits, in real repositories, read by Git itself.

use std::path::{Path, PathBuf};

use windlass::adapters::git::{Credentials, Notes, NotesConfig};
use windlass::kinds::binding::Oid;
use windlass::kinds::name::Name;
use windlass::kinds::time::Wall;
use windlass::ports::FaultKind;
use windlass::ports::outcomes::{Outcome, OutcomeState};

use crate::support::servers::{GitDaemon, Httpd, Sshd, have_servers};
use crate::support::{must_git, scratch};

/// A repository with commits, somewhere below `root`; and their ids, the newest first.
fn repository(root: &Path, commits: usize) -> (PathBuf, Vec<String>) {
    let (bare, work) = (root.join("desired.git"), root.join("work"));
    must_git(root, &["init", "-q", "--bare", "-b", "main", "desired.git"]);
    must_git(root, &["clone", "-q", "desired.git", "work"]);
    for number in 0..commits {
        let message = format!("commit {number}");
        must_git(&work, &["commit", "-q", "--allow-empty", "-m", &message]);
    }
    must_git(&work, &["push", "-q", "origin", "HEAD:main"]);
    let listed = must_git(&bare, &["rev-list", "main"]);
    (bare, listed.lines().map(str::to_owned).collect())
}

fn outcome(commit: &str, seconds: i64, message: &str) -> Outcome {
    Outcome {
        since: Wall::from_seconds(seconds),
        commit: Oid::new(commit),
        subject: "a change".into(),
        author: "Ada <ada@example.org>".into(),
        app: Name::trusted("default"),
        is_part: false,
        state: OutcomeState::Applied,
        message: message.into(),
    }
}

fn notes(root: &Path, url: &str, credentials: &Credentials, node: &str) -> Notes {
    let config = NotesConfig {
        url: url.to_owned(),
        credentials: credentials.clone(),
        copy: root.join(node).join("notes.git"),
        node: node.to_owned(),
        timeouts: super::timeouts(),
    };
    Notes::open(config).expect("it can be opened")
}

/// What Git shows of a commit's note.
fn shown(bare: &Path, commit: &str) -> String {
    must_git(bare, &["log", "-1", "--notes=windlass", "--format=%N", commit])
}

/// The same story, wherever the repository is.
async fn tell(root: &Path, bare: &Path, commits: &[String], url: &str, credentials: &Credentials) {
    let book = notes(root, url, credentials, "n1");
    let (newest, before) = (&commits[0], &commits[1]);
    let first = outcome(before, 0, "in force");
    book.write(vec![first.clone()]).await.expect("the first note of all");
    assert_eq!(shown(bare, before), "1970-01-01T00:00:00Z in force");
    let story =
        vec![first, outcome(before, 12, "healthy after 12s"), outcome(newest, 20, "refused: x")];
    book.write(story.clone()).await.expect("more");
    let told = "1970-01-01T00:00:00Z in force\n1970-01-01T00:00:12Z healthy after 12s";
    assert_eq!(shown(bare, before), told, "what stood there is not written twice");
    assert_eq!(shown(bare, newest), "1970-01-01T00:00:20Z refused: x");
    // Another agent takes over, and tells how things stand.
    let tip = must_git(bare, &["rev-parse", "refs/notes/windlass"]);
    let successor = notes(root, url, credentials, "n2");
    successor.write(story).await.expect("nothing new");
    assert_eq!(must_git(bare, &["rev-parse", "refs/notes/windlass"]), tip, "nothing is written");
    // A person says something as well.
    let work = root.join("work");
    must_git(&work, &["fetch", "-q", "origin", "refs/notes/*:refs/notes/*"]);
    must_git(&work, &["notes", "--ref=windlass", "append", "-m", "my fault", newest]);
    must_git(&work, &["push", "-q", "origin", "refs/notes/windlass"]);
    book.write(vec![outcome(newest, 30, "in force")]).await.expect("on top of hers");
    let all = shown(bare, newest);
    assert!(all.contains("my fault") && all.ends_with("00:00:30Z in force"), "{all}");
    let author = must_git(bare, &["log", "-1", "--format=%an <%ae>", "refs/notes/windlass"]);
    assert_eq!(author, "windlass <windlass@n1>");
    must_git(bare, &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_written_beside_a_path_and_behind_every_server() {
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let none = Credentials::default();
    tell(root.path(), &bare, &commits, &bare.display().to_string(), &none).await;
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let server = GitDaemon::start(root.path());
    tell(root.path(), &bare, &commits, &server.url("desired.git"), &none).await;
    if !have_servers("notes_are_written_beside_a_path_and_behind_every_server") {
        return;
    }
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let server = Httpd::start(root.path());
    let token = Credentials { password_file: Some(server.file("password")), ..none.clone() };
    tell(root.path(), &bare, &commits, &server.url("git", "desired.git"), &token).await;
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let server = Sshd::start();
    let hosts = server.known_hosts("hosts", &server.known_host("host_ed25519"));
    let key =
        Credentials { ssh_key: Some(server.file("client")), known_hosts: Some(hosts), ..none };
    tell(root.path(), &bare, &commits, &server.url(&bare), &key).await;
}

/// Git spreads many notes over directories; ours go where it looks for them.
#[tokio::test(flavor = "multi_thread")]
async fn notes_that_git_has_spread_are_found() {
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let commit = &commits[0];
    let blob = root.path().join("blob");
    std::fs::write(&blob, "from before\n").expect("written");
    let id = must_git(&bare, &["hash-object", "-w", &blob.display().to_string()]);
    let index = root.path().join("index");
    let index = format!("GIT_INDEX_FILE={}", index.display());
    let spread = format!("{}/{}/{}", &commit[..2], &commit[2..4], &commit[4..]);
    let script = format!(
        "{index} git update-index --add --cacheinfo 100644,{id},{spread} && \
         tree=$({index} git write-tree) && \
         git update-ref refs/notes/windlass $(git -c user.name=a -c user.email=a@b commit-tree -m x $tree)"
    );
    let run = std::process::Command::new("sh").args(["-c", &script]).current_dir(&bare).status();
    assert!(run.expect("a shell").success());
    assert_eq!(shown(&bare, commit), "from before");
    let url = bare.display().to_string();
    let book = notes(root.path(), &url, &Credentials::default(), "n1");
    let both = vec![outcome(commit, 5, "in force"), outcome(&commits[1], 6, "in force")];
    book.write(both).await.expect("written");
    assert_eq!(shown(&bare, commit), "from before\n1970-01-01T00:00:05Z in force");
    assert_eq!(shown(&bare, &commits[1]), "1970-01-01T00:00:06Z in force");
    must_git(&bare, &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_notes_lose_no_line() {
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let server = GitDaemon::start(root.path());
    let url = server.url("desired.git");
    let writers = (0..4).map(|writer| {
        let book = notes(root.path(), &url, &Credentials::default(), &format!("n{writer}"));
        let commit = commits[0].clone();
        tokio::spawn(async move {
            for number in 0..4 {
                let said = outcome(&commit, writer * 100 + number, "in force");
                // As the agent does: what was not written is told again.
                while book.write(vec![said.clone()]).await.is_err() {}
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("it ends");
    }
    assert_eq!(shown(&bare, &commits[0]).lines().count(), 16);
    must_git(&bare, &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_no_notes_is_named() {
    let root = scratch("wgit-notes-");
    let (bare, commits) = repository(root.path(), 2);
    let hook = bare.join("hooks/update");
    std::fs::write(&hook, "#!/bin/sh\ncase $1 in refs/notes/*) exit 1;; esac\n").expect("written");
    must_git(&bare, &["config", "core.hooksPath", &bare.join("hooks").display().to_string()]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, mode).expect("set");
    let server = GitDaemon::start(root.path());
    let url = server.url("desired.git");
    let book = notes(root.path(), &url, &Credentials::default(), "n1");
    let fault = book.write(vec![outcome(&commits[0], 1, "in force")]).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Stalled);
    assert!(fault.message.contains("refs/notes/windlass"), "{fault}");
    // Whoever is not the owner of a repository on this machine would lock its owner out.
    if crate::support::is_root("a_server_that_wants_no_notes_is_named") {
        let objects = bare.join("objects");
        std::os::unix::fs::chown(&objects, Some(65_534), None).expect("given away");
        let book = notes(root.path(), &bare.display().to_string(), &Credentials::default(), "n2");
        let told = book.write(vec![outcome(&commits[0], 1, "in force")]).await;
        let fault = told.expect_err("refused");
        assert!(fault.message.contains("belongs to another user"), "{fault}");
        std::os::unix::fs::chown(&objects, Some(0), None).expect("taken back");
    }
}
