//! Taking a bundle in.
//!
//! ```text
//!   seal, page ─▶ is its base here? is there room? ─▶ first reading: every byte
//!       ─▶ the commits, at the quay: whole? does the branch go on to them?
//!       ─▶ second reading: blobs into the store, each checked again ─▶ the store's page
//!       ─▶ the branch, by compare-and-swap
//! ```
//! Up to the second reading nothing is changed but the quay, a repository of our own. What comes after
//! may be cut off anywhere: blobs that have come are not taken again, and the branch moves last.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Seek as _, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use git2::Oid;

use super::Refused;
use super::frame::{Opened, Sink};
use super::index::{COMMITS, Index, Part};
use super::pieces::{self, Pieces};
use super::prune;
use super::sign::{Signed, Signers};
use crate::adapters::git::bundle::{self, Landing, Standing, There};
use crate::adapters::git::{Credentials, local_path};
use crate::adapters::images::layout::{self, Document, INDEX_FILE};
use crate::adapters::images::store::{Coming, Store, room};
use crate::kinds::digest::Digest;
use crate::ports::{Fault, FaultKind};

/// Where a bundle is to go.
pub struct Target {
    /// The images directory of this node.
    pub images: PathBuf,
    /// The desired repository; none if only images are to be taken.
    pub desired: Option<Desired>,
    /// What is kept while it is taken: commits on trial, and a lock.
    pub workshop: PathBuf,
}

/// The desired repository.
pub struct Desired {
    /// Its address.
    pub url: String,
    /// Its branch.
    pub branch: String,
    /// What opens it for writing.
    pub credentials: Credentials,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes of so many are checked.
    Checking(u64, u64),
    /// So many bytes of so many are taken.
    Taking(u64, u64),
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What was in it.
    pub index: Index,
    /// Who has sealed it.
    pub signed: Signed,
    /// Blobs that were not here.
    pub blobs: usize,
    /// Whether the branch has moved.
    pub has_moved: bool,
}

/// Reads all of a bundle, and says whether it is what was sealed.
pub fn verify(
    path: &Path,
    trust: &Signers,
    tell: &mut dyn FnMut(Progress),
) -> Result<(Index, Signed), Refused> {
    let found = pieces::find(path)?;
    let (opened, signed) = Opened::open(Pieces::open(found), Some(trust))?;
    let total = opened.index.bytes();
    let index = opened.read(&mut super::frame::Nowhere, &mut |done| {
        tell(Progress::Checking(done, total));
    })?;
    let signed = signed.ok_or_else(|| Refused::damaged("nobody has signed it"))?;
    Ok((index, signed))
}

/// What a bundle builds on, and is not here: its seal is checked, nothing else.
pub fn missing(path: &Path, trust: &Signers, target: &Target) -> Result<Vec<Part>, Refused> {
    let (opened, _) = Opened::open(Pieces::open(pieces::find(path)?), Some(trust))?;
    let store = Store::in_images(&target.images);
    let mut required = opened.index.required;
    required.retain(|part| !store.has(&part.sha256, part.bytes));
    Ok(required)
}

/// Takes a bundle in, or refuses it whole.
pub fn apply(
    path: &Path,
    trust: &Signers,
    target: &Target,
    tell: &mut dyn FnMut(Progress),
) -> Result<Applied, Refused> {
    let disk = |error: io::Error| {
        Refused::new(format!("{}: {error}", target.workshop.display()), "check that disk")
    };
    let _lock = set_up(&target.workshop)?;
    let found = pieces::find(path)?;
    let (opened, signed) = Opened::open(Pieces::open(found.clone()), Some(trust))?;
    let signed = signed.ok_or_else(|| Refused::damaged("nobody has signed it"))?;
    let store = Store::in_images(&target.images);
    store.make().map_err(disk)?;
    check_architecture(&opened.index)?;
    check_required(&opened.index, &store)?;
    check_room(&opened.index, &store, target)?;
    let berth = target
        .desired
        .as_ref()
        .map(|desired| Berth::look(desired, &opened.index, &target.workshop));
    let berth = berth.transpose()?;

    let total = opened.index.bytes();
    let mut first = Trial::new(&target.workshop).map_err(disk)?;
    let (digest, sealed) = (opened.digest, opened.page.clone());
    let index = opened.read(&mut first, &mut |done| tell(Progress::Checking(done, total)))?;
    let landing = berth.map(|berth| berth.unload(&index, &mut first)).transpose()?;

    let (again, _) = Opened::open(Pieces::open(found), Some(trust))?;
    if again.digest != digest {
        return Err(Refused::damaged("it is another one than a moment ago"));
    }
    let mut second =
        Taking { store: &store, coming: None, blobs: 0, page: Vec::new(), is_page: false };
    again.read(&mut second, &mut |done| tell(Progress::Taking(done, total)))?;
    let (blobs, page) = (second.blobs, second.page);
    enter(&store, &page, landing.is_some())?;
    if landing.is_some() {
        prune::note(&target.workshop, &sealed).map_err(disk)?;
    }
    let has_moved = match landing {
        Some(berth) => berth.land(&mut first)?,
        None => false,
    };
    Ok(Applied { index, signed, blobs, has_moved })
}

/// Makes the workshop where it is missing, and locks it.
pub(super) fn set_up(workshop: &Path) -> Result<File, Refused> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(workshop);
    made.map_err(|error| {
        Refused::new(format!("{}: {error}", workshop.display()), "check that disk")
    })?;
    lock(workshop)
}

pub(crate) fn lock(workshop: &Path) -> Result<File, Refused> {
    let path = workshop.join("lock");
    let taken = |error: &dyn std::fmt::Display| {
        Refused::new(
            format!("{}: {error}", path.display()),
            "wait until the other bundle is taken in",
        )
    };
    let file = File::create(&path).map_err(|error| taken(&error))?;
    file.try_lock().map_err(|error| taken(&error))?;
    Ok(file)
}

fn check_architecture(index: &Index) -> Result<(), Refused> {
    let own = crate::adapters::docker::archive::ARCHITECTURE;
    if index.architecture == own || index.images.is_empty() {
        return Ok(());
    }
    Err(Refused::new(
        format!("its images are for {}, and this machine is {own}", index.architecture),
        "make a bundle on a machine of this kind",
    ))
}

fn check_required(index: &Index, store: &Store) -> Result<(), Refused> {
    let missing: Vec<&Part> =
        index.required.iter().filter(|part| !store.has(&part.sha256, part.bytes)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let base = index
        .base
        .as_ref()
        .map_or_else(String::new, |base| format!(" (commit {})", short(&base.commit)));
    Err(Refused::new(
        format!(
            "it builds on what was here before{base}, and {} of {} blobs of that are not here, nor with \
             any node that could be asked",
            missing.len(),
            index.required.len()
        ),
        "apply the earlier bundle on this node first (--images-only if the branch has gone on), make one \
         of what `windlass bundle report` says now, or one without --base",
    ))
}

/// What is going to be written, disk by disk: two directories on one share what it has free.
fn check_room(index: &Index, store: &Store, target: &Target) -> Result<(), Refused> {
    let new = index.blobs().filter(|part| !store.has(&part.sha256, part.bytes));
    let blobs: u64 = new.map(|part| part.bytes).sum();
    let commits: u64 =
        index.parts.iter().filter(|part| part.path == COMMITS).map(|part| part.bytes).sum();
    // Unpacked commits and their index take as much again.
    let mut wanted = vec![(store.dir(), blobs), (&*target.workshop, commits * 3)];
    let desired = target.desired.as_ref().and_then(|desired| local_path(&desired.url));
    wanted.extend(desired.iter().map(|path| (&**path, commits * 2)));
    room(&wanted).map_err(|why| Refused::new(why, "free some space there; nothing has been taken"))
}

/// An id as people say it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

/// What the first reading keeps: the commits, which are tried at the quay, and nothing else.
struct Trial {
    commits: File,
    is_commits: bool,
}

impl Trial {
    fn new(workshop: &Path) -> io::Result<Self> {
        let path = workshop.join("commits");
        let commits =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        // Nobody needs it when we are gone.
        fs::remove_file(&path)?;
        Ok(Self { commits, is_commits: false })
    }

    fn again(&mut self) -> io::Result<BufReader<&File>> {
        self.commits.rewind()?;
        Ok(BufReader::new(&self.commits))
    }
}

impl Sink for Trial {
    fn begin(&mut self, part: &Part) -> Result<(), Refused> {
        self.is_commits = part.path == COMMITS;
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Refused> {
        if self.is_commits {
            self.commits.write_all(piece).map_err(|error| full(&error))?;
        }
        Ok(())
    }

    fn end(&mut self, _: &Part) -> Result<(), Refused> {
        Ok(())
    }
}

fn full(error: &io::Error) -> Refused {
    Refused::new(
        format!("what is in the bundle can't be written: {error}"),
        "free some space on that disk and apply it again: what has come is not taken twice",
    )
}

/// The second reading: blobs that are missing, and the page of images.
struct Taking<'s> {
    store: &'s Store,
    coming: Option<Coming>,
    blobs: usize,
    page: Vec<u8>,
    is_page: bool,
}

impl Sink for Taking<'_> {
    fn begin(&mut self, part: &Part) -> Result<(), Refused> {
        self.is_page = part.path == INDEX_FILE;
        let is_new =
            part.path.starts_with(layout::BLOBS) && !self.store.has(&part.sha256, part.bytes);
        if is_new {
            self.coming =
                Some(self.store.receive(Some(part.sha256)).map_err(|error| full(&error))?);
        }
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Refused> {
        if self.is_page {
            self.page.extend(piece);
        }
        match &mut self.coming {
            Some(coming) => coming.write_all(piece).map_err(|error| full(&error)),
            None => Ok(()),
        }
    }

    fn end(&mut self, _: &Part) -> Result<(), Refused> {
        if let Some(coming) = self.coming.take() {
            coming.end().map_err(|error| full(&error))?;
            self.blobs += 1;
        }
        Ok(())
    }
}

/// Enters the bundle's images in the store's page. Who knows no branch can't tell whether the bundle is
/// an older one: then it takes no name from what is there.
fn enter(store: &Store, page: &[u8], is_newest: bool) -> Result<(), Refused> {
    let page: Document = serde_json::from_slice(page)
        .map_err(|error| Refused::damaged(format!("{INDEX_FILE}: {error}")))?;
    let images = page.manifests.unwrap_or_default();
    let entered = if is_newest { store.enter(images) } else { store.enter_beside(images) };
    entered.map_err(|error| full(&error))
}

/// The place where the commits are to land.
struct Berth {
    landing: Landing,
    there: There,
    tip: Oid,
    /// Tags that are not there yet.
    tags: Vec<(Oid, String)>,
    has_landed: bool,
}

impl Berth {
    /// Looks at the branch, and says early what can be said early.
    fn look(desired: &Desired, index: &Index, workshop: &Path) -> Result<Self, Refused> {
        if desired.branch != index.branch {
            return Err(Refused::new(
                format!(
                    "it brings on the branch {}, and the fleet follows {}",
                    index.branch, desired.branch
                ),
                "make the bundle with --branch, or set desired.branch in agent.yaml",
            ));
        }
        let reference = index.branch_ref();
        let credentials = desired.credentials.clone();
        let landing =
            Landing::open(&desired.url, &reference, credentials, workshop.join("quay.git"));
        let landing = landing.map_err(|fault| unreached(&fault))?;
        let there = landing.look().map_err(|fault| unreached(&fault))?;
        let tip = Oid::from_str(&index.commit).map_err(Refused::damaged)?;
        let berth = Self { landing, there, tip, tags: Vec::new(), has_landed: false };
        if berth.landing.has(tip).map_err(|fault| unreached(&fault))? {
            return berth.judge();
        }
        if let Some(base) = &index.base {
            let base = Oid::from_str(&base.commit).map_err(Refused::damaged)?;
            if !berth.landing.has(base).map_err(|fault| unreached(&fault))? {
                return Err(Refused::new(
                    format!(
                        "it builds on commit {}, which the desired repository does not have",
                        short(&base.to_string())
                    ),
                    "apply the bundle that brings that commit first, or make one without --base",
                ));
            }
        }
        Ok(berth)
    }

    /// How the branch stands to the commit, now that it is at the quay.
    fn judge(mut self) -> Result<Self, Refused> {
        let standing = self.landing.standing(self.tip, self.there.tip);
        let (tip, there) =
            (self.tip.to_string(), self.there.tip.map(|id| id.to_string()).unwrap_or_default());
        match standing.map_err(|fault| unreached(&fault))? {
            Standing::Ahead => {}
            Standing::There => self.has_landed = true,
            Standing::Past => {
                return Err(Refused::new(
                    format!(
                        "it is older than what the fleet has: the branch was at its commit {} and has gone on to {}",
                        short(&tip),
                        short(&there)
                    ),
                    "nothing is set back by a bundle; go back by a revert, and --images-only takes its \
                     images alone",
                ));
            }
            Standing::Aside => {
                return Err(Refused::new(
                    format!(
                        "the branch has commit {}, which does not lead to the bundle's {}",
                        short(&there),
                        short(&tip)
                    ),
                    "bring the branch's own commits to where bundles are made, merge them there, and make \
                     another",
                ));
            }
        }
        Ok(self)
    }

    /// Tries the commits.
    fn unload(mut self, index: &Index, trial: &mut Trial) -> Result<Self, Refused> {
        let damaged = |error: io::Error| Refused::damaged(format!("{COMMITS}: {error}"));
        let head = bundle::head(&mut trial.again().map_err(damaged)?);
        let head = head.map_err(|why| Refused::damaged(format!("{COMMITS}: {why}")))?;
        let Some(tags) = head.tags(self.tip, &index.branch_ref()) else {
            return Err(Refused::damaged(format!(
                "{COMMITS} brings another commit than its page says"
            )));
        };
        self.tags = self.there.lacks(&tags).map_err(|fault| {
            Refused::new(
                format!("the desired repository: {fault}"),
                "remove that tag there if the bundle's is right, and apply it again",
            )
        })?;
        if self.has_landed && self.tags.is_empty() {
            return Ok(self);
        }
        let mut commits = trial.again().map_err(damaged)?;
        self.landing.unload(&mut commits, self.tip, &self.tags).map_err(|fault| {
            match fault.kind {
                FaultKind::NotFound => Refused::new(
                    format!("its commits do not fit: {fault}"),
                    "apply the bundle that brings what is missing first",
                ),
                _ => unreached(&fault),
            }
        })?;
        self.judge()
    }

    /// Moves the branch, and sets its tags; whether anything had to be done.
    fn land(self, trial: &mut Trial) -> Result<bool, Refused> {
        if self.has_landed && self.tags.is_empty() {
            return Ok(false);
        }
        let mut commits = trial.again().map_err(|error| full(&error))?;
        self.landing.land(&mut commits, self.tip, self.there.tip, &self.tags).map_err(|fault| {
            Refused::new(
                format!("its images are taken, and its commits are not: {fault}"),
                "apply it again when that is mended: what has come is not taken twice",
            )
        })?;
        Ok(true)
    }
}

pub(super) fn unreached(fault: &Fault) -> Refused {
    Refused::new(
        format!("the desired repository: {fault}"),
        "check desired.url in agent.yaml and the credentials; --images-only needs no repository",
    )
}

/// What a bundle says of itself, without a word on whether it is true.
pub fn page(path: &Path) -> Result<(Index, Digest, Vec<u8>, Vec<u8>), Refused> {
    let found = pieces::find(path)?;
    let (opened, _) = Opened::open(Pieces::open(found), None)?;
    Ok((opened.index, opened.digest, opened.page, opened.seal))
}
