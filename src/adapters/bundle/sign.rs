//! Seals: a signature by an SSH key over some bytes, and the list of whose seals count.
//!
//! The form is OpenSSH's SSHSIG: `ssh-keygen -Y sign` makes seals, so keys may be in an agent or in a
//! token, and `ssh-keygen -Y verify` checks them as well. Here they are checked as the signatures of
//! commits are, by [`crate::desired::trust`]; who may sign stands in a file of OpenSSH's
//! `allowed_signers` format (ssh-keygen(1)).
//!
//! The rule: what is not understood counts for nothing. Neither does a line with a date, and it is said
//! so: that needs a clock that can be trusted, which a ship does not have.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::desired::trust::{Signature, SignerLine};

/// A signature is some 300 bytes; an RSA key's some 3,000.
pub const SIGNATURE_BYTES_MAX: usize = 16 << 10;

/// Who may sign.
#[derive(Clone, Debug, Default)]
pub struct Signers {
    lines: Vec<SignerLine>,
    /// Lines that count for nothing, and why.
    pub complaints: Vec<String>,
}

/// Whose signature it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// As the list calls them.
    pub by: String,
    /// The key's fingerprint, `SHA256:…`.
    pub fingerprint: String,
}

impl Signers {
    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        let mut signers = Self::default();
        for (number, line) in text.lines().enumerate() {
            match SignerLine::read(line) {
                Ok(Some(line)) if line.is_dated() => signers.complaints.push(format!(
                    "line {}: it has a date, which nobody can check without a clock, so it counts \
                     for nothing",
                    number + 1
                )),
                Ok(line) => signers.lines.extend(line),
                Err(why) => signers.complaints.push(format!("line {}: {why}", number + 1)),
            }
        }
        signers
    }

    /// Reads a list from its file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path);
        text.map(|text| Self::parse(&text)).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whose signature this is over that message, or why it does not count. A signature in any other
    /// form than OpenSSH writes it is refused, so that one message has one seal by one key.
    pub fn check(&self, seal: &[u8], namespace: &str, message: &[u8]) -> Result<Signed, String> {
        let seal = read_seal(seal)?;
        let fingerprint = seal.fingerprint();
        let mut known = self.lines.iter().filter(|line| line.has_key_of(&seal)).peekable();
        if known.peek().is_none() {
            return Err(format!(
                "it is signed with the key {fingerprint}, which nobody of the list has"
            ));
        }
        let line = known.find(|line| line.is_for(namespace)).ok_or_else(|| {
            format!("it is signed with the key {fingerprint}, which the list has, but not for {namespace}")
        })?;
        if !seal.is_for(namespace) || !seal.is_of(message) {
            return Err(format!("the signature of the key {fingerprint} is not over this content"));
        }
        Ok(Signed { by: line.names().join(","), fingerprint })
    }
}

/// The fingerprint of the key that a seal names; the seal is not checked.
pub fn fingerprint(seal: &[u8]) -> Result<String, String> {
    Ok(read_seal(seal)?.fingerprint())
}

fn read_seal(seal: &[u8]) -> Result<Signature, String> {
    let unread = || "its signature can't be read".to_owned();
    let text = std::str::from_utf8(seal).map_err(|_| unread())?;
    let read = Signature::read(text).map_err(|_| unread())?;
    (read.armour() == text).then_some(read).ok_or_else(unread)
}

/// Signs a message by `ssh-keygen` with the private key in a file, or with the public key in one whose
/// other half an agent has. Where the key wants a passphrase, ssh-keygen asks for it.
pub fn sign(key: &Path, namespace: &str, message: &[u8]) -> Result<String, String> {
    let said = |why: &dyn std::fmt::Display| format!("the key {}: {why}", key.display());
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("ssh-keygen can't be run: {error}; apt install openssh-client"))?;
    // It reads to the end before it says anything; if it has ended, its own words say why.
    let told = child.stdin.take().map(|mut pipe| pipe.write_all(message));
    let output = child.wait_with_output().map_err(|error| said(&error))?;
    if !output.status.success() {
        return Err(said(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    if let Some(Err(error)) = told {
        return Err(said(&error));
    }
    String::from_utf8(output.stdout).map_err(|error| said(&error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;

    const NAMESPACE: &str = "windlass-bundle";

    /// A key made by ssh-keygen; its public half.
    fn key(path: &Path, kind: &str) -> String {
        let args = ["-q", "-t", kind, "-N", "", "-C", "ada", "-f"];
        let made = Command::new("ssh-keygen").args(args).arg(path).status();
        assert!(made.expect("ssh-keygen runs").success());
        fs::read_to_string(path.with_extension("pub")).expect("a public half")
    }

    #[test]
    fn what_ssh_keygen_signs_counts_and_ssh_keygen_says_so_too() {
        let dir = tempfile::tempdir().expect("a directory");
        for kind in ["ed25519", "ecdsa", "rsa"] {
            let path = dir.path().join(kind);
            let public = key(&path, kind);
            let list = dir.path().join("allowed_signers");
            fs::write(&list, format!("ada@example namespaces=\"{NAMESPACE}\" {public}"))
                .expect("written");
            let signers = Signers::read(&list).expect("a list");
            assert_eq!(signers.complaints, Vec::<String>::new());
            let seal = sign(&path, NAMESPACE, b"cargo").expect("signed");
            let signed = signers.check(seal.as_bytes(), NAMESPACE, b"cargo").expect("counts");
            assert_eq!(signed.by, "ada@example");
            let sig = dir.path().join("sig");
            fs::write(&sig, &seal).expect("written");
            let verify = ["-Y", "verify", "-I", "ada@example", "-n", NAMESPACE, "-f"];
            let mut child = Command::new("ssh-keygen")
                .args(verify)
                .arg(&list)
                .arg("-s")
                .arg(&sig)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("ssh-keygen runs");
            std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"cargo")
                .expect("told");
            assert!(child.wait().expect("ends").success(), "{kind}");
        }
    }

    #[test]
    fn who_may_not_sign_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ada, eve) = (dir.path().join("ada"), dir.path().join("eve"));
        let (public, theirs) = (key(&ada, "ed25519"), key(&eve, "ed25519"));
        let seal = sign(&ada, NAMESPACE, b"cargo").expect("signed");
        let refused = |list: &str, namespace: &str, message: &[u8], words: &str| {
            let signers = Signers::parse(list);
            let why = signers.check(seal.as_bytes(), namespace, message).expect_err(words);
            assert!(why.contains(words), "{why}");
        };
        let anything = format!("ada {public}");
        refused(&anything, NAMESPACE, b"other", "not over this content");
        refused(&anything, "git", b"cargo", "not over this content");
        refused(&format!("eve {theirs}"), NAMESPACE, b"cargo", "nobody of the list");
        refused("", NAMESPACE, b"cargo", "nobody of the list");
        refused(
            &format!("ada namespaces=\"git,file\" {public}"),
            NAMESPACE,
            b"cargo",
            "but not for",
        );
        for option in ["valid-before=\"20300101Z\"", "cert-authority", "no-touch-required"] {
            let list = format!("ada {option} {public}");
            refused(&list, NAMESPACE, b"cargo", "nobody of the list");
            assert_eq!(Signers::parse(&list).complaints.len(), 1, "{option}");
        }
        let two =
            format!("ada namespaces=\"git\" {public}ada namespaces=\"x,{NAMESPACE}\" {public}");
        assert!(Signers::parse(&two).check(seal.as_bytes(), NAMESPACE, b"cargo").is_ok());
    }

    #[test]
    fn a_seal_in_another_form_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let ada = dir.path().join("ada");
        let signers = Signers::parse(&format!("ada {}", key(&ada, "ed25519")));
        let seal = sign(&ada, NAMESPACE, b"cargo").expect("signed");
        for other in [
            seal.replace('\n', "\r\n"),
            format!("{seal}\n"),
            format!(" {seal}"),
            seal.replacen('\n', "\n\n", 1),
            seal.replace("SSH SIGNATURE", "PGP SIGNATURE"),
            String::new(),
        ] {
            assert!(signers.check(other.as_bytes(), NAMESPACE, b"cargo").is_err(), "{other:?}");
        }
    }
}
