//! Images for tests, made of Debian's static busybox: no registry, no network.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Value, json};
use windlass::adapters::docker::archive::{self, Archive, Entry};
use windlass::kinds::digest::Digest;

use super::host::Host;

/// What the shell of most tests is called.
pub(crate) const BUSYBOX: &str = "wdl.test/busybox:1";

/// Debian's list of packages, as it would be in an image of busybox alone.
const PACKAGES: &str = "Package: busybox-static\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.35.0\n";

/// An image with busybox and, in a file, so many bytes that can't be compressed.
pub(crate) fn bulky(name: &str, bytes: usize) -> Archive {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut bulk = vec![0; bytes];
    getrandom::fill(&mut bulk).expect("randomness");
    let entries = [
        Entry::Directory { path: "bin", mode: 0o755 },
        Entry::Directory { path: "tmp", mode: 0o1777 },
        Entry::File { path: "bin/busybox", content: &busybox, mode: 0o755 },
        Entry::Link { path: "bin/sleep", target: "busybox" },
        Entry::File { path: "bulk", content: &bulk, mode: 0o644 },
        Entry::File { path: "var/lib/dpkg/status", content: PACKAGES.as_bytes(), mode: 0o644 },
    ];
    archive::image(name, &entries, &json!({"Env": ["PATH=/bin"]})).expect("an image can be made")
}

/// An image with busybox in it. `config` is laid over `{"Env": [PATH]}`.
pub(crate) fn busybox(name: &str, config: &Value) -> Archive {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut entries = vec![
        Entry::Directory { path: "bin", mode: 0o755 },
        Entry::Directory { path: "tmp", mode: 0o1777 },
        Entry::Directory { path: "etc", mode: 0o755 },
        Entry::File {
            path: "etc/passwd",
            content: b"root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
            mode: 0o644,
        },
        Entry::File { path: "bin/busybox", content: &busybox, mode: 0o755 },
    ];
    let applets = [
        "sh", "cat", "sleep", "echo", "ls", "id", "ip", "ps", "stat", "head", "true", "false",
        "dd", "kill", "hostname", "touch", "nc", "mkdir", "readlink", "ln", "rm", "wc", "tail",
        "stty", "printf", "tee", "httpd", "wget",
    ];
    let paths: Vec<String> = applets.iter().map(|name| format!("bin/{name}")).collect();
    entries.extend(paths.iter().map(|path| Entry::Link { path, target: "busybox" }));
    let mut whole = json!({"Env": ["PATH=/bin"]});
    for (key, value) in config.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    archive::image(name, &entries, &whole).expect("an image can be made")
}

impl Host {
    /// `docker load`; returns the image's id.
    pub(crate) fn load(&self, archive: &Archive) -> String {
        let headers = [("Content-Type", "application/x-tar".to_owned())];
        let response = self
            .plain()
            .send("POST", "/images/load?quiet=1", &headers, &archive.tar)
            .expect("Docker answers")
            .expect(200);
        assert!(!response.text().contains("error"), "{}", response.text());
        archive.id.clone()
    }

    /// Has busybox under the usual name.
    pub(crate) fn load_busybox(&self) -> String {
        self.load(&busybox(BUSYBOX, &json!({"Cmd": ["sh"]})))
    }
}

/// The same image as an OCI layout in a tar, its layer packed with zstd, by a name or by none; and the
/// digest of its manifest.
pub(crate) fn oci(saved: &Archive, name: Option<&str>) -> (Vec<u8>, String) {
    let parts = parts(saved);
    let config = &parts[&format!("{}.json", &saved.id[7..])];
    let layer = &parts[&format!("{}.tar", &saved.diff_id[7..])];
    let layer = zstd::stream::encode_all(&layer[..], 1).expect("packed");
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |path: &str, content: &[u8]| append(&mut tar, path, content);
    let mut blob = |content: &[u8]| {
        let digest = Digest::of(content);
        put(&format!("blobs/sha256/{digest}"), content);
        json!({"digest": digest.prefixed(), "size": content.len()})
    };
    let manifest =
        json!({"schemaVersion": 2, "config": blob(config), "layers": [blob(&layer)]}).to_string();
    let mut entry = blob(manifest.as_bytes());
    let digest = Digest::of(manifest.as_bytes()).prefixed();
    if let Some(name) = name {
        entry["annotations"] = json!({"io.containerd.image.name": name});
    }
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    put("index.json", index.to_string().as_bytes());
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    (tar.into_inner().expect("ended"), digest)
}

/// An image whose lower layer is that of another, with so many bytes above it that can't be compressed.
pub(crate) fn stacked(name: &str, below: &Archive, bytes: usize) -> Archive {
    let mut bulk = vec![0; bytes];
    getrandom::fill(&mut bulk).expect("randomness");
    let entries = [Entry::File { path: "more", content: &bulk, mode: 0o644 }];
    let above = archive::image("above:1", &entries, &json!({})).expect("an image can be made");
    let (lower, upper) = (parts(below), parts(&above));
    let mut config: Value =
        serde_json::from_slice(&lower[&format!("{}.json", &below.id[7..])]).expect("JSON");
    config["rootfs"]["diff_ids"] = json!([below.diff_id, above.diff_id]);
    config["history"] = json!([{"created_by": "below"}, {"created_by": "above"}]);
    let config = config.to_string();
    let id = Digest::of(config.as_bytes());
    let layers = [(&lower, &below.diff_id), (&upper, &above.diff_id)];
    let layers = layers.map(|(parts, diff_id)| {
        let path = format!("{}.tar", &diff_id[7..]);
        (parts[&path].clone(), path)
    });
    let manifest = json!([{
        "Config": format!("{id}.json"),
        "RepoTags": [name],
        "Layers": layers.iter().map(|(_, path)| path).collect::<Vec<_>>(),
    }]);
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, &format!("{id}.json"), config.as_bytes());
    for (layer, path) in &layers {
        append(&mut tar, path, layer);
    }
    append(&mut tar, "manifest.json", manifest.to_string().as_bytes());
    let diff_id = below.diff_id.clone();
    Archive { tar: tar.into_inner().expect("ended"), id: id.prefixed(), diff_id }
}

/// The files of an archive.
fn parts(saved: &Archive) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(&saved.tar[..]);
    let mut parts = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("read");
        parts.insert(path, content);
    }
    parts
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, content).expect("appended");
}
