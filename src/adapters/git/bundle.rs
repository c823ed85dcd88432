//! Commits in a file: `git bundle`'s second version, made and taken in (gitformat-bundle(5)).
//!
//! ```text
//!   # v2 git bundle
//!   -<oid>                   what must be there before
//!   <oid> refs/heads/main    what is brought
//!   <oid> refs/tags/v1       annotated tags on it
//!
//!   PACK …
//! ```
//! libgit2 knows no bundles, but packs. What comes in is unpacked and looked through in a repository of
//! our own first, which has the branch as it stands; the desired repository gets it when everything is
//! known to fit, by compare-and-swap (FACTS: a path is never pushed to).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use git2::{Direction, ErrorClass, ErrorCode, FetchOptions, ObjectType, Oid, Repository};

use super::access::{Access, Credentials, proxy};
use super::place::Place;
use super::push::Pushed;
use super::{Timeouts, fault, locks, repo, room, setup};
use crate::ports::Fault;

const SIGNATURE: &str = "# v2 git bundle\n";
/// A bundle of ours has a branch, the tags on its newest commit, and at most one prerequisite.
const LINES_MAX: usize = 64;
/// More tags than that on one commit are not brought; the first by name are.
const TAGS_MAX: usize = 32;
const LINE_BYTES_MAX: usize = 4096;
/// The branch as it stands in the desired repository.
const THERE: &str = "refs/windlass/there";
/// Read from a bundle at once.
const PIECE: usize = 64 << 10;

/// Opens a repository on this machine, a clone or a bare one, to make a bundle of.
pub(crate) fn open(path: &Path) -> Result<Repository, Fault> {
    setup::prepare(&Timeouts::default())?;
    Repository::discover(path).map_err(|error| fault::sort(&error, path.display()))
}

/// Writes the commits that lead to `tip`, but for those that lead to `base`.
pub(crate) fn write(
    repo: &Repository,
    branch_ref: &str,
    tip: Oid,
    base: Option<Oid>,
    out: &mut impl Write,
) -> Result<(), Fault> {
    let sort = |error: git2::Error| fault::sort(&error, repo.path().display());
    let io = |error: io::Error| fault::sort_io(&error, "the commits can't be written");
    let mut head = SIGNATURE.to_owned();
    if let Some(base) = base {
        head.push_str(&format!("-{base}\n"));
    }
    head.push_str(&format!("{tip} {branch_ref}\n"));
    let tags = tags_on(repo, tip).map_err(sort)?;
    for (id, name) in &tags {
        head.push_str(&format!("{id} {name}\n"));
    }
    head.push('\n');
    out.write_all(head.as_bytes()).map_err(io)?;
    let mut walk = repo.revwalk().map_err(sort)?;
    walk.push(tip).map_err(sort)?;
    if let Some(base) = base {
        walk.hide(base).map_err(sort)?;
    }
    let mut builder = repo.packbuilder().map_err(sort)?;
    builder.set_threads(1);
    builder.insert_walk(&mut walk).map_err(sort)?;
    for (id, _) in &tags {
        builder.insert_object(*id, None).map_err(sort)?;
    }
    let mut failed = None;
    let packed = builder.foreach(|piece| match out.write_all(piece) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    match failed {
        Some(error) => Err(io(error)),
        None => packed.map_err(sort),
    }
}

/// The annotated tags on a commit, by their names.
fn tags_on(repo: &Repository, commit: Oid) -> Result<Vec<(Oid, String)>, git2::Error> {
    let all = repo::annotated(repo, "refs/tags/*")?;
    let on_it = all.filter(|(_, tag)| tag.target_id() == commit);
    let mut tags: Vec<(Oid, String)> = on_it
        .filter_map(|(reference, tag)| Some((tag.id(), reference.name().ok()?.to_owned())))
        .collect();
    tags.sort_by(|one, other| one.1.cmp(&other.1));
    tags.truncate(TAGS_MAX);
    Ok(tags)
}

/// What stands before a bundle's pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// What must be there before.
    pub(crate) prerequisites: Vec<Oid>,
    /// What is brought, by name.
    pub(crate) refs: Vec<(Oid, String)>,
}

/// Reads what stands before the pack; what is left to read is the pack.
pub(crate) fn head(input: &mut impl Read) -> Result<Head, String> {
    let mut head = Head::default();
    for number in 0..LINES_MAX {
        let line = line(input)?;
        if number == 0 {
            if line != SIGNATURE.trim_end() {
                return Err("it does not begin as a Git bundle of version 2".into());
            }
        } else if line.is_empty() {
            return Ok(head);
        } else {
            let (id, name) = match line.strip_prefix('-') {
                Some(rest) => (rest.split(' ').next().unwrap_or_default(), None),
                None => {
                    let (id, name) = line.split_once(' ').ok_or("a line of its head is neither")?;
                    (id, Some(name))
                }
            };
            let id = Some(id).filter(|id| id.len() == 40).and_then(|id| Oid::from_str(id).ok());
            let id = id.ok_or("a line of its head has no id of a commit")?;
            match name {
                Some(name) => head.refs.push((id, name.to_owned())),
                None => head.prerequisites.push(id),
            }
        }
    }
    Err("its head does not end".into())
}

fn line(input: &mut impl Read) -> Result<String, String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE_BYTES_MAX {
        input.read_exact(&mut byte).map_err(|error| format!("it ends in its head: {error}"))?;
        if byte[0] == b'\n' {
            return String::from_utf8(line).map_err(|_| "its head is no text".into());
        }
        line.push(byte[0]);
    }
    Err("a line of its head is too long".into())
}

impl Head {
    /// The tags that are brought, if nothing else is but the commit on its branch.
    pub(crate) fn tags(&self, tip: Oid, branch_ref: &str) -> Option<Vec<(Oid, String)>> {
        let (branch, tags) = self.refs.split_first()?;
        let is_tag =
            |name: &str| name.starts_with("refs/tags/") && git2::Reference::is_valid_name(name);
        let is_right = (branch.0, branch.1.as_str()) == (tip, branch_ref)
            && tags.iter().all(|(_, name)| is_tag(name));
        is_right.then(|| tags.to_vec())
    }
}

/// What the desired repository has.
#[derive(Debug, Default)]
pub(crate) struct There {
    /// Where the branch stands; none if it is not there yet.
    pub(crate) tip: Option<Oid>,
    /// Its tags.
    tags: BTreeMap<String, Oid>,
}

impl There {
    /// Those of these tags that it lacks; an error if it has another of the same name.
    pub(crate) fn lacks(&self, tags: &[(Oid, String)]) -> Result<Vec<(Oid, String)>, Fault> {
        let mut lacking = Vec::new();
        for (id, name) in tags {
            match self.tags.get(name) {
                None => lacking.push((*id, name.clone())),
                Some(own) if own == id => {}
                Some(own) => {
                    return Err(Fault::stalled(format!(
                        "{name} is {own} there, and {id} in the bundle: a tag is not moved by a bundle"
                    )));
                }
            }
        }
        Ok(lacking)
    }
}

/// How a commit stands to a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The branch is there.
    There,
    /// The branch was there and has gone on.
    Past,
    /// The branch gets there by going on.
    Ahead,
    /// Neither comes from the other.
    Aside,
}

/// The desired repository, as somebody meets it who brings commits.
pub(crate) struct Landing {
    access: Access,
    branch_ref: String,
    /// A repository of our own, in which everything is looked through.
    quay: PathBuf,
}

impl Landing {
    /// Opens the way to a branch of the repository at `url`. What comes in is looked through at `quay`, which
    /// nobody else may be using.
    pub(crate) fn open(
        url: &str,
        branch_ref: &str,
        credentials: Credentials,
        quay: PathBuf,
    ) -> Result<Self, Fault> {
        setup::prepare(&Timeouts::default())?;
        let mut home = quay.as_os_str().to_owned();
        home.push(".home");
        let access = Access::new(Place::parse(url)?, credentials, home.into())?;
        repo::open_or_make(&quay)?;
        locks::clear(&quay);
        Ok(Self { access, branch_ref: branch_ref.to_owned(), quay })
    }

    fn quay(&self) -> Result<Repository, Fault> {
        repo::open(&self.quay)
    }

    /// What is there now. The branch's commits come to the quay.
    pub(crate) fn look(&self) -> Result<There, Fault> {
        let quay = self.quay()?;
        room::check(&self.quay, 0)?;
        let address = self.access.place.to_string();
        let (has_branch, tags) = self.access.connected(|notes| {
            let explain = |error: git2::Error| notes.explain(&error, &self.access.place);
            let mut remote = quay.remote_anonymous(&address).map_err(explain)?;
            let callbacks = self.access.callbacks(notes);
            let line = remote.connect_auth(Direction::Fetch, Some(callbacks), Some(proxy()));
            let line = line.map_err(explain)?;
            let heads = line.list().map_err(explain)?;
            // What a tag is on stands behind it, as another name that ends in `^{}`.
            let tags = heads.iter().filter(|head| head.name().starts_with("refs/tags/"));
            let tags: BTreeMap<String, Oid> =
                tags.map(|head| (head.name().to_owned(), head.oid())).collect();
            Ok::<_, Fault>((heads.iter().any(|head| head.name() == self.branch_ref), tags))
        })?;
        if !has_branch {
            return Ok(There { tip: None, tags });
        }
        // Anew: a secret is offered once to each line.
        self.access.connected(|notes| {
            let explain = |error: git2::Error| notes.explain(&error, &self.access.place);
            let mut remote = quay.remote_anonymous(&address).map_err(explain)?;
            let mut options = FetchOptions::new();
            options
                .remote_callbacks(self.access.fetching(notes, &self.quay))
                .proxy_options(proxy())
                .download_tags(git2::AutotagOption::None);
            let spec = format!("+{}:{THERE}", self.branch_ref);
            remote.fetch(&[&spec], Some(&mut options), None).map_err(explain)?;
            let tip = repo::target(&quay, THERE);
            let tip = tip.map_err(|error| fault::sort(&error, self.quay.display()))?;
            Ok(There { tip, tags: tags.clone() })
        })
    }

    /// Whether a commit is at the quay, with all its history as far as the branch has it.
    pub(crate) fn has(&self, commit: Oid) -> Result<bool, Fault> {
        Ok(self.quay()?.find_commit(commit).is_ok())
    }

    /// How a commit at the quay stands to where the branch stands.
    pub(crate) fn standing(&self, commit: Oid, there: Option<Oid>) -> Result<Standing, Fault> {
        let quay = self.quay()?;
        let Some(there) = there else { return Ok(Standing::Ahead) };
        if there == commit {
            return Ok(Standing::There);
        }
        let descends = |one, from| {
            quay.graph_descendant_of(one, from)
                .map_err(|error| fault::sort(&error, self.quay.display()))
        };
        Ok(match (descends(there, commit)?, descends(commit, there)?) {
            (true, _) => Standing::Past,
            (false, true) => Standing::Ahead,
            (false, false) => Standing::Aside,
        })
    }

    /// Unpacks a bundle's commits at the quay and sees to it that all of `tip` is there, and that its tags
    /// are on it.
    pub(crate) fn unload(
        &self,
        bundle: &mut impl Read,
        tip: Oid,
        tags: &[(Oid, String)],
    ) -> Result<(), Fault> {
        let quay = self.quay()?;
        unpack(&quay, bundle)?;
        for (id, name) in tags {
            let named = name.strip_prefix("refs/tags/");
            let is_on_it = quay
                .find_tag(*id)
                .is_ok_and(|tag| tag.target_id() == tip && tag.name().ok() == named);
            if !is_on_it {
                return Err(Fault::stalled(format!("{name} is no tag of this name on the commit")));
            }
        }
        is_whole(&quay, tip).map_err(|error| {
            Fault::stalled(format!("the commits are not whole: {}", error.message()))
        })
    }

    /// Brings the branch to `tip`, which is at the quay, if it still stands at `there`; these tags first, so
    /// that who sees the commit finds them.
    pub(crate) fn land(
        &self,
        bundle: &mut impl Read,
        tip: Oid,
        there: Option<Oid>,
        tags: &[(Oid, String)],
    ) -> Result<(), Fault> {
        match self.access.place.path() {
            Some(path) => self.land_here(path, bundle, (tip, there), tags),
            None => {
                for (id, name) in tags {
                    self.push(name, *id, None)?;
                }
                match there == Some(tip) {
                    true => Ok(()),
                    false => self.push(&self.branch_ref, tip, there),
                }
            }
        }
    }

    fn land_here(
        &self,
        path: &Path,
        bundle: &mut impl Read,
        (tip, there): (Oid, Option<Oid>),
        tags: &[(Oid, String)],
    ) -> Result<(), Fault> {
        let theirs = repo::open(path)?;
        if !theirs.is_bare() && theirs.head().is_ok_and(|head| head.name() == Ok(&*self.branch_ref))
        {
            return Err(Fault::stalled(format!(
                "{} has a work tree that stands on {}: it would lag behind. Name a bare repository.",
                path.display(),
                self.branch_ref
            )));
        }
        let lacks_tag = |(id, _): &(Oid, String)| theirs.find_tag(*id).is_err();
        if theirs.find_commit(tip).is_err() || tags.iter().any(lacks_tag) {
            unpack(&theirs, bundle)?;
        }
        let sort = |error: git2::Error| fault::sort(&error, path.display());
        is_whole(&theirs, tip).map_err(sort)?;
        for (id, name) in tags {
            let set = || theirs.reference(name, *id, false, "windlass bundle").map(|_| ());
            locks::past(theirs.path(), name, locks::STALE_AMONG_OTHERS, set).map_err(sort)?;
        }
        if there == Some(tip) {
            return Ok(());
        }
        let old = there.unwrap_or(Oid::ZERO_SHA1);
        let name = &self.branch_ref;
        let moved = locks::past(theirs.path(), name, locks::STALE_AMONG_OTHERS, || {
            theirs.reference_matching(name, tip, true, old, "windlass bundle").map(|_| ())
        });
        moved.map_err(|error| match error.code() {
            ErrorCode::Modified => moved_on(name),
            _ => sort(error),
        })
    }

    fn push(&self, name: &str, id: Oid, there: Option<Oid>) -> Result<(), Fault> {
        let place = &self.access.place;
        match self.access.push(&self.quay()?, &format!("{id}:{name}"), there) {
            Pushed::Accepted => Ok(()),
            Pushed::Conflict(_) => Err(moved_on(name)),
            Pushed::Rejected(why) => {
                Err(Fault::stalled(format!("{place} does not take {name}: {why}")))
            }
            // Whatever is said of a push, the ref says whether it took effect.
            Pushed::Failed { fault, sent } => {
                let stands = |there: There| match name == self.branch_ref {
                    true => there.tip,
                    false => there.tags.get(name).copied(),
                };
                match sent && stands(self.look()?) == Some(id) {
                    true => Ok(()),
                    false => Err(fault),
                }
            }
        }
    }
}

fn moved_on(branch_ref: &str) -> Fault {
    Fault::transient(format!("{branch_ref} has moved while the bundle was read; try again"))
}

/// Puts a bundle's pack into a repository. Nothing points to it yet.
fn unpack(repo: &Repository, bundle: &mut impl Read) -> Result<(), Fault> {
    let head = head(bundle).map_err(|why| Fault::stalled(format!("the commits: {why}")))?;
    let sort = |error: git2::Error| fault::sort(&error, "the commits can't be unpacked");
    let odb = repo.odb().map_err(sort)?;
    if let Some(missing) = head.prerequisites.iter().find(|id| !odb.exists(**id)) {
        return Err(Fault::not_found(format!("commit {missing}, on which they build, is missing")));
    }
    let mut writer = odb.packwriter().map_err(sort)?;
    let mut meter = room::Meter::new(repo.path());
    let mut buffer = vec![0; PIECE];
    loop {
        let count = bundle
            .read(&mut buffer)
            .map_err(|error| fault::sort_io(&error, "the commits can't be read"))?;
        if count == 0 {
            break;
        }
        meter.add(count)?;
        let written = writer.write_all(&buffer[..count]);
        // git2 hides libgit2's error behind one that says nothing.
        written.map_err(|_| sort(git2::Error::last_error(-1)))?;
    }
    writer.commit().map_err(sort)?;
    drop(writer);
    odb.refresh().map_err(sort)
}

/// Walks everything that a commit reaches. Trees that were walked are not walked again, so what it costs
/// is one look at each object: a bundle is rare.
fn is_whole(repo: &Repository, tip: Oid) -> Result<(), git2::Error> {
    let odb = repo.odb()?;
    let mut walk = repo.revwalk()?;
    walk.push(tip)?;
    let mut seen = std::collections::BTreeSet::new();
    for id in walk {
        let mut trees = vec![repo.find_commit(id?)?.tree_id()];
        while let Some(id) = trees.pop() {
            if !seen.insert(id) {
                continue;
            }
            for entry in &repo.find_tree(id)? {
                match entry.kind() {
                    Some(ObjectType::Tree) => trees.push(entry.id()),
                    Some(ObjectType::Blob)
                        if seen.insert(entry.id()) && !odb.exists(entry.id()) =>
                    {
                        let why = format!("object {} is missing", entry.id());
                        return Err(git2::Error::new(ErrorCode::NotFound, ErrorClass::Odb, why));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const BRANCH: &str = "refs/heads/main";

    fn git(dir: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(dir)
            .args(["-c", "user.name=ada", "-c", "user.email=ada@example.org"])
            .args(args)
            .output()
            .expect("git runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A repository with three commits; their ids.
    fn source() -> (tempfile::TempDir, Vec<Oid>) {
        let dir = tempfile::tempdir().expect("a directory");
        git(dir.path(), &["init", "-q", "-b", "main"]);
        let commits = (0..3).map(|number| {
            std::fs::create_dir_all(dir.path().join("d")).expect("made");
            std::fs::write(dir.path().join(format!("d/{number}")), [b'x'; 999]).expect("written");
            git(dir.path(), &["add", "-A"]);
            git(dir.path(), &["commit", "-q", "-m", "more"]);
            Oid::from_str(&git(dir.path(), &["rev-parse", "HEAD"])).expect("an id")
        });
        let commits = commits.collect();
        (dir, commits)
    }

    fn bundle(dir: &Path, tip: Oid, base: Option<Oid>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&open(dir).expect("opens"), BRANCH, tip, base, &mut bytes).expect("written");
        bytes
    }

    /// A bare repository that bundles land in.
    fn landing() -> (tempfile::TempDir, Landing) {
        let dir = tempfile::tempdir().expect("a directory");
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "there.git"]);
        let there = dir.path().join("there.git").display().to_string();
        let quay = dir.path().join("quay.git");
        let landing = Landing::open(&there, BRANCH, Credentials::default(), quay).expect("opens");
        (dir, landing)
    }

    fn take(landing: &Landing, bytes: &[u8], tip: Oid) -> Result<Standing, Fault> {
        let there = landing.look()?;
        let head = head(&mut &bytes[..]).expect("has a head");
        let tags = there.lacks(&head.tags(tip, BRANCH).expect("one branch and tags"))?;
        landing.unload(&mut &bytes[..], tip, &tags)?;
        let standing = landing.standing(tip, there.tip)?;
        if standing == Standing::Ahead || !tags.is_empty() {
            landing.land(&mut &bytes[..], tip, there.tip, &tags)?;
        }
        Ok(standing)
    }

    #[test]
    fn git_reads_what_is_written_and_its_own_is_taken() {
        let (dir, commits) = source();
        for base in [None, Some(commits[0])] {
            std::fs::write(dir.path().join("x.bundle"), bundle(dir.path(), commits[2], base))
                .expect("written");
            git(dir.path(), &["bundle", "verify", "-q", "x.bundle"]);
            let heads = git(dir.path(), &["bundle", "list-heads", "x.bundle"]);
            assert_eq!(heads, format!("{} {BRANCH}", commits[2]));
        }
        git(dir.path(), &["bundle", "create", "-q", "--version=2", "theirs.bundle", "main"]);
        let theirs = std::fs::read(dir.path().join("theirs.bundle")).expect("read");
        let (there, landing) = landing();
        assert_eq!(take(&landing, &theirs, commits[2]).expect("taken"), Standing::Ahead);
        let now = git(&there.path().join("there.git"), &["rev-parse", "main"]);
        assert_eq!(now, commits[2].to_string());
        git(&there.path().join("there.git"), &["fsck", "--strict"]);
    }

    /// Fleets may ask for a signed tag on the newest commit.
    #[test]
    fn tags_on_the_newest_commit_come_along() {
        let (dir, commits) = source();
        let tag = |name: &str, on: Oid| {
            git(dir.path(), &["tag", "-a", "-f", "-m", "x", name, &on.to_string()]);
            git(dir.path(), &["rev-parse", name])
        };
        tag("v1", commits[1]);
        git(dir.path(), &["tag", "plain", &commits[2].to_string()]);
        let (there, landing) = landing();
        let there = there.path().join("there.git");
        let bare = bundle(dir.path(), commits[2], None);
        assert_eq!(take(&landing, &bare, commits[2]).expect("taken"), Standing::Ahead);
        assert_eq!(git(&there, &["tag", "--list"]), "");
        // The tag comes later than its commit, by a bundle of which nothing else is new.
        let second = tag("v2", commits[2]);
        let tagged = bundle(dir.path(), commits[2], None);
        std::fs::write(dir.path().join("x.bundle"), &tagged).expect("written");
        let heads = git(dir.path(), &["bundle", "list-heads", "x.bundle"]);
        assert_eq!(heads, format!("{} {BRANCH}\n{second} refs/tags/v2", commits[2]));
        assert_eq!(take(&landing, &tagged, commits[2]).expect("taken"), Standing::There);
        assert_eq!(git(&there, &["rev-parse", "v2"]), second);
        git(&there, &["fsck", "--strict"]);
        take(&landing, &tagged, commits[2]).expect("nothing to do");
        // One that was moved there stays where it is.
        git(&there, &["tag", "-f", "-a", "-m", "y", "v2", &commits[0].to_string()]);
        let fault = take(&landing, &tagged, commits[2]).expect_err("is another");
        assert!(fault.message.contains("a tag is not moved by a bundle"), "{fault}");
        // Nor does a name in the head make a tag of something else.
        let other = Head {
            refs: vec![(commits[2], BRANCH.into()), (commits[0], "refs/tags/v9".into())],
            ..Head::default()
        };
        let tags = other.tags(commits[2], BRANCH).expect("by their names");
        let fault = landing.unload(&mut &bare[..], commits[2], &tags).expect_err("is none");
        assert!(fault.message.contains("refs/tags/v9 is no tag"), "{fault}");
        for refs in [vec![(commits[2], "refs/heads/x".into())], vec![]] {
            assert_eq!(Head { refs, ..Head::default() }.tags(commits[2], BRANCH), None);
        }
    }

    #[test]
    fn a_branch_only_goes_on() {
        let (dir, commits) = source();
        let (there, landing) = landing();
        let part = bundle(dir.path(), commits[2], Some(commits[1]));
        let fault = take(&landing, &part, commits[2]).expect_err("its base is missing");
        assert_eq!(fault.kind, crate::ports::FaultKind::NotFound);
        let first = bundle(dir.path(), commits[1], None);
        assert_eq!(take(&landing, &first, commits[1]).expect("taken"), Standing::Ahead);
        assert_eq!(take(&landing, &part, commits[2]).expect("taken"), Standing::Ahead);
        assert_eq!(take(&landing, &part, commits[2]).expect("nothing to do"), Standing::There);
        assert_eq!(take(&landing, &first, commits[1]).expect("nothing is done"), Standing::Past);
        // Another way from the first commit.
        git(dir.path(), &["checkout", "-q", "-b", "other", &commits[0].to_string()]);
        git(dir.path(), &["commit", "-q", "--allow-empty", "-m", "aside"]);
        let aside = Oid::from_str(&git(dir.path(), &["rev-parse", "HEAD"])).expect("an id");
        let other = bundle(dir.path(), aside, None);
        assert_eq!(take(&landing, &other, aside).expect("looked at"), Standing::Aside);
        // Whoever looked before somebody else pushed lands nowhere.
        let fault = landing.land(&mut &part[..], commits[2], Some(commits[0]), &[]);
        let fault = fault.expect_err("moved");
        assert!(fault.message.contains("has moved"), "{fault}");
        assert_eq!(
            git(&there.path().join("there.git"), &["rev-parse", "main"]),
            commits[2].to_string()
        );
    }

    #[test]
    fn locks_of_who_was_killed_stand_in_nobodys_way() {
        let (dir, commits) = source();
        let (there, first) = landing();
        let bytes = bundle(dir.path(), commits[0], None);
        take(&first, &bytes, commits[0]).expect("taken");
        assert_eq!(first.look().expect("looked").tip, Some(commits[0]));
        // The branch goes on, so that the quay's copy has to follow it.
        let more = bundle(dir.path(), commits[1], Some(commits[0]));
        take(&first, &more, commits[1]).expect("taken");
        let theirs = there.path().join("there.git");
        let quay = there.path().join("quay.git");
        git(dir.path(), &["tag", "-a", "-m", "x", "v1", &commits[2].to_string()]);
        for lock in [
            theirs.join(format!("{BRANCH}.lock")),
            theirs.join("refs/tags/v1.lock"),
            quay.join(format!("{THERE}.lock")),
        ] {
            std::fs::write(lock, "").expect("left");
        }
        let again =
            Landing::open(&theirs.display().to_string(), BRANCH, Credentials::default(), quay);
        let next = bundle(dir.path(), commits[2], Some(commits[1]));
        let standing = take(&again.expect("opens"), &next, commits[2]).expect("taken");
        assert_eq!(standing, Standing::Ahead);
        assert_eq!(git(&theirs, &["rev-parse", "main"]), commits[2].to_string());
        assert_eq!(git(&theirs, &["rev-parse", "v1^{commit}"]), commits[2].to_string());
    }

    #[test]
    fn a_pack_that_lacks_something_is_not_whole() {
        let (dir, commits) = source();
        let repo = open(dir.path()).expect("opens");
        // The commit and its tree, without what is in it.
        let mut builder = repo.packbuilder().expect("a builder");
        builder.insert_object(commits[0], None).expect("inserted");
        let tree = repo.find_commit(commits[0]).expect("a commit").tree_id();
        builder.insert_object(tree, None).expect("inserted");
        let mut bytes = format!("{SIGNATURE}{} {BRANCH}\n\n", commits[0]).into_bytes();
        builder
            .foreach(|piece| {
                bytes.extend(piece);
                true
            })
            .expect("packed");
        let (_there, landing) = landing();
        let fault = take(&landing, &bytes, commits[0]).expect_err("is not whole");
        assert!(fault.message.contains("not whole"), "{fault}");
        assert_eq!(landing.look().expect("looked").tip, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_head_brings_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..120) {
            let _ = head(&mut &bytes[..]);
            let good = format!("{SIGNATURE}-{} x\n{} {BRANCH}\n\nPACK", "1".repeat(40), "2".repeat(40));
            let mut mixed = good.as_bytes()[..cut.min(good.len())].to_vec();
            mixed.extend(&bytes);
            let _ = head(&mut &mixed[..]);
            let read = head(&mut good.as_bytes()).expect("is one");
            prop_assert_eq!((read.prerequisites.len(), read.refs.len()), (1, 1));
        }
    }
}
