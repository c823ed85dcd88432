//! StatefulSets, DaemonSets and the templates they have had, told.

use serde_json::Value;

use super::template::template;
use super::workload::{plain, pods_status};
use super::{Page, controller, moment};
use crate::kinds::object::Key;
use crate::view::json::{at, items, number, pairs, text};
use crate::view::picture::Picture;
use crate::view::table::{labels, selector};

pub(super) fn stateful_set(page: &mut Page, picture: &Picture, key: &Key, set: &Value) {
    page.head(set);
    page.field(0, "CreationTimestamp", moment(text(set, "metadata.creationTimestamp")));
    page.field(0, "Selector", selector(set, "spec.selector"));
    page.source(set);
    page.labels("Labels", set, "metadata.labels");
    page.annotations(set);
    let (wants, has) = (number(set, "spec.replicas"), number(set, "status.replicas"));
    page.field(0, "Replicas", format!("{wants} desired | {has} total"));
    page.field(0, "Update Strategy", text(set, "spec.updateStrategy.type"));
    if let Some(rolling) = at(set, "spec.updateStrategy.rollingUpdate") {
        for (name, field) in [("Partition", "partition"), ("MaxUnavailable", "maxUnavailable")] {
            page.field_if(1, name, &at(rolling, field).map(plain).unwrap_or_default());
        }
    }
    pods_status(page, picture, key);
    template(page, at(set, "spec.template").unwrap_or(&Value::Null));
    claims(page, items(set, "spec.volumeClaimTemplates"));
}

/// `describeVolumeClaimTemplates`.
fn claims(page: &mut Page, claims: &[Value]) {
    if claims.is_empty() {
        page.field(0, "Volume Claims", "<none>");
        return;
    }
    page.line(0, "Volume Claims:");
    for claim in claims {
        page.field(1, "Name", text(claim, "metadata.name"));
        page.field(1, "StorageClass", text(claim, "spec.storageClassName"));
        for (name, path) in [("Labels", "metadata.labels"), ("Annotations", "metadata.annotations")]
        {
            let pairs = pairs(claim, path);
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let pairs = if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") };
            page.field(1, name, pairs);
        }
        page.field_if(1, "Capacity", text(claim, "spec.resources.requests.storage"));
        let modes = items(claim, "spec.accessModes").iter().filter_map(Value::as_str);
        page.field(1, "Access Modes", format!("[{}]", modes.collect::<Vec<_>>().join(" ")));
    }
}

pub(super) fn daemon_set(page: &mut Page, picture: &Picture, key: &Key, set: &Value) {
    page.head(set);
    page.field(0, "Selector", selector(set, "spec.selector"));
    page.field(0, "Node-Selector", labels(set, "spec.template.spec.nodeSelector"));
    page.source(set);
    page.labels("Labels", set, "metadata.labels");
    page.annotations(set);
    for (name, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        page.field(0, name, number(set, &format!("status.{field}")).to_string());
    }
    pods_status(page, picture, key);
    template(page, at(set, "spec.template").unwrap_or(&Value::Null));
}

/// A template as it was.
pub(super) fn revision(page: &mut Page, revision: &Value) {
    page.head(revision);
    page.source(revision);
    page.labels("Labels", revision, "metadata.labels");
    page.annotations(revision);
    page.field_if(0, "Controlled By", &controller(revision).unwrap_or_default());
    page.field(0, "Revision", number(revision, "revision").to_string());
    template(page, at(revision, "data.spec.template").unwrap_or(&Value::Null));
}
