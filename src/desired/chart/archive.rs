//! A chart's files as one content: a tar archive, as `helm package` makes one.
//!
//! Everything else in the house reads one file at a time and remembers it by its blob. A chart is
//! many files that mean something only together; so whoever reads a repository hands a chart over
//! as one file, at the path of its `Chart.yaml`, and its blob is the id of its directory.

use std::io::Read as _;

use flate2::read::GzDecoder;
use tar::{Archive, Builder, EntryType, Header};

/// A file of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its path from the chart's directory.
    pub(super) path: String,
    /// What is in it.
    pub(super) bytes: Vec<u8>,
}

/// A chart, unpacked, is at most this large: three times the largest that we know, which brings all its
/// kinds' schemas twice.
pub const UNPACKED_BYTES_MAX: u64 = 32 << 20;

/// A chart has at most this many files.
const FILES_MAX: usize = 10_000;

/// Puts a chart's files together, by their paths from its directory.
pub fn pack<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len().try_into().unwrap_or(u64::MAX));
        // Writing to memory cannot fail; a path that an archive can't hold is one that Git can't
        // hold either.
        let _ = archive.append_data(&mut header, path, bytes);
    }
    archive.into_inner().unwrap_or_default()
}

/// Whether bytes are what [`pack`] makes.
pub fn is_packed(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// What a chart may still hold, with all archives in it.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    files: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: UNPACKED_BYTES_MAX, files: FILES_MAX }
    }
}

impl Budget {
    /// Takes a file of so many bytes off.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = self.bytes.checked_sub(bytes.try_into().unwrap_or(u64::MAX));
        match (bytes, self.files.checked_sub(1)) {
            (Some(bytes), Some(files)) => {
                *self = Self { bytes, files };
                Ok(())
            }
            _ => Err(format!(
                "the chart holds more than {} MiB, or more than {FILES_MAX} files",
                UNPACKED_BYTES_MAX >> 20
            )),
        }
    }
}

/// Takes a chart's files out again, in order of path.
pub(super) fn unpack(bytes: &[u8], budget: &mut Budget) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    let mut archive = Archive::new(bytes);
    let entries = archive.entries().map_err(|error| error.to_string())?;
    for entry in entries {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        // One more than there may be, which shows that there are too many.
        let read = entry.by_ref().take(budget.bytes.saturating_add(1)).read_to_end(&mut content);
        let length = read.map_err(|error| format!("{path}: {error}"))?;
        budget.spend(length)?;
        files.push(File { path, bytes: content });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Takes a chart out of what `helm package` made: the same, compressed, below a directory of the
/// chart's name.
pub(super) fn unpack_tgz(bytes: &[u8], budget: &mut Budget) -> Result<Vec<File>, String> {
    let mut plain = Vec::new();
    // Headers of an archive take room beside the files.
    let bound = 2 * budget.bytes + (1 << 20);
    let read = GzDecoder::new(bytes).take(bound).read_to_end(&mut plain);
    let length = read.map_err(|error| error.to_string())?;
    if u64::try_from(length).is_ok_and(|length| length == bound) {
        return Err(format!("the chart holds more than {} MiB", UNPACKED_BYTES_MAX >> 20));
    }
    let mut files = unpack(&plain, budget)?;
    for file in &mut files {
        file.path = match file.path.trim_start_matches("./").split_once('/') {
            Some((_, rest)) => rest.to_owned(),
            None => std::mem::take(&mut file.path),
        };
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The files of a chart that `helm package` made, as texts where they are.
pub fn texts_of_tgz(bytes: &[u8]) -> Vec<(String, String)> {
    let files = unpack_tgz(bytes, &mut Budget::default()).unwrap_or_default();
    let text = |file: File| (file.path, String::from_utf8_lossy(&file.bytes).into_owned());
    files.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn file(path: &str, bytes: &[u8]) -> File {
        File { path: path.to_owned(), bytes: bytes.to_vec() }
    }

    #[test]
    fn what_is_packed_comes_out_the_same() {
        let long = format!("templates/{}/x.yaml", "deep/".repeat(60));
        let packed =
            pack([("values.yaml", &b"a: 1"[..]), (&long, b"\xff\x00"), ("Chart.yaml", b"")]);
        assert!(is_packed(&packed));
        assert_eq!(
            unpack(&packed, &mut Budget::default()),
            Ok(vec![
                file("Chart.yaml", b""),
                file(&long, b"\xff\x00"),
                file("values.yaml", b"a: 1")
            ])
        );
        assert!(!is_packed(b"apiVersion: v2"));
    }

    #[test]
    fn a_chart_as_helm_packages_it_loses_its_first_directory() {
        let packed = pack([("redis/Chart.yaml", &b"name: redis"[..]), ("redis/templates/a", b"x")]);
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&packed).expect("to memory");
        let files = unpack_tgz(&gz.finish().expect("to memory"), &mut Budget::default());
        assert_eq!(files, Ok(vec![file("Chart.yaml", b"name: redis"), file("templates/a", b"x")]));
        assert!(unpack_tgz(b"no archive", &mut Budget::default()).is_err());
    }

    #[test]
    fn what_is_too_large_or_broken_is_refused() {
        let huge = vec![0; 33 << 20];
        assert!(
            unpack(&pack([("a", &huge[..])]), &mut Budget::default())
                .is_err_and(|error| error.contains("32 MiB"))
        );
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&vec![0; 80 << 20]).expect("to memory");
        let bomb = gz.finish().expect("to memory");
        assert!(
            unpack_tgz(&bomb, &mut Budget::default()).is_err_and(|error| error.contains("32 MiB"))
        );
        let mut packed = pack([("a", &b"hello"[..])]);
        packed[0] ^= 1;
        assert!(unpack(&packed, &mut Budget::default()).is_err());
    }
}
