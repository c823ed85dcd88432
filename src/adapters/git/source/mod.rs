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

mod fetch;
pub(crate) mod lineage;
mod resolve;
mod steps;
mod survey;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use git2::{ErrorCode, ObjectType, Repository};
use tracing::info;

use crate::desired::charts;
use crate::kinds::binding::Oid;
use crate::ports::Fault;
use crate::ports::source::{Answer, Call, FileContent, FileEntry, FileKind, Survey};

use super::access::{Access, Credentials};
use super::copy::{Copy, Trouble};
use super::place::Place;
use super::setup::{self, Timeouts};
use super::workers::Workers;
use super::{cache, chart, repo};
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
    /// Whether annotated tags are brought as well.
    pub tags: bool,
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
            tags: false,
            timeouts: Timeouts::default(),
        }
    }
}

/// One answer holds at most so much: thirty times the largest repository of manifests we know of,
/// and a bound for somebody's disk image.
const READ_BYTES_MAX: usize = 256 << 20;

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
    tags: bool,
    copy: Arc<Copy>,
    /// The last one.
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
        let place = Place::parse(&config.url)?;
        let copy = Copy::open(&config.cache, "the desired repository")?;
        let access = Access::new(place, config.credentials, copy.path.join("windlass-home"))?;
        let inner = Inner {
            access,
            branch,
            directory: directory.to_owned(),
            tags: config.tags,
            copy: Arc::new(copy),
            listing: Mutex::default(),
        };
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
            Call::Lineage { commit, .. } => {
                (format!("list what {commit:?} stands on"), self.timeouts.local)
            }
        };
        let fetched = matches!(call, Call::Fetch);
        let inner = Arc::clone(&self.inner);
        let work = move || inner.copy.with(|repo| inner.perform(repo, &call));
        let answer = self.workers.run(&what, deadline, work).await;
        if fetched && answer.is_ok() {
            let patience = self.timeouts.local * REPACK_PATIENCE;
            Copy::tidy(&self.inner.copy, &self.workers, patience);
        }
        answer
    }
}

impl Inner {
    fn listing(&self) -> std::sync::MutexGuard<'_, Arc<Listing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, repo: &Repository, call: &Call) -> Result<Answer, Trouble> {
        match call {
            Call::Fetch => self.fetch(repo),
            Call::Survey { commit, since } => self.survey(repo, commit, since.as_ref()),
            Call::Read { files } => self.read(repo, files).map(Answer::Contents),
            Call::Show { commit, path } => self.show(repo, commit, path),
            Call::Keep { commits } => self.keep(repo, commits),
            Call::Resolve { text } => self.resolve(repo, text),
            Call::Lineage { commit, file, pin, root, known } => {
                self.lineage(repo, commit, (file, pin), root.as_ref(), known)
            }
        }
    }

    fn bring(&self, repo: &Repository, wanted: &Wanted<'_>) -> Result<Found, Trouble> {
        let _writing = self.copy.writing();
        fetch::fetch(repo, &self.access, wanted).map_err(|failed| match failed {
            Failed::There(fault) | Failed::Moved(fault) => Trouble::Fault(fault),
            Failed::Here(error) => self.copy.sort(error),
        })
    }

    fn fetch(&self, repo: &Repository) -> Result<Answer, Trouble> {
        let refs = [self.branch.clone()];
        let wanted = Wanted { refs: &refs, local: Some(cache::TIP), tags: self.tags };
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
        let tags = if self.tags { cache::tag_names(&self.copy.path).len() } else { 0 };
        Ok(Answer::Fetched { tip: found.commit.map(repo::oid), tags })
    }

    fn commit<'r>(&self, repo: &'r Repository, id: &Oid) -> Result<git2::Commit<'r>, Trouble> {
        let raw = repo::raw(id)?;
        match repo.find_commit(raw) {
            Ok(commit) => Ok(commit),
            Err(error) if error.code() == ErrorCode::NotFound => {
                Err(Fault::not_found(format!("the commit {id:?} is not in the copy")).into())
            }
            Err(error) => Err(self.copy.sort(error)),
        }
    }

    /// The tree below the sub-directory; none if there is no such directory.
    fn tree(&self, commit: &git2::Commit<'_>) -> Result<Option<git2::Oid>, git2::Error> {
        repo::directory(&commit.tree()?, self.directory.as_bytes())
    }

    fn survey(&self, repo: &Repository, id: &Oid, since: Option<&Oid>) -> Result<Answer, Trouble> {
        let commit = self.commit(repo, id)?;
        let since = since.map(repo::raw).transpose()?;
        let known = Arc::clone(&self.listing());
        let look = || -> Result<(Survey, Option<Listing>), git2::Error> {
            let tree = self.tree(&commit)?;
            let listing = tree.map(|tree| survey::list(repo, tree, &known)).transpose()?;
            let survey = Survey {
                commit: id.clone(),
                tree: tree.map(repo::oid),
                files: listing.as_ref().map_or_else(Vec::new, Listing::folded),
                relation: survey::relation(repo, commit.id(), since)?,
                commits: survey::commits(repo, commit.id(), since)?,
            };
            Ok((survey, listing))
        };
        let (survey, listing) = look().map_err(|error| self.copy.sort(error))?;
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
                let bytes = match chart::content(repo, repo::raw(&file.blob)?) {
                    Ok(bytes) => bytes,
                    Err(error) if error.code() == ErrorCode::NotFound => {
                        return Err(Fault::not_found(format!(
                            "{} ({:?}) is not in the copy: list its commit again",
                            file.path, file.blob
                        ))
                        .into());
                    }
                    Err(error) => return Err(self.copy.sort(error)),
                };
                total = total.saturating_add(bytes.len());
                if total > READ_BYTES_MAX {
                    return Err(Fault::stalled(format!(
                        "the files to be read hold more than {} MB; the last was {} with {} bytes. \
                         Does something lie in the repository that is no manifest?",
                        READ_BYTES_MAX >> 20,
                        file.path,
                        bytes.len()
                    ))
                    .into());
                }
                Ok(FileContent { path: Arc::clone(&file.path), blob: file.blob.clone(), bytes })
            })
            .collect()
    }

    fn show(&self, repo: &Repository, id: &Oid, path: &str) -> Result<Answer, Trouble> {
        let commit = self.commit(repo, id)?;
        let path = path.trim_matches('/');
        let absent = || {
            Trouble::Fault(Fault::not_found(format!(
                "there is no {path} in {} of {id:?}",
                if self.directory.is_empty() { "the root" } else { &self.directory }
            )))
        };
        let sort = |error| self.copy.sort(error);
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
        if let Some((length, id)) = chart::around(repo, &tree, path.as_bytes()).map_err(sort)? {
            let directory = path.get(..length).unwrap_or_default();
            // Of a chart nothing can be read by itself.
            let file = FileEntry {
                path: format!("{directory}/{}", charts::CHART_FILE).into(),
                blob: repo::oid(id),
                kind: FileKind::Chart,
                bytes: 0,
            };
            return self.read(repo, &[file]).map(Answer::Contents);
        }
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
            .map(|file| FileEntry { path: format!("{prefix}{}", file.path).into(), ..file })
            .collect();
        self.read(repo, &files).map(Answer::Contents)
    }

    fn keep(&self, repo: &Repository, commits: &[Oid]) -> Result<Answer, Trouble> {
        let _writing = self.copy.writing();
        let mut wanted = BTreeSet::new();
        for id in commits {
            wanted.insert(self.commit(repo, id)?.id());
        }
        let there = cache::kept_names(&self.copy.path);
        let work = || -> Result<(), git2::Error> {
            // First what is to stay: a cut between the two keeps too much.
            for id in wanted.difference(&there) {
                repo.reference(&format!("{}{id}", cache::KEEP), *id, true, "")?;
            }
            for id in there.difference(&wanted) {
                repo.find_reference(&format!("{}{id}", cache::KEEP))?.delete()?;
            }
            Ok(())
        };
        work().map_err(|error| self.copy.sort(error))?;
        Ok(Answer::Kept)
    }
}
