//! The crate: a plain tar of which every byte is accounted for.
//!
//! ```text
//!   windlass-bundle.json       what is in it, each file with length and SHA-256
//!   windlass-bundle.json.sig   the seal on that page
//!   commits.bundle             `git bundle verify` reads it
//!   oci-layout, index.json     with the blobs: an OCI layout, for any other tool
//!   blobs/sha256/…             manifests, configs, layers
//! ```
//! Page and seal come first, so that everything behind them is checked as it passes by, in pieces of
//! 256 KiB. Any `tar` takes it apart; but it is read more strictly than tar: headers must be just those
//! that are written here, gaps and the end must be zeros, and nothing may follow. So a bundle is either
//! the one that was sealed, byte for byte, or none.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::index::{INDEX, INDEX_BYTES_MAX, Index, Part, SEAL};
use super::sign::{SIGNATURE_BYTES_MAX, Signed, Signers, fingerprint};
use super::{NAMESPACE, Refused};
use crate::kinds::digest::Digest;

const BLOCK: usize = 512;
/// A tar ends with two blocks of zeros.
const END: usize = 2 * BLOCK;
/// Read and hashed at once.
const PIECE: usize = 256 << 10;

/// The header of a file in a bundle.
fn header(path: &str, bytes: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// The zeros that fill a file's last block.
fn gap(bytes: u64) -> usize {
    let rest = usize::try_from(bytes % BLOCK as u64).unwrap_or_default();
    (BLOCK - rest) % BLOCK
}

/// How long a bundle of these files is.
pub fn length(parts: impl Iterator<Item = u64>) -> u64 {
    parts.map(|bytes| BLOCK as u64 + bytes + gap(bytes) as u64).sum::<u64>() + END as u64
}

/// Writes a file.
pub fn put(out: &mut impl Write, path: &str, bytes: u64, content: impl Read) -> io::Result<()> {
    out.write_all(&header(path, bytes)?)?;
    let copied = io::copy(&mut content.take(bytes), out)?;
    if copied != bytes {
        return Err(io::Error::other(format!("{path} is shorter than it was")));
    }
    out.write_all(&[0; BLOCK][..gap(bytes)])
}

/// Ends a bundle.
pub fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; END])?;
    out.flush()
}

/// A bundle whose page has been read.
pub struct Opened<R> {
    input: R,
    /// The page.
    pub index: Index,
    /// Its digest.
    pub digest: Digest,
    /// The page's own bytes.
    pub page: Vec<u8>,
    /// The seal on it.
    pub seal: Vec<u8>,
}

impl<R: Read> Opened<R> {
    /// Reads the page. If it says who may sign, the seal is checked before a word of it is read.
    pub fn open(mut input: R, trust: Option<&Signers>) -> Result<(Self, Option<Signed>), Refused> {
        let page = text(&mut input, INDEX, INDEX_BYTES_MAX)?;
        let seal = text(&mut input, SEAL, SIGNATURE_BYTES_MAX as u64)?;
        let signed = match trust {
            Some(signers) => Some(signers.check(&seal, NAMESPACE, &page).map_err(|why| {
                Refused::new(
                    format!("the bundle is not to be trusted: {why}"),
                    "if its maker may send bundles, add his public key to the list of signers; if it \
                     was copied badly, copy it again",
                )
            })?),
            None => {
                fingerprint(&seal).map_err(Refused::damaged)?;
                None
            }
        };
        let index = Index::parse(&page)?;
        let digest = Digest::of(&page);
        Ok((Self { input, index, digest, page, seal }, signed))
    }

    /// Reads everything that follows, hands each piece on, and is content only if all of it is what the
    /// page says.
    pub fn read(
        mut self,
        sink: &mut dyn Sink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Index, Refused> {
        let mut buffer = vec![0; PIECE];
        let mut done = 0;
        for part in &self.index.parts {
            take_header(&mut self.input, &part.path, Some(part.bytes))?;
            sink.begin(part)?;
            let mut hasher = Sha256::new();
            let mut left = part.bytes;
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                let piece = &mut buffer[..count];
                self.input.read_exact(piece).map_err(|error| ended(&error, &part.path))?;
                hasher.update(&*piece);
                sink.piece(piece)?;
                left -= count as u64;
                done += count as u64;
                progress(done);
            }
            if Digest::from_bytes(hasher.finalize().into()) != part.sha256 {
                return Err(Refused::damaged(format!(
                    "{} has not the content that was sealed",
                    part.path
                )));
            }
            take_zeros(&mut self.input, gap(part.bytes), &part.path)?;
            sink.end(part)?;
        }
        take_zeros(&mut self.input, END, "its end")?;
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(self.index),
            Ok(_) => Err(Refused::damaged("something follows its end")),
            Err(error) => Err(ended(&error, "its end")),
        }
    }
}

/// Where the files of a bundle go. A file that is not ended has not come.
pub trait Sink {
    /// A file begins.
    fn begin(&mut self, part: &Part) -> Result<(), Refused>;
    /// More of it.
    fn piece(&mut self, piece: &[u8]) -> Result<(), Refused>;
    /// It was what the page says.
    fn end(&mut self, part: &Part) -> Result<(), Refused>;
}

/// For whoever wants to know whether it is all there, and nothing else.
pub struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: &Part) -> Result<(), Refused> {
        Ok(())
    }

    fn piece(&mut self, _: &[u8]) -> Result<(), Refused> {
        Ok(())
    }

    fn end(&mut self, _: &Part) -> Result<(), Refused> {
        Ok(())
    }
}

fn ended(error: &io::Error, at: &str) -> Refused {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Refused::new(
            format!("the bundle ends in the middle of {at}"),
            "it was not copied whole, or a piece of it is missing: copy it again",
        ),
        _ => Refused::new(
            format!("the bundle can't be read on, in the middle of {at}: {error}"),
            "check the medium, or copy the bundle to another",
        ),
    }
}

/// A short file, whole.
fn text(input: &mut impl Read, path: &str, longest: u64) -> Result<Vec<u8>, Refused> {
    let bytes = take_header(input, path, None)?;
    if bytes > longest {
        return Err(Refused::damaged(format!("{path} is longer than {longest} bytes")));
    }
    let mut content = Vec::new();
    let read = input.take(bytes).read_to_end(&mut content).map_err(|error| ended(&error, path))?;
    if read as u64 != bytes {
        return Err(ended(&io::ErrorKind::UnexpectedEof.into(), path));
    }
    take_zeros(input, gap(bytes), path)?;
    Ok(content)
}

/// Reads a header that must be just this one; the length it says.
fn take_header(input: &mut impl Read, path: &str, bytes: Option<u64>) -> Result<u64, Refused> {
    let mut block = [0; BLOCK];
    input.read_exact(&mut block).map_err(|error| ended(&error, path))?;
    let said = tar::Header::from_byte_slice(&block).entry_size().ok();
    let expected = said.filter(|said| bytes.is_none_or(|bytes| bytes == *said));
    let expected = expected.and_then(|bytes| Some((bytes, header(path, bytes).ok()?)));
    match expected {
        Some((bytes, header)) if header == block => Ok(bytes),
        _ if path == INDEX => Err(Refused::new(
            "this is no bundle of windlass: its first file is not the page that says what is in it",
            "bundles are made by `windlass bundle create`",
        )),
        _ => Err(Refused::damaged(format!("where {path} should begin is something else"))),
    }
}

fn take_zeros(input: &mut impl Read, count: usize, after: &str) -> Result<(), Refused> {
    let mut zeros = [0; END];
    let zeros = &mut zeros[..count];
    input.read_exact(zeros).map_err(|error| ended(&error, after))?;
    match zeros.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(Refused::damaged(format!("behind {after} is something that was not sealed"))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::adapters::bundle::sign;
    use crate::adapters::images::layout::{self, INDEX_FILE, LAYOUT_FILE};

    /// A small bundle, who may sign it, and its key's directory.
    fn bundle() -> (Vec<u8>, Signers) {
        let dir = tempfile::tempdir().expect("a directory");
        let key = dir.path().join("key");
        let args = ["-q", "-t", "ed25519", "-N", "", "-f"];
        let made = Command::new("ssh-keygen").args(args).arg(&key).status();
        assert!(made.expect("ssh-keygen runs").success());
        let public = std::fs::read_to_string(key.with_extension("pub")).expect("a public half");
        let blob = vec![7; 3000];
        let files: [(String, Vec<u8>); 4] = [
            (super::super::index::COMMITS.into(), b"# v2 git bundle\n".to_vec()),
            (LAYOUT_FILE.into(), layout::LAYOUT.into()),
            (INDEX_FILE.into(), b"{}".to_vec()),
            (layout::blob_path(&Digest::of(&blob)), blob),
        ];
        let mut index = Index::new("main", &"1".repeat(40), "2026-01-01T00:00:00Z".into());
        index.parts = files
            .iter()
            .map(|(path, content)| Part {
                path: path.clone(),
                bytes: content.len() as u64,
                sha256: Digest::of(content),
            })
            .collect();
        let page = serde_json::to_vec(&index).expect("json");
        let seal = sign::sign(&key, None, NAMESPACE, &page).expect("signed").into_bytes();
        let mut bytes = Vec::new();
        let all = [(INDEX.to_owned(), page), (SEAL.to_owned(), seal)].into_iter().chain(files);
        for (path, content) in all {
            put(&mut bytes, &path, content.len() as u64, &content[..]).expect("put");
        }
        end(&mut bytes).expect("ended");
        (bytes, Signers::parse(&format!("ada {public}")))
    }

    fn read(bytes: &[u8], signers: &Signers) -> Result<Index, Refused> {
        let (opened, _) = Opened::open(bytes, Some(signers))?;
        opened.read(&mut Nowhere, &mut |_| ())
    }

    #[test]
    fn a_bundle_is_a_tar_for_everybody() {
        let (bytes, signers) = bundle();
        let index = read(&bytes, &signers).expect("whole");
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths = archive
            .entries()
            .expect("a tar")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string());
        let paths: Vec<String> = paths.collect();
        let parts = index.parts.iter().map(|part| part.path.clone());
        let expected: Vec<String> = [INDEX.into(), SEAL.into()].into_iter().chain(parts).collect();
        assert_eq!(paths, expected);
        let page = serde_json::to_vec(&index).expect("json").len() as u64;
        let (opened, signed) = Opened::open(&bytes[..], Some(&signers)).expect("opens");
        assert_eq!(signed.expect("signed").by, "ada");
        let lengths = [page, opened.seal.len() as u64].into_iter();
        let whole = length(lengths.chain(index.parts.iter().map(|part| part.bytes)));
        assert_eq!(whole, bytes.len() as u64);
    }

    #[test]
    fn every_single_byte_counts() {
        let (bytes, signers) = bundle();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert!(read(&other, &signers).is_err(), "byte {at} of {}", bytes.len());
        }
        for length in (0..bytes.len()).step_by(97) {
            let refused = read(&bytes[..length], &signers).expect_err("is cut short");
            assert!(!refused.hint.is_empty(), "{refused}");
        }
        assert!(read(&[&bytes[..], b"x"].concat(), &signers).is_err());
        assert!(read(&[&bytes[..], &[0; 512]].concat(), &signers).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_mutated_bundle_is_accepted(
            cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..600, any::<u8>(), 0u8..4), 1..4)
        ) {
            let (bytes, signers) = {
                static MADE: std::sync::OnceLock<(Vec<u8>, Signers)> = std::sync::OnceLock::new();
                MADE.get_or_init(bundle).clone()
            };
            let mut other = bytes.clone();
            for (at, count, value, kind) in cuts {
                if other.is_empty() { break }
                let from = at.index(other.len());
                let to = (from + count).min(other.len());
                match kind {
                    0 => other[from..to].fill(value),
                    1 => drop(other.drain(from..to)),
                    2 => { let piece = other[from..to].to_vec(); other.splice(from..from, piece); }
                    _ => other[from] ^= value,
                }
            }
            prop_assert_eq!(read(&other, &signers).is_ok(), other == bytes);
        }
    }
}
