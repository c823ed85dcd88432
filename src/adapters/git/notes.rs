//! Notes on commits, under `refs/notes/windlass`: what became of each, where `git log
//! --notes=windlass` shows it.
//!
//! A visitors' book that hangs beside the pictures: nobody's picture is touched, and whoever walks
//! through with the book in hand reads what was said of each. It is the one thing that we write where
//! people push, so it is written only where somebody asked for it (docs/DESIGN.md, Hard cases 6).
//!
//! The rule: lines are added to what stands there, whoever wrote it; a line that stands there is not
//! written twice. The ref is moved only from the state that was read, and read again where somebody
//! else was faster. The limit: a note holds [`NOTE_BYTES_MAX`]; what is told of a commit beyond that is
//! dropped.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{
    AutotagOption, Direction, ErrorCode, FetchOptions, ObjectType, Repository, Signature, Time,
    Tree,
};

use crate::ports::Fault;
use crate::ports::outcomes::Outcome;

use super::access::{Access, Credentials, proxy};
use super::copy::{Copy, Trouble};
use super::place::Place;
use super::push::Pushed;
use super::setup::{self, Timeouts};
use super::workers::Workers;
use super::{fault, locks, repo};

/// Where the notes are.
const NOTES: &str = "refs/notes/windlass";
/// What one commit's note may hold: some hundred lines.
const NOTE_BYTES_MAX: usize = 16 * 1024;
/// So often somebody else may be faster.
const TRIES_MAX: u32 = 5;

/// Where notes are written, and who writes them.
#[derive(Clone, Debug)]
pub struct NotesConfig {
    /// A path of this machine, or an address of a Git server.
    pub url: String,
    /// What opens it; it must be allowed to write [`NOTES`].
    pub credentials: Credentials,
    /// This node's own copy of the notes.
    pub copy: PathBuf,
    /// This node's name, for the notes' log.
    pub node: String,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// Writes notes.
pub struct Notes {
    inner: Arc<Inner>,
    workers: Workers,
    timeouts: Timeouts,
}

struct Inner {
    access: Access,
    /// A copy of a remote's notes; a repository of this machine is written directly.
    copy: Option<Copy>,
    node: String,
}

impl Notes {
    /// Makes ready to write notes. Asks no server.
    pub fn open(config: NotesConfig) -> Result<Self, Fault> {
        setup::prepare(&config.timeouts)?;
        let place = Place::parse(&config.url)?;
        let copy = match &place {
            Place::Path(_) => None,
            Place::Remote(_) => Some(Copy::open(&config.copy, "the notes")?),
        };
        let home = config.copy.with_extension("ssh");
        let access = Access::new(place, config.credentials, home)?;
        Ok(Self {
            inner: Arc::new(Inner { access, copy, node: config.node }),
            workers: Workers::new("windlass-notes"),
            timeouts: config.timeouts,
        })
    }

    /// Writes what became of commits into their notes, unless it stands there.
    pub async fn write(&self, outcomes: Vec<Outcome>) -> Result<(), Fault> {
        let what = format!("write {NOTES} of {}", self.inner.access.place);
        let inner = Arc::clone(&self.inner);
        let deadline = self.timeouts.network;
        self.workers.run(&what, deadline, move || inner.write(&outcomes)).await
    }
}

/// What came of moving the ref.
enum Moved {
    /// It is where we wanted it.
    Done,
    /// Somebody else was faster.
    Raced,
}

impl Inner {
    fn write(&self, outcomes: &[Outcome]) -> Result<(), Fault> {
        for _ in 0..TRIES_MAX {
            let moved = match (&self.access.place, &self.copy) {
                (Place::Path(path), _) => self.write_here(path, outcomes)?,
                (Place::Remote(_), Some(copy)) => {
                    copy.with(|repo| self.write_there(repo, copy, outcomes))?
                }
                (Place::Remote(_), None) => return Err(Fault::stalled("there is no copy")),
            };
            if matches!(moved, Moved::Done) {
                return Ok(());
            }
        }
        Err(Fault::transient(format!("{NOTES} moves faster than it can be written")))
    }

    fn write_here(&self, path: &Path, outcomes: &[Outcome]) -> Result<Moved, Fault> {
        let repo = repo::open(path)?;
        let owner = std::fs::metadata(repo.path().join("objects"))
            .map_err(|error| fault::sort_io(&error, format!("can't read {}", path.display())))?
            .uid();
        if owner != nix::unistd::geteuid().as_raw() {
            // Directories that we make among its objects would be closed to its owner.
            return Err(Fault::stalled(format!(
                "{} belongs to another user (uid {owner}), who could not push into it any more \
                 after we have written there: give notes.url as an ssh:// address of it",
                path.display()
            )));
        }
        let sort = |error: git2::Error| fault::sort(&error, path.display());
        let base = repo::target(&repo, NOTES).map_err(sort)?;
        let Some(commit) = self.commit(&repo, base, outcomes).map_err(sort)? else {
            return Ok(Moved::Done);
        };
        let moved = locks::past(repo.path(), NOTES, locks::STALE_AMONG_OTHERS, || match base {
            Some(base) => repo.reference_matching(NOTES, commit, true, base, "").map(|_| ()),
            None => repo.reference(NOTES, commit, false, "").map(|_| ()),
        });
        match moved {
            Ok(()) => Ok(Moved::Done),
            Err(error) if matches!(error.code(), ErrorCode::Modified | ErrorCode::Exists) => {
                Ok(Moved::Raced)
            }
            Err(error) => Err(sort(error)),
        }
    }

    fn write_there(
        &self,
        repo: &Repository,
        copy: &Copy,
        outcomes: &[Outcome],
    ) -> Result<Moved, Trouble> {
        let _writing = copy.writing();
        let base = self.fetch(repo, copy)?;
        let commit = self.commit(repo, base, outcomes).map_err(|error| copy.sort(error))?;
        let Some(commit) = commit else { return Ok(Moved::Done) };
        let fault = match self.access.push(repo, &format!("{commit}:{NOTES}"), base) {
            Pushed::Accepted => return Ok(Moved::Done),
            Pushed::Conflict(_) => return Ok(Moved::Raced),
            Pushed::Rejected(reason) => Fault::stalled(format!(
                "{}: the server refused {NOTES} ({reason}): may this key write there?",
                self.access.place
            )),
            Pushed::Failed { fault, .. } => fault,
        };
        // Whatever is said of a push, the ref says whether it took effect.
        match self.fetch(repo, copy)? {
            Some(now) if now == commit => Ok(Moved::Done),
            now if now != base => Ok(Moved::Raced),
            _ => Err(fault.into()),
        }
    }

    /// Brings the notes here, and says where they stand.
    fn fetch(&self, repo: &Repository, copy: &Copy) -> Result<Option<git2::Oid>, Trouble> {
        self.access.connected(|told| {
            let there =
                |error: git2::Error| Trouble::from(told.explain(&error, &self.access.place));
            let here = |error: git2::Error| copy.sort(error);
            let mut remote = repo.remote_anonymous(&self.access.place.to_string()).map_err(here)?;
            let mut connection = remote
                .connect_auth(Direction::Fetch, Some(self.access.callbacks(told)), Some(proxy()))
                .map_err(there)?;
            let mut heads = connection.list().map_err(there)?.iter();
            let tip = heads.find(|head| head.name() == NOTES);
            let Some(tip) = tip.map(git2::RemoteHead::oid) else { return Ok(None) };
            if repo.find_commit(tip).and_then(|commit| commit.tree()).is_err() {
                let mut options = FetchOptions::new();
                options
                    .remote_callbacks(self.access.fetching(told, &copy.path))
                    .proxy_options(proxy())
                    .download_tags(AutotagOption::None);
                let names = [NOTES];
                connection.remote().download(&names, Some(&mut options)).map_err(there)?;
            }
            // Kept from being swept away.
            repo.reference(NOTES, tip, true, "").map_err(here)?;
            Ok(Some(tip))
        })
    }

    /// A commit with the lines added; none if all of them stand there.
    fn commit(
        &self,
        repo: &Repository,
        base: Option<git2::Oid>,
        outcomes: &[Outcome],
    ) -> Result<Option<git2::Oid>, git2::Error> {
        let parent = base.map(|base| repo.find_commit(base)).transpose()?;
        let before = parent.as_ref().map(git2::Commit::tree).transpose()?;
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for outcome in outcomes {
            lines.entry(outcome.commit.as_str()).or_default().push(outcome.line());
        }
        let mut tree = before.as_ref().map(Tree::id);
        for (annotated, lines) in lines {
            let root = tree.map(|id| repo.find_tree(id)).transpose()?;
            let note = root.as_ref().map(|root| read(repo, root, annotated)).transpose()?.flatten();
            let text = added(&note.unwrap_or_default(), &lines);
            if let Some(text) = text {
                let blob = repo.blob(text.as_bytes())?;
                tree = Some(put(repo, root.as_ref(), annotated, blob)?);
            }
        }
        let Some(id) = tree.filter(|id| before.as_ref().map(Tree::id) != Some(*id)) else {
            return Ok(None);
        };
        let seconds = crate::adapters::clock::now().wall.seconds();
        let email = format!("windlass@{}", self.node);
        let who = Signature::new("windlass", &email, &Time::new(seconds, 0))?;
        let message = format!("Outcomes of {} commits, told by {}\n", outcomes.len(), self.node);
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        repo.commit(None, &who, &who, &message, &repo.find_tree(id)?, &parents).map(Some)
    }
}

/// A note with lines added to it; none if it has them, or has no room.
fn added(note: &str, lines: &[String]) -> Option<String> {
    let mut text = note.to_owned();
    for line in lines {
        let is_there = text.lines().any(|known| known == line);
        if is_there || text.len() + line.len() >= NOTE_BYTES_MAX {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    }
    (text != note).then_some(text)
}

/// Finds the note of a commit. Git spreads many notes over directories named for the first two
/// digits, and theirs (`Documentation/technical`, "notes fanout").
fn read(repo: &Repository, tree: &Tree<'_>, rest: &str) -> Result<Option<String>, git2::Error> {
    if let Some(entry) = tree.get_name(rest) {
        let blob = repo.find_blob(entry.id())?;
        return Ok(Some(String::from_utf8_lossy(blob.content()).into_owned()));
    }
    let (first, deeper) = rest.split_at(2.min(rest.len()));
    match tree.get_name(first).filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
        Some(entry) => read(repo, &repo.find_tree(entry.id())?, deeper),
        None => Ok(None),
    }
}

/// Puts a note where Git would look for it: below the directories that there are.
fn put(
    repo: &Repository,
    tree: Option<&Tree<'_>>,
    rest: &str,
    blob: git2::Oid,
) -> Result<git2::Oid, git2::Error> {
    let mut builder = repo.treebuilder(tree)?;
    let (first, deeper) = rest.split_at(2.min(rest.len()));
    let below = tree.and_then(|tree| tree.get_name(first));
    let below = below.filter(|entry| entry.kind() == Some(ObjectType::Tree));
    match below {
        Some(entry) => {
            let id = put(repo, Some(&repo.find_tree(entry.id())?), deeper, blob)?;
            builder.insert(first, id, 0o040_000)?;
        }
        None => {
            builder.insert(rest, blob, 0o100_644)?;
        }
    }
    builder.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_once_and_others_words_stay() {
        let lines =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let table: [(&str, &[&str], Option<&str>); 4] = [
            ("", &["a", "b"], Some("a\nb\n")),
            ("looks good", &["a"], Some("looks good\na\n")),
            ("a\nb\n", &["b", "a"], None),
            ("a\n", &["a", "c"], Some("a\nc\n")),
        ];
        for (note, new, expected) in table {
            assert_eq!(added(note, &lines(new)).as_deref(), expected, "{note:?} {new:?}");
        }
        let full = "x".repeat(NOTE_BYTES_MAX);
        assert_eq!(added(&full, &lines(&["a"])), None);
    }
}
