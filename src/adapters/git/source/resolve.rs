//! Which commit a person means: `main`, `v1.2`, `1a2b3c4`, `HEAD~2`.
//!
//! What the copy can tell it tells without asking anybody. Other branches and tags are asked for,
//! and what they name is then in the copy as well.

use git2::{ErrorCode, Repository};

use crate::ports::Fault;
use crate::ports::source::Answer;

use super::super::copy::Trouble;
use super::super::{cache, repo};
use super::Inner;
use super::fetch::Wanted;

impl Inner {
    /// Finds the commit a person means: `main`, `v1.2`, `1a2b3c4`, `HEAD~2`.
    pub(super) fn resolve(&self, repo: &Repository, text: &str) -> Result<Answer, Trouble> {
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
            Err(error) => Err(self.copy.sort(error)),
        }
    }

    /// What a name means, if the copy can tell.
    fn known_here(&self, repo: &Repository, name: &str) -> Result<Option<git2::Oid>, Trouble> {
        let branch = self.branch.trim_start_matches("refs/heads/");
        let ours = [branch, &self.branch, "HEAD"].contains(&name)
            || name.strip_prefix("origin/") == Some(branch);
        if ours {
            return repo::target(repo, cache::TIP).map_err(|error| self.copy.sort(error));
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
        let wanted = Wanted { refs: &refs, local: None, tags: false };
        Ok(self.bring(repo, &wanted)?.commit)
    }
}
