//! Asking a container whether it is well, from the node.

use std::net::IpAddr;
use std::time::Duration;

/// A question. Programs run in the container go through [`super::runtime::Call::Exec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whom and what.
    pub target: Target,
    /// After this, no answer is a bad answer.
    pub timeout: Duration,
}

/// Whom and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// HTTP GET; 200 to 399 is good. Redirects to other hosts are not followed.
    Http {
        /// The host: an address or a name.
        host: String,
        /// The port.
        port: u16,
        /// Path and query.
        path: String,
        /// Whether TLS is spoken; the certificate is not verified.
        tls: bool,
        /// Further headers.
        headers: Vec<(String, String)>,
    },
    /// A connection that opens.
    Tcp {
        /// The host: an address or a name.
        host: String,
        /// The port.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The address.
        host: IpAddr,
        /// The port.
        port: u16,
        /// The service asked about.
        service: String,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the answer was good.
    pub good: bool,
    /// What it was, for people.
    pub message: String,
}
