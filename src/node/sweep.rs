//! Containers, links and files of pods that are not ours any more, or never were bound here: they
//! are brought to a proper end with the time their labels allow them, then cleared away.

use crate::kinds::name::{PodKey, Uid};
use crate::kinds::time::Now;

use super::house::House;
use super::memory::{Memory, Want};
use super::{Around, Seen, sandbox, stop};

pub(super) fn next(
    uid: &Uid,
    house: &House<'_>,
    seen: &Seen,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    let nothing_left = house.is_empty()
        && !seen.files.contains(uid)
        && !seen.links.contains(&sandbox::link_name(uid));
    let is_idle = memory.pods.get(uid).is_none_or(super::memory::PodMemory::is_still);
    if nothing_left && is_idle {
        memory.forget(uid);
        return Vec::new();
    }
    let key = house.all().next().map(|container| container.marks.pod.clone());
    let unnamed = || PodKey {
        namespace: crate::kinds::name::Name::trusted("unknown"),
        name: crate::kinds::name::Name::trusted(uid.as_str()),
    };
    memory.pod(uid, &key.unwrap_or_else(unnamed), now);
    stop::end_pod(uid, None, house, seen, around, memory, now)
}
