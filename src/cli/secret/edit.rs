//! `windlass secret edit`: the values are in the clear in memory only, in a directory of our own that goes
//! away whatever happens.

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use zeroize::Zeroizing;

use super::{One, with_means};
use crate::cli::fault::Failure;
use crate::cli::out::talk;
use crate::desired::sealed;

/// Memory that is never written to a disk but by way of swap.
const MEMORY: &str = "/dev/shm";

pub(super) fn run(one: &One) -> Result<(), Failure> {
    let before = one.read()?;
    let plain = one.decrypt(&before)?;
    let file = Scratch::new(one, &plain)?;
    loop {
        open_editor(&file.path)?;
        let after = fs::read_to_string(&file.path).map_err(|error| one.unreadable(&error))?;
        let after = Zeroizing::new(after);
        if *after == *plain {
            talk(&format!("{} stays as it is\n", one.name()));
            return Ok(());
        }
        let keyring = one.keyring();
        let sealed =
            with_means(|means| sealed::reencrypt(&one.name(), &before, &after, &keyring, means))?;
        match sealed {
            Ok(sealed) => {
                one.write(&sealed)?;
                talk(&format!("{} is encrypted\n", one.name()));
                return Ok(());
            }
            Err(why) if !std::io::stdin().is_terminal() => return Err(one.refused(&why)),
            Err(why) => {
                talk(&format!(
                    "error: {}: {why}\nEnter to go on editing, Ctrl-D to leave it as it was\n",
                    one.name()
                ));
                let mut line = String::new();
                if std::io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
                    return Err(Failure::Code(1));
                }
            }
        }
    }
}

/// Runs the editor as Git does: by a shell, with the file as its last word.
fn open_editor(path: &Path) -> Result<(), Failure> {
    let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = named.filter(|text| !text.is_empty()).unwrap_or_else(|| "vi".to_owned());
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path);
    let status = command.status();
    let status = status.map_err(|error| Failure::plain(format!("{editor}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::plain(format!("{editor} ended with {status}; the file stays as it is")))
}

/// A file in memory, in a directory of its own, for as long as it is held. Signals that would end us
/// wait for that long.
struct Scratch {
    directory: PathBuf,
    path: PathBuf,
    blocked: SigSet,
}

impl Scratch {
    fn new(one: &One, plain: &str) -> Result<Self, Failure> {
        let blocked: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let fault = |error: std::io::Error| Failure::plain(format!("{MEMORY}: {error}"));
        let name = format!("windlass-{}", crate::cli::agent::random());
        let directory = Path::new(MEMORY).join(name);
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(fault)?;
        let path = directory.join(one.file.file_name().unwrap_or_default());
        let scratch = Self { directory, path, blocked };
        // Without it a signal leaves the file behind: nothing worse than that, so it is no reason to stop.
        let _ = scratch.blocked.thread_block();
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&scratch.path);
        file.and_then(|mut file| file.write_all(plain.as_bytes())).map_err(fault)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What an editor has left beside it goes too.
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            talk(&format!("remove {} by hand: {error}\n", self.directory.display()));
        }
        let _ = self.blocked.thread_unblock();
    }
}
