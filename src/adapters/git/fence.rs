//! A notch in the doorpost: the highest decision this node has acted on, kept on this node.
//!
//! A store that was restored from a backup shows older decisions as if they were new. The notch is
//! not in the store, so it doesn't go back with it. It only ever rises, and it is on the disk
//! before the agent acts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::kinds::binding::Generation;
use crate::ports::Fault;

use super::{durable, fault};

/// The file in the node's data directory.
const FILE: &str = "fence.json";

pub(super) struct Fence {
    path: PathBuf,
    /// Locked while writing, so that a call that was given up can't write after a later one.
    current: Mutex<Generation>,
}

impl Fence {
    /// Reads the fence of the node whose data is in `data`; without a file it is the lowest.
    pub(super) fn open(data: &Path) -> Result<Self, Fault> {
        durable::make_dir(data, 0o700)?;
        let path = data.join(FILE);
        let current = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| unreadable(&path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Generation::default(),
            Err(error) => {
                return Err(fault::sort_io(&error, format!("can't read {}", path.display())));
            }
        };
        Ok(Self { path, current: Mutex::new(current) })
    }

    /// The highest decision that may have been acted on.
    pub(super) fn current(&self) -> Generation {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the fence; when this returns, a power cut can't lower it.
    pub(super) fn raise(&self, to: Generation) -> Result<(), Fault> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if to <= *current {
            return Ok(());
        }
        let mut text = serde_json::to_vec(&to).map_err(Fault::stalled)?;
        text.push(b'\n');
        durable::write_file(&self.path, &text).map_err(|error| {
            fault::sort_io(&error, format!("can't write the fence {}", self.path.display()))
        })?;
        *current = to;
        Ok(())
    }
}

fn unreadable(path: &Path) -> Fault {
    Fault::stalled(format!(
        "{} is unreadable. It holds the highest decision this node has acted on, so that it never \
         follows an older one. If the state store was not restored from a backup lately, remove \
         the file: the node then trusts the store. Otherwise write the epoch and number to begin \
         from, for example {{\"epoch\":2,\"number\":1}}.",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(epoch: u64, number: u64) -> Generation {
        Generation { epoch, number }
    }

    #[test]
    fn the_fence_only_rises_and_is_found_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let fence = Fence::open(&data).expect("opens");
        assert_eq!(fence.current(), Generation::default());
        fence.raise(generation(1, 7)).expect("raises");
        fence.raise(generation(1, 3)).expect("is above already");
        assert_eq!(fence.current(), generation(1, 7));
        let again = Fence::open(&data).expect("opens");
        assert_eq!(again.current(), generation(1, 7));
        std::fs::write(data.join(FILE), "").expect("writes");
        let fault = Fence::open(&data).err().expect("unreadable");
        assert!(fault.message.contains("fence.json"), "{fault}");
    }
}
