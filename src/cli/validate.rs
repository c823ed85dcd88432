//! `windlass validate`: a directory of manifests, checked by the agent's own rules, without an agent.
//!
//! ```text
//!   disk ─▶ listing ─▶ desired::wanted ─▶ read ─▶ desired::parse ─▶ desired::assemble ─▶ findings
//! ```
//! The listing is what a commit of the directory would have: in the work tree of a Git repository what
//! Git ignores is left out. The limit: what only the fleet knows (a held deletion, a taken address) is
//! not known here; `windlass diff` asks the agent.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::auth;
use super::fault::Failure;
use super::out::{Data, Out};
use super::progress::Bar;
use super::signature::{self, Seal};
use crate::desired::trust::{self, TRUST_FILE};
use crate::desired::{self, Desired, FILE_BYTES_MAX, Files, Why, charts};
use crate::kinds::binding::Oid;
use crate::kinds::finding::{Finding, Place};
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// Directories nested deeper than this are not entered, as in a commit.
const DEPTH_MAX: usize = 128;
/// More files are no directory of manifests but somebody's whole disk.
const FILES_MAX: usize = 1_000_000;

/// Arguments of `windlass validate`.
#[derive(Args, Debug)]
#[command(after_help = "Exits with 1 if a commit of the directory would be refused.")]
pub(super) struct Validate {
    /// Directory with manifests: what agent.yaml names as desired.directory, in a work tree
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// Judge also whether this signer may make the changes, by the roles of the commit they stand on
    #[arg(long = "as", value_name = "SIGNER")]
    signer: Option<String>,
    /// That commit: what the branch's remote has, or the newest, if absent
    #[arg(long, value_name = "COMMIT", requires = "signer")]
    since: Option<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

pub(super) fn run(args: &Validate, out: &mut Out) -> Result<(), Failure> {
    let directory = &args.directory;
    let listing = list(directory)?;
    let (files, read) = read(directory, &listing)?;
    let (desired, mut findings) = desired::assemble(&listing, &files);
    let trust = Trust::of(directory, &listing)?;
    findings.extend(trust.iter().flat_map(Trust::findings));
    if let Some(signer) = &args.signer {
        findings.extend(auth::judge(directory, signer, args.since.as_deref())?);
    }
    let report = Report { files: read, desired, findings, trust };
    match args.output {
        None => out.text(&report.text(directory))?,
        Some(form) => out.data(form, &report.json(directory))?,
    }
    if report.is_refused() { Err(Failure::Code(1)) } else { Ok(()) }
}

/// What was found.
pub(super) struct Report {
    /// Manifests among the files.
    files: usize,
    desired: Desired,
    findings: Vec<Finding>,
    trust: Option<Trust>,
}

/// What `trust.yaml` comes to, and whether the newest commit is good by it.
pub(super) struct Trust {
    fingerprint: String,
    seal: Option<Seal>,
}

impl Trust {
    fn of(directory: &Path, listing: &[FileEntry]) -> Result<Option<Self>, Failure> {
        if !listing.iter().any(|entry| &*entry.path == TRUST_FILE) {
            return Ok(None);
        }
        let path = directory.join(TRUST_FILE);
        let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(Some(Self { fingerprint: trust::fingerprint(&text), seal: signature::of(directory) }))
    }

    /// What is committed already is no fault of what lies here.
    fn findings(&self) -> Vec<Finding> {
        let Some(Seal::Bad(refusal)) = &self.seal else { return Vec::new() };
        let id = refusal.tip.id.short();
        let message = format!("the newest commit, {id}, would be refused: {refusal}");
        let own = Finding::warning(Place::file(TRUST_FILE), message);
        let each = refusal.why.findings().iter();
        let each = each.map(|found| Finding { severity: own.severity, ..found.clone() });
        std::iter::once(own.clone()).chain(each).collect()
    }

    fn text(&self) -> String {
        let mut text = format!("trust.yaml has the fingerprint {}\n", self.fingerprint);
        let said = match &self.seal {
            Some(Seal::Good { commit, signer }) => {
                format!("the newest commit, {}, is signed by {signer}\n", Oid::new(commit).short())
            }
            Some(Seal::Unknown(why)) => format!("the newest commit was not checked: {why}\n"),
            Some(Seal::Bad(_)) | None => String::new(),
        };
        text.push_str(&said);
        text
    }

    fn json(&self) -> serde_json::Value {
        let (signer, refused) = match &self.seal {
            Some(Seal::Good { signer, .. }) => (Some(signer.to_string()), None),
            Some(Seal::Bad(refusal)) => (None, Some(refusal.to_string())),
            Some(Seal::Unknown(_)) | None => (None, None),
        };
        json!({"fingerprint": self.fingerprint, "signer": signer, "refused": refused})
    }
}

impl Report {
    pub(super) fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    /// A tree without a single object deletes nothing and starts nothing: it is refused.
    fn is_empty(&self) -> bool {
        self.desired.objects.is_empty() && self.errors() == 0
    }

    /// What a commit of these files, parsed, would come to.
    pub(super) fn of(listing: &[FileEntry], files: &Files) -> Self {
        let (desired, findings) = desired::assemble(listing, files);
        let manifests = files.values().filter(|file| file.is_manifest).count();
        Self { files: manifests, desired, findings, trust: None }
    }

    fn is_refused(&self) -> bool {
        self.errors() > 0 || self.is_empty()
    }

    fn text(&self, directory: &Path) -> String {
        let mut text = self.lines(directory);
        text.push_str(&self.trust.as_ref().map(Trust::text).unwrap_or_default());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", self.closing());
        text
    }

    /// Every finding on a line.
    pub(super) fn lines(&self, directory: &Path) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let finding =
                Finding { place: seen_from_here(directory, &finding.place), ..finding.clone() };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{finding}");
        }
        text
    }

    fn closing(&self) -> String {
        let errors = self.errors();
        let warnings = self.findings.len() - errors;
        let mut line = format!(
            "{}, {}: {}, {}",
            counted(self.files, "manifest"),
            counted(self.desired.objects.len(), "object"),
            counted(errors, "error"),
            counted(warnings, "warning"),
        );
        let passed_over = self.desired.skipped.len();
        if passed_over > 0 {
            let _ = write!(line, "; {} passed over", counted(passed_over, "file"));
        }
        line.push_str(match self.is_refused() {
            true if self.is_empty() => "; there is nothing to run: it would be refused",
            true => "; it would be refused",
            false => "; it would be accepted",
        });
        line
    }

    fn json(&self, directory: &Path) -> serde_json::Value {
        let skipped = self
            .desired
            .skipped
            .iter()
            .map(|skipped| json!({"path": skipped.path, "why": reason(skipped.why)}));
        let errors = self.errors();
        json!({
            "directory": directory.display().to_string(),
            "refused": self.is_refused(),
            "manifests": self.files,
            "objects": self.desired.objects.len(),
            "errors": errors,
            "warnings": self.findings.len() - errors,
            "findings": self.findings,
            "passedOver": skipped.collect::<Vec<_>>(),
            "trust": self.trust.as_ref().map(Trust::json),
        })
    }
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Ignored => ".windlassignore",
        Why::NotAManifest => "not a manifest",
        Why::Symlink => "symbolic link",
        Why::Submodule => "submodule",
    }
}

/// The texts that a commit of a directory would hold, by path.
pub(super) fn texts(
    directory: &Path,
) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let listing = list(directory)?;
    let mut texts = std::collections::BTreeMap::new();
    for entry in desired::wanted(&listing) {
        let Some(chart) = charts::directory(&entry.path).filter(|_| entry.kind == FileKind::Chart)
        else {
            let FileContent { path, bytes, .. } = content(directory, &entry)?;
            texts.insert(path.to_string(), String::from_utf8_lossy(&bytes).into_owned());
            continue;
        };
        // File by file, what is packed in it unpacked: an archive is no text.
        for (path, bytes) in chart_files(&directory.join(chart))? {
            let path = format!("{chart}/{path}");
            match path.strip_suffix(".tgz") {
                Some(inner) => texts.extend(
                    charts::texts_of_tgz(&bytes)
                        .into_iter()
                        .map(|(path, text)| (format!("{inner}/{path}"), text)),
                ),
                None => {
                    texts.insert(path, String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
    }
    Ok(texts)
}

/// The manifests that a commit of a directory would hold, with the ids that Git would give them.
pub(super) fn contents(directory: &Path) -> Result<Vec<FileContent>, Failure> {
    let listing = list(directory)?;
    let read = |entry: FileEntry| {
        let content = content(directory, &entry)?;
        let blob = git2::Oid::hash_object(git2::ObjectType::Blob, &content.bytes);
        let blob = blob.map_err(|error| Failure::plain(error.message().to_owned()))?;
        Ok(FileContent { blob: Oid::new(&blob.to_string()), ..content })
    };
    desired::wanted(&listing).into_iter().map(read).collect()
}

/// A file of a directory.
fn content(directory: &Path, entry: &FileEntry) -> Result<FileContent, Failure> {
    let path = directory.join(&*entry.path);
    let bytes = match entry.kind {
        FileKind::Chart => chart(path.parent().unwrap_or(directory))?,
        _ => fs::read(&path).map_err(|error| unreadable(&path, &error))?,
    };
    let is_file = entry.kind != FileKind::Chart;
    if is_file && u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(Failure::plain(format!("{} grew while it was read", path.display())));
    }
    let (path, blob) = (Arc::clone(&entry.path), entry.blob.clone());
    Ok(FileContent { path, blob, bytes: bytes.into() })
}

/// A file's path and what is in it.
type Contents = (Arc<str>, Vec<u8>);

/// The files of the chart in a directory.
fn chart_files(directory: &Path) -> Result<Vec<Contents>, Failure> {
    let listing = files_below(directory, true)?;
    let files = listing.into_iter().filter(|entry| entry.kind == FileKind::File).map(|entry| {
        let path = directory.join(&*entry.path);
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        Ok((entry.path, bytes))
    });
    files.collect()
}

/// The chart in a directory, as one file.
fn chart(directory: &Path) -> Result<Vec<u8>, Failure> {
    let files = chart_files(directory)?;
    Ok(charts::pack(files.iter().map(|(path, bytes)| (&**path, bytes.as_slice()))))
}

/// The charts in a directory, or the one that it is, with the names of their directories.
pub(super) fn charts_of(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    if directory.join(charts::CHART_FILE).is_file() {
        let whole = directory.canonicalize().map_err(|error| unreadable(directory, &error))?;
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![(name, chart(directory)?)]);
    }
    let found = list(directory)?.into_iter().filter(|entry| entry.kind == FileKind::Chart);
    let packed = found.filter_map(|entry| {
        let below = charts::directory(&entry.path)?;
        Some(chart(&directory.join(below)).map(|packed| (below.to_owned(), packed)))
    });
    packed.collect()
}

/// A place as it can be opened from where the person stands.
fn seen_from_here(directory: &Path, place: &Place) -> Place {
    if directory == Path::new(".") {
        return place.clone();
    }
    let path = directory.join(&*place.path).display().to_string();
    Place { path: path.into(), ..place.clone() }
}

/// `1 object`, `2 objects`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Lists a directory as a commit of it would be listed.
fn list(directory: &Path) -> Result<Vec<FileEntry>, Failure> {
    let meta = fs::metadata(directory).map_err(|error| unreadable(directory, &error))?;
    if !meta.is_dir() {
        return Err(Failure::hinted(
            format!("{} is not a directory", directory.display()),
            "a commit is checked as a whole: name the directory that agent.yaml names",
        ));
    }
    let is_bare = directory.join("HEAD").is_file() && directory.join("objects").is_dir();
    if is_bare {
        return Err(Failure::hinted(
            format!("{} is a bare repository, without files", directory.display()),
            "validate a clone of it, or ask the agent: windlass diff COMMIT",
        ));
    }
    Ok(charts::fold(files_below(directory, false)?, |_| Some(Oid::new(""))))
}

/// All files below a directory that a commit would hold, each by itself; those in hidden directories, if
/// they count.
fn files_below(directory: &Path, hidden_count: bool) -> Result<Vec<FileEntry>, Failure> {
    let repository = WorkTree::around(directory);
    let mut lister = Lister { repository, hidden_count, listing: Vec::new() };
    lister.directory(directory, "", 0)?;
    let mut listing = lister.listing;
    listing.sort();
    Ok(listing)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::plain(format!("{} can't be read: {error}", path.display()))
}

struct Lister {
    repository: Option<WorkTree>,
    hidden_count: bool,
    listing: Vec<FileEntry>,
}

impl Lister {
    fn directory(&mut self, directory: &Path, prefix: &str, depth: usize) -> Result<(), Failure> {
        let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(directory, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let on_disk = entry.path();
            let meta = fs::symlink_metadata(&on_disk).map_err(|e| unreadable(&on_disk, &e))?;
            let path = format!("{prefix}{name}");
            if name == ".git" || self.is_ignored(&on_disk) {
                continue;
            }
            let kind = if meta.is_symlink() {
                FileKind::Symlink
            } else if meta.is_file() {
                FileKind::File
            } else if !meta.is_dir() {
                // Git knows no sockets and pipes.
                continue;
            } else if on_disk.join(".git").exists() {
                FileKind::Submodule
            } else {
                // Nothing below a hidden directory is read, and nothing below so deep a one.
                if (self.hidden_count || !name.starts_with('.')) && depth < DEPTH_MAX {
                    self.directory(&on_disk, &format!("{path}/"), depth + 1)?;
                }
                continue;
            };
            let bytes = if kind == FileKind::Submodule { 0 } else { meta.len() };
            self.listing.push(FileEntry { path: path.into(), blob: Oid::new(""), kind, bytes });
            if self.listing.len() > FILES_MAX {
                return Err(Failure::plain(format!(
                    "there are more than {FILES_MAX} files below it; name the directory with the manifests"
                )));
            }
        }
        Ok(())
    }

    fn is_ignored(&self, path: &Path) -> bool {
        self.repository.as_ref().is_some_and(|repository| repository.ignores(path))
    }
}

/// The work tree of a Git repository.
struct WorkTree {
    repository: git2::Repository,
    /// Its root, without symbolic links on the way.
    root: PathBuf,
}

impl WorkTree {
    /// The work tree that a directory lies in. A repository that can't be opened (somebody else's)
    /// is a directory like any other.
    fn around(directory: &Path) -> Option<Self> {
        let repository = git2::Repository::discover(directory).ok()?;
        let root = repository.workdir()?.canonicalize().ok()?;
        Some(Self { repository, root })
    }

    /// Whether Git leaves a file out: ignored, and not committed all the same.
    fn ignores(&self, path: &Path) -> bool {
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        let Some((parent, name)) = parent.zip(path.file_name()) else {
            return false;
        };
        let whole = parent.join(name);
        let Ok(path) = whole.strip_prefix(&self.root) else {
            return false;
        };
        let is_ignored = self.repository.status_should_ignore(path).unwrap_or(false);
        is_ignored && !self.is_tracked(path)
    }

    fn is_tracked(&self, path: &Path) -> bool {
        let Ok(index) = self.repository.index() else {
            return false;
        };
        // A directory is tracked by what is below it.
        let below = format!("{}/", path.display());
        index.get_path(path, 0).is_some()
            || index.iter().any(|entry| entry.path.starts_with(below.as_bytes()))
    }
}

/// Reads and parses the files that must be read. Says how many of them are manifests.
fn read(directory: &Path, listing: &[FileEntry]) -> Result<(Files, usize), Failure> {
    let wanted = desired::wanted(listing);
    let mut bar = Bar::new("reading manifests", wanted.len());
    let mut files = Files::new();
    let mut manifests = 0;
    for (at, entry) in wanted.iter().enumerate() {
        let parsed = desired::parse(&content(directory, entry)?);
        manifests += usize::from(parsed.is_manifest);
        files.insert(Arc::clone(&entry.path), Arc::new(parsed));
        bar.at(at + 1);
    }
    bar.end();
    Ok((files, manifests))
}
