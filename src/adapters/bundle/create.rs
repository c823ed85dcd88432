//! Making a bundle.
//!
//! ```text
//!   images ─▶ <file>.work/, a store: a blob is there or not, so a second run goes on where one ended
//!   commits ─▶ <file>.work/commits.bundle
//!   the page ─▶ the seal ─▶ <file>, or pieces of it; then the work directory goes
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use git2::Oid;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::bill;
use super::frame::{self, Opened};
use super::index::{Base, COMMITS, INDEX, Index, Named, Packed, Part, SEAL, bill_path};
use super::pieces::{self, Cutter, Pieces};
use super::sign::{self, Signers};
use super::{NAMESPACE, Refused, report};
use crate::adapters::git::{bundle, write_file};
use crate::adapters::images::layout::{INDEX_FILE, LAYOUT_FILE, blob_path};
use crate::adapters::images::sources::{Sources, Taken, Yard};
use crate::adapters::images::store::Store;
use crate::kinds::digest::Digest;
use crate::kinds::image::Reference;

/// What a second run need not do again.
const TAKEN: &str = "taken.json";

/// What is to go into a bundle.
pub struct Order {
    /// The desired repository on this machine.
    pub repository: PathBuf,
    /// The branch that it brings on.
    pub branch: String,
    /// Where it brings it.
    pub commit: String,
    /// The images that manifests name.
    pub images: Vec<Reference>,
    /// An earlier bundle, or a report of what the fleet has: blobs and commits that are not sent again.
    pub base: Option<PathBuf>,
    /// Who may have sealed that bundle.
    pub trust: Option<Signers>,
    /// A commit that is there already, where there is no earlier bundle.
    pub base_commit: Option<String>,
    /// Where images come from.
    pub sources: Sources,
    /// The private key, or the public one of a key that an agent has.
    pub key: PathBuf,
    /// The file.
    pub out: PathBuf,
    /// The longest piece.
    pub piece_bytes: Option<u64>,
    /// When it is made, for people.
    pub created: String,
    /// Whether it is to have bills of materials. Then layers that the base has are fetched too, to be read.
    pub has_bills: bool,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An image, of so many, comes from there.
    Image(usize, usize, String),
    /// The packages of so many images, of so many, are listed.
    Listing(usize, usize),
    /// So many bytes of so many are written.
    Writing(u64, u64),
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What is in it.
    pub index: Index,
    /// The files it is in.
    pub files: Vec<PathBuf>,
}

/// What an earlier run has taken.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    /// For another base other things were left out.
    base: Option<Digest>,
    images: BTreeMap<String, Taken>,
    packed: Vec<Packed>,
}

/// Makes a bundle.
pub async fn create(
    order: &Order,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Made, Refused> {
    let mut index = Index::new(&order.branch, &order.commit, order.created.clone());
    let base = order.base.as_deref().map(|path| read_base(path, order)).transpose()?;
    index.base = match (&base, &order.base_commit) {
        (Some(ground), _) => Some(Base { commit: ground.commit.clone(), bundle: ground.bundle }),
        (None, Some(commit)) => Some(Base { commit: commit.clone(), bundle: None }),
        (None, None) => None,
    };
    let work = work_dir(&order.out);
    let store = Store::at(work.clone());
    store.make().map_err(|error| disk(&work, &error))?;
    write_commits(order, &index, &work)?;

    let mut record = remembered(&work, base.as_ref().map(|ground| ground.digest));
    let (base_blobs, base_packed) =
        base.map(|ground| (ground.blobs, ground.packed)).unwrap_or_default();
    let packed = base_packed.iter().chain(&record.packed);
    let packed = packed.map(|packed| (packed.diff_id, packed.clone())).collect();
    let mut yard = Yard { store: &store, base: base_blobs, packed, reads_all: order.has_bills };
    let taken = take_images(order, &mut record, &mut yard, &work, tell).await?;
    store
        .enter(taken.iter().map(|image| image.entry.clone()).collect())
        .map_err(|e| disk(&work, &e))?;

    for (name, image) in order.images.iter().zip(&taken) {
        let manifest = image.entry.digest().map_err(Refused::damaged)?;
        let bytes = image.blobs.values().sum();
        index.images.push(Named { name: name.to_string(), manifest, bytes });
    }
    let needed: BTreeMap<Digest, u64> =
        taken.iter().flat_map(|image| image.blobs.clone()).collect();
    let mut files = [COMMITS, LAYOUT_FILE, INDEX_FILE].map(str::to_owned).to_vec();
    if order.has_bills {
        files.extend(write_bills(order, &index, &taken, &store, tell)?);
    }
    for path in files {
        index.parts.push(weigh(&work, &path)?);
    }
    // Manifests and configs stand before layers: whoever looks into it finds them soon.
    let mut blobs: Vec<(u64, Digest)> =
        needed.iter().map(|(digest, bytes)| (*bytes, *digest)).collect();
    blobs.sort();
    for (bytes, sha256) in blobs {
        let part = Part { path: blob_path(&sha256), bytes, sha256 };
        if yard.base.contains_key(&sha256) {
            index.required.push(part);
        } else {
            index.parts.push(part);
        }
    }
    let packed = yard.packed.into_values();
    index.packed = packed.filter(|packed| needed.contains_key(&packed.blob)).collect();
    let files = write(order, &index, &work, tell)?;
    fs::remove_dir_all(&work).map_err(|error| disk(&work, &error))?;
    Ok(Made { index, files })
}

fn disk(path: &Path, error: &dyn std::fmt::Display) -> Refused {
    Refused::new(
        format!("{}: {error}", path.display()),
        "mend that and run it again: what has been gathered is kept",
    )
}

/// Where a bundle is gathered.
fn work_dir(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".work");
    PathBuf::from(name)
}

/// What a bundle builds on.
struct Ground {
    branch: String,
    commit: String,
    /// The bundle it is, if it is one.
    bundle: Option<Digest>,
    /// Of the file that says so.
    digest: Digest,
    blobs: BTreeMap<Digest, u64>,
    packed: Vec<Packed>,
}

fn read_base(path: &Path, order: &Order) -> Result<Ground, Refused> {
    let ground = match report::read(path)? {
        Some(_) if order.trust.is_some() => {
            return Err(Refused::new(
                format!("{} is a report, which bears no seal", path.display()),
                "leave --signers away: what a wrong report leads to, the fleet refuses",
            ));
        }
        Some((held, digest)) => Ground {
            branch: held.branch,
            commit: held.commit,
            bundle: None,
            digest,
            blobs: held.blobs,
            // What a layer was packed to, only what is sealed may say.
            packed: Vec::new(),
        },
        None => {
            let found = pieces::find(path)?;
            let (opened, _) = Opened::open(Pieces::open(found), order.trust.as_ref())?;
            let blobs = opened.index.blobs().chain(&opened.index.required);
            let blobs = blobs.map(|part| (part.sha256, part.bytes)).collect();
            let digest = opened.digest;
            let Index { branch, commit, packed, .. } = opened.index;
            Ground { branch, commit, bundle: Some(digest), digest, blobs, packed }
        }
    };
    if ground.branch != order.branch {
        return Err(Refused::new(
            format!("the base is of the branch {}, not {}", ground.branch, order.branch),
            "name a base of the same branch",
        ));
    }
    Ok(ground)
}

fn write_commits(order: &Order, index: &Index, work: &Path) -> Result<(), Refused> {
    let wrong = |why: &dyn std::fmt::Display| {
        Refused::new(format!("the desired repository: {why}"), "name a clone of it: --repo DIR")
    };
    let repo = bundle::open(&order.repository).map_err(|fault| wrong(&fault))?;
    let tip = Oid::from_str(&index.commit).map_err(|error| wrong(&error))?;
    let base = index.base.as_ref().map(|base| Oid::from_str(&base.commit)).transpose();
    let base = base.map_err(|error| wrong(&error))?;
    if let Some(base) = base {
        if base == tip {
            return Err(Refused::new(
                "there is nothing new: the branch is where the base brings it",
                "without --base, a bundle holds everything",
            ));
        }
        if repo.find_commit(base).is_err() {
            return Err(Refused::new(
                format!("the base has commit {base}, which is not in this repository"),
                "fetch it here; what was pushed on board must be carried here first (git bundle create)",
            ));
        }
        if !repo.graph_descendant_of(tip, base).unwrap_or(false) {
            return Err(Refused::new(
                format!("commit {} does not come from the base's {base}", order.commit),
                "name a base of this branch's own history, or none",
            ));
        }
    }
    let path = work.join(COMMITS);
    let file = File::create(&path).map_err(|error| disk(&path, &error))?;
    let mut file = BufWriter::new(file);
    bundle::write(&repo, &index.branch_ref(), tip, base, &mut file).map_err(|f| wrong(&f))?;
    file.flush().map_err(|error| disk(&path, &error))
}

/// A bill of materials for each image; their paths.
fn write_bills(
    order: &Order,
    index: &Index,
    taken: &[Taken],
    store: &Store,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<String>, Refused> {
    let mut reader = bill::Reader::new(store);
    let mut paths = Vec::new();
    for (done, (named, image)) in index.images.iter().zip(taken).enumerate() {
        tell(Progress::Listing(done, index.images.len()));
        let path = bill_path(&named.manifest);
        if paths.contains(&path) {
            continue;
        }
        let same = index.images.iter().zip(&order.images);
        let names = same.filter(|(other, _)| other.manifest == named.manifest);
        let names: Vec<&Reference> = names.map(|(_, name)| name).collect();
        let made = reader.bill(&names, image, &index.created).map_err(|why| {
            Refused::new(
                format!("{}: its bill of materials can't be made: {why}", named.name),
                "make the bundle without --sbom, or build that image anew",
            )
        })?;
        let file = store.dir().join(&path);
        let write = || -> io::Result<()> {
            fs::create_dir_all(file.parent().unwrap_or(&file))?;
            write_file(&file, &serde_json::to_vec_pretty(&made)?)
        };
        write().map_err(|error| disk(&file, &error))?;
        paths.push(path);
    }
    Ok(paths)
}

fn remembered(work: &Path, base: Option<Digest>) -> Record {
    let kept = fs::read(work.join(TAKEN)).ok();
    let kept: Option<Record> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.filter(|record| record.base == base).unwrap_or(Record { base, ..Record::default() })
}

async fn take_images(
    order: &Order,
    record: &mut Record,
    yard: &mut Yard<'_>,
    work: &Path,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Taken>, Refused> {
    let archives = order.sources.survey().map_err(|why| {
        Refused::new(why, "name archives as `docker save`, skopeo or buildah write them")
    })?;
    let total = order.images.len();
    let mut taken = Vec::new();
    let mut missing = Vec::new();
    for (number, name) in order.images.iter().enumerate() {
        let text = name.to_string();
        let mut say = |from: &str| {
            tell(Progress::Image(number, total, format!("{text} from {from}")));
        };
        let known = record.images.get(&text).filter(|image| yard.has_all(image));
        if let Some(known) = known {
            say("an earlier run");
            taken.push(known.clone());
            continue;
        }
        match order.sources.take(name, &archives, yard, &mut say).await {
            Ok(image) => {
                record.images.insert(text, image.clone());
                record.packed = yard.packed.values().cloned().collect();
                let bytes = serde_json::to_vec(&record).map_err(|error| disk(work, &error))?;
                write_file(&work.join(TAKEN), &bytes).map_err(|error| disk(work, &error))?;
                taken.push(image);
            }
            Err(why) => missing.push(format!("{text}: {why}")),
        }
    }
    if missing.is_empty() {
        return Ok(taken);
    }
    let are = if missing.len() == 1 { "an image is" } else { "images are" };
    Err(Refused::new(
        format!("{are} nowhere to be had:\n  {}", missing.join("\n  ")),
        "pull or build them here, name archives with --archive, or registries without TLS with \
         --plain-http; then run it again: what has been gathered is kept",
    ))
}

/// The length and the digest of a file.
fn weigh(work: &Path, path: &str) -> Result<Part, Refused> {
    let file = work.join(path);
    let weigh = || -> io::Result<Part> {
        let mut content = File::open(&file)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; 256 << 10];
        let mut bytes = 0;
        loop {
            let count = content.read(&mut piece)?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            bytes += count as u64;
        }
        let sha256 = Digest::from_bytes(hasher.finalize().into());
        Ok(Part { path: path.to_owned(), bytes, sha256 })
    };
    weigh().map_err(|error| disk(&file, &error))
}

fn write(
    order: &Order,
    index: &Index,
    work: &Path,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<PathBuf>, Refused> {
    let page = serde_json::to_vec_pretty(index).map_err(|error| disk(work, &error))?;
    // What nobody could read must not be sealed.
    Index::parse(&page)?;
    let seal = sign::sign(&order.key, NAMESPACE, &page).map_err(|why| {
        let hint = "name a private key that OpenSSH reads, or the public half of one in ssh-agent: --key FILE";
        Refused::new(why, hint)
    })?;
    let lengths = [page.len() as u64, seal.len() as u64].into_iter();
    let total = frame::length(lengths.chain(index.parts.iter().map(|part| part.bytes)));
    let mut write = || -> io::Result<Vec<PathBuf>> {
        let cutter = Cutter::begin(&order.out, order.piece_bytes)?;
        let mut out = BufWriter::with_capacity(256 << 10, cutter);
        frame::put(&mut out, INDEX, page.len() as u64, &page[..])?;
        frame::put(&mut out, SEAL, seal.len() as u64, seal.as_bytes())?;
        let mut done = 0;
        for part in &index.parts {
            frame::put(
                &mut out,
                &part.path,
                part.bytes,
                BufReader::new(File::open(work.join(&part.path))?),
            )?;
            done += part.bytes;
            tell(Progress::Writing(done, total));
        }
        frame::end(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.end()
    };
    write().map_err(|error| disk(&order.out, &error))
}
