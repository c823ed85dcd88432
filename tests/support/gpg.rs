//! GnuPG with keys of its own, and commits that `git commit -S` signs with it. Times are given: what is
//! made today must be judged as in ten years.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A keyring in a directory; its agent ends with it.
pub(crate) struct Gpg(PathBuf);

impl Drop for Gpg {
    fn drop(&mut self) {
        let home = self.0.display().to_string();
        let _ = Command::new("gpgconf").args(["--homedir", &home, "--kill", "all"]).output();
    }
}

impl Gpg {
    /// An empty one. The directory's name is to be short: the agent has a socket in it.
    pub(crate) fn make(home: &Path) -> Self {
        std::fs::DirBuilder::new().mode(0o700).create(home).expect("made");
        Self(home.to_owned())
    }

    fn command(&self, at: i64) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.args(["--homedir", &self.0.display().to_string()])
            .args(["--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"])
            .args(["--passphrase", "", "--faked-system-time", &format!("{at}!")]);
        gpg
    }

    /// Runs it, which must succeed; what it prints.
    pub(crate) fn run(&self, at: i64, args: &[&str]) -> String {
        let out = self.command(at).args(args).output().expect("gpg runs");
        assert!(out.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Has a key edited, by these words.
    pub(crate) fn edit(&self, at: i64, key: &str, words: &[&str]) {
        // As a person at a terminal would: in a batch it does not ask.
        let mut gpg = Command::new("gpg");
        gpg.args(["--homedir", &self.0.display().to_string(), "--quiet", "--no-tty", "--expert"])
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .args(["--faked-system-time", &format!("{at}!"), "--command-fd", "0"])
            .args(["--edit-key", key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut gpg = gpg.spawn().expect("gpg runs");
        let text = words.join("\n") + "\n";
        gpg.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
        let out = gpg.wait_with_output().expect("gpg ends");
        assert!(out.status.success(), "gpg {words:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Makes a key; `more` are options.
    pub(crate) fn key(&self, at: i64, name: &str, spec: [&str; 3], more: &[&str]) {
        let [algorithm, usage, expires] = spec;
        let user = format!("{name} <{name}@example.org>");
        let args = [more, &["--quick-gen-key", &user, algorithm, usage, expires]].concat();
        self.run(at, &args);
    }

    /// Adds a part to a key.
    pub(crate) fn subkey(&self, at: i64, name: &str, spec: [&str; 3], more: &[&str]) {
        let main = self.fingerprint(name, 0);
        let args = [more, &["--quick-add-key", &main, spec[0], spec[1], spec[2]]].concat();
        self.run(at, &args);
    }

    /// The fingerprint of a key, or of one of its parts.
    pub(crate) fn fingerprint(&self, name: &str, part: usize) -> String {
        let listed = self.run(0, &["--with-colons", "--list-keys", &format!("{name}@example.org")]);
        let mut prints = listed.lines().filter(|line| line.starts_with("fpr:"));
        let line = prints.nth(part).expect("is there");
        line.split(':').nth(9).expect("a fingerprint").to_owned()
    }

    /// The key, as it is given away.
    pub(crate) fn public(&self, name: &str) -> String {
        self.run(0, &["--armor", "--export", &format!("{name}@example.org")])
    }

    /// The entry of a key in `trust.yaml`, below `openpgp:`.
    pub(crate) fn entry(&self, name: &str) -> String {
        let key = self.public(name);
        let key: String = key.lines().map(|line| format!("    {line}\n")).collect();
        format!("- name: {name}@example.org\n  key: |\n{key}")
    }

    /// A keyring with all that is in this one.
    pub(crate) fn copy(&self, home: &Path) -> Self {
        let copy = Self::make(home);
        let (from, to) = (self.0.display().to_string(), home.display().to_string());
        super::must_run("gpgconf", &["--homedir", &from, "--kill", "all"]);
        super::must_run("cp", &["-r", &format!("{from}/."), &to]);
        copy
    }

    /// Has every commit and tag in a checkout signed by somebody, who believes that it is this time.
    pub(crate) fn sign_with(&self, work: &Path, name: &str, at: i64, more: &[&str]) {
        let script = self.0.join("git-signs");
        let text = format!(
            "#!/bin/sh\nexec gpg --homedir '{}' --quiet --batch --pinentry-mode loopback --passphrase '' \
             --faked-system-time '{at}!' {} \"$@\"\n",
            self.0.display(),
            more.join(" ")
        );
        std::fs::write(&script, text).expect("written");
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("allowed");
        let program = script.display().to_string();
        for (key, value) in [
            ("gpg.format", "openpgp"),
            ("gpg.program", &program),
            ("user.signingkey", &format!("{name}@example.org")),
            ("commit.gpgsign", "true"),
        ] {
            super::must_git(work, &["config", key, value]);
        }
    }
}
