//! Kernel parameters of the network namespace that the calling thread is in.

use std::io::ErrorKind;
use std::path::Path;

use crate::ports::Fault;

/// The file of a parameter as manifests write it: `net.ipv4.tcp_keepalive_time`, or with slashes,
/// where a part has a dot of its own: `net/ipv4/conf/eth0.1/forwarding` (`sysctl(8)`).
///
/// Only `net.…`, which belongs to the namespace; a name can't climb out of it.
pub(super) fn path_of(name: &str) -> Result<String, Fault> {
    let slashed = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name.replace('.', "/"),
        _ => name.to_owned(),
    };
    let parts: Vec<&str> = slashed.split('/').collect();
    let is_plain = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
    if parts.len() < 2 || parts[0] != "net" || !parts.iter().all(is_plain) {
        return Err(Fault::stalled(format!("'{name}' is not a kernel parameter of a network")));
    }
    Ok(slashed)
}

/// Sets a parameter, given as a path below `/proc/sys`.
pub(super) fn write(path: &str, value: &str) -> Result<(), Fault> {
    set(path, value).map_err(|error| {
        Fault::stalled(format!("setting kernel parameter {path} to '{value}': {error}"))
    })
}

/// Sets a parameter if this kernel has it.
pub(super) fn write_if_there(path: &str, value: &str) -> Result<(), Fault> {
    match set(path, value) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(_) => write(path, value),
        Ok(()) => Ok(()),
    }
}

/// Writes only what differs: some parameters reset others when written.
fn set(path: &str, value: &str) -> std::io::Result<()> {
    let path = Path::new("/proc/sys").join(path);
    let same = |there: String| there.split_whitespace().eq(value.split_whitespace());
    if std::fs::read_to_string(&path).is_ok_and(same) {
        return Ok(());
    }
    std::fs::write(&path, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_paths_and_stay_below_net() {
        for (name, path) in [
            ("net.ipv4.tcp_syncookies", Some("net/ipv4/tcp_syncookies")),
            ("net/ipv4/conf/eth0.1/forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("kernel.shm_rmid_forced", None),
            ("net", None),
            ("net.", None),
            ("net/../kernel/core_pattern", None),
            ("../net/x", None),
            ("", None),
        ] {
            assert_eq!(path_of(name).ok().as_deref(), path, "{name:?}");
        }
    }
}
