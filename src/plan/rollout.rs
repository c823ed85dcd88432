//! One step of a roll-out: how many pods each ReplicaSet is to have now.
//!
//! Two bounds hold at every step: never more than `replicas + maxSurge` pods, never fewer than
//! `replicas - maxUnavailable` available ones. The arithmetic follows Kubernetes' `rolling.go`,
//! `recreate.go` and `sync.go`, so that a roll-out looks as its users expect. While a part goes ahead
//! ([`super::canary`]) the same steps lead to another goal: so many pods of the current set, the rest of
//! the one that is held on to.

use crate::kinds::workload::Strategy;
use crate::state::RecordKey;

use super::deployment::{Rolling, edit_set, owner_key, set, tally};
use super::work::Work;

/// Whether the Deployment's `replicas` changed since its sets were last scaled: then all of its sets
/// share the change, and only then the roll-out goes on.
pub(super) fn is_scaling(work: &Work, rolling: &Rolling<'_>) -> bool {
    sets(rolling).any(|key| {
        set(work, rolling.app, key)
            .is_some_and(|set| set.replicas > 0 && set.desired != rolling.spec.replicas)
    })
}

/// Shares a change of `replicas` among the sets in proportion to their sizes.
pub(super) fn scale(work: &mut Work, rolling: &Rolling<'_>) {
    let with_pods: Vec<RecordKey> =
        sets(rolling).filter(|key| replicas(work, rolling, key) > 0).cloned().collect();
    let only = match with_pods.as_slice() {
        [] => rolling.current.clone().or_else(|| rolling.old.last().cloned()),
        [only] => Some(only.clone()),
        _ => None,
    };
    if let Some(only) = only {
        set_replicas(work, rolling, &only, rolling.spec.replicas);
        return;
    }
    if is_saturated(work, rolling) {
        for key in &rolling.old {
            set_replicas(work, rolling, key, 0);
        }
        return;
    }
    if matches!(rolling.spec.strategy, Strategy::RollingUpdate { .. }) {
        scale_in_proportion(work, rolling, with_pods);
    }
}

/// Whether the current set has all the pods it should, all available.
fn is_saturated(work: &mut Work, rolling: &Rolling<'_>) -> bool {
    let Some(current) = &rolling.current else {
        return false;
    };
    let wanted = rolling.spec.replicas;
    let known = set(work, rolling.app, current).map(|set| (set.replicas, set.desired));
    known == Some((wanted, wanted))
        && tally(work, current, rolling.spec.min_ready_s).available >= wanted
}

fn scale_in_proportion(work: &mut Work, rolling: &Rolling<'_>, mut with_pods: Vec<RecordKey>) {
    let wanted = i64::from(rolling.spec.replicas);
    let (surge, _) = rolling.spec.strategy.bounds(rolling.spec.replicas);
    let allowed = if wanted > 0 { wanted + i64::from(surge) } else { 0 };
    let total: i64 = with_pods.iter().map(|key| i64::from(replicas(work, rolling, key))).sum();
    let to_add = allowed - total;
    // The largest sets get the rest first; of equal ones the newer when growing, the older when
    // shrinking.
    with_pods.sort_by_key(|key| {
        let sequence = set(work, rolling.app, key).map_or(0, |set| i128::from(set.sequence));
        let size = std::cmp::Reverse(replicas(work, rolling, key));
        (size, if to_add > 0 { -sequence } else { sequence })
    });
    let mut added = 0;
    let mut sizes: Vec<(RecordKey, i64)> = Vec::new();
    for key in with_pods {
        let size = i64::from(replicas(work, rolling, &key));
        let share = if to_add == 0 { 0 } else { proportion(work, rolling, &key, to_add, added) };
        added += share;
        sizes.push((key, size + share));
    }
    if let Some((_, largest)) = sizes.first_mut() {
        *largest = (*largest + (to_add - added)).max(0);
    }
    for (key, size) in sizes {
        set_replicas(work, rolling, &key, u32::try_from(size.max(0)).unwrap_or(u32::MAX));
    }
}

/// A set's share of a change: its part of the whole as it was when it was last scaled, rounded to
/// the nearest (`deploymentutil.GetReplicaSetProportion`). Of nothing every share is nothing.
fn proportion(work: &Work, rolling: &Rolling<'_>, key: &RecordKey, to_add: i64, added: i64) -> i64 {
    let Some(set) = set(work, rolling.app, key) else {
        return 0;
    };
    let (surge, _) = rolling.spec.strategy.bounds(rolling.spec.replicas);
    let new_max = i64::from(rolling.spec.replicas) + i64::from(surge);
    let size = i64::from(set.replicas);
    let old_max = if set.max > 0 { i64::from(set.max) } else { size.max(1) };
    let share = if rolling.spec.replicas == 0 {
        -size
    } else {
        // Sizes come from manifests: their product may be larger than 64 bits.
        let new_size = (2 * i128::from(size) * i128::from(new_max) + i128::from(old_max))
            / (2 * i128::from(old_max));
        i64::try_from(new_size).unwrap_or(i64::MAX) - size
    };
    let left = to_add - added;
    if to_add > 0 { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) }
}

/// One step towards the current template.
pub(super) fn step(work: &mut Work, rolling: &Rolling<'_>) {
    match rolling.spec.strategy {
        Strategy::Recreate => recreate(work, rolling),
        Strategy::RollingUpdate { .. } => {
            for key in rolling.current.iter().chain(held(rolling)) {
                grow(work, rolling, key);
            }
            shrink_old(work, rolling);
        }
    }
}

/// The set that is held on to while a part goes ahead.
fn held<'r>(rolling: &'r Rolling<'_>) -> Option<&'r RecordKey> {
    rolling.old.last().filter(|_| rolling.ahead.is_some())
}

/// How many pods a set is to come to.
fn goal(rolling: &Rolling<'_>, key: &RecordKey) -> u32 {
    let wanted = rolling.spec.replicas;
    let ahead = rolling.ahead.as_ref().map_or(wanted, |ahead| ahead.pods.min(wanted));
    match (rolling.current.as_ref() == Some(key), held(rolling) == Some(key)) {
        (true, _) => ahead,
        (_, true) => wanted - ahead,
        _ => 0,
    }
}

/// The set that is to have the pods grows only when nothing of the others is left, pods that are
/// stopping included.
fn recreate(work: &mut Work, rolling: &Rolling<'_>) {
    let chosen = held(rolling).or(rolling.current.as_ref());
    let others: Vec<&RecordKey> = sets(rolling).filter(|key| Some(*key) != chosen).collect();
    for key in &others {
        set_replicas(work, rolling, key, 0);
    }
    let old_pods_left = others
        .iter()
        .any(|key| work.pods_of(&owner_key(key)).iter().any(|pod| !pod.phase().is_over()));
    if old_pods_left {
        return;
    }
    if let Some(chosen) = chosen {
        set_replicas(work, rolling, chosen, rolling.spec.replicas);
    }
}

/// A set grows as far as the surge allows (`NewRSNewReplicas`).
fn grow(work: &mut Work, rolling: &Rolling<'_>, key: &RecordKey) {
    let (wanted, goal) = (rolling.spec.replicas, goal(rolling, key));
    let size = replicas(work, rolling, key);
    if size >= goal {
        // While a part goes ahead, others may have to come first.
        let size = if rolling.ahead.is_none() { goal } else { size };
        set_replicas(work, rolling, key, size);
        return;
    }
    let (surge, _) = rolling.spec.strategy.bounds(wanted);
    let total = sum(sets(rolling).map(|key| replicas(work, rolling, key)));
    let room = wanted.saturating_add(surge).saturating_sub(total);
    set_replicas(work, rolling, key, size + room.min(goal - size));
}

/// Sets that are too large shrink as far as availability allows; pods that are no use anyway go first.
fn shrink_old(work: &mut Work, rolling: &Rolling<'_>) {
    let old_total = sum(rolling.old.iter().map(|key| replicas(work, rolling, key)));
    let Some(current) = rolling.current.clone().filter(|_| old_total > 0) else {
        return;
    };
    let wanted = rolling.spec.replicas;
    let (_, unavailable) = rolling.spec.strategy.bounds(wanted);
    let must_be_available = wanted.saturating_sub(unavailable);
    let size = replicas(work, rolling, &current);
    let total = old_total.saturating_add(size);
    let current_unavailable = size.saturating_sub(available(work, rolling, &current));
    let mut room = total.saturating_sub(must_be_available).saturating_sub(current_unavailable);
    for key in &rolling.old {
        let size = replicas(work, rolling, key);
        let healthy = available(work, rolling, key);
        let surplus = size.saturating_sub(goal(rolling, key));
        let useless = size.saturating_sub(healthy).min(room).min(surplus);
        set_replicas(work, rolling, key, size - useless);
        room -= useless;
    }
    let all = std::iter::once(&current).chain(&rolling.old);
    let all_available = sum(all.map(|key| available(work, rolling, key)));
    let mut spare = all_available.saturating_sub(must_be_available);
    for key in rolling.old.iter().chain([&current]) {
        let size = replicas(work, rolling, key);
        let fewer = size.saturating_sub(goal(rolling, key)).min(spare);
        set_replicas(work, rolling, key, size - fewer);
        spare -= fewer;
    }
}

/// How many pods of a set are available and will be left when it has the size it is to have: what was
/// taken from it this very turn still runs, and must not be counted as a reason to take more.
fn available(work: &mut Work, rolling: &Rolling<'_>, key: &RecordKey) -> u32 {
    let size = replicas(work, rolling, key);
    tally(work, key, rolling.spec.min_ready_s).available.min(size)
}

/// Sizes come from manifests: their sum may be larger than a number of ours.
fn sum(sizes: impl Iterator<Item = u32>) -> u32 {
    sizes.fold(0, u32::saturating_add)
}

fn sets<'r>(rolling: &'r Rolling<'_>) -> impl Iterator<Item = &'r RecordKey> {
    rolling.old.iter().chain(&rolling.current)
}

fn replicas(work: &Work, rolling: &Rolling<'_>, key: &RecordKey) -> u32 {
    set(work, rolling.app, key).map_or(0, |set| set.replicas)
}

/// Sets a size, and remembers what the Deployment asked for when it was set.
fn set_replicas(work: &mut Work, rolling: &Rolling<'_>, key: &RecordKey, size: u32) {
    let before = replicas(work, rolling, key);
    let wanted = rolling.spec.replicas;
    let (surge, _) = rolling.spec.strategy.bounds(wanted);
    edit_set(work, rolling.app, key, |set| {
        set.replicas = size;
        set.desired = wanted;
        set.max = wanted.saturating_add(surge);
    });
    if size == before {
        return;
    }
    let direction = if size > before { "up" } else { "down" };
    let name = &key.name;
    let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
    work.note(format!("{}: {message}", rolling.key));
    work.event(rolling.key, "deployment", "ScalingReplicaSet", message);
}
