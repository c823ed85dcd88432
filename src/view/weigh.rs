//! Why this node and not another: how the scheduler would weigh the nodes for a pod that is placed, if
//! it had to place it now. What was there when it was placed is not kept, so this may differ from what
//! decided then.

use std::collections::BTreeMap;

use super::picture::Picture;
use super::tabs;
use crate::desired::Desired;
use crate::plan::Pod;
use crate::plan::schedule::{PLUGINS, Scale, Weighed, weigh};

/// So many nodes are told one by one, the best first, and the pod's own.
const NODES_TOLD: usize = 5;

/// The table, line by line; nothing for a pod that has no node or needs none any more.
pub(super) fn lines(picture: &Picture, pod: &Pod) -> Vec<String> {
    if pod.node.is_none() || !pod.is_active() {
        return Vec::new();
    }
    let desired: Vec<&Desired> = picture
        .apps
        .values()
        .filter_map(|app| app.applied.as_ref())
        .map(|revision| &*revision.desired)
        .collect();
    let pods: Vec<Pod> = picture.pods().collect();
    let scale = weigh(&picture.nodes, &picture.state, &desired, &pods, pod);
    scale.map(|scale| told(&scale, pod)).unwrap_or_default()
}

fn told(scale: &Scale, pod: &Pod) -> Vec<String> {
    let is_own = |weighed: &Weighed| pod.node.as_ref() == Some(&weighed.node);
    let best = scale.able.iter().take(NODES_TOLD);
    let own = scale.able.iter().skip(NODES_TOLD).filter(|weighed| is_own(weighed));
    let rows: Vec<&Weighed> = best.chain(own).collect();
    let mut lines = Vec::new();
    if !rows.is_empty() {
        let mut text = format!("Node\t{}\tTotal\t", PLUGINS.join("\t"));
        for weighed in &rows {
            let scores: Vec<String> = weighed.scores.iter().map(ToString::to_string).collect();
            let mark = if is_own(weighed) { "its node" } else { "" };
            text.push_str(&format!(
                "\n{}\t{}\t{}\t{mark}",
                weighed.node,
                scores.join("\t"),
                weighed.total
            ));
        }
        text.push('\n');
        let table = tabs::lay_out(&text, 0, 2);
        lines.extend(table.lines().map(|line| line.trim_end().to_owned()));
    }
    let more = scale.able.len().saturating_sub(rows.len());
    if more > 0 {
        lines.push(format!("… and {more} more that could take it"));
    }
    lines.extend(unable(scale, pod));
    lines
}

/// Who could not take it, by reason.
fn unable(scale: &Scale, pod: &Pod) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for why in scale.unable.values().flatten() {
        *counts.entry(why.to_string()).or_default() += 1;
    }
    let mut lines = Vec::new();
    if !counts.is_empty() {
        let counts: Vec<String> =
            counts.iter().map(|(why, count)| format!("{count} {why}")).collect();
        lines.push(format!("{} could not take it: {}", scale.unable.len(), counts.join(", ")));
    }
    let own = pod.node.as_ref().and_then(|node| Some((node, scale.unable.get(node)?)));
    if let Some((node, reasons)) = own {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "its node {node} would not be given it now, and keeps it: {}",
            reasons.join(", ")
        ));
    }
    lines
}
