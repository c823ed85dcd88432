//! The file with this node's keys. It is read when it is asked for, so that it can be replaced while
//! the agent runs, and not at all if others can read it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::kinds::age::Keyring;

/// Reads the keys; why there are none is said in the keyring.
pub fn read(path: &Path) -> Keyring {
    let file = path.display().to_string();
    let without =
        |trouble| Keyring { trouble: Some(trouble), file: file.clone(), ..Keyring::default() };
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return without(format!("there is no key: no file {file}"));
        }
        Err(error) => return without(format!("{file}: {error}")),
    };
    if mode & 0o077 != 0 {
        return without(format!("{file} is not read, because others can read it: chmod 600"));
    }
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => Keyring::parse(&file, &text),
        Err(error) => without(format!("{file}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("age.txt");
        let trouble = || read(&path).trouble.unwrap_or_default();
        assert!(trouble().starts_with("there is no key"), "{}", trouble());
        fs::write(
            &path,
            "AGE-SECRET-KEY-149DS54TCMK90V7MCCDZMFV29GS97XJFQ7DD8TEPQDAQSKH5GG56SSCTT92\n",
        )
        .expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its mode");
        assert!(trouble().contains("chmod 600"), "{}", trouble());
        assert!(read(&path).identities.is_empty());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        assert_eq!((trouble().as_str(), read(&path).identities.len()), ("", 1));
    }
}
