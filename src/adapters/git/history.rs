//! The last decisions, and the end of the ones before them.
//!
//! ```text
//!   root ◀─ … 500 … ◀─ c501 ◀─ … 500 … ◀─ c1000        a register's chain, at its bound
//!   root'◀──────────── … the last 500, made anew … ◀─ the next decision
//! ```
//! The commits are made anew with the same trees, authors, times and messages; only their ids
//! differ. What a decision says, its generation among it, stands in its tree and stays.

use git2::{ObjectType, Repository, Revwalk};

use crate::kinds::time::Wall;
use crate::ports::store::Decision;

use super::packfile::Batch;
use super::repo;

/// So many decisions can always be read: weeks of a quiet fleet, a day of a busy one.
pub(super) const KEPT: usize = 500;
/// At this length the history is cut back to [`KEPT`].
pub(super) const MAX: usize = 1000;

fn walk(repo: &Repository, tip: git2::Oid) -> Result<Revwalk<'_>, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.simplify_first_parent()?;
    walk.push(tip)?;
    Ok(walk)
}

/// The last decisions, newest first.
pub(super) fn list(
    repo: &Repository,
    tip: git2::Oid,
    limit: usize,
) -> Result<Vec<Decision>, git2::Error> {
    walk(repo, tip)?
        .take(limit)
        .map(|id| {
            let commit = repo.find_commit(id?)?;
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            Ok(Decision {
                rev: repo::oid(commit.id()),
                by: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
                time: Wall::from_seconds(commit.time().seconds()),
                why: message.trim_end().to_owned(),
            })
        })
        .collect()
}

/// How many decisions there are, at most [`MAX`]; `known` is a count made earlier.
pub(super) fn length(
    repo: &Repository,
    tip: git2::Oid,
    known: Option<(git2::Oid, usize)>,
) -> Result<usize, git2::Error> {
    let mut counted = 0;
    for id in walk(repo, tip)?.take(MAX) {
        let id = id?;
        if let Some((at, before)) = known
            && at == id
        {
            return Ok((counted + before).min(MAX));
        }
        counted += 1;
    }
    Ok(counted)
}

/// Makes the last `keep` decisions anew, on a root of their own, and returns the newest.
pub(super) fn squash(
    repo: &Repository,
    batch: &mut Batch,
    tip: git2::Oid,
    keep: usize,
) -> Result<git2::Oid, git2::Error> {
    let mut kept: Vec<git2::Oid> = walk(repo, tip)?.take(keep).collect::<Result<_, _>>()?;
    kept.reverse();
    let odb = repo.odb()?;
    let mut above = None;
    for id in kept {
        let old = odb.read(id)?;
        let new = with_parent(old.data(), above);
        above = Some(batch.add(ObjectType::Commit, new)?);
    }
    Ok(above.unwrap_or(tip))
}

/// A commit's content with this parent and no other.
fn with_parent(commit: &[u8], parent: Option<git2::Oid>) -> Vec<u8> {
    let mut content = Vec::with_capacity(commit.len());
    let mut parent = parent.map(|id| format!("parent {id}\n"));
    let mut in_head = true;
    for line in commit.split_inclusive(|byte| *byte == b'\n') {
        if in_head && line.starts_with(b"parent ") {
            continue;
        }
        if in_head && line.starts_with(b"author ") {
            content.extend(parent.take().unwrap_or_default().as_bytes());
        }
        in_head &= line != b"\n";
        content.extend(line);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::{Signature, Time};

    #[test]
    fn a_squash_keeps_what_the_last_decisions_say() {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(dir.path()).expect("a repository");
        let mut tip: Option<git2::Oid> = None;
        for n in 0..20 {
            let mut tree = repo.treebuilder(None).expect("a tree");
            let blob = repo.blob(format!("{n}").as_bytes()).expect("a blob");
            tree.insert("generation", blob, 0o100_644).expect("inserts");
            let tree = repo.find_tree(tree.write().expect("writes")).expect("finds");
            let who = Signature::new(&format!("n{}", n % 3), "x@y", &Time::new(1000 + n, 60))
                .expect("a name");
            let parent = tip.map(|id| repo.find_commit(id).expect("a parent"));
            let parents: Vec<_> = parent.iter().collect();
            let id = repo
                .commit(None, &who, &who, &format!("decision {n}\n\nwhy"), &tree, &parents)
                .expect("commits");
            tip = Some(id);
        }
        let tip = tip.expect("some");
        assert_eq!(length(&repo, tip, None), Ok(20));
        assert_eq!(length(&repo, tip, Some((tip, 700))), Ok(700));
        let mut batch = Batch::default();
        let new = squash(&repo, &mut batch, tip, 5).expect("squashes");
        batch.write(dir.path()).expect("writes");
        assert_eq!(length(&repo, new, None), Ok(5));
        let without_ids = |tip| {
            let list = list(&repo, tip, 5).expect("lists");
            list.into_iter().map(|d| (d.by, d.time, d.why)).collect::<Vec<_>>()
        };
        assert_eq!(without_ids(new), without_ids(tip));
        let tree = |id| repo.find_commit(id).expect("a commit").tree_id();
        assert_eq!(tree(new), tree(tip));
    }
}
