//! Image locality: a node that has a pod's images is liked the better, the larger they are; the less
//! so, the fewer nodes have them, lest a single node draws every pod.

use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::pod::PodSpec;

use crate::kinds::node::NodeFacts;

/// Images below this count for nothing, and above the other for no more (`minThreshold`,
/// `maxContainerThreshold`).
const COUNTS_FROM: u64 = 23 << 20;
const COUNTS_TO: u64 = 1000 << 20;

/// Where the images are that somebody wants: (node, size) by name.
pub(super) type Images = BTreeMap<String, Vec<(usize, u64)>>;

/// A name as nodes report it: with a tag.
pub(super) fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

pub(super) fn wanted_by(spec: &PodSpec) -> impl Iterator<Item = String> {
    spec.all_containers().map(|container| full_name(&container.image))
}

/// Finds the wanted images on the nodes.
pub(super) fn find<'n>(
    wanted: &BTreeSet<String>,
    nodes: impl Iterator<Item = &'n NodeFacts>,
) -> Images {
    let mut images = Images::new();
    for (node, facts) in nodes.enumerate() {
        for (name, size) in &facts.images {
            if wanted.contains(name.as_str()) {
                images.entry(name.clone()).or_default().push((node, *size));
            }
        }
    }
    images
}

/// How each node is liked for the images it has, 0 to 100.
pub(super) fn score(spec: &PodSpec, images: &Images, nodes: usize) -> Vec<i64> {
    let mut sums = vec![0_u64; nodes];
    let mut containers = 0;
    for name in wanted_by(spec) {
        containers += 1;
        let Some(places) = images.get(&name) else {
            continue;
        };
        for (node, size) in places {
            sums[*node] += size.saturating_mul(places.len() as u64) / nodes.max(1) as u64;
        }
    }
    let most = COUNTS_TO * containers;
    let scaled = sums.into_iter().map(|sum| {
        let counted = sum.clamp(COUNTS_FROM, most.max(COUNTS_FROM)) - COUNTS_FROM;
        let score = 100 * counted / most.saturating_sub(COUNTS_FROM).max(1);
        i64::try_from(score).unwrap_or(0)
    });
    scaled.collect()
}
