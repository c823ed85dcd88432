//! A Git repository in memory: commits with their files, and a branch that points to one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::charts::{self, CHART_FILE};
use crate::desired::{self, Desired};
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::finding::Finding;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::source::{
    Answer, Call, CommitInfo, FileContent, FileEntry, FileKind, Relation, Survey,
};

/// The files of a commit.
pub type Files = BTreeMap<String, String>;

/// A commit.
#[derive(Clone, Debug)]
struct Commit {
    info: CommitInfo,
    parent: Option<Oid>,
    files: Arc<Files>,
}

/// A repository with one branch.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    commits: BTreeMap<Oid, Commit>,
    tip: Option<Oid>,
}

impl Repo {
    /// Commits `files` on top of the branch.
    pub fn commit(&mut self, message: &str, files: Files) -> Oid {
        let parent = self.tip.clone();
        let count = self.commits.len();
        let text = format!("{message} {parent:?} {files:?} {count}");
        let id = Oid::new(&Digest::of(text.as_bytes()).hex()[..40]);
        let seconds = i64::try_from(count).unwrap_or(0);
        let info = CommitInfo {
            id: id.clone(),
            author: "A. Developer <dev@example.com>".to_owned(),
            time: Wall::from_seconds(1_700_000_000 + seconds),
            message: message.to_owned(),
        };
        self.commits.insert(id.clone(), Commit { info, parent, files: Arc::new(folded(files)) });
        self.tip = Some(id.clone());
        id
    }

    /// Points the branch at an earlier commit, as a forced push does.
    pub fn set_back(&mut self, to: &Oid) {
        self.tip = Some(to.clone());
    }

    /// The branch's commit.
    pub fn tip(&self) -> Option<&Oid> {
        self.tip.as_ref()
    }

    /// The commit before.
    pub fn parent(&self, of: &Oid) -> Option<Oid> {
        self.commits.get(of)?.parent.clone()
    }

    /// The files of a commit.
    pub fn files(&self, commit: &Oid) -> Option<&Files> {
        self.commits.get(commit).map(|commit| &*commit.files)
    }

    fn ancestors(&self, of: &Oid) -> Vec<Oid> {
        let mut line = Vec::new();
        let mut at = Some(of.clone());
        while let Some(id) = at {
            at = self.commits.get(&id).and_then(|commit| commit.parent.clone());
            line.push(id);
        }
        line
    }

    fn survey(&self, commit: &Oid, since: Option<&Oid>) -> Option<Survey> {
        let found = self.commits.get(commit)?;
        let line = self.ancestors(commit);
        let relation = match since {
            None => Relation::First,
            Some(since) if since == commit => Relation::Same,
            Some(since) if line.contains(since) => Relation::Descends,
            Some(since) if self.ancestors(since).contains(commit) => Relation::Precedes,
            Some(_) => Relation::Diverged,
        };
        let commits = line
            .iter()
            .take_while(|id| Some(*id) != since || *id == commit)
            .filter_map(|id| self.commits.get(id))
            .map(|commit| commit.info.clone())
            .collect();
        Some(Survey {
            commit: commit.clone(),
            tree: Some(tree_id(&found.files)),
            files: found.files.iter().map(|(path, text)| entry(path, text)).collect(),
            relation,
            commits,
        })
    }
}

fn blob_id(text: &str) -> Oid {
    Oid::new(&Digest::of(text.as_bytes()).hex()[..40])
}

fn tree_id(files: &Files) -> Oid {
    Oid::new(&Digest::of(format!("{files:?}").as_bytes()).hex()[..40])
}

fn entry(path: &str, text: &str) -> FileEntry {
    let kind = FileKind::File;
    FileEntry { path: path.into(), blob: blob_id(text), kind, bytes: text.len() as u64 }
}

/// What the agent makes of these files.
pub fn read(files: &Files) -> (Desired, Vec<Finding>) {
    let (listing, parsed) = parse_all(files);
    desired::assemble(&listing, &parsed)
}

/// The same, divided into apps.
pub fn divide(files: &Files) -> desired::Division {
    let (listing, parsed) = parse_all(files);
    desired::divide(&listing, &parsed)
}

/// The files with each chart as one, as a real repository hands them over.
fn folded(files: Files) -> Files {
    let is_chart = |directory: &str| {
        let file = files.get(&format!("{directory}/{CHART_FILE}"));
        file.is_some_and(|text| !charts::is_packed(text.as_bytes()))
    };
    if !files.keys().any(|path| charts::directory(path).is_some_and(is_chart)) {
        return files;
    }
    let mut whole: BTreeMap<&str, Vec<(&str, &[u8])>> = BTreeMap::new();
    let mut folded = Files::new();
    for (path, text) in &files {
        let chart = charts::around(path, is_chart);
        match chart.and_then(|chart| Some((chart, charts::below(path, chart)?))) {
            Some((chart, below)) => whole.entry(chart).or_default().push((below, text.as_bytes())),
            None => {
                folded.insert(path.clone(), text.clone());
            }
        }
    }
    for (chart, files) in whole {
        let packed = String::from_utf8_lossy(&charts::pack(files)).into_owned();
        folded.insert(format!("{chart}/{CHART_FILE}"), packed);
    }
    folded
}

fn parse_all(files: &Files) -> (Vec<FileEntry>, desired::Files) {
    let files = folded(files.clone());
    let listing: Vec<FileEntry> = files.iter().map(|(path, text)| entry(path, text)).collect();
    let parse = |(entry, text): (&FileEntry, &String)| {
        let (path, blob) = (entry.path.clone(), entry.blob.clone());
        let content = FileContent { path: path.clone(), blob, bytes: text.as_bytes().into() };
        (path, Arc::new(desired::parse(&content)))
    };
    let parsed: desired::Files = listing.iter().zip(files.values()).map(parse).collect();
    (listing, parsed)
}

/// One machine's copy of the repository: what was fetched is there, what was not is not.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    repo: Repo,
    fetched: BTreeSet<Oid>,
}

impl Copy {
    /// Carries out a call; `remote` is absent while it can't be reached.
    pub fn perform(&mut self, call: &Call, remote: Option<&Repo>) -> Result<Answer, Fault> {
        match call {
            Call::Fetch => {
                let remote = remote.ok_or_else(|| Fault::transient("the remote is unreachable"))?;
                self.repo = remote.clone();
                if let Some(tip) = remote.tip() {
                    self.fetched.extend(remote.ancestors(tip));
                }
                Ok(Answer::Fetched { tip: remote.tip.clone(), tags: 0 })
            }
            Call::Survey { commit, since } => {
                let found = self.repo.survey(commit, since.as_ref()).filter(|_| self.has(commit));
                found
                    .map(|survey| Answer::Surveyed(Box::new(survey)))
                    .ok_or_else(|| Fault::not_found(format!("commit {commit} is not here")))
            }
            Call::Read { files } => {
                let commits = self.repo.commits.values();
                let texts: BTreeMap<Oid, &String> = commits
                    .flat_map(|commit| commit.files.values())
                    .map(|text| (blob_id(text), text))
                    .collect();
                let found = files
                    .iter()
                    .filter_map(|file| Some(content(&file.path, texts.get(&file.blob)?)));
                Ok(Answer::Contents(found.collect()))
            }
            Call::Show { commit, path } => {
                let files = self.repo.files(commit).filter(|_| self.has(commit));
                let found = files.and_then(|files| {
                    let chart = |directory: &str| format!("{directory}/{CHART_FILE}");
                    let around = charts::around(path, |above| files.contains_key(&chart(above)));
                    files.get_key_value(&around.map_or_else(|| path.clone(), chart))
                });
                let (path, text) = found
                    .ok_or_else(|| Fault::not_found(format!("{path} at {commit} is not here")))?;
                Ok(Answer::Contents(vec![content(path, text)]))
            }
            Call::Keep { .. } => Ok(Answer::Kept),
            Call::Resolve { text } => Ok(Answer::Resolved(Oid::new(text))),
            Call::Lineage { .. } => Err(Fault::stalled("commits in memory bear no signatures")),
        }
    }

    fn has(&self, commit: &Oid) -> bool {
        self.fetched.contains(commit)
    }
}

fn content(path: &str, text: &str) -> FileContent {
    let path: Arc<str> = path.into();
    FileContent { path, blob: blob_id(text), bytes: text.as_bytes().into() }
}
