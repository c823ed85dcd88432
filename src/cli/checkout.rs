//! A person's checkout of the desired repository: where an object is written in it, and how a change of
//! it becomes a commit of theirs.
//!
//! Git itself commits, reverts and pushes, so that names, signatures, hooks and credentials are the
//! person's own; what there is to be changed is looked up in the commit they stand on. The limit: a file
//! with changes that are not committed is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use git2::{Commit, ObjectType, Patch, Repository, Status};

use super::fault::Failure;
use super::out::{Out, talk};
use crate::adapters::git::chart;
use crate::desired::{self, Files, Unplaced, Wish, charts};
use crate::kinds::binding::Oid;
use crate::kinds::object::{Key, Object};
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// What is done with a change.
#[derive(Args, Debug)]
pub(super) struct Making {
    /// Make the change: a commit of yours in the checkout
    #[arg(long)]
    commit: bool,
    /// Push it, too
    #[arg(long, requires = "commit")]
    push: bool,
    /// Checkout of the desired repository, or the directory of it that the agent follows
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

impl Making {
    /// Whether the change is to be made, not only shown.
    pub(super) fn is_meant(&self) -> bool {
        self.commit
    }
}

/// A checkout.
pub(super) struct Checkout {
    pub(super) repository: Repository,
    /// Its root on this machine.
    root: PathBuf,
    /// The directory that was named, from the root: empty, or with a slash at its end.
    below: String,
}

/// An object in a commit.
pub(super) struct Written {
    pub(super) object: Arc<Object>,
    /// Its file; the path counts from the checkout's root.
    pub(super) file: FileContent,
}

/// What libgit2 says of a repository that can't be read.
pub(super) fn unread(error: &git2::Error) -> Failure {
    Failure::plain(format!("the checkout can't be read: {}", error.message()))
}

impl Checkout {
    /// The checkout that was named, or that the person stands in.
    pub(super) fn open(making: &Making) -> Result<Self, Failure> {
        let dir = &making.repo;
        let hint = "stand in a clone of the desired repository, or name one: --repo DIR";
        let none = || Failure::hinted(format!("{} is in no Git checkout", dir.display()), hint);
        let repository = Repository::discover(dir).map_err(|_| none())?;
        let root = repository.workdir().and_then(|root| root.canonicalize().ok());
        let root = root.ok_or_else(none)?;
        let below = dir.canonicalize().ok();
        let below = below.as_deref().and_then(|dir| dir.strip_prefix(&root).ok());
        let below = match below.and_then(Path::to_str).ok_or_else(none)? {
            "" => String::new(),
            below => format!("{below}/"),
        };
        Ok(Self { repository, root, below })
    }

    /// The commit it stands on.
    pub(super) fn head(&self) -> Result<Commit<'_>, Failure> {
        let head = self.repository.head().and_then(|head| head.peel_to_commit());
        head.map_err(|error| unread(&error))
    }

    /// Where the object is written in a commit.
    pub(super) fn find(&self, commit: &Commit<'_>, key: &Key) -> Result<Written, Failure> {
        let files = self.parse(commit)?;
        let mut found: Vec<(&FileContent, &Arc<Object>)> = files
            .values()
            .filter_map(|(file, parsed)| Some((file, desired::object(parsed, key)?)))
            .collect();
        let id = short(commit.id());
        let Some((file, object)) = found.pop() else {
            return Err(Failure::hinted(
                format!("there is no {key} in commit {id} of {}", self.root.display()),
                "is this the repository the agent follows, and its newest commit? git pull",
            ));
        };
        if let Some((other, _)) = found.first() {
            return Err(Failure::hinted(
                format!(
                    "{key} is in {}{} and in {}{}",
                    self.below, other.path, self.below, file.path
                ),
                "name the directory that the agent follows: --repo DIR",
            ));
        }
        let path = format!("{}{}", self.below, file.path);
        let file = FileContent { path: path.into(), ..file.clone() };
        Ok(Written { object: Arc::clone(object), file })
    }

    /// The manifests of a commit below the directory, but for those passed over.
    fn parse(&self, commit: &Commit<'_>) -> Result<BTreeMap<Arc<str>, Parsed>, Failure> {
        let below = self.below.trim_end_matches('/');
        let listing = list(&self.repository, commit, below).map_err(|error| unread(&error))?;
        let mut files = Files::new();
        let mut parsed = BTreeMap::new();
        for entry in desired::wanted(&listing) {
            let Some(content) = content(&self.repository, &entry.path, entry.blob.as_str()) else {
                continue;
            };
            let file = Arc::new(desired::parse(&content));
            files.insert(Arc::clone(&entry.path), Arc::clone(&file));
            parsed.insert(Arc::clone(&entry.path), (content, file));
        }
        let (wish, _) = desired::assemble(&listing, &files);
        for skipped in wish.skipped {
            parsed.remove(&skipped.path);
        }
        Ok(parsed)
    }

    /// A file of a tree, by its path from the root.
    pub(super) fn file(&self, tree: &git2::Tree<'_>, path: &str) -> Option<FileContent> {
        if let Some((_, id)) = chart::around(&self.repository, tree, path.as_bytes()).ok()? {
            return content(&self.repository, path, &id.to_string());
        }
        let entry = tree.get_path(Path::new(path)).ok()?;
        content(&self.repository, path, &entry.id().to_string())
    }

    /// Shows a change of an object's file, or makes it.
    pub(super) fn edit(
        &self,
        making: &Making,
        written: &Written,
        wish: Wish<'_>,
        title: &str,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let (key, file) = (&written.object.key, &written.file);
        let new = desired::edit(file, key, wish).map_err(|unplaced| by_hand(&unplaced))?;
        if new.as_bytes() == &*file.bytes {
            talk(&format!("{key} says so already ({})\n", file.path));
            return Ok(());
        }
        if !making.is_meant() {
            let path = Some(Path::new(&*file.path));
            let patch = Patch::from_buffers(&file.bytes, path, new.as_bytes(), path, None);
            let text =
                patch.and_then(|mut patch| patch.to_buf()).map_err(|error| unread(&error))?;
            out.page(&String::from_utf8_lossy(&text))?;
            talk(&format!("--commit makes this change: {title}\n"));
            return Ok(());
        }
        self.must_have_branch()?;
        let is_changed = self.repository.status_file(Path::new(&*file.path));
        if is_changed.is_ok_and(|status| status != Status::CURRENT) {
            return Err(Failure::hinted(
                format!("{} has changes that are not committed", file.path),
                "commit them or take them back first",
            ));
        }
        // The file as it lies there: Git may have given it other line ends than its commit has.
        let on_disk = self.root.join(&*file.path);
        let failed = |error: std::io::Error| {
            Failure::plain(format!("{} can't be changed: {error}", on_disk.display()))
        };
        let old = fs::read(&on_disk).map_err(failed)?;
        let lying = FileContent { bytes: old.clone().into(), ..file.clone() };
        let new = desired::edit(&lying, key, wish).map_err(|unplaced| by_hand(&unplaced))?;
        fs::write(&on_disk, new).map_err(failed)?;
        let commit = ["commit", "-q", "-m", title, "--only", "--", &file.path];
        if let Err(failure) = self.git(&commit) {
            fs::write(&on_disk, old).map_err(failed)?;
            return Err(failure);
        }
        self.announce(making, out)
    }

    /// Says which commit was made last, and pushes it if that is wanted.
    pub(super) fn announce(&self, making: &Making, out: &mut Out) -> Result<(), Failure> {
        let head = self.head()?;
        let subject = head.summary().ok().flatten().unwrap_or_default().to_owned();
        let id = short(head.id());
        out.page(&format!("commit {id}: {subject}\n"))?;
        if !making.push {
            talk("git push brings it into force\n");
            return Ok(());
        }
        let (remote, args): (String, Vec<&str>) = (self.only_remote(), vec!["push", "-q"]);
        let args = match remote.as_str() {
            "" => args,
            remote => [args, vec![remote, "HEAD"]].concat(),
        };
        self.git(&args).map_err(|_| {
            Failure::hinted(
                format!("commit {id} is made, and could not be pushed"),
                "git pull --rebase && git push",
            )
        })
    }

    /// Where to push a branch that follows none: to the one remote there is.
    fn only_remote(&self) -> String {
        let head = self.repository.head().ok();
        let has_upstream = head.is_some_and(|head| git2::Branch::wrap(head).upstream().is_ok());
        let remotes = self.repository.remotes().ok().filter(|_| !has_upstream);
        match remotes.filter(|remotes| remotes.len() == 1) {
            Some(remotes) => remotes.get(0).ok().flatten().unwrap_or_default().to_owned(),
            None => String::new(),
        }
    }

    /// A commit on no branch would be lost.
    pub(super) fn must_have_branch(&self) -> Result<(), Failure> {
        match self.repository.head_detached() {
            Ok(false) => Ok(()),
            _ => Err(Failure::hinted(
                format!("{} is on no branch", self.root.display()),
                "git switch to the branch the agent follows",
            )),
        }
    }

    /// Runs git in the checkout; what it says is said.
    pub(super) fn git(&self, args: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(&self.root)
            .arg("--literal-pathspecs")
            .args(args)
            .stdin(Stdio::inherit());
        let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| {
            let what = format!("git can't be run: {error}");
            Failure::hinted(what, "without --commit the change is shown, to be made elsewhere")
        })?;
        talk(&String::from_utf8_lossy(&output.stdout));
        match output.status.success() {
            true => Ok(()),
            false => Err(Failure::plain(format!("git {} failed; nothing is changed", args[0]))),
        }
    }
}

/// The files of a commit below a directory: empty, or with a slash at its end.
pub(super) fn list(
    repository: &Repository,
    commit: &Commit<'_>,
    below: &str,
) -> Result<Vec<FileEntry>, git2::Error> {
    let mut tree = commit.tree()?;
    if !below.is_empty() {
        let below = tree.get_path(Path::new(below.trim_end_matches('/')))?;
        tree = below.to_object(repository)?.peel_to_tree()?;
    }
    let odb = repository.odb()?;
    let mut listing = Vec::new();
    chart::walk(repository, &tree, &mut |path, entry| {
        let kind = match (entry.kind(), entry.filemode()) {
            (Some(ObjectType::Blob), 0o120_000) => FileKind::Symlink,
            (Some(ObjectType::Blob), _) => FileKind::File,
            _ => FileKind::Submodule,
        };
        let bytes = odb.read_header(entry.id()).map_or(0, |(length, _)| length);
        listing.push(FileEntry {
            path: path.into(),
            blob: Oid::new(&entry.id().to_string()),
            kind,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        });
        Ok(())
    })?;
    listing.sort();
    let id = |directory: &str| {
        let entry = tree.get_path(Path::new(directory)).ok()?;
        Some(Oid::new(&entry.id().to_string()))
    };
    Ok(charts::fold(listing, id))
}

/// The same; none where there is no such directory.
pub(super) fn list_if_any(
    repository: &Repository,
    commit: &Commit<'_>,
    below: &str,
) -> Result<Vec<FileEntry>, git2::Error> {
    match list(repository, commit, below) {
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(Vec::new()),
        listing => listing,
    }
}

/// The manifests among the files of a commit.
pub(super) fn contents(
    repository: &Repository,
    listing: &[FileEntry],
) -> Result<Vec<FileContent>, git2::Error> {
    let read = |entry: FileEntry| {
        let bytes = chart::content(repository, git2::Oid::from_str(entry.blob.as_str())?)?;
        Ok(FileContent { path: entry.path, blob: entry.blob, bytes })
    };
    desired::wanted(listing).into_iter().map(read).collect()
}

/// A file with what is in it.
type Parsed = (FileContent, Arc<desired::ParsedFile>);

/// A file of a commit, by its blob, or a chart, by its directory.
pub(super) fn content(repository: &Repository, path: &str, id: &str) -> Option<FileContent> {
    let bytes = chart::content(repository, git2::Oid::from_str(id).ok()?).ok()?;
    Some(FileContent { path: path.into(), blob: Oid::new(id), bytes })
}

fn by_hand(unplaced: &Unplaced) -> Failure {
    Failure::hinted(
        format!("{}: {}", unplaced.place, unplaced.what),
        format!("that has to be done by hand: {}", unplaced.why),
    )
}

/// An id as people say it.
pub(super) fn short(id: git2::Oid) -> String {
    Oid::new(&id.to_string()).short().to_owned()
}
