//! Archives on this machine: looked through, and handed to `docker load`.
//!
//! A customs officer at a parcel: he reads the papers inside, holds them against each other, and lets
//! the goods pass without unpacking them, because who receives them weighs every piece himself: Docker
//! refuses a layer that is not what the image's config says, and calls the image by the config's own
//! digest.
//!
//! ```text
//!   *.tar, *.tar.gz, *.tar.zst, a directory with oci-layout ─▶ survey: images, their names and digests
//!                                     └─▶ write_docker: manifest.json, configs, layers ─▶ docker load
//! ```
//! An OCI layout is put into `docker save`'s form on the way, which every Docker reads, and layers
//! packed with zstd are unpacked, which Docker before 23 does not do. Nothing is written to disk; an
//! archive is read twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, Write};
use std::path::Path;

use tar::{Entries, EntryType};

use super::layout::{self, DockerEntry, Image, JSON_BYTES_MAX, Layer, Texts};
use crate::kinds::digest::Digest;
use crate::kinds::image::Reference;

/// An archive has so many files at most; an image has at most 127 layers.
const ENTRIES_MAX: usize = 100_000;
/// All texts of an archive together.
const TEXTS_BYTES_MAX: u64 = 128 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A window of 128 MiB is what `zstd` itself accepts unasked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What an image is called in Docker that bears no name: without one, Docker's own `image prune` would
/// take it.
const OWN_NAME: &str = "windlass.local/by-digest";

/// The images for this machine in an archive, or what is wrong with it.
pub(crate) fn survey(at: &Path) -> Result<Vec<Image>, String> {
    let mut papers = Papers::default();
    if at.is_dir() {
        papers.read_directory(at)?;
    } else {
        visit(at, &mut |path, kind, link, size, content| {
            papers.take(path, kind, link, size, content)
        })?;
    }
    papers.conclude()
}

/// Writes what `docker load` takes for these images of an archive.
pub(crate) fn write_docker(at: &Path, images: &[Image], out: impl Write) -> Result<(), String> {
    let mut out = tar::Builder::new(out);
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for image in images {
        let config = format!("{}.json", image.config);
        wanted.entry(&image.config_path).or_default().insert(config);
        for layer in image.layers.iter().filter(|layer| !layer.is_held) {
            wanted.entry(&layer.path).or_default().insert(layer_name(layer));
        }
    }
    let packed: BTreeMap<&str, u64> = images
        .iter()
        .flat_map(|image| &image.layers)
        .filter_map(|layer| Some((&*layer.path, layer.zstd_bytes?)))
        .collect();
    let mut copy = |path: &str, size: u64, content: &mut dyn Read| -> Result<(), String> {
        // Two images may hold the same layer packed in two ways, and one layer may be in an image
        // twice: what is written once is enough.
        let Some(names) = wanted.remove(path) else { return Ok(()) };
        let mut names = names.into_iter();
        let Some(name) = names.next() else { return Ok(()) };
        let said = |error: io::Error| format!("{path}: {error}");
        match packed.get(path) {
            Some(bytes) => {
                let unpacked = unzstd(BufReader::new(content)).map_err(said)?;
                append(&mut out, &name, *bytes, unpacked).map_err(said)?;
            }
            None => append(&mut out, &name, size, content).map_err(said)?,
        }
        for other in names {
            let mut header = header(0);
            header.set_entry_type(EntryType::Link);
            out.append_link(&mut header, other, &name).map_err(said)?;
        }
        Ok(())
    };
    let paths: BTreeSet<String> = images.iter().flat_map(paths_of).map(str::to_owned).collect();
    read(at, &paths, &mut copy)?;
    if let Some(path) = wanted.keys().next() {
        return Err(format!("{path} has gone from it"));
    }
    let entries: Vec<DockerEntry> = images.iter().map(docker_entry).collect();
    let text = serde_json::to_vec(&entries).map_err(|error| error.to_string())?;
    let length = text.len() as u64;
    append(&mut out, layout::DOCKER_FILE, length, &text[..]).map_err(|error| error.to_string())?;
    let mut out = out.into_inner().map_err(|error| error.to_string())?;
    out.flush().map_err(|error| error.to_string())
}

/// What is done with each file: its path, its length, its content.
type Each<'e> = &'e mut dyn FnMut(&str, u64, &mut dyn Read) -> Result<(), String>;

/// Opens these files of an archive, in the archive's own order.
pub(crate) fn read(at: &Path, paths: &BTreeSet<String>, each: Each<'_>) -> Result<(), String> {
    if !at.is_dir() {
        return visit(at, &mut |path, kind, _, size, content| match kind {
            EntryType::Regular if paths.contains(&path) => each(&path, size, content),
            _ => Ok(()),
        });
    }
    for path in paths {
        let file = at.join(path);
        let said = |error: io::Error| format!("{}: {error}", file.display());
        let mut content = File::open(&file).map_err(said)?;
        let size = content.metadata().map_err(said)?.len();
        each(path, size, &mut content)?;
    }
    Ok(())
}

/// What a layer is when it is unpacked, however it was packed.
pub(crate) fn unpacked<'r>(packed: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut packed = BufReader::new(packed);
    let start = packed.fill_buf()?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(packed)));
    }
    if start.starts_with(&ZSTD) {
        return Ok(Box::new(unzstd(packed)?));
    }
    Ok(Box::new(packed))
}

fn paths_of(image: &Image) -> impl Iterator<Item = &str> {
    let layers = image.layers.iter().filter(|layer| !layer.is_held).map(|layer| &*layer.path);
    std::iter::once(&*image.config_path).chain(layers)
}

fn docker_entry(image: &Image) -> DockerEntry {
    DockerEntry {
        config: format!("{}.json", image.config),
        repo_tags: Some(docker_names(image)),
        layers: image.layers.iter().map(layer_name).collect(),
    }
}

/// The names that Docker is to give an image.
pub(crate) fn docker_names(image: &Image) -> Vec<String> {
    match image.names.as_slice() {
        [] => vec![format!("{OWN_NAME}:{}", image.digests.first().unwrap_or(&image.config))],
        names => names.iter().map(|name| familiar(name)).collect(),
    }
}

/// As Docker shortens it: it takes the whole name as well, but `docker load` before 20 did not.
fn familiar(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) => {
            format!("{}:{}", reference.familiar_repository(), reference.version_text())
        }
        Err(_) => name.to_owned(),
    }
}

fn layer_name(layer: &Layer) -> String {
    format!("{}.tar", layer.diff_id)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header
}

/// Adds a file of a known length; what is shorter or longer is a fault, not a broken archive.
fn append<W: Write>(
    out: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut content = Counted { inner: content.take(size), count: 0 };
    let mut header = header(size);
    out.append_data(&mut header, name, &mut content)?;
    let mut rest = content.inner.into_inner();
    if content.count != size || rest.read(&mut [0])? != 0 {
        return Err(io::Error::other("it is not as long as it was when it was looked through"));
    }
    Ok(())
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

/// What is done with each entry: its path, what it is, where a link leads, its length, its content.
type Visit<'v> =
    &'v mut dyn FnMut(String, EntryType, Option<String>, u64, &mut dyn Read) -> Result<(), String>;

/// Goes through an archive's entries in order.
fn visit(at: &Path, each: Visit<'_>) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let mut file = BufReader::new(File::open(at).map_err(said)?);
    let start = file.fill_buf().map_err(said)?.to_vec();
    if start.starts_with(&GZIP) {
        let gzip = flate2::bufread::MultiGzDecoder::new(file);
        let mut archive = tar::Archive::new(gzip);
        return each_of(archive.entries().map_err(said)?, None, each);
    }
    if start.starts_with(&ZSTD) {
        let mut archive = tar::Archive::new(unzstd(file).map_err(said)?);
        return each_of(archive.entries().map_err(said)?, None, each);
    }
    file.rewind().map_err(said)?;
    let length = file.get_ref().metadata().map_err(said)?.len();
    let mut archive = tar::Archive::new(file);
    // Layers are leapt over where nobody reads them, also beyond the end.
    each_of(archive.entries_with_seek().map_err(said)?, Some(length), each)
}

fn cut_short(path: &str) -> String {
    format!("it ends in the middle of {path}: was it copied whole?")
}

/// `length` is that of the file, where it is known.
fn each_of<R: Read>(
    entries: Entries<'_, R>,
    length: Option<u64>,
    each: Visit<'_>,
) -> Result<(), String> {
    let mut last = "its first file".to_owned();
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_short(&last),
            _ => format!("it is no tar archive, or damaged after {last}: {error}"),
        })?;
        if count >= ENTRIES_MAX {
            return Err(format!("it holds more than {ENTRIES_MAX} files"));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = text(&entry.path_bytes());
        let Some(path) = layout::clean(&path) else {
            // The root itself.
            if path.starts_with('.') && !path.contains("..") {
                continue;
            }
            return Err(format!("it names a file outside of it: {path:?}"));
        };
        last.clone_from(&path);
        let kind = entry.header().entry_type();
        let link = entry.link_name_bytes().map(|link| text(&link));
        let size = entry.size();
        let end = entry.raw_file_position().saturating_add(size);
        if length.is_some_and(|length| end > length) {
            return Err(cut_short(&path));
        }
        each(path, kind, link, size, &mut entry)?;
    }
    Ok(())
}

/// What zstd has packed.
fn unzstd<'r, R: io::BufRead + 'r>(packed: R) -> io::Result<impl Read + 'r> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// How long something packed with zstd is when it is unpacked.
fn zstd_bytes(packed: impl Read) -> io::Result<u64> {
    io::copy(&mut unzstd(BufReader::new(packed))?, &mut io::sink())
}

/// What of an archive is of interest, gathered entry by entry.
#[derive(Default)]
struct Papers {
    texts: Texts,
    texts_bytes: u64,
    /// Every file; of one packed with zstd, how long it is unpacked.
    files: BTreeMap<String, Option<u64>>,
    /// `docker save` writes a layer once and links to it.
    links: BTreeMap<String, String>,
}

impl Papers {
    fn take(
        &mut self,
        path: String,
        kind: EntryType,
        link: Option<String>,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), String> {
        if let (EntryType::Symlink | EntryType::Link, Some(link)) = (kind, link) {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = match kind {
                EntryType::Link => layout::clean(&link),
                _ => layout::clean(format!("{folder}/{link}").trim_start_matches('/')),
            };
            let target = target.ok_or_else(|| format!("{path} leads outside of it"))?;
            self.links.insert(path, target);
            return Ok(());
        }
        if kind != EntryType::Regular {
            return Ok(());
        }
        let said = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut_short(&path),
            _ => format!("{path}: {error}"),
        };
        let mut start = [0; 4];
        let mut filled = 0;
        while filled < start.len() {
            match content.read(&mut start[filled..]).map_err(said)? {
                0 => break,
                count => filled += count,
            }
        }
        let mut whole = start[..filled].chain(content);
        let mut unpacked = None;
        if start == ZSTD {
            unpacked = Some(zstd_bytes(&mut whole).map_err(said)?);
        } else if size <= JSON_BYTES_MAX && matches!(start[0], b'{' | b'[') {
            let mut text = Vec::new();
            whole.read_to_end(&mut text).map_err(said)?;
            self.hold(&path, text)?;
        }
        self.files.insert(path, unpacked);
        Ok(())
    }

    fn hold(&mut self, path: &str, text: Vec<u8>) -> Result<(), String> {
        if layout::digest_of_path(path).is_some_and(|digest| Digest::of(&text) != digest) {
            return Err(format!("{path} is damaged: its content has another digest"));
        }
        self.texts_bytes += text.len() as u64;
        if self.texts_bytes > TEXTS_BYTES_MAX {
            return Err("it holds more manifests than any archive of images".into());
        }
        self.texts.insert(path.to_owned(), text);
        Ok(())
    }

    /// A directory's files: only what an index reaches is opened.
    fn read_directory(&mut self, at: &Path) -> Result<(), String> {
        let said = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let blobs = at.join(layout::BLOBS);
        let mut paths = vec![layout::INDEX_FILE.to_owned()];
        let entries = fs::read_dir(&blobs).map_err(|error| said(&blobs, error))?;
        for entry in entries {
            let name = entry.map_err(|error| said(&blobs, error))?.file_name();
            let path = format!("{}{}", layout::BLOBS, name.to_string_lossy());
            // What is being written there is not there yet.
            if layout::digest_of_path(&path).is_some() {
                paths.push(path);
            }
        }
        for path in paths {
            let file = at.join(&path);
            let mut content = File::open(&file).map_err(|error| said(&file, error))?;
            let size = content.metadata().map_err(|error| said(&file, error))?.len();
            let mut start = [0; 1];
            let is_text = size <= JSON_BYTES_MAX
                && content.read(&mut start).is_ok_and(|count| count == 1)
                && start[0] == b'{';
            if is_text {
                let text = fs::read(&file).map_err(|error| said(&file, error))?;
                self.hold(&path, text)?;
            }
            self.files.insert(path, None);
        }
        Ok(())
    }

    fn conclude(self) -> Result<Vec<Image>, String> {
        let mut images = layout::images(&self.texts)?;
        for layer in images.iter_mut().flat_map(|image| &mut image.layers) {
            if let Some(target) = self.links.get(&layer.path) {
                layer.path.clone_from(target);
            }
            let Some(zstd_bytes) = self.files.get(&layer.path) else {
                return Err(format!("the layer {} is missing in it", layer.path));
            };
            layer.zstd_bytes = *zstd_bytes;
        }
        Ok(images)
    }
}

/// Counts what zstd has packed in an OCI directory, for the layers that are to be loaded from it.
pub(crate) fn measure(at: &Path, image: &mut Image) -> Result<(), String> {
    for layer in image.layers.iter_mut().filter(|layer| !layer.is_held) {
        let file = at.join(&layer.path);
        let said = |error: io::Error| format!("{}: {error}", file.display());
        let mut content = BufReader::new(File::open(&file).map_err(said)?);
        if content.fill_buf().map_err(said)?.starts_with(&ZSTD) {
            layer.zstd_bytes = Some(zstd_bytes(content).map_err(said)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::docker::archive::{self as made, Entry};
    use crate::adapters::images::layout::Document;

    /// An image as `docker save` writes it: its archive, its config's digest, its layer's.
    fn saved() -> made::Archive {
        let entries = [Entry::File { path: "bin/x", content: &[7; 5000], mode: 0o755 }];
        made::image("shop/app:1", &entries, &json!({"Cmd": ["/bin/x"]})).expect("made")
    }

    fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().expect("a tar").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("read");
            (entry.path().expect("a path").display().to_string(), content)
        });
        entries.collect()
    }

    fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            append(&mut tar, path, content.len() as u64, &content[..]).expect("appended");
        }
        tar.into_inner().expect("ended")
    }

    /// The same image as an OCI layout, its layer packed so; and its manifest's digest.
    fn oci(pack: fn(&[u8]) -> Vec<u8>, name: Option<&str>) -> (BTreeMap<String, Vec<u8>>, Digest) {
        let saved = saved();
        let parts = files(&saved.tar);
        let config = parts[&format!("{}.json", &saved.id[7..])].clone();
        let layer = pack(&parts[&format!("{}.tar", &saved.diff_id[7..])]);
        let mut files = BTreeMap::new();
        let mut blob = |content: Vec<u8>| {
            let (digest, size) = (Digest::of(&content), content.len() as u64);
            files.insert(layout::blob_path(&digest), content);
            layout::Descriptor { digest: digest.prefixed(), size, ..Default::default() }
        };
        let manifest = Document {
            schema_version: 2,
            config: Some(blob(config)),
            layers: vec![blob(layer)],
            ..Document::default()
        };
        let mut manifest = blob(serde_json::to_vec(&manifest).expect("json"));
        let digest = manifest.digest().expect("a digest");
        manifest.annotations.extend(name.map(|name| (layout::NAME.to_owned(), name.to_owned())));
        // Below an index of two platforms, of which one is here.
        let other = layout::Platform { architecture: "s390x".into(), os: "linux".into() };
        let missing = Digest::of(b"elsewhere").prefixed();
        let missing =
            layout::Descriptor { digest: missing, platform: Some(other), ..Default::default() };
        let index = Document { manifests: Some(vec![manifest, missing]), ..Document::default() };
        files.insert(layout::INDEX_FILE.into(), serde_json::to_vec(&index).expect("json"));
        files.insert(layout::LAYOUT_FILE.into(), layout::LAYOUT.into());
        (files, digest)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).expect("packed");
        gzip.finish().expect("packed")
    }

    fn zstd_all(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).expect("packed")
    }

    fn plain(bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    type Pack = fn(&[u8]) -> Vec<u8>;
    const PACKS: [(&str, Pack); 3] = [("tar", plain), ("tar.gz", gzip), ("tar.zst", zstd_all)];

    /// What Docker is given: the config's name and the layers, unpacked where zstd had packed them.
    fn given(at: &Path, images: &[Image]) -> BTreeMap<String, Vec<u8>> {
        let mut tar = Vec::new();
        write_docker(at, images, &mut tar).expect("written");
        files(&tar)
    }

    #[test]
    fn every_form_of_archive_is_handed_to_docker_in_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let saved = saved();
        let own = files(&saved.tar);
        for (ending, pack) in PACKS {
            let path = dir.path().join(format!("docker.{ending}"));
            fs::write(&path, pack(&saved.tar)).expect("written");
            let images = survey(&path).expect(ending);
            assert_eq!(images[0].names, ["docker.io/shop/app:1"], "{ending}");
            assert_eq!(
                (images[0].config.prefixed(), images[0].digests.len()),
                (saved.id.clone(), 0)
            );
            assert_eq!(given(&path, &images), own, "{ending}");
        }
        for (inner, pack_layer) in PACKS {
            let (files, digest) = oci(pack_layer, Some("registry.example/app:2"));
            for (ending, pack) in PACKS {
                let path = dir.path().join(format!("{inner}.{ending}"));
                fs::write(&path, pack(&tar_of(&files))).expect("written");
                let images = survey(&path).expect(ending);
                assert_eq!(images[0].names, ["registry.example/app:2"]);
                assert_eq!(images[0].digests, [digest]);
                let given = given(&path, &images);
                let layer = &given[&format!("{}.tar", &saved.diff_id[7..])];
                // Docker unpacks gzip by itself, in every version.
                let expected = own[&format!("{}.tar", &saved.diff_id[7..])].clone();
                assert_eq!(*layer, if inner == "tar.gz" { gzip(&expected) } else { expected });
            }
            let layout = dir.path().join(format!("{inner}.layout"));
            for (path, content) in &files {
                let path = layout.join(path);
                fs::create_dir_all(path.parent().expect("a parent")).expect("made");
                fs::write(path, content).expect("written");
            }
            let mut images = survey(&layout).expect("a layout");
            measure(&layout, &mut images[0]).expect("measured");
            assert_eq!(given(&layout, &images).len(), 3, "{inner}");
        }
    }

    #[test]
    fn an_image_without_a_name_gets_one_that_says_its_digest() {
        let dir = tempfile::tempdir().expect("a directory");
        let (files, digest) = oci(plain, None);
        let path = dir.path().join("x.tar");
        fs::write(&path, tar_of(&files)).expect("written");
        let images = survey(&path).expect("an archive");
        assert_eq!(docker_names(&images[0]), [format!("windlass.local/by-digest:{digest}")]);
        let pinned = format!("anything.example/app@{}", digest.prefixed());
        assert!(images[0].is(&Reference::parse(&pinned).expect("a name")));
        let other = format!("anything.example/app@{}", Digest::of(b"x").prefixed());
        assert!(!images[0].is(&Reference::parse(&other).expect("a name")));
    }

    #[test]
    fn what_is_wrong_with_an_archive_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.tar");
        let (good, digest) = oci(plain, None);
        let whole = tar_of(&good);
        // The last layer is shorter than what stands before it.
        let two =
            [&whole[..whole.len() - 1024], &tar_of(&[("z".into(), vec![7; 9000])].into())].concat();
        let without = |name: &str| {
            let mut files = good.clone();
            files.retain(|path, _| !path.contains(name));
            tar_of(&files)
        };
        let mut forged = good.clone();
        // Another manifest under the digest that somebody pins.
        forged.insert(layout::blob_path(&digest), b"{\"config\": {}}".to_vec());
        let layer = format!(
            "{}",
            Digest::of(&files(&saved().tar)[&format!("{}.tar", &saved().diff_id[7..])])
        );
        for (bytes, complaint) in [
            (whole[..whole.len() / 2].to_vec(), "was it copied whole?"),
            (two[..two.len() - 6000].to_vec(), "was it copied whole?"),
            (gzip(&whole)[..400].to_vec(), "x.tar"),
            (b"not a tar at all, but long enough to be looked at".repeat(40), "no tar archive"),
            (without(layout::INDEX_FILE), "neither index.json nor manifest.json"),
            (without(&digest.hex()), "is missing in it"),
            (without(&layer), "the layer"),
            (tar_of(&forged), "another digest"),
        ] {
            fs::write(&path, bytes).expect("written");
            let why = survey(&path).expect_err(complaint);
            assert!(why.contains(complaint) || complaint == "x.tar", "{why}");
        }
    }
}
