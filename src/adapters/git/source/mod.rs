//! The desired repository: a shelf of letters. They are fetched from the post, listed and read,
//! and the important ones are put aside; nothing is ever written back.
//!
//! ```text
//!   remote ──Fetch──▶ cache ──Survey──▶ names, relation, commits
//!                       │   ──Read────▶ contents, by blob id
//!                       └── Keep: refs that hold the last good revisions
//! ```
//! Files are read from Git objects; nothing is checked out. What the network does is found out by
//! Fetch alone: every other verb works without it, except that Resolve asks for names it doesn't
//! know.

mod cache;
mod fetch;
mod survey;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use git2::{ErrorCode, ObjectType, Repository};
use tracing::{info, warn};

use crate::kinds::binding::Oid;
use crate::ports::source::{Answer, Call, FileContent, FileEntry, FileKind, Survey};
use crate::ports::{Fault, FaultKind};

use super::access::{Access, Credentials};
use super::durable::{self, Lock};
use super::place::Place;
use super::repo::{self, Pool};
use super::setup::{self, Timeouts};
use super::workers::Workers;
use super::{fault, repack};
use fetch::{Failed, Found, Wanted};
use survey::Listing;

/// Where the desired repository is.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// A path of this machine, or an address of a Git server.
    pub url: String,
    /// The branch to follow.
    pub branch: String,
    /// The directory in it that counts; empty for all of it.
    pub directory: String,
    /// A directory of the agent's own, for the copy.
    pub cache: PathBuf,
    /// What opens a repository behind a server.
    pub credentials: Credentials,
    /// How long it may take.
    pub timeouts: Timeouts,
}

impl SourceConfig {
    /// The whole of branch `main`, with nothing but what it needs.
    pub fn new(url: &str, cache: PathBuf) -> Self {
        Self {
            url: url.to_owned(),
            branch: "main".to_owned(),
            directory: String::new(),
            cache,
            credentials: Credentials::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// One answer holds at most so much: thirty times the largest repository of manifests we know of,
/// and a bound for somebody's disk image.
const READ_BYTES_MAX: usize = 256 << 20;

/// How long a repack waits for fetches to end before it leaves things as they are.
const FETCHES_WAIT: Duration = Duration::from_secs(30);
/// A repack of a large copy may take this much longer than other calls.
const REPACK_PATIENCE: u32 = 20;

/// The desired repository.
pub struct Source {
    inner: Arc<Inner>,
    workers: Arc<Workers>,
    timeouts: Timeouts,
}

struct Inner {
    access: Access,
    branch: String,
    directory: String,
    cache: PathBuf,
    pool: Pool,
    lock: Mutex<Option<Lock>>,
    /// Held for reading while objects are written, for writing while they are removed.
    objects: RwLock<()>,
    /// How often the copy was made anew, so that two calls don't do it for one damage.
    rescues: AtomicU64,
    repacking: AtomicBool,
    listing: Mutex<Arc<Listing>>,
}

impl Source {
    /// Opens the desired repository's copy, made if nothing is there. Blocks on the disk for a
    /// moment, and asks no server.
    pub fn open(config: SourceConfig) -> Result<Self, Fault> {
        setup::prepare(&config.timeouts)?;
        let branch = format!("refs/heads/{}", config.branch);
        if !git2::Reference::is_valid_name(&branch) {
            return Err(Fault::stalled(format!(
                "{:?} can't be the name of a branch",
                config.branch
            )));
        }
        let directory = config.directory.trim_matches('/');
        let directory = if directory == "." { "" } else { directory };
        if directory.split('/').any(|part| part == "..") {
            return Err(Fault::stalled(format!(
                "the directory {directory:?} leads out of the repository"
            )));
        }
        let cache = std::path::absolute(&config.cache).map_err(Fault::stalled)?;
        let parent = cache
            .parent()
            .map(std::path::Path::to_path_buf)
            .unwrap_or_default();
        durable::make_dir(&parent, 0o700)?;
        let access = Access::new(
            Place::parse(&config.url)?,
            config.credentials,
            cache.join("windlass-home"),
        )?;
        let inner = Inner {
            access,
            branch,
            directory: directory.to_owned(),
            pool: Pool::new(cache.clone()),
            cache,
            lock: Mutex::default(),
            objects: RwLock::default(),
            rescues: AtomicU64::default(),
            repacking: AtomicBool::default(),
            listing: Mutex::default(),
        };
        inner.hold()?;
        Ok(Self {
            inner: Arc::new(inner),
            workers: Arc::new(Workers::new("windlass-source")),
            timeouts: config.timeouts,
        })
    }

    /// Does what is asked.
    pub async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        let place = &self.inner.access.place;
        let (what, deadline) = match &call {
            Call::Fetch => (format!("fetch {place}"), self.timeouts.network),
            Call::Resolve { text } => (format!("find {text}"), self.timeouts.network),
            Call::Survey { commit, .. } => (format!("list {commit:?}"), self.timeouts.local),
            Call::Read { .. } => ("read manifests".to_owned(), self.timeouts.local),
            Call::Show { commit, path } => (format!("show {commit:?}:{path}"), self.timeouts.local),
            Call::Keep { .. } => ("keep commits".to_owned(), self.timeouts.local),
        };
        let fetched = matches!(call, Call::Fetch);
        let inner = Arc::clone(&self.inner);
        let answer = self
            .workers
            .run(&what, deadline, move || inner.perform(&call))
            .await;
        if fetched && answer.is_ok() {
            self.tidy();
        }
        answer
    }

    /// Repacks the copy in the background, if it has become slow.
    fn tidy(&self) {
        if !cache::needs_repack(&self.inner.cache)
            || self.inner.repacking.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (inner, workers) = (Arc::clone(&self.inner), Arc::clone(&self.workers));
        let deadline = self.timeouts.local * REPACK_PATIENCE;
        tokio::spawn(async move {
            let job = Arc::clone(&inner);
            let done = workers
                .run(
                    "repack the copy of the desired repository",
                    deadline,
                    move || job.repack(),
                )
                .await;
            match done {
                Ok(()) => inner.repacking.store(false, Ordering::Release),
                // Not tried again before the next start: it would fail at each fetch.
                Err(fault) => warn!(%fault, "the copy of the desired repository stays large"),
            }
        });
    }
}

/// Why a call failed inside.
enum Trouble {
    /// To be told as it is.
    Fault(Fault),
    /// Our copy can't be read.
    Damage(git2::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Inner {
    fn perform(&self, call: &Call) -> Result<Answer, Fault> {
        self.hold()?;
        let rescues = self.rescues.load(Ordering::Acquire);
        let damage = match self.attempt(call) {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Fault(fault)) => return Err(fault),
            // A repack may have moved what was looked for: a fresh look tells.
            Err(Trouble::Damage(_)) => match self.attempt(call) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Fault(fault)) => return Err(fault),
                Err(Trouble::Damage(error)) => fault::sort(&error, self.cache.display()),
            },
        };
        if damage.kind == FaultKind::Stalled {
            // A full or failing disk: nothing is mended by writing to it.
            return Err(damage);
        }
        self.rescue(&damage, rescues)?;
        self.attempt(call).map_err(|trouble| match trouble {
            Trouble::Fault(fault) if fault.kind == FaultKind::NotFound => Fault::transient(format!(
                "{} The copy was damaged and has been made anew; the next fetch brings back what \
                 is missing.",
                fault.message
            )),
            Trouble::Fault(fault) => fault,
            Trouble::Damage(error) => fault::sort(&error, self.cache.display()),
        })
    }

    /// Keeps others away from the copy, opens it, and mends it if need be.
    fn hold(&self) -> Result<(), Fault> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.as_ref().is_some_and(Lock::is_in_place) && self.cache.join("HEAD").exists() {
            return Ok(());
        }
        if !lock.as_ref().is_some_and(Lock::is_in_place) {
            let taken = Lock::take(&cache::lock_path(&self.cache), durable::FORKS_WAIT)?
.map_err(|holder| {
                Fault::stalled(format!(
                    "the copy of the desired repository in {} is in use by {holder}: is another \
                     agent running with the same data directory?",
                    self.cache.display()
                ))
            })?;
            taken.sign();
            *lock = Some(taken);
        }
        cache::open(&self.cache)
    }

    fn rescue(&self, why: &Fault, seen: u64) -> Result<(), Fault> {
        // Nobody opens the copy meanwhile.
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rescues.load(Ordering::Acquire) != seen {
            return Ok(());
        }
        let Ok(_alone) = self.objects.try_write() else {
            return Err(Fault::transient(format!(
                "{} The copy is damaged; it is made anew once a fetch under way has ended.",
                why.message
            )));
        };
        self.pool.clear();
        *self.listing() = Arc::default();
        cache::rescue(&self.cache, why)?;
        self.rescues.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn listing(&self) -> std::sync::MutexGuard<'_, Arc<Listing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(&self, call: &Call) -> Result<Answer, Trouble> {
        let mut damage = None;
        let outcome = self.pool.with(|repo| {
            self.with_repo(repo, call).or_else(|trouble| match trouble {
                Trouble::Fault(fault) => Err(fault),
                Trouble::Damage(error) => {
                    damage = Some(error);
                    Err(Fault::transient(""))
                }
            })
        });
        match damage {
            Some(error) => Err(Trouble::Damage(error)),
            None => Ok(outcome?),
        }
    }

    fn with_repo(&self, repo: &Repository, call: &Call) -> Result<Answer, Trouble> {
        match call {
            Call::Fetch => self.fetch(repo),
            Call::Survey { commit, since } => self.survey(repo, commit, since.as_ref()),
            Call::Read { files } => self.read(repo, files).map(Answer::Contents),
            Call::Show { commit, path } => self.show(repo, commit, path),
            Call::Keep { commits } => self.keep(repo, commits),
            Call::Resolve { text } => self.resolve(repo, text),
        }
    }

    fn sort(&self, error: git2::Error) -> Trouble {
        if fault::is_damage(&error) {
            Trouble::Damage(error)
        } else {
            Trouble::Fault(fault::sort(&error, self.cache.display()))
        }
    }

    fn bring(&self, repo: &Repository, wanted: &Wanted<'_>) -> Result<Found, Trouble> {
        let _writes = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        fetch::fetch(repo, &self.access, wanted).map_err(|failed| match failed {
            Failed::There(fault) | Failed::Moved(fault) => Trouble::Fault(fault),
            Failed::Here(error) => self.sort(error),
        })
    }

    fn fetch(&self, repo: &Repository) -> Result<Answer, Trouble> {
        let refs = [self.branch.clone()];
        let wanted = Wanted {
            refs: &refs,
            local: Some(cache::TIP),
        };
        let found = self.bring(repo, &wanted)?;
        if found.commit.is_none() {
            let branches: Vec<&str> = found
                .names
                .keys()
                .filter_map(|name| name.strip_prefix("refs/heads/"))
                .take(10)
                .collect();
            info!(
                repository = %self.access.place,
                branch = %self.branch,
                there_are = branches.join(", "),
                "the branch does not exist"
            );
        }
        Ok(Answer::Fetched {
            tip: found.commit.map(repo::oid),
        })
    }

    fn commit<'r>(&self, repo: &'r Repository, id: &Oid) -> Result<git2::Commit<'r>, Trouble> {
        let raw = repo::raw(id)?;
        match repo.find_commit(raw) {
            Ok(commit) => Ok(commit),
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(Fault::not_found(format!("the commit {id:?} is not in the copy")).into())
            }
            Err(error) => Err(self.sort(error)),
        }
    }

    /// The tree below the sub-directory; none if there is no such directory.
    fn tree(&self, commit: &git2::Commit<'_>) -> Result<Option<git2::Oid>, git2::Error> {
        let root = commit.tree()?;
        if self.directory.is_empty() {
            return Ok(Some(root.id()));
        }
        match root.get_path(self.directory.as_ref()) {
            Ok(entry) if entry.kind() == Some(ObjectType::Tree) => Ok(Some(entry.id())),
            Ok(_) => Ok(None),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn survey(&self, repo: &Repository, id: &Oid, since: Option<&Oid>) -> Result<Answer, Trouble> {
        let commit = self.commit(repo, id)?;
        let since = since.map(repo::raw).transpose()?;
        let known = Arc::clone(&self.listing());
        let look = || -> Result<(Survey, Option<Listing>), git2::Error> {
            let tree = self.tree(&commit)?;
            let listing = tree
                .map(|tree| survey::list(repo, tree, &known))
                .transpose()?;
            let survey = Survey {
                commit: id.clone(),
                tree: tree.map(repo::oid),
                files: listing.as_ref().map_or_else(Vec::new, |l| l.files.clone()),
                relation: survey::relation(repo, commit.id(), since)?,
                commits: survey::commits(repo, commit.id(), since)?,
            };
            Ok((survey, listing))
        };
        let (survey, listing) = look().map_err(|error| self.sort(error))?;
        if let Some(listing) = listing {
            *self.listing() = Arc::new(listing);
        }
        Ok(Answer::Surveyed(Box::new(survey)))
    }

    fn read(&self, repo: &Repository, files: &[FileEntry]) -> Result<Vec<FileContent>, Trouble> {
        let mut total = 0usize;
        files
            .iter()
            .map(|file| {
                let blob = match repo.find_blob(repo::raw(&file.blob)?) {
                    Ok(blob) => blob,
                    Err(error) if error.code() == ErrorCode::NotFound => {
                        return Err(Fault::not_found(format!(
                            "{} ({:?}) is not in the copy: list its commit again",
                            file.path, file.blob
                        ))
                        .into());
                    }
                    Err(error) => return Err(self.sort(error)),
                };
                total = total.saturating_add(blob.size());
                if total > READ_BYTES_MAX {
                    return Err(Fault::stalled(format!(
                        "the files to be read hold more than {} MB; the last was {} with {} bytes. \
                         Does something lie in the repository that is no manifest?",
                        READ_BYTES_MAX >> 20,
                        file.path,
                        blob.size()
                    ))
                    .into());
                }
                Ok(FileContent {
                    path: Arc::clone(&file.path),
                    blob: file.blob.clone(),
                    bytes: blob.content().into(),
                })
            })
            .collect()
    }

    fn show(&self, repo: &Repository, id: &Oid, path: &str) -> Result<Answer, Trouble> {
        let commit = self.commit(repo, id)?;
        let path = path.trim_matches('/');
        let absent = || {
            Trouble::Fault(Fault::not_found(format!(
                "there is no {path} in {} of {id:?}",
                if self.directory.is_empty() {
                    "the root"
                } else {
                    &self.directory
                }
            )))
        };
        let sort = |error| self.sort(error);
        let Some(root) = self.tree(&commit).map_err(sort)? else {
            return Err(absent());
        };
        if path.split('/').any(|part| part == "..") {
            return Err(absent());
        }
        let known = Listing::default();
        if path.is_empty() || path == "." {
            let listing = survey::list(repo, root, &known).map_err(sort)?;
            return self.contents(repo, listing.files, "");
        }
        let tree = repo.find_tree(root).map_err(sort)?;
        let entry = match tree.get_path(path.as_ref()) {
            Ok(entry) => entry,
            Err(error) if error.code() == ErrorCode::NotFound => return Err(absent()),
            Err(error) => return Err(sort(error)),
        };
        if entry.kind() == Some(ObjectType::Tree) {
            let listing = survey::list(repo, entry.id(), &known).map_err(sort)?;
            return self.contents(repo, listing.files, &format!("{path}/"));
        }
        if matches!(entry.filemode(), 0o120_000 | 0o160_000) {
            return Err(Fault::not_found(format!(
                "{path} is a symbolic link or a submodule, which are not followed"
            ))
            .into());
        }
        let file = FileEntry {
            path: path.into(),
            blob: repo::oid(entry.id()),
            kind: FileKind::File,
            bytes: 0,
        };
        self.contents(repo, vec![file], "")
    }

    fn contents(
        &self,
        repo: &Repository,
        files: Vec<FileEntry>,
        prefix: &str,
    ) -> Result<Answer, Trouble> {
        let files: Vec<FileEntry> = files
            .into_iter()
            .filter(|file| file.kind == FileKind::File)
            .map(|file| FileEntry {
                path: format!("{prefix}{}", file.path).into(),
                ..file
            })
            .collect();
        self.read(repo, &files).map(Answer::Contents)
    }

    fn keep(&self, repo: &Repository, commits: &[Oid]) -> Result<Answer, Trouble> {
        let _writes = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = std::collections::BTreeSet::new();
        for id in commits {
            wanted.insert(self.commit(repo, id)?.id());
        }
        let there = cache::kept_names(&self.cache);
        let work = || -> Result<(), git2::Error> {
            // First what is to stay: a cut between the two keeps too much.
            for id in wanted.difference(&there) {
                repo.reference(&format!("{}{id}", cache::KEEP), *id, true, "")?;
            }
            for id in there.difference(&wanted) {
                repo.find_reference(&format!("{}{id}", cache::KEEP))?
                    .delete()?;
            }
            Ok(())
        };
        work().map_err(|error| self.sort(error))?;
        Ok(Answer::Kept)
    }

    fn repack(&self) -> Result<(), Fault> {
        let alone = || {
            const STEP: Duration = Duration::from_millis(50);
            let mut waited = Duration::ZERO;
            loop {
                match self.objects.try_write() {
                    Ok(alone) => return Ok(Some(alone)),
                    Err(_) if waited >= FETCHES_WAIT => return Ok(None),
                    Err(_) => {
                        std::thread::sleep(STEP);
                        waited += STEP;
                    }
                }
            }
        };
        repack::repack(&self.cache, Duration::ZERO, alone)?;
        self.pool.clear();
        Ok(())
    }

    /// Finds the commit a person means: `main`, `v1.2`, `1a2b3c4`, `HEAD~2`.
    fn resolve(&self, repo: &Repository, text: &str) -> Result<Answer, Trouble> {
        let text = text.trim();
        let at = text.find(['~', '^']).unwrap_or(text.len());
        let (name, steps) = text.split_at(at);
        let unknown = |more: &str| {
            let branch = self.branch.trim_start_matches("refs/heads/");
            Trouble::Fault(Fault::not_found(format!(
                "{text:?} is no branch, no tag and no commit in the history of {branch}{more}"
            )))
        };
        if name.is_empty() || name.contains([':', '@', '{', ' ', '\\', '*', '?', '[']) {
            return Err(unknown(""));
        }
        let commit = match self.known_here(repo, name)? {
            Some(commit) => commit,
            None => match self.asked_for(repo, name) {
                Ok(Some(commit)) => commit,
                Ok(None) => return Err(unknown("")),
                Err(Trouble::Fault(fault)) => {
                    return Err(unknown(&format!(
                        " as last fetched, and the remote can't be asked: {fault}"
                    )));
                }
                Err(damage) => return Err(damage),
            },
        };
        match repo
            .revparse_single(&format!("{commit}{steps}"))
            .and_then(|object| object.peel_to_commit())
        {
            Ok(commit) => Ok(Answer::Resolved(repo::oid(commit.id()))),
            Err(error) if error.code() == ErrorCode::NotFound => Err(unknown("")),
            Err(error) if error.code() == ErrorCode::InvalidSpec => Err(unknown("")),
            Err(error) => Err(self.sort(error)),
        }
    }

    /// What a name means, if the copy can tell.
    fn known_here(&self, repo: &Repository, name: &str) -> Result<Option<git2::Oid>, Trouble> {
        let branch = self.branch.trim_start_matches("refs/heads/");
        let ours = [branch, &self.branch, "HEAD"].contains(&name)
            || name.strip_prefix("origin/") == Some(branch);
        if ours {
            return repo::target(repo, cache::TIP).map_err(|error| self.sort(error));
        }
        if name.len() < 4 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        match repo.find_commit_by_prefix(name) {
            Ok(commit) => Ok(Some(commit.id())),
            Err(error) if error.code() == ErrorCode::Ambiguous => Err(Fault::not_found(format!(
                "more than one object's id begins with {name}: write more digits"
            ))
            .into()),
            Err(_) => Ok(None),
        }
    }

    /// What a branch or tag means, by asking for it; it is then in the copy.
    fn asked_for(&self, repo: &Repository, name: &str) -> Result<Option<git2::Oid>, Trouble> {
        let name = name.strip_prefix("origin/").unwrap_or(name);
        let refs = if name.starts_with("refs/") {
            vec![name.to_owned()]
        } else {
            vec![format!("refs/tags/{name}"), format!("refs/heads/{name}")]
        };
        if !refs.iter().all(|name| git2::Reference::is_valid_name(name)) {
            return Ok(None);
        }
        let wanted = Wanted {
            refs: &refs,
            local: None,
        };
        Ok(self.bring(repo, &wanted)?.commit)
    }
}
