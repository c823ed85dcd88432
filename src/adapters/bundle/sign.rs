//! Seals: a signature by an SSH key over some bytes, and the list of whose seals count.
//!
//! The form is OpenSSH's SSHSIG (PROTOCOL.sshsig), so what is made here `ssh-keygen -Y verify` checks,
//! and what `ssh-keygen -Y sign` makes is checked here. Who may sign stands in a file of OpenSSH's
//! `allowed_signers` format (ssh-keygen(1)).
//!
//! The rule: what is not understood counts for nothing. A line with an option other than `namespaces`
//! is no permission, and is said to be none: dates need a clock that can be trusted, and certificates an
//! authority that can be asked; neither is at hand on a ship.

use std::path::Path;

use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// A signature is some 300 bytes; an RSA key's some 3,000.
pub const SIGNATURE_BYTES_MAX: usize = 16 << 10;

/// Who may sign.
#[derive(Clone, Debug, Default)]
pub struct Signers {
    lines: Vec<Signer>,
    /// Lines that count for nothing, and why.
    pub complaints: Vec<String>,
}

#[derive(Clone, Debug)]
struct Signer {
    principals: String,
    /// For what; everything where absent.
    namespaces: Option<Vec<String>>,
    key: PublicKey,
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
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match signer(line) {
                Ok(signer) => signers.lines.push(signer),
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
        let key = PublicKey::from(seal.public_key().clone());
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let known = self.lines.iter().filter(|signer| signer.key.key_data() == key.key_data());
        let mut known = known.peekable();
        if known.peek().is_none() {
            return Err(format!(
                "it is signed with the key {fingerprint}, which nobody of the list has"
            ));
        }
        let may = |signer: &&Signer| {
            let mut namespaces = signer.namespaces.iter().flatten();
            signer.namespaces.is_none() || namespaces.any(|allowed| allowed == namespace)
        };
        let signer = known.find(may).ok_or_else(|| {
            format!("it is signed with the key {fingerprint}, which the list has, but not for {namespace}")
        })?;
        key.verify(namespace, message, &seal).map_err(|_| {
            format!("the signature of the key {fingerprint} is not over this content")
        })?;
        Ok(Signed { by: signer.principals.clone(), fingerprint })
    }
}

/// The fingerprint of the key that a seal names; the seal is not checked.
pub fn fingerprint(seal: &[u8]) -> Result<String, String> {
    let key = PublicKey::from(read_seal(seal)?.public_key().clone());
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

fn read_seal(seal: &[u8]) -> Result<SshSig, String> {
    let unread = || "its signature can't be read".to_owned();
    let text = std::str::from_utf8(seal).map_err(|_| unread())?;
    let read = SshSig::from_pem(text).map_err(|_| unread())?;
    let again = read.to_pem(LineEnding::LF).map_err(|_| unread())?;
    if again.trim_end() != text.trim_end() || text.len() > again.trim_end().len() + 1 {
        return Err(unread());
    }
    Ok(read)
}

/// Signs a message with the private key in a file.
pub fn sign(
    key: &Path,
    passphrase: Option<&[u8]>,
    namespace: &str,
    message: &[u8],
) -> Result<String, String> {
    let said = |why: &dyn std::fmt::Display| format!("the key {}: {why}", key.display());
    let mut private = PrivateKey::read_openssh_file(key).map_err(|error| said(&error))?;
    if private.is_encrypted() {
        let passphrase = passphrase.ok_or_else(|| said(&"it wants a passphrase"))?;
        private = private.decrypt(passphrase).map_err(|_| said(&"the passphrase is wrong"))?;
    }
    let seal = private.sign(namespace, HashAlg::Sha512, message).map_err(|error| said(&error))?;
    let text = seal.to_pem(LineEnding::LF).map_err(|error| said(&error))?;
    Ok(format!("{}\n", text.trim_end()))
}

/// `principals [options] key-type base64 [comment]`
fn signer(line: &str) -> Result<Signer, String> {
    let (principals, rest) = word(line);
    let (next, after) = word(rest);
    let is_key = |word: &str| {
        word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-")
    };
    let (options, rest) = if is_key(next) { ("", rest) } else { (next, after) };
    let mut namespaces = None;
    for option in split(options) {
        match option.split_once('=') {
            Some((name, list)) if name.eq_ignore_ascii_case("namespaces") => {
                let list = list.trim_matches('"').split(',');
                namespaces = Some(list.map(str::to_owned).collect());
            }
            _ => {
                return Err(format!(
                    "the option {option:?} is not understood, so the line counts for nothing"
                ));
            }
        }
    }
    let key =
        PublicKey::from_openssh(rest).map_err(|error| format!("its key can't be read: {error}"))?;
    Ok(Signer { principals: principals.trim_matches('"').to_owned(), namespaces, key })
}

/// The first word, and what follows it. Blanks between quotation marks belong to it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '"';
        c.is_whitespace() && !is_quoted
    });
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    (word, rest.trim_start())
}

/// Options are parted by commas, but for those between quotation marks.
fn split(options: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let parts = options.split(move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    parts.filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;

    const NAMESPACE: &str = "windlass-bundle";

    /// A key made by ssh-keygen; its public half.
    fn key(path: &Path, kind: &str, passphrase: &str) -> String {
        let args = ["-q", "-t", kind, "-N", passphrase, "-C", "ada", "-f"];
        let made = Command::new("ssh-keygen").args(args).arg(path).status();
        assert!(made.expect("ssh-keygen runs").success());
        fs::read_to_string(path.with_extension("pub")).expect("a public half")
    }

    #[test]
    fn ssh_keygen_checks_what_is_signed_here_and_the_other_way_round() {
        let dir = tempfile::tempdir().expect("a directory");
        for (kind, passphrase) in [("ed25519", ""), ("ed25519", "secret"), ("ecdsa", "")] {
            let path = dir.path().join(format!("{kind}{passphrase}"));
            let public = key(&path, kind, passphrase);
            let list = dir.path().join("allowed_signers");
            fs::write(&list, format!("ada@example namespaces=\"{NAMESPACE}\" {public}"))
                .expect("written");
            let signers = Signers::read(&list).expect("a list");
            assert_eq!(signers.complaints, Vec::<String>::new());
            let seal =
                sign(&path, Some(passphrase.as_bytes()), NAMESPACE, b"cargo").expect("signed");
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
            if passphrase.is_empty() {
                let cargo = dir.path().join("cargo");
                fs::write(&cargo, "cargo").expect("written");
                let theirs = Command::new("ssh-keygen")
                    .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
                    .arg(&path)
                    .arg(&cargo)
                    .status();
                assert!(theirs.expect("ssh-keygen runs").success());
                let theirs = fs::read(dir.path().join("cargo.sig")).expect("a signature");
                assert!(signers.check(&theirs, NAMESPACE, b"cargo").is_ok(), "{kind}");
                fs::remove_file(dir.path().join("cargo.sig")).expect("removed");
            }
        }
    }

    #[test]
    fn who_may_not_sign_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ada, eve) = (dir.path().join("ada"), dir.path().join("eve"));
        let (public, theirs) = (key(&ada, "ed25519", ""), key(&eve, "ed25519", ""));
        let seal = sign(&ada, None, NAMESPACE, b"cargo").expect("signed");
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
        for option in ["valid-before=\"20300101\"", "cert-authority", "no-touch-required"] {
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
        let signers = Signers::parse(&format!("ada {}", key(&ada, "ed25519", "")));
        let seal = sign(&ada, None, NAMESPACE, b"cargo").expect("signed");
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
