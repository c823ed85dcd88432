//! Images for tests, made of Debian's static busybox: no registry, no network.

use serde_json::{Value, json};
use windlass::adapters::docker::archive::{self, Archive, Entry};

use super::host::Host;

/// What the shell of most tests is called.
pub(crate) const BUSYBOX: &str = "wdl.test/busybox:1";

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
