//! libgit2's own settings: they belong to the whole process, like the time zone, so they are set in
//! one place and before anything else.
//!
//! - Both time-outs are always set. With neither, a silent server hangs every transport for ever;
//!   with the connect time-out alone, healthy http and git:// servers fail at once.
//! - Objects and refs are synced to disk before a call returns.
//! - No Git configuration of this machine is read: an `insteadOf` or a proxy in root's
//!   `~/.gitconfig` must not decide what a fleet runs.
//! - The owner of a repository is not checked. Git's check protects a person who steps into a
//!   stranger's directory; here an operator named the path, and libgit2 runs nothing it finds there.
//!
//! This is the only file of the adapter with `unsafe` in it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use git2::ConfigLevel;

use crate::ports::Fault;

/// How long Git may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a server has accepted the connection. Of the whole process: the longest wish wins.
    pub connect: Duration,
    /// Between two signs of life of a server. Of the whole process: the longest wish wins.
    pub server: Duration,
    /// A whole call that stays on this machine.
    pub local: Duration,
    /// A whole call that goes over the network.
    pub network: Duration,
}

impl Default for Timeouts {
    /// Ten and thirty seconds are what people wait before they suspect a network; two minutes
    /// bring 100 MB over a slow line.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            server: Duration::from_secs(30),
            local: Duration::from_secs(30),
            network: Duration::from_secs(120),
        }
    }
}

/// libgit2 keeps parsed trees and commits; 16 MB hold those of 10,000 files. Its default is 256 MB.
const OBJECT_CACHE_BYTES: isize = 16 << 20;
/// How much of the packs is mapped at a time; counts as memory of this process while in use.
const PACK_MAPPED_BYTES: usize = 64 << 20;

/// What has been set so far.
struct Done {
    basics: bool,
    connect_ms: i32,
    server_ms: i32,
    certificates: BTreeSet<PathBuf>,
}

static DONE: Mutex<Done> =
    Mutex::new(Done { basics: false, connect_ms: 0, server_ms: 0, certificates: BTreeSet::new() });

/// Prepares libgit2 for this process. Called whenever an adapter is opened; the first call does
/// everything, later ones only lengthen time-outs.
pub(super) fn prepare(timeouts: &Timeouts) -> Result<(), Fault> {
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let connect_ms = millis(timeouts.connect).max(done.connect_ms);
    let server_ms = millis(timeouts.server).max(done.server_ms);
    apply(!done.basics, connect_ms, server_ms)
        .map_err(|error| Fault::stalled(format!("libgit2 can't be set up: {}", error.message())))?;
    done.basics = true;
    done.connect_ms = connect_ms;
    done.server_ms = server_ms;
    Ok(())
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX).max(1)
}

#[allow(unsafe_code, reason = "process-wide options of libgit2; guarded by the lock on DONE")]
fn apply(first: bool, connect_ms: i32, server_ms: i32) -> Result<(), git2::Error> {
    // SAFETY: each option is a plain integer or a string that libgit2 copies. The lock on DONE
    // keeps two writers apart, and an adapter opens repositories only after this returned. A later
    // call writes the two time-outs while others may read them: an aligned int, old or new.
    unsafe {
        git2::opts::set_server_connect_timeout_in_milliseconds(connect_ms)?;
        git2::opts::set_server_timeout_in_milliseconds(server_ms)?;
        if !first {
            return Ok(());
        }
        for level in
            [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global]
        {
            git2::opts::set_search_path(level, "")?;
        }
        git2::opts::set_verify_owner_validation(false)?;
        git2::opts::set_cache_max_size(OBJECT_CACHE_BYTES)?;
        git2::opts::set_mwindow_mapped_limit(PACK_MAPPED_BYTES)?;
        // Not in git2::opts.
        libgit2_sys::git_libgit2_opts(option(libgit2_sys::GIT_OPT_ENABLE_FSYNC_GITDIR), 1);
    }
    Ok(())
}

fn option(value: u32) -> i32 {
    i32::try_from(value).unwrap_or_default()
}

/// Trusts the certificates in a file, beside those of the machine. It can't be undone, and holds
/// for every https remote of the process.
#[allow(unsafe_code, reason = "an option of libgit2; guarded by the lock on DONE")]
pub(super) fn trust_certificates(file: &Path) -> Result<(), Fault> {
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if done.certificates.contains(file) {
        return Ok(());
    }
    let name = CString::new(file.as_os_str().as_bytes()).map_err(Fault::stalled)?;
    // SAFETY: OpenSSL's context takes the file under a lock of its own; libgit2 copies nothing.
    let outcome = unsafe { git2::opts::set_ssl_cert_file(name) };
    outcome.map_err(|error| {
        Fault::stalled(format!(
            "the certificates in {} can't be used: {}. The file must hold PEM certificates.",
            file.display(),
            error.message()
        ))
    })?;
    done.certificates.insert(file.to_path_buf());
    Ok(())
}

/// Where libgit2 believes that its user lives. Read-locked while ssh connects.
pub(super) static SSH_HOME: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Points libgit2 to a home directory. It reads `.ssh/known_hosts` there, and asks a server for a
/// key of a type that stands in that file; whether the key is right is decided by
/// [`super::known_hosts`], not by libgit2.
#[allow(unsafe_code, reason = "an option of libgit2; guarded by the lock on SSH_HOME")]
pub(super) fn ssh_home(home: &Path, current: &mut Option<PathBuf>) -> Result<(), Fault> {
    let name = CString::new(home.as_os_str().as_bytes()).map_err(Fault::stalled)?;
    // SAFETY: libgit2 copies the string. The caller holds the write lock of SSH_HOME, and whoever
    // connects by ssh holds its read lock.
    let code = unsafe {
        libgit2_sys::git_libgit2_opts(option(libgit2_sys::GIT_OPT_SET_HOMEDIR), name.as_ptr())
    };
    if code < 0 {
        return Err(Fault::stalled("libgit2 refuses its home directory"));
    }
    *current = Some(home.to_path_buf());
    Ok(())
}
