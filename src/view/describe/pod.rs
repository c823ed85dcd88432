//! A pod, told.

use serde_json::Value;

use super::template::{containers, selectors_and_tolerations, volumes};
use super::{Page, controller, moment};
use crate::view::json::{at, items, number, text};

pub(super) fn describe(page: &mut Page, pod: &Value) {
    page.head(pod);
    if at(pod, "spec.priority").is_some() {
        page.field(0, "Priority", number(pod, "spec.priority").to_string());
    }
    page.field_if(0, "Priority Class Name", text(pod, "spec.priorityClassName"));
    page.field_if(0, "Service Account", text(pod, "spec.serviceAccountName"));
    let node = match (text(pod, "spec.nodeName"), text(pod, "status.hostIP")) {
        ("", _) => "<none>".to_owned(),
        (node, ip) => format!("{node}/{ip}"),
    };
    page.field(0, "Node", node);
    page.field_if(0, "Start Time", &moment(text(pod, "status.startTime")));
    page.source(pod);
    page.labels("Labels", pod, "metadata.labels");
    page.annotations(pod);
    status(page, pod);
    let ip = text(pod, "status.podIP");
    page.field(0, "IP", ip);
    if ip.is_empty() {
        page.field(0, "IPs", "<none>");
    } else {
        page.line(0, "IPs:");
        page.field(1, "IP", ip);
    }
    if let Some(controller) = controller(pod) {
        page.field(0, "Controlled By", controller);
    }
    page.field_if(0, "NominatedNodeName", text(pod, "status.nominatedNodeName"));
    let init = items(pod, "spec.initContainers");
    if !init.is_empty() {
        let statuses = items(pod, "status.initContainerStatuses");
        containers(page, 0, "Init Containers", init, Some(statuses));
    }
    let statuses = items(pod, "status.containerStatuses");
    containers(page, 0, "Containers", items(pod, "spec.containers"), Some(statuses));
    let conditions = items(pod, "status.conditions");
    if !conditions.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus");
        for condition in conditions {
            let (kind, status) = (text(condition, "type"), text(condition, "status"));
            page.line(1, format!("{kind} \t{status} "));
        }
    }
    volumes(page, 0, items(pod, "spec.volumes"));
    page.field(0, "QoS Class", text(pod, "status.qosClass"));
    selectors_and_tolerations(page, 0, at(pod, "spec").unwrap_or(&Value::Null));
}

fn status(page: &mut Page, pod: &Value) {
    let phase = text(pod, "status.phase");
    let leaves = text(pod, "metadata.deletionTimestamp");
    if !leaves.is_empty() && !["Failed", "Succeeded"].contains(&phase) {
        page.field(0, "Status", format!("Terminating (ends by {})", moment(leaves)));
        let grace = number(pod, "metadata.deletionGracePeriodSeconds");
        page.field(0, "Termination Grace Period", format!("{grace}s"));
    } else {
        page.field(0, "Status", phase);
    }
    page.field_if(0, "Reason", text(pod, "status.reason"));
    page.field_if(0, "Message", text(pod, "status.message"));
}
