//! A node, told: what it has, what its pods have reserved of it, and which they are.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Page, moment};
use crate::kinds::name::NodeName;
use crate::kinds::object::Key;
use crate::kinds::pod::ResourceList;
use crate::kinds::quantity::Quantity;
use crate::kinds::time::human_duration;
use crate::plan::Pod;
use crate::view::json::{is_true, items, members, text};
use crate::view::objects::{ANNOTATION_CORDONED, ANNOTATION_DRAINING, ANNOTATION_FENCED};
use crate::view::picture::Picture;

pub(super) fn describe(page: &mut Page, picture: &Picture, key: &Key, node: &Value) {
    page.field(0, "Name", text(node, "metadata.name"));
    page.field(0, "Roles", crate::view::table::roles(node));
    page.source(node);
    page.labels("Labels", node, "metadata.labels");
    page.annotations(node);
    let created = text(node, "metadata.creationTimestamp");
    page.field(0, "CreationTimestamp", moment(created));
    let taints: Vec<String> = items(node, "spec.taints").iter().map(taint).collect();
    page.list("Taints", &taints);
    page.field(0, "Unschedulable", is_true(node, "spec.unschedulable").to_string());
    let said = [
        ("Cordoned", ANNOTATION_CORDONED),
        ("Draining", ANNOTATION_DRAINING),
        ("Fenced", ANNOTATION_FENCED),
    ];
    for (title, name) in said {
        let by = node["metadata"]["annotations"][name].as_str().unwrap_or_default();
        page.field_if(0, title, by);
    }
    lease(page, picture, &key.name);
    conditions(page, node);
    page.line(0, "Addresses:");
    for address in items(node, "status.addresses") {
        page.field(1, text(address, "type"), text(address, "address"));
    }
    for (title, path) in [("Capacity", "status.capacity"), ("Allocatable", "status.allocatable")] {
        page.line(0, format!("{title}:"));
        let mut amounts: Vec<(&String, &Value)> = members(node, path).collect();
        amounts.sort_by_key(|(name, _)| name.as_str());
        for (name, amount) in amounts {
            page.field(1, name, amount.as_str().unwrap_or_default());
        }
    }
    system_info(page, node);
    page.field_if(0, "PodCIDR", text(node, "spec.podCIDR"));
    let cidrs: Vec<&str> = items(node, "spec.podCIDRs").iter().filter_map(Value::as_str).collect();
    page.field_if(0, "PodCIDRs", &cidrs.join(","));
    pods(page, picture, &key.name);
}

fn taint(taint: &Value) -> String {
    let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
    if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
}

fn lease(page: &mut Page, picture: &Picture, name: &NodeName) {
    let leases = crate::view::objects::list(picture, crate::kinds::registry::Kind::Lease);
    let own = leases
        .iter()
        .find(|lease| lease.key.name == *name && lease.key.namespace_str() == "kube-node-lease");
    let Some(lease) = own else {
        return;
    };
    page.line(0, "Lease:");
    page.field(1, "HolderIdentity", text(&lease.json, "spec.holderIdentity"));
    page.field(1, "AcquireTime", moment(text(&lease.json, "spec.acquireTime")));
    page.field(1, "RenewTime", moment(text(&lease.json, "spec.renewTime")));
}

fn conditions(page: &mut Page, node: &Value) {
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage");
    page.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for condition in items(node, "status.conditions") {
        let field = |name| text(condition, name);
        page.line(
            1,
            format!(
                "{} \t{} \t{} \t{} \t{} \t{}",
                field("type"),
                field("status"),
                moment(field("lastHeartbeatTime")),
                moment(field("lastTransitionTime")),
                field("reason"),
                field("message")
            ),
        );
    }
}

fn system_info(page: &mut Page, node: &Value) {
    page.line(0, "System Info:");
    for (title, name) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
        ("Kube-Proxy Version", "kubeProxyVersion"),
    ] {
        page.field(1, title, text(node, &format!("status.nodeInfo.{name}")));
    }
}

/// What the pods of a node ask of it, and what may be used at most.
fn pods(page: &mut Page, picture: &Picture, name: &NodeName) {
    let mut here: Vec<Pod> = picture
        .pods()
        .filter(|pod| pod.node.as_ref() == Some(name) && !pod.phase().is_over())
        .collect();
    here.sort_by(|one, other| one.binding.key.cmp(&other.binding.key));
    let nothing = ResourceList::new();
    let input = picture.nodes.get(name);
    let has = input.map_or(&nothing, |input| &input.facts.allocatable);
    page.line(0, format!("Non-terminated Pods:\t({} in total)", here.len()));
    page.line(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    page.line(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    let (mut requested, mut limited) = (ResourceList::new(), ResourceList::new());
    for pod in &here {
        let spec = pod.template.as_ref().map(|template| &template.spec);
        let requests = spec.map(|spec| spec.requests()).unwrap_or_default();
        let limits = spec.map(|spec| spec.limits()).unwrap_or_default();
        let age = human_duration(picture.now.wall.since(pod.binding.created));
        let key = &pod.binding.key;
        page.line(
            1,
            format!(
                "{}\t{}\t\t{}\t{}\t{}\t{}\t{age}",
                key.namespace,
                key.name,
                share(&requests, has, "cpu"),
                share(&limits, has, "cpu"),
                share(&requests, has, "memory"),
                share(&limits, has, "memory"),
            ),
        );
        add(&mut requested, &requests);
        add(&mut limited, &limits);
    }
    page.line(0, "Allocated resources:");
    page.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    let names: BTreeMap<&String, ()> = has.keys().map(|name| (name, ())).collect();
    for name in names.keys().filter(|name| name.as_str() != "pods") {
        let (asked, most) = (share(&requested, has, name), share(&limited, has, name));
        page.line(1, format!("{name}\t{asked}\t{most}"));
    }
}

fn add(total: &mut ResourceList, more: &ResourceList) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_default();
        *sum = *sum + *amount;
    }
}

/// `250m (12%)`.
fn share(of: &ResourceList, has: &ResourceList, name: &str) -> String {
    let amount = of.get(name).copied().unwrap_or(Quantity::ZERO);
    let whole = has.get(name).copied().unwrap_or_default();
    let percent = match whole.as_millis() {
        0 => 0,
        whole => amount.as_millis().saturating_mul(100) / whole,
    };
    format!("{amount} ({percent}%)")
}
