//! Bringing commits to this machine.
//!
//! From a server, libgit2 does it. From a path we do it ourselves: the missing objects are packed
//! there and unpacked here. libgit2's own way for paths reads every ref of the other repository and
//! fails if one of them is broken, even one that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use git2::{
    AutotagOption, Direction, ErrorCode, FetchOptions, ObjectType, OdbLookupFlags, PackBuilder,
    Repository,
};
use tracing::{debug, warn};

use crate::ports::Fault;

use super::super::access::{Access, proxy};
use super::super::room::{self, Meter};
use super::super::{cache, fault, repo};

/// Branches and tags of the repository, by their full names; tags as the commit they name.
pub(super) type Names = BTreeMap<String, git2::Oid>;

/// What is wanted: the ref of that name.
pub(super) struct Wanted<'a> {
    /// `refs/heads/main`; the first that exists.
    pub(super) refs: &'a [String],
    /// What to point to it, once it is here.
    pub(super) local: Option<&'a str>,
    /// Annotated tags on commits that are here are brought as well.
    pub(super) tags: bool,
}

/// What was found.
pub(super) struct Found {
    /// The commit; none if there is no such ref.
    pub(super) commit: Option<git2::Oid>,
    /// What else there is.
    pub(super) names: Names,
    /// There are tags on what is here now that were not brought with it.
    misses_tags: bool,
}

/// Why nothing was brought.
pub(super) enum Failed {
    /// The other side, or the way there.
    There(Fault),
    /// Our own copy.
    Here(git2::Error),
    /// The ref moved between two requests.
    Moved(Fault),
}

impl From<git2::Error> for Failed {
    fn from(error: git2::Error) -> Self {
        Self::Here(error)
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::There(fault)
    }
}

/// Brings what is wanted into the cache.
pub(super) fn fetch(
    cache: &Repository,
    access: &Access,
    wanted: &Wanted<'_>,
) -> Result<Found, Failed> {
    match access.place.path() {
        Some(path) => from_path(cache, path, wanted),
        None => {
            let found = match from_server(cache, access, wanted) {
                Err(Failed::Moved(_)) => from_server(cache, access, wanted),
                other => other,
            };
            let found = match found {
                // Tags on commits that came only now.
                Ok(Found { misses_tags: true, .. }) => from_server(cache, access, wanted),
                other => other,
            };
            match found {
                Err(Failed::Moved(fault)) => Err(Failed::There(fault)),
                other => other,
            }
        }
    }
}

fn point(cache: &Repository, wanted: &Wanted<'_>, commit: git2::Oid) -> Result<(), git2::Error> {
    if let Some(local) = wanted.local
        && repo::target(cache, local)? != Some(commit)
    {
        cache.reference(local, commit, true, "")?;
    }
    Ok(())
}

/// Whether a commit is here with everything it needs: a ref of ours has said so.
fn is_here(cache: &Repository, commit: git2::Oid) -> Result<bool, git2::Error> {
    if cache::is_shallow(cache.path()) {
        return Ok(false);
    }
    let kept = repo::target(cache, &format!("{}{commit}", cache::KEEP))?;
    Ok(kept == Some(commit) || repo::target(cache, cache::TIP)? == Some(commit))
}

fn from_server(cache: &Repository, access: &Access, wanted: &Wanted<'_>) -> Result<Found, Failed> {
    access.connected(|notes| -> Result<Found, Failed> {
        let there = |error: &git2::Error| Failed::There(notes.explain(error, &access.place));
        let url = access.place.to_string();
        let mut remote = cache.remote_anonymous(&url)?;
        let mut connection = remote
            .connect_auth(Direction::Fetch, Some(access.callbacks(notes)), Some(proxy()))
            .map_err(|error| there(&error))?;
        let names = advertised(connection.list().map_err(|error| there(&error))?);
        let found = wanted.refs.iter().find_map(|name| Some((name, *names.get(name)?)));
        let Some((name, commit)) = found else {
            return Ok(Found { commit: None, names, misses_tags: false });
        };
        let tags = match wanted.tags {
            true => annotated(connection.list().map_err(|error| there(&error))?),
            false => Vec::new(),
        };
        let new = missing(cache, &tags, commit)?;
        let is_here = is_here(cache, commit)?;
        let mut misses_tags = false;
        if !is_here || !new.is_empty() {
            room::check(cache.path(), 0)?;
            let mut options = FetchOptions::new();
            options
                .remote_callbacks(access.fetching(notes, cache.path()))
                .proxy_options(proxy())
                .download_tags(AutotagOption::None);
            if cache::is_shallow(cache.path()) {
                // All of it: history that was lost comes back.
                options.depth(i32::MAX);
                repo::outdate(cache.path());
            }
            let mut specs: Vec<&str> = new.iter().map(|tag| tag.name.as_str()).collect();
            specs.extend((!is_here).then_some(name.as_str()));
            connection.remote().download(&specs, Some(&mut options)).map_err(|error| {
                if error.code() == ErrorCode::Eof {
                    debug!(error = error.message(), "the ref moved while it was fetched");
                    return Failed::Moved(notes.explain(&error, &access.place));
                }
                if fault::is_damage(&error) {
                    return Failed::Here(error);
                }
                there(&error)
            })?;
            // Throws if it is not here, or is not a commit.
            cache.find_commit(commit)?;
            for tag in &new {
                cache.find_tag(tag.id)?;
                cache.reference(&format!("{}{}", cache::TAG, tag.id), tag.id, true, "")?;
            }
            misses_tags = !missing(cache, &tags, commit)?.is_empty();
        }
        point(cache, wanted, commit)?;
        Ok(Found { commit: Some(commit), names, misses_tags })
    })
}

/// An annotated tag there.
struct There {
    name: String,
    /// The tag itself.
    id: git2::Oid,
    /// What it is on.
    on: git2::Oid,
}

/// The annotated tags: those after which a server says what they are on.
fn annotated(heads: &[git2::RemoteHead<'_>]) -> Vec<There> {
    let mut tags = Vec::new();
    let mut before: Option<&git2::RemoteHead<'_>> = None;
    for head in heads {
        let name = head.name().strip_suffix("^{}").filter(|name| name.starts_with("refs/tags/"));
        if let (Some(name), Some(tag)) = (name, before.filter(|tag| Some(tag.name()) == name)) {
            tags.push(There { name: name.to_owned(), id: tag.oid(), on: head.oid() });
        }
        before = Some(head);
    }
    tags
}

/// Those on commits that are here, or come now, that are not here themselves.
fn missing<'t>(
    cache: &Repository,
    tags: &'t [There],
    comes: git2::Oid,
) -> Result<Vec<&'t There>, git2::Error> {
    let new = unknown(cache, tags.iter().collect(), |tag| tag.id);
    if new.is_empty() {
        return Ok(new);
    }
    let has_commit = commits_of(cache)?;
    Ok(new.into_iter().filter(|tag| tag.on == comes || has_commit(tag.on)).collect())
}

/// Those of some tags that never came here. Where there are none, as at most polls, nothing is read.
fn unknown<T>(cache: &Repository, mut tags: Vec<T>, id: impl Fn(&T) -> git2::Oid) -> Vec<T> {
    if !tags.is_empty() {
        let known = cache::tag_names(cache.path());
        tags.retain(|tag| !known.contains(&id(tag)));
    }
    tags
}

/// Whether a commit is here. Packs that came lately are looked for once, now, and not again for each
/// commit that is absent: most of those that tags are on may be another branch's.
fn commits_of(cache: &Repository) -> Result<impl Fn(git2::Oid) -> bool, git2::Error> {
    let odb = cache.odb()?;
    odb.refresh()?;
    Ok(move |id| odb.exists_ext(id, OdbLookupFlags::NO_REFRESH) && cache.find_commit(id).is_ok())
}

fn advertised(heads: &[git2::RemoteHead<'_>]) -> Names {
    let mut names = Names::new();
    for head in heads {
        let name = head.name();
        if !name.starts_with("refs/heads/") && !name.starts_with("refs/tags/") {
            continue;
        }
        // `refs/tags/v1^{}` is the commit behind an annotated tag and comes after it.
        names.insert(name.trim_end_matches("^{}").to_owned(), head.oid());
    }
    names
}

fn from_path(cache: &Repository, path: &Path, wanted: &Wanted<'_>) -> Result<Found, Failed> {
    let sort = |error: &git2::Error| Failed::There(fault::sort(error, path.display()));
    let theirs = repo::open(path)?;
    let mut commit = None;
    for name in wanted.refs {
        match theirs.find_reference(name).and_then(|r| r.peel_to_commit()) {
            Ok(found) => {
                commit = Some(found.id());
                break;
            }
            Err(error) if error.code() == ErrorCode::NotFound && !is_broken(&theirs, name) => {}
            Err(error) => {
                return Err(Failed::There(
                    fault::sort(&error, path.display())
                        .while_doing(format!("{name} can't be read")),
                ));
            }
        }
    }
    let Some(commit) = commit else {
        let names = names_of(&theirs).map_err(|error| sort(&error))?;
        return Ok(Found { commit: None, names, misses_tags: false });
    };
    if !is_here(cache, commit)? {
        let haves = haves(cache)?;
        if let Err(error) = copy(cache, &theirs, commit, &haves) {
            if haves.is_empty() || !matches!(error, CopyError::There(_)) {
                return Err(error.sorted(path));
            }
            // What we have may stand there without its history: then all is copied.
            warn!(from = %path.display(), "copied as a whole");
            copy(cache, &theirs, commit, &[]).map_err(|error| error.sorted(path))?;
        }
        cache.find_commit(commit)?;
        if cache::is_shallow(cache.path()) {
            let _ = std::fs::remove_file(cache.path().join("shallow"));
            repo::outdate(cache.path());
        }
    }
    point(cache, wanted, commit)?;
    if wanted.tags {
        copy_tags(cache, &theirs)?;
    }
    Ok(Found { commit: Some(commit), names: Names::new(), misses_tags: false })
}

/// Copies annotated tags on commits that are here. What is broken among somebody's refs is passed over.
fn copy_tags(cache: &Repository, theirs: &Repository) -> Result<(), git2::Error> {
    let Ok(references) = theirs.references_glob("refs/tags/*") else { return Ok(()) };
    let ids = references.filter_map(Result::ok).filter_map(|reference| reference.target());
    let new = unknown(cache, ids.collect(), |id| *id);
    let new: Vec<git2::Tag<'_>> =
        new.into_iter().filter_map(|id| theirs.find_tag(id).ok()).collect();
    if new.is_empty() {
        return Ok(());
    }
    let has_commit = commits_of(cache)?;
    let Ok(odb) = theirs.odb() else { return Ok(()) };
    for tag in new.iter().filter(|tag| has_commit(tag.target_id())) {
        let Ok(object) = odb.read(tag.id()) else { continue };
        cache::lay_in_tag(cache, object.data())?;
    }
    Ok(())
}

/// Whether a ref is there but can't be read, rather than absent.
fn is_broken(repo: &Repository, name: &str) -> bool {
    repo.commondir().join(name).is_file() || repo::target(repo, name).ok().flatten().is_some()
}

fn names_of(repo: &Repository) -> Result<Names, git2::Error> {
    let mut names = Names::new();
    for reference in repo.references_glob("refs/heads/*")? {
        let reference = reference?;
        if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
            names.insert(name.to_owned(), id);
        }
    }
    Ok(names)
}

/// What the cache has with everything that belongs to it.
fn haves(cache: &Repository) -> Result<Vec<git2::Oid>, git2::Error> {
    if cache::is_shallow(cache.path()) {
        return Ok(Vec::new());
    }
    let mut haves = Vec::new();
    for reference in cache.references_glob("refs/windlass/*")? {
        haves.extend(reference?.target());
    }
    Ok(haves)
}

/// Why copying ended: there, here, or for want of room.
enum CopyError {
    There(git2::Error),
    Here(git2::Error),
    Room(Fault),
}

impl CopyError {
    fn sorted(self, path: &Path) -> Failed {
        match self {
            Self::There(error) => Failed::There(fault::sort(&error, path.display())),
            Self::Here(error) => Failed::Here(error),
            Self::Room(fault) => Failed::There(fault),
        }
    }
}

/// Copies a commit and all it reaches, but for what `haves` reach.
fn copy(
    cache: &Repository,
    theirs: &Repository,
    commit: git2::Oid,
    haves: &[git2::Oid],
) -> Result<(), CopyError> {
    let mut builder = theirs.packbuilder().map_err(CopyError::There)?;
    builder.set_threads(1);
    collect(cache, theirs, commit, haves, &mut builder)?;
    if builder.object_count() == 0 {
        return Ok(());
    }
    room::check(cache.path(), 0).map_err(CopyError::Room)?;
    let odb = cache.odb().map_err(CopyError::Here)?;
    let mut writer = odb.packwriter().map_err(CopyError::Here)?;
    let mut meter = Meter::new(cache.path());
    let mut stopped = None;
    let read = builder.foreach(|chunk| {
        let written = match meter.add(chunk.len()) {
            Err(fault) => Err(CopyError::Room(fault)),
            // git2 turns libgit2's error into one that says nothing; this is the one behind it.
            Ok(()) => {
                writer.write_all(chunk).map_err(|_| CopyError::Here(git2::Error::last_error(-1)))
            }
        };
        written.map_err(|error| stopped = Some(error)).is_ok()
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    read.map_err(CopyError::There)?;
    writer.commit().map_err(CopyError::Here)?;
    Ok(())
}

/// Gathers what is missing here. A tree that is here is here with all below it, because the copy
/// takes packs whole and loses only what nothing reaches; so what is looked at is what changed.
fn collect(
    cache: &Repository,
    theirs: &Repository,
    commit: git2::Oid,
    haves: &[git2::Oid],
    builder: &mut PackBuilder<'_>,
) -> Result<(), CopyError> {
    let odb = cache.odb().map_err(CopyError::Here)?;
    // With nothing here that is known to be whole, nothing that is here counts.
    let is_here = |id| !haves.is_empty() && odb.exists_ext(id, OdbLookupFlags::NO_REFRESH);
    let mut gather = || -> Result<(), git2::Error> {
        let mut walk = theirs.revwalk()?;
        walk.push(commit)?;
        for have in haves {
            match walk.hide(*have) {
                Ok(()) => {}
                Err(error) if error.code() == ErrorCode::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut seen = BTreeSet::new();
        for id in walk {
            let commit = theirs.find_commit(id?)?;
            builder.insert_object(commit.id(), None)?;
            let mut trees = vec![commit.tree_id()];
            while let Some(id) = trees.pop() {
                if is_here(id) || !seen.insert(id) {
                    continue;
                }
                builder.insert_object(id, None)?;
                for entry in &theirs.find_tree(id)? {
                    match entry.kind() {
                        Some(ObjectType::Tree) => trees.push(entry.id()),
                        Some(ObjectType::Blob)
                            if !is_here(entry.id()) && seen.insert(entry.id()) =>
                        {
                            // The name helps to find what it is similar to.
                            builder.insert_object(entry.id(), entry.name().ok())?;
                        }
                        // A submodule's commit is in another repository.
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    };
    gather().map_err(CopyError::There)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another call, with the copy open for itself, may have brought it.
    #[test]
    fn a_commit_that_came_by_another_call_is_here() {
        let dir = tempfile::tempdir().expect("a directory");
        let theirs = Repository::init_bare(dir.path().join("theirs")).expect("made");
        let tree = theirs.treebuilder(None).and_then(|tree| tree.write()).expect("a tree");
        let by = git2::Signature::new("ada", "ada@x", &git2::Time::new(0, 0)).expect("somebody");
        let found = theirs.find_tree(tree).expect("is there");
        let commit = theirs.commit(None, &by, &by, "x", &found, &[]).expect("a commit");

        let path = dir.path().join("cache");
        let cache = Repository::init_bare(&path).expect("made");
        assert!(!commits_of(&cache).expect("looked")(commit));
        let other = Repository::open(&path).expect("opens");
        copy(&other, &theirs, commit, &[]).map_err(|why| why.sorted(&path)).ok().expect("copied");
        let has_commit = commits_of(&cache).expect("looked");
        assert!(has_commit(commit) && !has_commit(tree), "a tree is no commit");
    }
}
