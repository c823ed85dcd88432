//! The place on land where bundles are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::may_run;
use super::site::Site;
use super::{must_git, scratch};

/// A pod that sleeps, from this image.
pub(crate) fn sleeper(name: &str, image: &str) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: "{image}", command: [sleep, "100000"]}}]
"#
    )
}

/// Where bundles are made: a key, a list of signers, archives, and a clone of its own.
pub(crate) struct Shore {
    pub(crate) dir: tempfile::TempDir,
}

impl Shore {
    /// A clone of this repository, and what else is needed. None where that can't be, said aloud.
    pub(crate) fn new(desired: &Path) -> Option<Self> {
        if !may_run(&["ssh-keygen", "tar", "git"]) {
            return None;
        }
        let dir = scratch("we2e-shore-");
        let key = dir.path().join("key");
        let args = ["-q", "-t", "ed25519", "-N", "", "-C", "ada", "-f"];
        let made = Command::new("ssh-keygen").args(args).arg(&key).status();
        assert!(made.expect("ssh-keygen runs").success());
        let public = fs::read_to_string(key.with_extension("pub")).expect("a public half");
        let list = format!("ada@example namespaces=\"windlass-bundle\" {public}");
        fs::write(dir.path().join("signers"), list).expect("written");
        fs::create_dir(dir.path().join("archives")).expect("made");
        must_git(dir.path(), &["clone", "-q", &desired.display().to_string(), "clone"]);
        Some(Self { dir })
    }

    /// Something on shore.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts an archive where bundles take images from.
    pub(crate) fn archive(&self, name: &str, tar: &[u8]) {
        fs::write(self.path("archives").join(name), tar).expect("written");
    }

    /// Commits files in the clone; nothing is pushed anywhere.
    pub(crate) fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        let clone = self.path("clone");
        for (path, text) in files {
            fs::write(clone.join(path), text).expect("written");
        }
        must_git(&clone, &["add", "-A"]);
        must_git(&clone, &["commit", "-q", "-m", message]);
        must_git(&clone, &["rev-parse", "HEAD"])
    }

    /// `windlass bundle create`, in the network of the site's host, from its Docker too.
    pub(crate) fn create(&self, site: &Site, name: &str, args: &[&str]) -> Result<PathBuf, String> {
        let mut command = site.host.command(env!("CARGO_BIN_EXE_windlass"));
        let socket = site.host.socket();
        command.args(["bundle", "create", "--docker"]).arg(socket);
        self.create_by(command, name, args)
    }

    /// The same by this command.
    pub(crate) fn create_by(
        &self,
        mut command: Command,
        name: &str,
        args: &[&str],
    ) -> Result<PathBuf, String> {
        let out = self.path(name);
        command.arg(&out).arg("--repo").arg(self.path("clone"));
        command.arg("--archive").arg(self.path("archives")).arg("--key").arg(self.path("key"));
        let output = command.args(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(out) } else { Err(said) }
    }

    /// `windlass bundle apply`, for a site's agent.
    pub(crate) fn apply(
        &self,
        site: &Site,
        bundle: &Path,
        args: &[&str],
    ) -> Result<String, String> {
        self.apply_to(&site.host.dir().join("agent.yaml"), bundle, args)
    }

    /// The same for the agent of this configuration; what it says.
    pub(crate) fn apply_to(
        &self,
        config: &Path,
        bundle: &Path,
        args: &[&str],
    ) -> Result<String, String> {
        let mut command = self.applying(config, bundle);
        let output = command.args(args).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// The command for that.
    pub(crate) fn applying(&self, config: &Path, bundle: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(["bundle", "apply"]).arg(bundle).arg("--config").arg(config);
        command.arg("--signers").arg(self.path("signers"));
        command
    }
}
