//! The desired repository: fetched, listed and read, never written.

use std::sync::Arc;

use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::time::Wall;

/// What may be asked of the desired repository.
#[derive(Clone, Debug)]
pub enum Call {
    /// Bring the branch's newest commit to this machine.
    Fetch,
    /// List a commit's files below the sub-directory, and tell how it follows from `since`.
    Survey {
        /// The commit.
        commit: Oid,
        /// The commit that is in force, if any.
        since: Option<Oid>,
    },
    /// Read files.
    Read {
        /// Which.
        files: Vec<FileEntry>,
    },
    /// Read one path of a commit: a file, or all files below a directory.
    Show {
        /// The commit.
        commit: Oid,
        /// The path, from the sub-directory.
        path: String,
    },
    /// Keep these commits on this machine, whatever happens to the branch; others may go.
    Keep {
        /// Which.
        commits: Vec<Oid>,
    },
    /// Bring what a commit stands on, back to the oldest commit with a file of this content.
    Lineage {
        /// The commit.
        commit: Oid,
        /// The file, from the sub-directory.
        file: String,
        /// Its content.
        pin: Digest,
        /// The oldest commit with it, where that was found before.
        root: Option<Oid>,
        /// Commits that need not be looked at, nor what they stand on.
        known: Vec<Oid>,
    },
    /// Find the commit that a person means: a branch, a tag, a short or full id.
    Resolve {
        /// What was written.
        text: String,
    },
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::Fetch`]: the branch's newest commit; none if the branch does not exist.
    Fetched {
        /// The commit.
        tip: Option<Oid>,
        /// How many tags are here. They only become more: another number says that there are new ones.
        tags: usize,
    },
    /// To [`Call::Survey`].
    Surveyed(Box<Survey>),
    /// To [`Call::Read`] and [`Call::Show`].
    Contents(Vec<FileContent>),
    /// To [`Call::Keep`].
    Kept,
    /// To [`Call::Lineage`].
    Lineage(Box<Lineage>),
    /// To [`Call::Resolve`].
    Resolved(Oid),
}

/// A commit seen from outside its files.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The commit.
    pub commit: Oid,
    /// Its tree below the sub-directory; none if that is missing.
    pub tree: Option<Oid>,
    /// Files, symbolic links and submodules, by path from the sub-directory.
    pub files: Vec<FileEntry>,
    /// How it follows from the commit in force.
    pub relation: Relation,
    /// This commit, and those between it and `since` (exclusive), newest first; at most
    /// [`COMMITS_LISTED_MAX`].
    pub commits: Vec<CommitInfo>,
}

/// A survey lists at most this many commits: enough to find a trailer in a month's work, and a
/// bound on what a new clone of a long history costs.
pub const COMMITS_LISTED_MAX: usize = 1000;

/// What a commit stands on, back to a root.
#[derive(Clone, Debug)]
pub struct Lineage {
    /// The oldest commit with the file; none if there is none.
    pub root: Option<Oid>,
    /// All commits that the one asked about stands on, without the root, what that stands on, and
    /// what is known; each after its parents, itself last. Itself alone where there is no root.
    pub commits: Vec<Ancestor>,
    /// Parents of these that are not among them.
    pub edge: Vec<Ancestor>,
    /// Whether nothing was left out as known.
    pub is_whole: bool,
}

/// A lineage of more commits is not brought: it would be some 20 MB.
pub const LINEAGE_MAX: usize = 20_000;

/// A commit of a lineage.
#[derive(Clone, Debug)]
pub struct Ancestor {
    /// The commit, for people.
    pub info: CommitInfo,
    /// Its parents.
    pub parents: Vec<Oid>,
    /// The object as it is.
    pub raw: Arc<[u8]>,
    /// The file in it; none if it has none.
    pub file: Option<FileContent>,
    /// Whether it is the root or stands on it.
    pub follows: bool,
    /// Tags on it, as the objects are; brought only where the file here or in a parent has the word
    /// [`TAGS_WORD`].
    pub tags: Vec<Arc<[u8]>>,
    /// What it changes beside each of its parents; brought only where the file here or in a parent has
    /// the word [`STEPS_WORD`].
    pub steps: Vec<Step>,
}

/// The word in the file by which a commit's steps are asked for.
pub const STEPS_WORD: &str = "authorize";

/// The word in the file by which tags are asked for.
pub const TAGS_WORD: &str = "tag";

/// What a commit changes beside one of its parents.
#[derive(Clone, Debug)]
pub struct Step {
    /// The parent; absent for a commit that has none.
    pub parent: Option<Oid>,
    /// Of the parent's files those that differ, and those that can have a say in rights.
    pub before: Vec<FileContent>,
    /// Of the commit's.
    pub after: Vec<FileContent>,
}

/// How a commit follows from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// There is nothing to follow from.
    First,
    /// It is the same.
    Same,
    /// It comes after.
    Descends,
    /// It comes before: the branch was set back.
    Precedes,
    /// They only share an ancestor: the branch was rewritten.
    Diverged,
    /// They share nothing.
    Unrelated,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Its path from the sub-directory.
    pub path: Arc<str>,
    /// Its content's id.
    pub blob: Oid,
    /// What it is.
    pub kind: FileKind,
    /// How long it is, in bytes; 0 for submodules.
    pub bytes: u64,
}

/// What a tree entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A file.
    File,
    /// A symbolic link; not followed.
    Symlink,
    /// A submodule; not followed.
    Submodule,
    /// A chart, at the path of its `Chart.yaml`: a directory as one file, with all below it in an
    /// archive ([`crate::desired::charts`]). Its blob's id is that of the directory.
    Chart,
}

/// A file with its content.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// Its path from the sub-directory.
    pub path: Arc<str>,
    /// Its content's id.
    pub blob: Oid,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: Oid,
    /// Who wrote it, `Name <address>`.
    pub author: String,
    /// When it was committed, by the committer's clock.
    pub time: Wall,
    /// Its whole message.
    pub message: String,
}

impl CommitInfo {
    /// The first line of the message.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The value of a trailer, a `Key: value` line of the message's last paragraph.
    pub fn trailer(&self, key: &str) -> Option<&str> {
        let paragraph = self.message.trim_end().rsplit("\n\n").next()?;
        paragraph.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(key).then(|| value.trim())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_is_sought_in_the_last_paragraph() {
        let commit = |message: &str| CommitInfo {
            id: Oid::new("a"),
            author: String::new(),
            time: Wall::default(),
            message: message.into(),
        };
        let key = "Windlass-Allow-Prune";
        let with = commit("web: gone\n\nNo longer needed.\n\nwindlass-allow-prune: yes\n");
        assert_eq!(with.trailer(key), Some("yes"));
        assert_eq!(with.subject(), "web: gone");
        let quoted = commit("docs\n\nWindlass-Allow-Prune: yes\n\nexplains the trailer");
        assert_eq!(quoted.trailer(key), None);
    }
}
