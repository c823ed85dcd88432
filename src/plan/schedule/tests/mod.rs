//! The scheduler's rules as tables: nodes and pods in a few words, the answer as people read it.

mod defaults;
mod preempt;
mod properties;
mod rules;
mod scores;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::choose::Scheduler;
use super::{Cluster, Machine};
use crate::desired;
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::node::NodeFacts;
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{PodTemplate, Taint, TaintEffect};
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// A pod template out of a manifest: labels and spec in flow style, `main` added as its container
/// where the spec names none.
fn template(labels: &str, spec: &str) -> PodTemplate {
    let containers = if spec.contains("containers:") {
        String::new()
    } else {
        "containers: [{name: main, image: web}], ".to_owned()
    };
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: p, namespace: shop, labels: {{{labels}}}}}\nspec: {{{containers}{spec}}}\n"
    );
    let path: Arc<str> = "all.yaml".into();
    let blob = Oid::new(&Digest::of(text.as_bytes()).hex()[..40]);
    let bytes = text.as_bytes();
    let entry = FileEntry {
        path: path.clone(),
        blob: blob.clone(),
        kind: FileKind::File,
        bytes: bytes.len() as u64,
    };
    let content = FileContent { path: path.clone(), blob, bytes: bytes.into() };
    let parsed = desired::Files::from([(path, Arc::new(desired::parse(&content)))]);
    let (desired, findings) = desired::assemble(&[entry], &parsed);
    // A class that is not there is found elsewhere.
    assert!(findings.iter().all(|finding| !finding.is_error()), "{}\n{text}", findings[0]);
    let key = Key::namespaced(Kind::Pod, &Name::trusted("shop"), &Name::trusted("p"));
    match &desired.objects[&key].body {
        Body::Pod(template) => (**template).clone(),
        _ => panic!("a pod"),
    }
}

/// Nodes in words: `a zone=1 cpu:2 !dedicated=db:NoSchedule; b` has two, the first with a label, an
/// amount and a taint. `cordoned` and `lost` say just that; `has:web=500000000` is an image.
fn cluster(nodes: &str) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes.split(';') {
        let mut words = node.split_whitespace();
        let name = words.next().expect("a name");
        let mut labels =
            Labels::from(["host", "kubernetes.io/hostname"].map(|key| (key.into(), name.into())));
        let amounts = [("cpu", "4"), ("memory", "8Gi"), ("pods", "10")];
        let mut amounts: BTreeMap<String, Quantity> = amounts
            .map(|(name, amount)| (name.to_owned(), Quantity::parse(amount).expect("an amount")))
            .into();
        let (mut taints, mut images) = (Vec::new(), Vec::new());
        let (mut cordoned, mut ready) = (false, true);
        for word in words {
            if let Some(image) = word.strip_prefix("has:") {
                let (name, size) = image.split_once('=').expect("a size");
                images.push((name.to_owned(), size.parse().expect("a number")));
            } else if let Some(taint) = word.strip_prefix('!') {
                let (taint, effect) = taint.split_once(':').expect("an effect");
                let (key, value) = taint.split_once('=').unwrap_or((taint, ""));
                let effect = TaintEffect::parse(effect).expect("an effect");
                taints.push(Taint { key: key.into(), value: value.into(), effect });
            } else if let Some((key, value)) = word.split_once('=') {
                labels.insert(key.to_owned(), value.to_owned());
            } else if let Some((resource, amount)) = word.split_once(':') {
                let amount = Quantity::parse(amount).expect("an amount");
                amounts.insert(resource.to_owned(), amount);
            } else {
                cordoned |= word == "cordoned";
                ready &= word != "lost";
            }
        }
        let facts = NodeFacts { allocatable: amounts, labels, images, ..NodeFacts::default() };
        let mut machine = Machine::new(Arc::new(facts), &mut cluster.resources);
        (machine.is_ready, machine.is_cordoned, machine.taints) = (ready, cordoned, taints);
        cluster.push(NodeName::trusted(name), machine);
    }
    for name in ["shop", "bank"] {
        let labels = Labels::from([("trade".to_owned(), name.to_owned())]);
        cluster.know_namespace(&Name::trusted(name), &labels);
    }
    cluster
}

/// Adds a kind of pods in a namespace.
fn shape_in(cluster: &mut Cluster, namespace: &str, labels: &str, spec: &str) -> usize {
    let template = template(labels, spec);
    cluster.shape(&template, &Name::trusted(namespace), &Labels::new(), None, false)
}

/// A pod that is there: on which node, with which labels, with which spec.
type There<'t> = (&'t str, &'t str, &'t str);

/// Where a pod goes, or why nowhere.
fn place(nodes: &str, there: &[There<'_>], labels: &str, spec: &str) -> String {
    let mut cluster = cluster(nodes);
    for (node, labels, spec) in there {
        // `bank/a`: a pod of another namespace. `-a`: one that is being ended.
        let (namespace, node) = node.split_once('/').unwrap_or(("shop", node));
        let (is_leaving, node) = node.strip_prefix('-').map_or((false, node), |node| (true, node));
        let template = template(labels, spec);
        let namespace = Name::trusted(namespace);
        let shape = cluster.shape(&template, &namespace, &Labels::new(), None, is_leaving);
        let at = cluster.names.binary_search(&NodeName::trusted(node)).expect("a node");
        cluster.put(at, shape);
    }
    let shape = shape_in(&mut cluster, "shop", labels, spec);
    cluster.prepare(&[shape].into());
    let mut scheduler = Scheduler::new(cluster);
    match scheduler.place(shape, None, None) {
        Ok(node) => scheduler.cluster.names[node].to_string(),
        Err(unfit) => unfit.to_string(),
    }
}

/// Each row: nodes, pods that are there, labels and spec of the pod, the answer.
type Row<'t> = (&'t str, &'t [There<'t>], &'t str, &'t str, &'t str);

fn check(table: &[Row<'_>]) {
    for (nodes, there, labels, spec, expected) in table {
        assert_eq!(place(nodes, there, labels, spec), *expected, "{nodes} | {there:?} | {spec}");
    }
}
