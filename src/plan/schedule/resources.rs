//! Whether what a pod reserves is left on the node.

use crate::kinds::pod::ResourceList;

use super::{Machine, Why};

pub(super) fn refuses(requests: &ResourceList, machine: &Machine) -> Vec<Why> {
    let mut refusals: Vec<Why> = requests
        .iter()
        .filter(|(_, asked)| !asked.is_zero())
        .filter(|(name, asked)| machine.free(name) < **asked)
        .map(|(name, _)| Why::Resource(name.clone()))
        .collect();
    if machine.pods >= machine.pods_max() {
        refusals.push(Why::TooManyPods);
    }
    refusals
}
