//! Docker's errors, sorted by who must act and freed of the layers they came through.

use std::error::Error as _;
use std::path::Path;

use bollard::errors::Error;

use crate::ports::{Fault, FaultKind};

/// Sorts an error of a request.
pub(super) fn of(error: &Error, socket: &Path) -> Fault {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            of_status(*status_code, message)
        }
        Error::RequestTimeoutError => Fault::deadline("Docker has not answered in time"),
        Error::DockerStreamError { error } => Fault::transient(error),
        _ => unreachable_docker(error, socket),
    }
}

/// Sorts an answer that is not a success.
pub(super) fn of_status(status: u16, message: &str) -> Fault {
    let kind = match status {
        404 => FaultKind::NotFound,
        400 | 401 | 403 => FaultKind::Stalled,
        _ => FaultKind::Transient,
    };
    Fault { kind, message: plain(message).to_owned() }
}

/// The HTTP status of an error, where it came as one.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Docker's own text, where the error came from it.
pub(super) fn message(error: &Error) -> &str {
    match error {
        Error::DockerResponseServerError { message, .. } => message,
        _ => "",
    }
}

fn unreachable_docker(error: &Error, socket: &Path) -> Fault {
    let mut deepest: &dyn std::error::Error = error;
    let mut is_forbidden = false;
    let mut cause = error.source();
    while let Some(inner) = cause {
        is_forbidden |= inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        deepest = inner;
        cause = inner.source();
    }
    let message = format!("Docker at {}: {deepest}", socket.display());
    if is_forbidden {
        Fault::stalled(format!("{message}; the agent must run as root"))
    } else {
        Fault::transient(message)
    }
}

/// What runc, its shim, containerd and Docker put before what went wrong.
const WRAPPINGS: [&str; 9] = [
    "Error response from daemon: ",
    "failed to create task for container: ",
    "failed to create shim task: ",
    "failed to create shim: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "runc create failed: ",
    "unable to start container process: ",
    "error during container init: ",
];

/// runc before 1.1 says which line of its source it was, before each layer.
const CAUSED: &str = " caused: ";

/// Takes the wrappings off: `exec: "foo": executable file not found in $PATH`.
pub(super) fn plain(message: &str) -> &str {
    let mut text = message.trim();
    loop {
        let before = text.len();
        for wrapping in WRAPPINGS {
            text = text.strip_prefix(wrapping).unwrap_or(text);
        }
        // `container_linux.go:380: starting container process caused: …`
        if let Some((source, rest)) = text.split_once(": ") {
            let is_source_line = source
                .split_once(".go:")
                .is_some_and(|(_, line)| line.bytes().all(|b| b.is_ascii_digit()));
            if is_source_line {
                text = rest;
            }
        }
        if let Some(rest) = text.strip_prefix("starting container process") {
            text = rest.strip_prefix(CAUSED).unwrap_or(text);
        }
        if text.len() == before {
            break;
        }
    }
    text.strip_suffix(": unknown").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappings_come_off() {
        let table = [
            (
                r#"OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "foo": executable file not found in $PATH: unknown"#,
                r#"exec: "foo": executable file not found in $PATH"#,
            ),
            (
                r#"failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "foo": executable file not found in $PATH: unknown"#,
                r#"exec: "foo": executable file not found in $PATH"#,
            ),
            (
                "OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux.go:545: container init caused: rootfs_linux.go:76: mounting x caused: y: unknown",
                "container init caused: rootfs_linux.go:76: mounting x caused: y",
            ),
            ("No such image: nope:latest", "No such image: nope:latest"),
            ("", ""),
        ];
        for (message, wanted) in table {
            assert_eq!(plain(message), wanted);
        }
    }

    #[test]
    fn answers_are_sorted_by_who_must_act() {
        for (status, kind) in [
            (400, FaultKind::Stalled),
            (404, FaultKind::NotFound),
            (409, FaultKind::Transient),
            (500, FaultKind::Transient),
        ] {
            assert_eq!(of_status(status, "x").kind, kind, "{status}");
        }
    }
}
