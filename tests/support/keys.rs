//! Keys of `ssh-keygen`, and checkouts whose commits Git signs with them.

use std::path::{Path, PathBuf};

use super::{must_git, must_run};

/// A directory with keys.
pub(crate) struct Keys(PathBuf);

impl Keys {
    /// Makes a key for each of these; the type before a dash is the key's: `rsa-ada`, otherwise
    /// Ed25519.
    pub(crate) fn make(dir: &Path, names: &[&str]) -> Self {
        let keys = Self(dir.join("keys"));
        std::fs::create_dir_all(&keys.0).expect("made");
        for name in names {
            let kind = name.split_once('-').map_or("ed25519", |(kind, _)| kind);
            let file = keys.path(name);
            let file = file.to_str().expect("a path");
            must_run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", name, "-f", file]);
        }
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The public key, as `allowed_signers` has it.
    pub(crate) fn public(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.path(name).with_extension("pub"));
        text.expect("a key").trim().to_owned()
    }

    /// `SHA256:…`, as `ssh-keygen` says it.
    pub(crate) fn fingerprint(&self, name: &str) -> String {
        let file = self.path(name).with_extension("pub");
        let said = must_run("ssh-keygen", &["-lf", file.to_str().expect("a path")]);
        said.split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    /// A `trust.yaml` by which these may sign; its fingerprint.
    pub(crate) fn trust(&self, names: &[&str]) -> (String, String) {
        let lines: String = names
            .iter()
            .map(|name| format!("  {name}@example.org namespaces=\"git\" {}\n", self.public(name)))
            .collect();
        let text = format!("allowedSigners: |\n{lines}");
        let fingerprint = windlass::desired::trust::fingerprint(text.as_bytes());
        (text, fingerprint)
    }

    /// Has every commit in a checkout signed with this key, or with none.
    pub(crate) fn sign_with(&self, work: &Path, name: Option<&str>) {
        let wanted = if name.is_some() { "true" } else { "false" };
        must_git(work, &["config", "commit.gpgsign", wanted]);
        if let Some(name) = name {
            let key = self.path(name).display().to_string();
            must_git(work, &["config", "gpg.format", "ssh"]);
            must_git(work, &["config", "user.signingkey", &key]);
        }
    }
}
