//! Images as `docker load` takes them, made in memory.
//!
//! The same content always makes the same bytes, so an image made here keeps its id on every host
//! and over every restart.
//!
//! ```text
//!   manifest.json      [{Config, RepoTags, Layers}]
//!   <sha256>.json      the config; its digest is the image's id
//!   <sha256>.tar       the only layer; its digest is in the config
//! ```

use std::io;

use serde_json::{Value, json};

use crate::kinds::digest::Digest;

/// A file or directory of an image.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// A regular file.
    File {
        /// Its path in the image.
        path: &'a str,
        /// Its content.
        content: &'a [u8],
        /// Its mode.
        mode: u32,
    },
    /// A directory.
    Directory {
        /// Its path in the image.
        path: &'a str,
        /// Its mode.
        mode: u32,
    },
    /// A symlink.
    Link {
        /// Its path in the image.
        path: &'a str,
        /// What it says.
        target: &'a str,
    },
}

/// An image ready to be loaded.
#[derive(Clone, Debug)]
pub struct Archive {
    /// What `docker load` takes.
    pub tar: Vec<u8>,
    /// The image's id in Docker's classic store, `sha256:…`.
    pub id: String,
    /// Its only layer: what an image by its name must consist of to be this one.
    pub diff_id: String,
}

/// Docker's word for the architecture we are compiled for.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Makes an image of one layer. `config` is what a Dockerfile would say: `Cmd`, `Env`, `User` ….
pub fn image(name: &str, entries: &[Entry<'_>], config: &Value) -> io::Result<Archive> {
    let layer = layer(entries)?;
    let diff_id = format!("sha256:{}", Digest::of(&layer));
    let config = json!({
        "architecture": ARCHITECTURE,
        "config": config,
        "created": "1970-01-01T00:00:00Z",
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "windlass"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    })
    .to_string();
    let id = Digest::of(config.as_bytes());
    let (config_name, layer_name) = (format!("{id}.json"), format!("{}.tar", Digest::of(&layer)));
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": [name],
        "Layers": [layer_name],
    }])
    .to_string();
    let mut outer = tar::Builder::new(Vec::new());
    append(&mut outer, &config_name, config.as_bytes(), 0o644)?;
    append(&mut outer, &layer_name, &layer, 0o644)?;
    append(&mut outer, "manifest.json", manifest.as_bytes(), 0o644)?;
    Ok(Archive { tar: outer.into_inner()?, id: format!("sha256:{id}"), diff_id })
}

fn layer(entries: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::File { path, content, mode } => append(&mut layer, path, content, *mode)?,
            Entry::Directory { path, mode } => {
                let mut header = header(tar::EntryType::Directory, *mode, 0);
                layer.append_data(&mut header, path, io::empty())?;
            }
            Entry::Link { path, target } => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                layer.append_link(&mut header, path, target)?;
            }
        }
    }
    layer.into_inner()
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(content: &[u8]) -> Archive {
        let entries = [
            Entry::Directory { path: "bin", mode: 0o755 },
            Entry::File { path: "bin/x", content, mode: 0o755 },
            Entry::Link { path: "bin/y", target: "x" },
        ];
        image("x:1", &entries, &json!({"Cmd": ["/bin/x"]})).expect("made")
    }

    #[test]
    fn the_same_content_makes_the_same_image() {
        let (one, same, other) = (sample(b"1"), sample(b"1"), sample(b"2"));
        assert_eq!((&one.tar, &one.id), (&same.tar, &same.id));
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn the_archive_names_what_it_holds() {
        let archive = sample(b"1");
        let mut names = Vec::new();
        for entry in tar::Archive::new(&archive.tar[..]).entries().expect("a tar") {
            let entry = entry.expect("an entry");
            assert_eq!(entry.header().mtime().ok(), Some(0));
            names.push(entry.path().expect("a path").display().to_string());
        }
        let (id, layer) = (&archive.id[7..], &archive.diff_id[7..]);
        assert_eq!(names, [format!("{id}.json"), format!("{layer}.tar"), "manifest.json".into()]);
    }
}
