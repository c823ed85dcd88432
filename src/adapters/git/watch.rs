//! A bell on the door of a repository on this machine: it rings when somebody may have pushed.
//!
//! A ring is a hint and nothing more: whoever hears it looks for himself, and who never hears it
//! looks anyway, a little later. So it may ring for nothing, and several pushes may ring it once.
//!
//! What is watched is `refs/` with all below, and the repository's own directory, where
//! `packed-refs` is replaced. What the kernel's events do not tell is made up for:
//! - A new directory below `refs/` loses its first events: the bell rings again a little later.
//! - `git pack-refs` looks like the removal of refs: every event means "look again", none "gone".
//! - The repository may be moved away and another put in its place: once a second it is checked
//!   whether what is watched still is what is there.
//! - Watches may be used up (`fs.inotify.max_user_watches`): then the refs are looked at once a
//!   second, and that is said.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use notify::event::{CreateKind, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Events of one push come within this time; then the bell rings once.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// When the bell rings again after a directory was made.
const ECHOES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// How often it is checked that what is watched is there, or, without watches, whether refs moved.
const CHECK: Duration = Duration::from_secs(1);
/// After so many checks without watches, watches are tried again.
const RETRY_CHECKS: u32 = 60;
/// At most so many refs are compared when there are no watches.
const POLLED_MAX: usize = 20_000;

/// Watches a repository until it is dropped.
pub struct Watch {
    tell: Sender<Message>,
}

enum Message {
    Event(notify::Result<notify::Event>),
    Stop,
}

impl Watch {
    /// Watches the repository at `path`, which need not be there yet. Each thing received means
    /// "look again".
    pub fn start(path: &Path) -> (Self, mpsc::Receiver<()>) {
        Self::start_with(path, watch)
    }

    fn start_with<W: Send + 'static>(path: &Path, watch: Begin<W>) -> (Self, mpsc::Receiver<()>) {
        // One is enough: a ring that was not heard yet says all that another would.
        let (ring, bell) = mpsc::channel(1);
        let (tell, told) = channel();
        let keeper = Keeper {
            path: path.to_path_buf(),
            ring,
            tell: tell.clone(),
            watch,
            watched: None,
            polled: None,
            checks: 0,
        };
        let thread = std::thread::Builder::new().name("windlass-watch".to_owned());
        if let Err(error) = thread.spawn(move || keeper.run(&told)) {
            warn!(%error, path = %path.display(), "no thread to watch with: pushes are noticed by polling");
        }
        (Self { tell }, bell)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.tell.send(Message::Stop);
    }
}

/// Begins to watch a repository's directory.
type Begin<W> = fn(&Path, Sender<Message>) -> notify::Result<W>;

fn watch(git_dir: &Path, tell: Sender<Message>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading refs makes events too; who looks must not wake himself.
        if !matches!(&event, Ok(event) if event.kind.is_access()) {
            let _ = tell.send(Message::Event(event));
        }
    })?;
    watcher.watch(&git_dir.join("refs"), RecursiveMode::Recursive)?;
    watcher.watch(git_dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

struct Keeper<W> {
    path: PathBuf,
    ring: mpsc::Sender<()>,
    tell: Sender<Message>,
    watch: Begin<W>,
    /// What is watched: it ends when this is dropped.
    watched: Option<(Identity, W)>,
    /// Without watches: what the refs looked like.
    polled: Option<Vec<(PathBuf, Identity)>>,
    checks: u32,
}

/// What tells one file or directory from another that takes its place.
type Identity = Vec<(u64, u64, i64, i64)>;

impl<W> Keeper<W> {
    fn run(mut self, told: &Receiver<Message>) {
        self.check();
        let mut echoes: Vec<Duration> = Vec::new();
        loop {
            let wait = echoes.first().copied().unwrap_or(CHECK);
            match told.recv_timeout(wait) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Event(event)) => {
                    let mut news = News::of(&event);
                    std::thread::sleep(DEBOUNCE);
                    for more in told.try_iter() {
                        match more {
                            Message::Stop => return,
                            Message::Event(event) => news = news.and(News::of(&event)),
                        }
                    }
                    if news.is_news && !self.ring() {
                        return;
                    }
                    if news.is_directory {
                        echoes = ECHOES.to_vec();
                    }
                    if news.is_trouble {
                        self.watched = None;
                        self.check();
                    }
                }
                Err(RecvTimeoutError::Timeout) if !echoes.is_empty() => {
                    echoes.remove(0);
                    if !self.ring() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.check() && !self.ring() {
                        return;
                    }
                }
            }
        }
    }

    /// Rings; false if nobody listens any more.
    fn ring(&self) -> bool {
        !matches!(self.ring.try_send(()), Err(mpsc::error::TrySendError::Closed(())))
    }

    /// Sees to it that what is there is watched; true if something may have been missed.
    fn check(&mut self) -> bool {
        let git_dir = git_dir(&self.path);
        let there = git_dir.as_deref().and_then(identity);
        if let (Some(there), Some((watched, _))) = (&there, &self.watched)
            && there == watched
        {
            return false;
        }
        let had = self.watched.take().is_some();
        let (Some(git_dir), Some(there)) = (git_dir, there) else {
            // Not there: when it comes back, that is news.
            return had;
        };
        self.checks = self.checks.wrapping_add(1);
        if self.polled.is_some() && !self.checks.is_multiple_of(RETRY_CHECKS) {
            return self.poll(&git_dir);
        }
        match (self.watch)(&git_dir, self.tell.clone()) {
            Ok(watcher) => {
                debug!(repository = %git_dir.display(), "watched");
                self.watched = Some((there, watcher));
                self.polled = None;
                true
            }
            Err(error) => {
                if self.polled.is_none() {
                    warn!(
                        repository = %git_dir.display(),
                        %error,
                        "can't be watched, so a push is noticed up to a second later; if watches \
                         are used up, raise fs.inotify.max_user_watches or max_user_instances"
                    );
                }
                self.poll(&git_dir)
            }
        }
    }

    /// Looks at the refs; true if they are not what they were.
    fn poll(&mut self, git_dir: &Path) -> bool {
        let mut now = Vec::new();
        let mut look_in = vec![git_dir.join("refs")];
        now.push((PathBuf::from("packed-refs"), stamp(&git_dir.join("packed-refs"))));
        while let Some(directory) = look_in.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    look_in.push(path);
                } else if now.len() < POLLED_MAX {
                    let stamp = stamp(&path);
                    now.push((path, stamp));
                }
            }
        }
        now.sort();
        let moved = self.polled.as_ref() != Some(&now);
        self.polled = Some(now);
        moved
    }
}

/// The directory that holds the refs; none if there is no repository.
fn git_dir(path: &Path) -> Option<PathBuf> {
    if path.join("refs").is_dir() {
        return Some(path.to_path_buf());
    }
    let repo = git2::Repository::open(path).ok()?;
    Some(repo.commondir().to_path_buf())
}

fn identity(git_dir: &Path) -> Option<Identity> {
    [git_dir.to_path_buf(), git_dir.join("refs")]
        .iter()
        .map(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), 0, 0))
        })
        .collect()
}

fn stamp(path: &Path) -> Identity {
    let stamp = fs::metadata(path).map(|m| (m.size(), m.ino(), m.mtime(), m.mtime_nsec()));
    stamp.into_iter().collect()
}

/// What an event is to us.
#[derive(Clone, Copy, Default)]
struct News {
    is_news: bool,
    is_directory: bool,
    is_trouble: bool,
}

impl News {
    fn of(event: &notify::Result<notify::Event>) -> Self {
        let Ok(event) = event else {
            // Events were lost.
            return Self { is_news: true, is_directory: true, is_trouble: true };
        };
        // A lock alone is the beginning of a change.
        let is_lock = |path: &PathBuf| path.extension().is_some_and(|e| e == "lock");
        let only_locks = !event.paths.is_empty() && event.paths.iter().all(is_lock);
        Self {
            is_news: !only_locks || event.need_rescan(),
            is_directory: matches!(
                event.kind,
                EventKind::Create(CreateKind::Folder | CreateKind::Any) | EventKind::Any
            ) || event.need_rescan(),
            is_trouble: false,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            is_news: self.is_news || other.is_news,
            is_directory: self.is_directory || other.is_directory,
            is_trouble: self.is_trouble || other.is_trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::{Repository, Signature};

    async fn rings(bell: &mut mpsc::Receiver<()>, within: Duration) -> bool {
        matches!(tokio::time::timeout(within, bell.recv()).await, Ok(Some(())))
    }

    /// Lets the bell fall silent.
    async fn silence(bell: &mut mpsc::Receiver<()>) {
        while rings(bell, Duration::from_millis(400)).await {}
    }

    fn point(repo: &Repository, name: &str, text: &str) {
        let tree = repo.treebuilder(None).expect("a tree").write().expect("writes");
        let tree = repo.find_tree(tree).expect("finds");
        let who = Signature::now("n", "x@y").expect("a name");
        let id = repo.commit(None, &who, &who, text, &tree, &[]).expect("commits");
        repo.reference(name, id, true, "").expect("points");
    }

    const SOON: Duration = Duration::from_millis(900);
    const LATER: Duration = Duration::from_secs(4);

    #[tokio::test]
    async fn a_change_rings_and_a_look_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(dir.path()).expect("a repository");
        point(&repo, "refs/heads/main", "one");
        let (_watch, mut bell) = Watch::start(dir.path());
        silence(&mut bell).await;
        for n in 0..5 {
            point(&repo, "refs/heads/main", &format!("{n}"));
            assert!(rings(&mut bell, SOON).await, "{n}");
            silence(&mut bell).await;
        }
        for _ in 0..50 {
            let again = Repository::open(dir.path()).expect("opens");
            again.refname_to_id("refs/heads/main").expect("reads");
        }
        assert!(!rings(&mut bell, Duration::from_millis(300)).await, "woken by looking");
    }

    #[tokio::test]
    async fn what_events_do_not_tell_rings_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("repo.git");
        let repo = Repository::init_bare(&path).expect("a repository");
        point(&repo, "refs/heads/main", "one");
        let (_watch, mut bell) = Watch::start(&path);
        silence(&mut bell).await;
        point(&repo, "refs/windlass/nodes/a/b/c", "in new directories");
        assert!(rings(&mut bell, SOON).await);
        silence(&mut bell).await;
        point(&repo, "refs/windlass/nodes/a/b/c", "and again");
        assert!(rings(&mut bell, SOON).await);
        silence(&mut bell).await;
        repo.refdb_compress().expect("packs refs");
        assert!(rings(&mut bell, SOON).await);
        silence(&mut bell).await;
        // Moved away, and another in its place.
        fs::rename(&path, dir.path().join("aside")).expect("moves");
        let repo = Repository::init_bare(&path).expect("a repository");
        assert!(rings(&mut bell, LATER).await);
        tokio::time::sleep(CHECK * 2).await;
        silence(&mut bell).await;
        point(&repo, "refs/heads/main", "in the new one");
        assert!(rings(&mut bell, SOON).await);
    }

    #[tokio::test]
    async fn a_repository_that_comes_later_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("repo");
        let (watch, mut bell) = Watch::start(&path);
        assert!(!rings(&mut bell, Duration::from_millis(300)).await);
        // One with a work tree: what counts is in `.git`.
        let repo = Repository::init(&path).expect("a repository");
        assert!(rings(&mut bell, LATER).await);
        silence(&mut bell).await;
        point(&repo, "refs/heads/main", "one");
        assert!(rings(&mut bell, SOON).await);
        drop(watch);
        tokio::time::sleep(Duration::from_millis(100)).await;
        while bell.try_recv().is_ok() {}
        assert!(bell.recv().await.is_none(), "its thread has ended");
    }

    #[tokio::test]
    async fn without_watches_the_refs_are_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(dir.path()).expect("a repository");
        let used_up: Begin<()> = |_, _| Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        let (_watch, mut bell) = Watch::start_with(dir.path(), used_up);
        for n in 0..2 {
            while rings(&mut bell, CHECK * 2).await {}
            point(&repo, "refs/heads/main", &format!("{n}"));
            assert!(rings(&mut bell, LATER).await, "{n}");
        }
    }
}
