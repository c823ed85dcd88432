//! Links, addresses and routes: the wires of the house.
//!
//! Everything goes over netlink, with no process started. What is ours carries our mark: links are
//! called `wdl…` (the tunnel to nodes on other links `wdl-vx`), routes have a protocol number of their own, the DNS address has the label
//! `lo:wdl`; nothing without a mark is ever changed or removed. A network namespace belongs to a
//! thread, so each call runs on a thread of its own that ends with it, and no thread of the
//! program's pool ever changes sides. Runs in the network namespace of the process.

mod attach;
mod node;
mod resolvers;
mod survey;
mod sysctl;
mod tunnel;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use super::aside::aside;
use crate::ports::Fault;
use crate::ports::links::{Answer, Call, LINK_PREFIX};

pub use self::wire::ROUTE_PROTOCOL;

/// Netlink answers in microseconds; a kernel that is busy taking many links down in seconds.
const CALL_MAX: Duration = Duration::from_secs(20);

/// The machine's links.
#[derive(Clone, Debug)]
pub struct Links {
    /// Where the machine's resolvers are written, best first: the second is read where the first
    /// only names the local stub of systemd-resolved.
    resolver_files: Vec<PathBuf>,
}

impl Default for Links {
    fn default() -> Self {
        Self::new(["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"])
    }
}

impl Links {
    /// Links of this network namespace, with resolvers from these files.
    pub fn new<P: Into<PathBuf>>(resolver_files: impl IntoIterator<Item = P>) -> Self {
        Self { resolver_files: resolver_files.into_iter().map(Into::into).collect() }
    }

    /// Does what is asked.
    pub async fn call(&self, call: Call) -> Result<Answer, Fault> {
        let files = self.resolver_files.clone();
        let what = describe(&call);
        let done = aside("links", move || perform(call, &files));
        match tokio::time::timeout(CALL_MAX, done).await {
            Ok(done) => done.and_then(|done| done).map_err(|fault| fault.while_doing(what)),
            Err(_) => Err(Fault::deadline(format!("{what}: not done within {CALL_MAX:?}"))),
        }
    }
}

fn describe(call: &Call) -> String {
    match call {
        Call::Attach(attachment) => {
            format!("attaching link {} for {}", attachment.link, attachment.ip)
        }
        Call::Detach { link } => format!("detaching link {link}"),
        Call::List => "listing links".into(),
        Call::Ensure(_) => "setting the node's addresses and routes".into(),
        Call::Survey => "looking at the machine's network".into(),
        Call::Clear => "removing links, routes and addresses".into(),
    }
}

/// One call, on a thread of its own from beginning to end.
fn perform(call: Call, resolver_files: &[PathBuf]) -> Result<Answer, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Fault::transient)?;
    runtime.block_on(async {
        match call {
            Call::Attach(attachment) => attach::attach(&attachment).await.map(|()| Answer::Done),
            Call::Detach { link } => attach::detach(&link).await.map(|()| Answer::Done),
            Call::List => list().await.map(Answer::Links),
            Call::Ensure(network) => node::ensure(&network).await.map(|()| Answer::Done),
            Call::Survey => {
                survey::survey(resolver_files).await.map(|seen| Answer::Survey(Box::new(seen)))
            }
            Call::Clear => node::clear().await.map(|()| Answer::Done),
        }
    })
}

async fn list() -> Result<Vec<String>, Fault> {
    let links = wire::Wire::open()?.links().await?;
    let mut names: Vec<String> =
        links.into_iter().filter(wire::Link::is_ours).map(|link| link.name).collect();
    names.sort();
    Ok(names)
}

/// Refuses names without our mark, so that a mistake elsewhere can't take a card away.
fn check_mark(link: &str) -> Result<(), Fault> {
    if link.starts_with(LINK_PREFIX) && link.len() > LINK_PREFIX.len() {
        return Ok(());
    }
    Err(Fault::stalled(format!(
        "link '{link}' has not our mark '{LINK_PREFIX}…' and is left alone"
    )))
}
