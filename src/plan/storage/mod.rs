//! Claims, and the volumes they are bound to.
//!
//! A cloakroom: who brings a coat gets a number, and whoever comes with that number gets that coat
//! and no other. Pods come and go, the number stays; and a coat is thrown away only if its owner
//! said so in writing, after he has handed in the number.
//!
//! ```text
//! claims    which claims there are: those of the repository, those made for pods
//! reclaim   volumes whose claim is gone: kept, or emptied where that is written
//! bind      claims that need not wait for a pod get a volume
//! stock     which volumes and classes there are, and which volume suits a claim
//! ```
//! The others get theirs from the scheduler ([`super::schedule`]), in the same turn: it chooses the
//! node, then the claim is bound to a volume of that node. From then on that node is the pod's.
//!
//! The rule: no commit destroys data unless two people's words say so, the class' or the volume's
//! `Delete` and a prune trailer. (A volume that is written in a pod, under `ephemeral`, is the pod's as
//! an emptyDir is: its data goes with the pod, whatever its class says.) So a volume that its claim left is kept, and a claim of the same
//! name takes it back: a revert finds its data again. (In Kubernetes a released volume is lost to
//! everybody until a person sets it free. It must be for others; the claim of that name is no other.)
//!
//! The limit: sizes are compared, not enforced; a directory may grow past what was asked for it.

mod bind;
mod claims;
mod reclaim;
mod stock;

pub(super) use bind::{Choice, bind, choose, first_use, waits_for_pod};
pub(super) use claims::{keep_data, would_lose};
pub use stock::{Stock, VolumeFacts, claims_of, mounted};

use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::state::RecordKey;

use super::work::Work;

/// Who says so in events, as Kubernetes names it.
const SOURCE: &str = "persistentvolume-controller";

/// Brings claims and volumes up to date, and binds those that need not wait for a pod.
pub(super) fn keep_storage(work: &mut Work) {
    claims::keep(work);
    reclaim::keep(work);
    bind::bind_claims(work);
}

/// The key of a claim as an object.
fn claim_key(key: &RecordKey) -> Key {
    Key::namespaced(Kind::PersistentVolumeClaim, &key.namespace, &key.name)
}
