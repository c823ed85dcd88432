//! What a commit stands on, for whoever judges whether it is to be trusted. Nothing is judged here, and
//! of the trees only the one file is opened; and where that has certain words, what commits change, and the
//! tags on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Repository, Sort};

use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::ports::Fault;
use crate::ports::source::{
    Ancestor, Answer, FileContent, LINEAGE_MAX, Lineage, STEPS_WORD, TAGS_WORD,
};

use super::super::copy::Trouble;
use super::super::{cache, repo};
use super::Inner;
use super::steps::Steps;

/// A larger file is no list of signers; it is left out, as if it were not there.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A larger tag is no signed name; it is left out, too.
const TAG_BYTES_MAX: usize = 64 << 10;

/// What is asked.
pub(crate) struct Question<'a> {
    /// Tags that no ref names yet.
    pub(crate) tags: Vec<git2::Oid>,
    pub(crate) commit: git2::Oid,
    /// The file, from the root of the repository.
    pub(crate) file: String,
    pub(crate) pin: &'a Digest,
    pub(crate) root: Option<git2::Oid>,
    pub(crate) known: BTreeSet<git2::Oid>,
}

/// Brings what a commit stands on; nothing if that is too much.
pub(crate) fn bring(
    repo: &Repository,
    asked: Question<'_>,
) -> Result<Option<Lineage>, git2::Error> {
    let Question { tags, commit: tip, file, pin, root, known } = asked;
    let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let steps = Steps::new(repo, directory);
    let (files, new_tags) = (BTreeMap::new(), tags);
    let mut look = Look { repo, path: file.clone(), files, steps, new_tags, tags: None };
    let root = match root.filter(|root| look.stands_on(tip, *root)) {
        Some(root) => Some(root),
        None => look.root(tip, pin)?,
    };
    let ids = match root {
        Some(root) => look.between(root, &known, tip)?,
        None => Some(vec![tip]),
    };
    let Some(ids) = ids else { return Ok(None) };
    let mut lineage = look.gather(root, &ids)?;
    lineage.is_whole = known.is_empty();
    Ok(Some(lineage))
}

impl Inner {
    pub(super) fn lineage(
        &self,
        repo: &Repository,
        commit: &Oid,
        (file, pin): (&str, &Digest),
        root: Option<&Oid>,
        known: &[Oid],
    ) -> Result<Answer, Trouble> {
        if cache::is_shallow(&self.copy.path) {
            let fault = "the copy of the desired repository lacks history since its disk was damaged; \
                         a fetch brings it back";
            return Err(Fault::not_found(fault).into());
        }
        let tip = self.commit(repo, commit)?.id();
        let root = root.map(repo::raw).transpose()?;
        let known = known.iter().map(repo::raw).collect::<Result<BTreeSet<_>, Fault>>()?;
        let file = match self.directory.as_str() {
            "" => file.to_owned(),
            directory => format!("{directory}/{file}"),
        };
        let asked = Question { tags: Vec::new(), commit: tip, file, pin, root, known };
        match bring(repo, asked).map_err(|error| self.copy.sort(error))? {
            Some(lineage) => Ok(Answer::Lineage(Box::new(lineage))),
            None => Err(Fault::stalled(format!(
                "{commit:?} stands on more than {LINEAGE_MAX} commits that are to be checked; to \
                 begin later, set desired.trust in agent.yaml to the fingerprint of today's file"
            ))
            .into()),
        }
    }
}

/// Tags as the objects are, by the commits that they are on.
type Tags = BTreeMap<git2::Oid, Vec<Arc<[u8]>>>;

struct Look<'r> {
    repo: &'r Repository,
    path: String,
    /// Contents by their ids.
    files: BTreeMap<git2::Oid, Option<Arc<[u8]>>>,
    steps: Steps<'r>,
    new_tags: Vec<git2::Oid>,
    /// Once somebody asked.
    tags: Option<Tags>,
}

impl Look<'_> {
    fn stands_on(&self, commit: git2::Oid, root: git2::Oid) -> bool {
        commit == root || self.repo.graph_descendant_of(commit, root).unwrap_or(false)
    }

    /// The oldest commit with the pinned content.
    fn root(&mut self, tip: git2::Oid, pin: &Digest) -> Result<Option<git2::Oid>, git2::Error> {
        let mut walk = self.repo.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
        walk.push(tip)?;
        let mut others: BTreeSet<git2::Oid> = BTreeSet::new();
        for id in walk {
            let id = id?;
            let Some(blob) = self.blob(&self.repo.find_commit(id)?)? else { continue };
            if others.contains(&blob) {
                continue;
            }
            if self.content(blob)?.is_some_and(|bytes| Digest::of(&bytes) == *pin) {
                return Ok(Some(id));
            }
            others.insert(blob);
        }
        Ok(None)
    }

    /// The commits from the root, without it, to the tip; parents first. None if there are too many.
    fn between(
        &self,
        root: git2::Oid,
        known: &BTreeSet<git2::Oid>,
        tip: git2::Oid,
    ) -> Result<Option<Vec<git2::Oid>>, git2::Error> {
        let mut walk = self.repo.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
        walk.push(tip)?;
        walk.hide(root)?;
        let odb = self.repo.odb()?;
        for id in known.iter().filter(|id| odb.exists(**id)) {
            walk.hide(*id)?;
        }
        let mut ids = Vec::new();
        for id in walk {
            let id = id?;
            if ids.len() == LINEAGE_MAX {
                return Ok(None);
            }
            if id != tip {
                ids.push(id);
            }
        }
        // Also where something known stands on it.
        ids.push(tip);
        Ok(Some(ids))
    }

    fn gather(
        &mut self,
        root: Option<git2::Oid>,
        ids: &[git2::Oid],
    ) -> Result<Lineage, git2::Error> {
        let within: BTreeSet<&git2::Oid> = ids.iter().collect();
        let mut edge = BTreeSet::new();
        let mut commits = Vec::with_capacity(ids.len());
        for id in ids {
            let commit = self.repo.find_commit(*id)?;
            if root.is_some() && root != Some(*id) {
                edge.extend(commit.parent_ids().filter(|parent| !within.contains(parent)));
            }
            let mut ancestor = self.ancestor(&commit, true)?;
            let [asks_for_steps, asks_for_tags] = self.says(&commit, [STEPS_WORD, TAGS_WORD])?;
            if asks_for_steps {
                ancestor.steps = self.steps.of(&commit)?;
            }
            if asks_for_tags {
                ancestor.tags = self.tags_on(*id)?;
            }
            commits.push(ancestor);
        }
        let mut around = Vec::with_capacity(edge.len());
        for id in edge {
            let follows = root.is_some_and(|root| self.stands_on(id, root));
            around.push(self.ancestor(&self.repo.find_commit(id)?, follows)?);
        }
        Ok(Lineage { root: root.map(repo::oid), commits, edge: around, is_whole: false })
    }

    fn ancestor(
        &mut self,
        commit: &git2::Commit<'_>,
        follows: bool,
    ) -> Result<Ancestor, git2::Error> {
        let raw = self.repo.odb()?.read(commit.id())?.data().into();
        let file = match self.blob(commit)? {
            Some(blob) => self.content(blob)?.map(|bytes| FileContent {
                path: self.path.as_str().into(),
                blob: repo::oid(blob),
                bytes,
            }),
            None => None,
        };
        let parents = commit.parent_ids().map(repo::oid).collect();
        let (tags, steps) = (Vec::new(), Vec::new());
        Ok(Ancestor { info: repo::describe(commit), parents, raw, file, follows, tags, steps })
    }

    /// Which of these words the file has, in a commit or a parent of it.
    fn says<const N: usize>(
        &mut self,
        commit: &git2::Commit<'_>,
        words: [&str; N],
    ) -> Result<[bool; N], git2::Error> {
        let mut says = [false; N];
        for one in std::iter::once(commit.clone()).chain(commit.parents()) {
            if let Some(blob) = self.blob(&one)?
                && let Some(text) = self.content(blob)?
            {
                let text = String::from_utf8_lossy(&text);
                let found = words.map(|word| text.contains(word));
                says.iter_mut().zip(found).for_each(|(says, found)| *says |= found);
            }
        }
        Ok(says)
    }

    /// The tags on a commit, in the order of their ids.
    fn tags_on(&mut self, commit: git2::Oid) -> Result<Vec<Arc<[u8]>>, git2::Error> {
        if self.tags.is_none() {
            self.tags = Some(self.find_tags()?);
        }
        Ok(self.tags.as_ref().and_then(|tags| tags.get(&commit)).cloned().unwrap_or_default())
    }

    fn find_tags(&self) -> Result<Tags, git2::Error> {
        let new = self.new_tags.iter().filter_map(|id| self.repo.find_tag(*id).ok());
        let mut found: BTreeMap<git2::Oid, git2::Oid> =
            new.map(|tag| (tag.id(), tag.target_id())).collect();
        for glob in ["refs/tags/*", &format!("{}*", cache::TAG)] {
            let named = repo::annotated(self.repo, glob)?;
            found.extend(named.map(|(_, tag)| (tag.id(), tag.target_id())));
        }
        let odb = self.repo.odb()?;
        let mut tags = Tags::new();
        for (id, on) in found {
            let Ok(object) = odb.read(id) else { continue };
            if object.len() <= TAG_BYTES_MAX {
                tags.entry(on).or_default().push(object.data().into());
            }
        }
        Ok(tags)
    }

    /// The file's blob in a commit; nothing if it is not an ordinary file there.
    fn blob(&self, commit: &git2::Commit<'_>) -> Result<Option<git2::Oid>, git2::Error> {
        match commit.tree()?.get_path(Path::new(&self.path)) {
            Ok(entry) => {
                let is_file =
                    entry.kind() == Some(ObjectType::Blob) && entry.filemode() != 0o120_000;
                Ok(is_file.then(|| entry.id()))
            }
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn content(&mut self, blob: git2::Oid) -> Result<Option<Arc<[u8]>>, git2::Error> {
        if let Some(known) = self.files.get(&blob) {
            return Ok(known.clone());
        }
        let found = self.repo.find_blob(blob)?;
        let content = (found.size() <= FILE_BYTES_MAX).then(|| found.content().into());
        self.files.insert(blob, content.clone());
        Ok(content)
    }
}
