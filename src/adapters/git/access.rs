//! Showing our key at the door, and looking at the doorman's: credentials for a server, and the
//! server's own key or certificate.
//!
//! Each secret is read from its file when it is needed and never kept, so that it can be replaced
//! without a restart; none of them appears in a message. A secret is offered once: a server that
//! refuses it is not asked again and again.
//!
//! libgit2 tells a refusal in one sentence that fits all cases. What was wrong is noted in
//! [`Notes`] while it asks, and that note becomes the fault.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLockReadGuard};

use git2::{
    CertificateCheckStatus, Cred, CredentialType, ErrorClass, ErrorCode, ProxyOptions,
    RemoteCallbacks,
};
use tracing::warn;

use super::known_hosts::{self, HostKey, Verdict};
use super::place::{Place, Remote, Scheme};
use super::room::Meter;
use super::{durable, fault, setup};
use crate::ports::Fault;

/// What opens a repository behind a server. Everything is optional: a path needs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user to be; by default the one of the address, else `git`.
    pub username: Option<String>,
    /// A private ssh key. Without it the ssh agent is asked, if there is one.
    pub ssh_key: Option<PathBuf>,
    /// A file that holds the passphrase of the key.
    pub ssh_passphrase_file: Option<PathBuf>,
    /// The list of servers' ssh keys; by default `~/.ssh/known_hosts` and
    /// `/etc/ssh/ssh_known_hosts`.
    pub known_hosts: Option<PathBuf>,
    /// A file that holds `user:password`, or a password or token alone.
    pub password_file: Option<PathBuf>,
    /// Certificates to trust beside the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// How to reach one repository.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) place: Place,
    credentials: Credentials,
    /// Where a copy of the known hosts is kept for libgit2 to choose a type of key by.
    home: PathBuf,
}

/// What our side noted while libgit2 connected.
#[derive(Default)]
pub(super) struct Notes {
    fault: RefCell<Option<Fault>>,
    asked: Cell<u32>,
}

impl Notes {
    /// The fault behind libgit2's error.
    pub(super) fn explain(&self, error: &git2::Error, place: &Place) -> Fault {
        match self.fault.borrow_mut().take() {
            Some(fault) => fault,
            None => fault::sort(error, place),
        }
    }

    fn refuse(&self, fault: Fault) -> git2::Error {
        *self.fault.borrow_mut() = Some(fault);
        // `User` ends the call; any other code may lead libgit2 to ask again.
        git2::Error::new(ErrorCode::User, ErrorClass::Callback, "refused on our side")
    }
}

impl Access {
    /// Checks what can be checked before a server is asked.
    pub(super) fn new(
        place: Place,
        credentials: Credentials,
        home: PathBuf,
    ) -> Result<Self, Fault> {
        if let Some(file) = &credentials.ca_file {
            setup::trust_certificates(file)?;
        }
        for file in [&credentials.ssh_key, &credentials.password_file].into_iter().flatten() {
            let mode = fs::metadata(file)
                .map_err(|error| fault::sort_io(&error, format!("can't read {}", file.display())))?
                .permissions()
                .mode();
            if mode & 0o077 != 0 {
                warn!(
                    file = %file.display(),
                    mode = format!("{:o}", mode & 0o777),
                    "others on this machine can read this secret: chmod 600"
                );
            }
        }
        Ok(Self { place, credentials, home })
    }

    /// Does `work` while libgit2 can find the known hosts of this repository.
    pub(super) fn connected<T, E: From<Fault>>(
        &self,
        work: impl FnOnce(&Notes) -> Result<T, E>,
    ) -> Result<T, E> {
        let notes = Notes::default();
        let remote = match &self.place {
            Place::Remote(remote) if remote.scheme == Scheme::Ssh => remote,
            _ => return work(&notes),
        };
        let home = self.offer_known_hosts(remote)?;
        let outcome = work(&notes);
        drop(home);
        outcome
    }

    /// Makes our known hosts readable to libgit2, which asks a server for a type of key that it
    /// finds there. Otherwise a server known by its RSA key alone would show another and seem
    /// changed.
    fn offer_known_hosts(
        &self,
        remote: &Remote,
    ) -> Result<RwLockReadGuard<'static, Option<PathBuf>>, Fault> {
        let list = self.known_hosts()?;
        for _ in 0..HOME_TRIES {
            let home = setup::SSH_HOME.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(path) = home.as_ref().filter(|home| home.is_dir()) {
                copy_list(&path.join(".ssh/known_hosts"), &list, remote)?;
                return Ok(home);
            }
            drop(home);
            // The first to come, or the one before took its directory with it.
            let mut home = setup::SSH_HOME.write().unwrap_or_else(PoisonError::into_inner);
            durable::make_dir(&self.home.join(".ssh"), 0o700)?;
            setup::ssh_home(&self.home, &mut home)?;
        }
        Err(Fault::transient(format!(
            "{}: {} vanishes again and again",
            self.place,
            self.home.display()
        )))
    }

    fn known_hosts_files(&self) -> Vec<PathBuf> {
        match &self.credentials.known_hosts {
            Some(file) => vec![file.clone()],
            None => std::env::var_os("HOME")
                .map(|home| Path::new(&home).join(".ssh/known_hosts"))
                .into_iter()
                .chain([PathBuf::from("/etc/ssh/ssh_known_hosts")])
                .collect(),
        }
    }

    fn known_hosts(&self) -> Result<String, Fault> {
        if let Some(file) = &self.credentials.known_hosts {
            return fs::read_to_string(file).map_err(|error| {
                fault::sort_io(&error, format!("can't read known hosts {}", file.display()))
            });
        }
        let files = self.known_hosts_files();
        let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
        Ok(texts.collect::<Vec<_>>().join("\n"))
    }

    /// What libgit2 calls while it fetches into the repository at `into`.
    pub(super) fn fetching<'a>(&'a self, notes: &'a Notes, into: &'a Path) -> RemoteCallbacks<'a> {
        let mut callbacks = self.callbacks(notes);
        let mut meter = Meter::new(into);
        callbacks.transfer_progress(move |progress| {
            let room = meter.reached(progress.received_bytes());
            room.map_err(|fault| notes.refuse(fault)).is_ok()
        });
        callbacks
    }

    /// What libgit2 calls while it connects.
    pub(super) fn callbacks<'a>(&'a self, notes: &'a Notes) -> RemoteCallbacks<'a> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(move |_url, user, allowed| self.credential(notes, user, allowed));
        callbacks.certificate_check(move |certificate, _host| {
            match (&self.place, certificate.as_hostkey()) {
                (Place::Remote(remote), Some(key)) => self.check_host_key(notes, remote, key),
                // TLS: OpenSSL has judged, and nothing of ours changes that.
                _ => Ok(CertificateCheckStatus::CertificatePassthrough),
            }
        });
        callbacks
    }

    fn credential(
        &self,
        notes: &Notes,
        user_of_address: Option<&str>,
        allowed: CredentialType,
    ) -> Result<Cred, git2::Error> {
        let user = self.credentials.username.as_deref().or(user_of_address).unwrap_or("git");
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user);
        }
        let first = notes.asked.replace(notes.asked.get() + 1) == 0;
        if allowed.contains(CredentialType::SSH_KEY) {
            return self.ssh_credential(notes, user, first);
        }
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
            return self.password(notes, user, first);
        }
        Err(notes.refuse(Fault::stalled(format!(
            "{}: the server asks for a way to log in that we don't have ({allowed:?}); ssh keys and \
             user with password or token work",
            self.place
        ))))
    }

    fn ssh_credential(&self, notes: &Notes, user: &str, first: bool) -> Result<Cred, git2::Error> {
        let place = &self.place;
        let Some(key) = &self.credentials.ssh_key else {
            if std::env::var_os("SSH_AUTH_SOCK").is_none() {
                return Err(notes.refuse(Fault::stalled(format!(
                    "{place}: the server wants an ssh key and none is configured: name one as \
                     `sshKey`, or start the agent with an ssh agent"
                ))));
            }
            if first {
                return Cred::ssh_key_from_agent(user);
            }
            return Err(notes.refuse(Fault::stalled(format!(
                "{place}: the server accepts no key of the ssh agent for user {user}"
            ))));
        };
        if !first {
            return Err(notes.refuse(Fault::stalled(format!(
                "{place}: the server does not accept the ssh key {} for user {user}. Check that \
                 its public half is registered there (a deploy key or authorized_keys), and that \
                 its passphrase, if it has one, is in `sshPassphraseFile`.",
                key.display()
            ))));
        }
        if let Err(error) = fs::File::open(key) {
            let what = format!("{place}: can't read the ssh key {}", key.display());
            return Err(notes.refuse(fault::sort_io(&error, what)));
        }
        let passphrase = match &self.credentials.ssh_passphrase_file {
            Some(file) => Some(self.secret(notes, file)?),
            None => None,
        };
        Cred::ssh_key(user, None, key, passphrase.as_deref())
    }

    fn password(&self, notes: &Notes, user: &str, first: bool) -> Result<Cred, git2::Error> {
        let place = &self.place;
        let Some(file) = &self.credentials.password_file else {
            return Err(notes.refuse(Fault::stalled(format!(
                "{place}: the server wants a password or token and none is configured: name a \
                 file that holds it as `passwordFile`. Some servers ask so for a repository that \
                 does not exist."
            ))));
        };
        if !first {
            return Err(notes.refuse(Fault::stalled(format!(
                "{place}: the server does not accept the password or token in {}. Check that it \
                 has not expired and may read (for the state store: write) this repository; the \
                 file is read anew at each try.",
                file.display()
            ))));
        }
        let secret = self.secret(notes, file)?;
        match secret.split_once(':') {
            Some((user, password)) => Cred::userpass_plaintext(user, password),
            None => Cred::userpass_plaintext(user, &secret),
        }
    }

    fn secret(&self, notes: &Notes, file: &Path) -> Result<String, git2::Error> {
        let what = || format!("{}: can't read {}", self.place, file.display());
        let text = fs::read_to_string(file)
            .map_err(|error| notes.refuse(fault::sort_io(&error, what())))?;
        let secret = text.trim_end_matches(['\n', '\r']);
        if secret.is_empty() {
            let fault = Fault::stalled(format!("{}: the file is empty", what()));
            return Err(notes.refuse(fault));
        }
        Ok(secret.to_owned())
    }

    fn check_host_key(
        &self,
        notes: &Notes,
        remote: &Remote,
        key: &git2::cert::CertHostkey<'_>,
    ) -> Result<CertificateCheckStatus, git2::Error> {
        let list = self.known_hosts().map_err(|fault| notes.refuse(fault))?;
        let Some(shown) = key.hostkey().map(|raw| HostKey(raw.to_vec())) else {
            return Err(
                notes.refuse(Fault::transient(format!("{}: the server showed no key", self.place)))
            );
        };
        let verdict = known_hosts::look_up(&list, &remote.host, remote.port, &shown);
        if verdict == Verdict::Known {
            return Ok(CertificateCheckStatus::CertificateOk);
        }
        Err(notes.refuse(self.distrust(remote, &shown, &verdict)))
    }

    fn distrust(&self, remote: &Remote, shown: &HostKey, verdict: &Verdict) -> Fault {
        let files = self.known_hosts_files();
        let file = files.first().map_or_else(String::new, |f| f.display().to_string());
        let host = known_hosts::written(&remote.host, remote.port);
        let print = format!("{} {}", shown.kind(), shown.fingerprint());
        let add = format!("add this line to {file}: {host} {shown}");
        let place = &self.place;
        Fault::stalled(match verdict {
            Verdict::Known => format!("{place}: the ssh key of {host} is known"),
            Verdict::Unknown => format!(
                "{place}: the server's ssh key is not known, so nothing was sent. It shows {print}. \
                 If that is what the server's owner says, {add}"
            ),
            Verdict::Changed { line, known } => format!(
                "{place}: THE SERVER'S SSH KEY HAS CHANGED, so nothing was sent. It shows {print}; \
                 line {line} of the known hosts has {}. Either the server was set up anew or \
                 somebody stands between. If its owner says that the new key is right, remove that \
                 line and {add}",
                known.fingerprint()
            ),
            Verdict::OtherType { line, known } => format!(
                "{place}: the server's ssh key is not known, so nothing was sent. It shows {print}; \
                 line {line} of the known hosts knows it by a key of type {} only. If the \
                 server's owner says that the key is right, {add}",
                known.kind()
            ),
            Verdict::Revoked { line } => format!(
                "{place}: the server shows an ssh key that was revoked ({print}, line {line} of \
                 the known hosts), so nothing was sent. Ask the server's owner."
            ),
        })
    }
}

/// The proxy to go through, from the environment: `https_proxy`, `no_proxy`.
pub(super) fn proxy<'a>() -> ProxyOptions<'a> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

/// How often the home directory is made.
const HOME_TRIES: u32 = 10;
/// Lines of the copy that libgit2 reads. It grows with every change of a list, and only orders a
/// preference.
const KNOWN_HOSTS_LINES_MAX: usize = 4096;

/// Makes the copy that libgit2 reads say of this host what our list says; other hosts' lines stay,
/// for other remotes.
fn copy_list(file: &Path, list: &str, remote: &Remote) -> Result<(), Fault> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let old = fs::read_to_string(file).unwrap_or_default();
    let others = old.lines().filter(|line| {
        !list.lines().any(|ours| ours == *line)
            && !known_hosts::is_about(line, &remote.host, remote.port)
    });
    let mut lines: Vec<&str> = others.chain(list.lines()).collect();
    lines.drain(..lines.len().saturating_sub(KNOWN_HOSTS_LINES_MAX));
    let text = lines.join("\n") + "\n";
    if text == old {
        return Ok(());
    }
    durable::write_file(file, text.as_bytes())
        .map_err(|error| fault::sort_io(&error, format!("can't write {}", file.display())))
}
