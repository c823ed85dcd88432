//! What one write makes, in one envelope: its blobs, trees and commit go to the disk as one pack.
//!
//! libgit2 writes an object per file and syncs each file and its directory: twelve syncs for a
//! decision, and on flash a sync is what costs. Here it is three: the pack, its index, the
//! directory. The format is gitformat-pack(5):
//!
//! ```text
//!   pack    PACK 2 n │ (type, size, zlib) × n │ SHA-1
//!   index   \377tOc 2 │ 256 counts │ ids, sorted │ CRC-32s │ offsets │ SHA-1 of pack │ SHA-1
//! ```
//! Compression is the quickest there is: flash is spared, nobody waits for it, and compaction does it
//! better later.
//!
//! The limit: packs add up, one per write; the caller compacts when there are too many.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use git2::{ObjectType, Oid};
use sha1::{Digest as _, Sha1};

use super::{durable, repack, repo};

/// Objects that belong together.
#[derive(Default)]
pub(super) struct Batch {
    objects: Vec<(Oid, ObjectType, Vec<u8>)>,
}

impl Batch {
    /// Adds an object; returns its id.
    pub(super) fn add(&mut self, kind: ObjectType, content: Vec<u8>) -> Result<Oid, git2::Error> {
        let id = Oid::hash_object(kind, &content)?;
        if self.objects.iter().all(|(known, ..)| *known != id) {
            self.objects.push((id, kind, content));
        }
        Ok(id)
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Writes everything into the repository. When this returns, a power cut can't undo it, and
    /// libgit2 finds the objects.
    pub(super) fn write(mut self, git_dir: &Path) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.objects.sort_by_key(|(id, ..)| *id);
        let pack = self.pack()?;
        let index = pack.index(&self.objects);
        let directory = git_dir.join("objects/pack");
        let beside = directory.join(format!("{}{}", repack::WORKSHOP, repo::unique()));
        let name: String = pack.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = directory.join(format!("pack-{name}"));
        // Not `.pack` and `.idx` before they are whole: git looks into every index it finds.
        let files = [("pack", "pack-new", &pack.bytes), ("idx", "idx-new", &index)];
        let outcome = files
            .iter()
            .try_for_each(|(_, new, bytes)| put(&beside.with_extension(new), bytes))
            // A pack counts once its index is there.
            .and_then(|()| {
                files.iter().try_for_each(|(extension, new, _)| {
                    fs::rename(beside.with_extension(new), name.with_extension(extension))
                })
            })
            .and_then(|()| durable::sync_dir(&directory));
        if outcome.is_err() {
            // On a full disk even the remains take space.
            for (_, new, _) in files {
                let _ = fs::remove_file(beside.with_extension(new));
            }
        }
        outcome
    }

    fn pack(&self) -> io::Result<Pack> {
        let mut bytes = b"PACK".to_vec();
        bytes.extend(2u32.to_be_bytes());
        bytes.extend(number(self.objects.len()).to_be_bytes());
        let mut entries = Vec::new();
        for (_, kind, content) in &self.objects {
            let offset = bytes.len();
            put_header(&mut bytes, *kind, content.len());
            let mut zlib = ZlibEncoder::new(bytes, Compression::fast());
            zlib.write_all(content)?;
            bytes = zlib.finish()?;
            let mut crc = Crc::new();
            crc.update(&bytes[offset..]);
            entries.push((number(offset), crc.sum()));
        }
        let digest = Sha1::digest(&bytes).to_vec();
        bytes.extend(&digest);
        Ok(Pack { bytes, entries, digest })
    }
}

struct Pack {
    bytes: Vec<u8>,
    /// Of each object, where it is and its CRC-32.
    entries: Vec<(u32, u32)>,
    digest: Vec<u8>,
}

impl Pack {
    fn index(&self, objects: &[(Oid, ObjectType, Vec<u8>)]) -> Vec<u8> {
        let mut index = vec![0xff, b't', b'O', b'c', 0, 0, 0, 2];
        for first in 0..=255u8 {
            let up_to = objects.iter().filter(|(id, ..)| id.as_bytes()[0] <= first);
            index.extend(number(up_to.count()).to_be_bytes());
        }
        for (id, ..) in objects {
            index.extend(id.as_bytes());
        }
        for (_, crc) in &self.entries {
            index.extend(crc.to_be_bytes());
        }
        for (offset, _) in &self.entries {
            index.extend(offset.to_be_bytes());
        }
        index.extend(&self.digest);
        let digest = Sha1::digest(&index);
        index.extend(digest);
        index
    }
}

/// A pack of one write is far from 2 GB, where offsets would need another form: the content of a
/// register is in memory.
fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    file.write_all(bytes)?;
    // Old from the start: compaction spares only what somebody else has touched since.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))?;
    file.sync_all()
}

/// An entry's type and size: three bits and four, then seven at a time, the lowest first.
fn put_header(bytes: &mut Vec<u8>, kind: ObjectType, size: usize) {
    let kind = match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Tag => 4,
        _ => 3u8,
    };
    let seven = |size: usize| u8::try_from(size & 0x7f).unwrap_or_default();
    let mut rest = size >> 4;
    let more = |rest: usize| if rest > 0 { 0x80 } else { 0 };
    bytes.push(more(rest) | kind << 4 | seven(size) & 0x0f);
    while rest > 0 {
        let byte = seven(rest);
        rest >>= 7;
        bytes.push(more(rest) | byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::Repository;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_is_found_by_libgit2(
            blobs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..12),
            large in 0..200_000usize,
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let repo = Repository::init_bare(dir.path()).expect("a repository");
            let mut batch = Batch::default();
            let mut ids = Vec::new();
            for blob in blobs.iter().chain([&vec![b'x'; large]]) {
                ids.push((batch.add(ObjectType::Blob, blob.clone()).expect("hashes"), blob.clone()));
            }
            batch.write(dir.path()).expect("writes");
            for (id, blob) in ids {
                let found = repo.find_blob(id).expect("finds");
                prop_assert_eq!(found.content(), &blob[..]);
            }
            let out = std::process::Command::new("git")
                .current_dir(dir.path())
                .args(["fsck", "--full", "--strict"])
                .output()
                .expect("git runs");
            prop_assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
}
