//! What can be done for a pod, one thing at a time.

use crate::kinds::digest::Digest;
use crate::kinds::name::Name;
use crate::ports::runtime::ContainerId;

use super::probes::ProbeKind;

/// One thing to be done for a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Write the pod's files; the digest of what is written.
    Files(Digest),
    /// Start the pause container.
    Pause,
    /// Give the pod its link; the pause container it belongs to.
    Attach(ContainerId),
    /// Have a container's image.
    Image(Name),
    /// Start a container.
    Start(Name),
    /// Run a container's `postStart`; the life it belongs to.
    PostStart(Name, ContainerId),
    /// Run a container's `preStop`.
    PreStop(ContainerId),
    /// Tell a container to stop.
    Signal(ContainerId),
    /// Ask whether a container is well; the life it belongs to.
    Probe(Name, ProbeKind, ContainerId),
    /// Read the end of what a container said, where it left no last words.
    Tail(Name, ContainerId),
    /// Take what a container left as its last words.
    LastWords(Name, ContainerId),
    /// Remove containers.
    Remove(Vec<ContainerId>),
    /// Take the pod's link away.
    Detach(String),
    /// Remove the pod's files.
    RemoveFiles,
}
