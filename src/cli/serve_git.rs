//! `windlass serve-git`: what an ssh key of a node opens on the machine that has the fleet's
//! repositories, and nothing else.
//!
//! It stands in `authorized_keys` before the key, so that sshd runs it whatever the client asked for:
//!
//! ```text
//!   command="windlass serve-git --node n2 --desired /srv/desired.git /srv/state.git",restrict ssh-ed25519 AAAA…
//! ```

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use super::fault::Failure;
use crate::adapters::git::gate::{self, Rights};
use crate::kinds::name::{NameRule, NodeName};

/// Where sshd says what the client asked for.
const REQUEST: &str = "SSH_ORIGINAL_COMMAND";

/// Arguments of `windlass serve-git`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("who").required(true),
    after_help = "In authorized_keys:\n  command=\"windlass serve-git --node n2 --desired \
                  /srv/desired.git /srv/state.git\",restrict ssh-ed25519 AAAA…\nA node reads both \
                  repositories, and writes of the state its own ref and, unless --never-leads, the \
                  coordinator's."
)]
pub(super) struct ServeGit {
    /// The node whose key this is
    #[arg(long, value_name = "NAME", group = "who", requires = "state")]
    node: Option<String>,
    /// The key is a person's, who pushes to the desired repository and sees no state
    #[arg(long, group = "who", requires = "desired", conflicts_with_all = ["state", "notes", "never_leads"])]
    person: bool,
    /// Repository with the manifests; a node reads it
    #[arg(long, value_name = "REPOSITORY")]
    desired: Option<PathBuf>,
    /// The node may write refs/notes/windlass there
    #[arg(long, requires = "desired")]
    notes: bool,
    /// The node may not coordinate: it can't write the fleet's decisions
    #[arg(long)]
    never_leads: bool,
    /// Repository with the state
    #[arg(value_name = "REPOSITORY")]
    state: Option<PathBuf>,
}

pub(super) fn run(args: &ServeGit) -> Result<(), Failure> {
    let served = args.served()?;
    let refused = |why: String| Failure::hinted(why, args.may());
    let request =
        std::env::var(REQUEST).map_err(|_| refused("this key opens no shell".to_owned()))?;
    let (service, path) = gate::read_request(&request).map_err(refused)?;
    // The text is compared, and our path is used: there is nothing in it to play with.
    let found = served.iter().find(|(repository, _)| repository.as_os_str() == &*path);
    let (repository, rights) =
        found.ok_or_else(|| refused(format!("{path} is not served to this key")))?;
    let status = gate::serve(service, repository, rights)
        .map_err(|error| Failure::plain(format!("git can't be run: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::plain(format!("git ended: {status}"))),
    }
}

impl ServeGit {
    /// The repositories, and what may be written there.
    fn served(&self) -> Result<Vec<(&Path, Rights)>, Failure> {
        let mut served = Vec::new();
        if let (Some(name), Some(state)) = (&self.node, &self.state) {
            let name = NodeName::parse(name, NameRule::Subdomain)
                .map_err(|why| Failure::usage(format!("--node {name}: {why}")))?;
            served.push((&**state, Rights::Node { name, leads: !self.never_leads }));
        }
        if let Some(desired) = &self.desired {
            let rights = match (self.person, self.notes) {
                (true, _) => Rights::People,
                (false, true) => Rights::Notes,
                (false, false) => Rights::Read,
            };
            served.push((desired, rights));
        }
        for (path, _) in &served {
            if !path.is_absolute() {
                return Err(Failure::usage(format!("{} is no whole path", path.display())));
            }
        }
        Ok(served)
    }

    /// What the key is for, for whoever tries more.
    fn may(&self) -> String {
        let paths = self.desired.iter().chain(&self.state).map(|path| path.display().to_string());
        let paths: Vec<String> = paths.collect();
        let who = self.node.as_ref().map_or("a person".to_owned(), |node| format!("node {node}"));
        format!("it is the key of {who}, for git fetch and git push of {}", paths.join(" and "))
    }
}
