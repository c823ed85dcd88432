//! What is broken, as far as the picture shows it.

use super::Trouble;
use crate::kinds::name::NodeName;
use crate::view::objects::{key_doubt_of, settings_of};
use crate::view::picture::Picture;

/// Nodes with which something is the matter are listed up to this many; `get nodes` has the rest.
const NODES_LISTED: usize = 5;

/// What is broken, and what to do about it.
pub(super) fn faults(picture: &Picture) -> Vec<Trouble> {
    let health = &picture.health;
    let parts = [
        (
            "desired repository",
            &health.source_fault,
            "what is in force stays in force; check the remote's address, the key and the network, then try `windlass sync`",
        ),
        (
            "newest commit",
            &health.load_fault,
            "what is in force stays in force; it is tried again by itself, `windlass sync` tries now",
        ),
        (
            "state store",
            &health.store_fault,
            "pods and Services go on, nothing new is decided; check `state.url`: its disk and permissions, or its server, the key and the network",
        ),
        (
            "runtime",
            &health.runtime_fault,
            "containers go on, none is started; check that Docker answers: `docker info`, `systemctl status docker`",
        ),
        (
            "network",
            &health.network_fault,
            "Services may not be reached from this node; it is tried again by itself, the agent's log has the command that failed",
        ),
        (
            "disk",
            &health.disk_fault,
            "pods go on, new images may find no room; make room, or see `images.collect` in agent.yaml",
        ),
    ];
    let known = parts.into_iter().filter_map(|(part, fault, next)| {
        Some(Trouble { part: part.to_owned(), message: fault.clone()?, next: next.to_owned() })
    });
    let mut faults: Vec<Trouble> = known.collect();
    if health.branch_is_missing {
        faults.push(Trouble {
            part: "desired repository".to_owned(),
            message: "the branch does not exist".to_owned(),
            next: "push it, or name another in agent.yaml".to_owned(),
        });
    }
    faults.extend(health.deaf.iter().map(|(name, why)| {
        Trouble {
            part: name.clone(),
            message: why.clone(),
            next: "nothing waits for it; it is tried again by itself: check its address, token and network"
                .to_owned(),
        }
    }));
    if let Some(restored) = &picture.state.restored {
        let mut names: Vec<String> =
            restored.awaits.iter().take(NODES_LISTED).map(ToString::to_string).collect();
        let more = restored.awaits.len() - names.len();
        names.extend((more > 0).then(|| format!("{more} more")));
        faults.push(Trouble {
            part: "restored state".to_owned(),
            message: format!(
                "pods with a name of their own don't begin before {} has read that the state was taken, \
                 and has ended what it does not know",
                names.join(", ")
            ),
            next: "start the agent there; once the node is NotReady and gone for good, `windlass fence` it"
                .to_owned(),
        });
    }
    faults.extend(of_nodes(picture, "settings", "settings that differ from the fleet's", |name| {
        settings_of(picture, name)
    }));
    faults.extend(of_nodes(picture, "key", "keys that do not count", |name| {
        let next = "`windlass init --print-key` on that node prints what to commit; if it says \
                    another key than its register, guard the state store's key";
        Some((key_doubt_of(picture, name)?.to_string(), next.to_owned()))
    }));
    faults
}

/// What is the matter with nodes: some of them, and how many more there are.
fn of_nodes(
    picture: &Picture,
    part: &str,
    what: &str,
    look: impl Fn(&NodeName) -> Option<(String, String)>,
) -> Vec<Trouble> {
    let found = picture.nodes.keys().filter_map(|name| Some((name, look(name)?)));
    let mut all: Vec<Trouble> = found
        .map(|(name, (message, next))| Trouble { part: format!("{part} of {name}"), message, next })
        .collect();
    if let Some(more) = all.len().checked_sub(NODES_LISTED).filter(|more| *more > 0) {
        all.truncate(NODES_LISTED);
        all.push(Trouble {
            part: part.to_owned(),
            message: format!("{more} more nodes have {what}"),
            next: "`windlass get nodes` shows which".to_owned(),
        });
    }
    all
}
