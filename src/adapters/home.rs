//! The agent's own directory: one agent at a time has it, and by it an agent knows its earlier lives.

use std::fs::{self, File};
use std::path::Path;

use crate::ports::Fault;

use super::git::write_file;

/// A data directory that this process has for itself until it is dropped.
#[derive(Debug)]
pub struct Home {
    /// Text unlike that of any other data directory; kept in it.
    pub installation: String,
    _lock: File,
}

impl Home {
    /// Takes the directory, made if it is not there. `new` is what it is to be known by from then
    /// on.
    pub fn take(dir: &Path, new: &str) -> Result<Self, Fault> {
        let fault = |error| Fault::stalled(format!("{}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(fault)?;
        let lock = File::create(dir.join("agent.lock")).map_err(fault)?;
        if lock.try_lock().is_err() {
            let dir = dir.display();
            let why = format!("another agent runs with the data directory {dir}; stop it first");
            return Err(Fault::stalled(why));
        }
        let path = dir.join("installation");
        let known = fs::read_to_string(&path).unwrap_or_default();
        let mut installation = known.trim().to_owned();
        if installation.is_empty() {
            new.clone_into(&mut installation);
            write_file(&path, format!("{installation}\n").as_bytes()).map_err(fault)?;
        }
        Ok(Self { installation, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_had_by_one_agent_and_keeps_its_mark() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let home = Home::take(&data, "one").expect("is free");
        let second = Home::take(&data, "two").expect_err("is taken");
        assert!(second.message.contains("another agent"), "{second}");
        drop(home);
        assert_eq!(Home::take(&data, "three").expect("is free").installation, "one");
    }
}
