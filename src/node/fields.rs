//! What a pod may ask about itself: `fieldRef`, `resourceFieldRef`, the downward API.
//! <https://kubernetes.io/docs/concepts/workloads/pods/downward-api/>

use std::net::Ipv4Addr;

use crate::kinds::binding::Binding;
use crate::kinds::container::{Container, ResourceRef};
use crate::kinds::labels::Labels;
use crate::kinds::name::Name;
use crate::kinds::pod::PodTemplate;
use crate::kinds::quantity::Quantity;
use crate::kinds::storage::ClaimedVolume;

use super::Around;

/// A pod that answers questions about itself.
pub(crate) struct Myself<'a> {
    pub(crate) binding: &'a Binding,
    pub(crate) template: &'a PodTemplate,
    pub(crate) around: &'a Around,
    pub(crate) ip: Option<Ipv4Addr>,
}

impl Myself<'_> {
    /// The volume of one of its claims, or why it can't be used.
    pub(crate) fn claimed(&self, claim: &Name) -> Result<&ClaimedVolume, String> {
        self.around.claimed(&self.binding.key.namespace, claim)
    }

    /// All of the pod's labels.
    pub(crate) fn labels(&self) -> Labels {
        let mut labels = self.template.labels.clone();
        labels.extend(self.binding.labels.clone());
        labels
    }

    /// The value of a field; none if it is not known yet or there is no such field.
    pub(crate) fn field(&self, path: &str) -> Option<String> {
        let ip = || {
            if self.template.spec.host_network { self.around.node_ip } else { self.ip }
        };
        let text = |value: Option<Ipv4Addr>| value.map(|ip| ip.to_string());
        if let Some(key) = subscript(path, "metadata.labels") {
            return Some(self.labels().get(key).cloned().unwrap_or_default());
        }
        if let Some(key) = subscript(path, "metadata.annotations") {
            return Some(self.template.annotations.get(key).cloned().unwrap_or_default());
        }
        match path {
            "metadata.name" => Some(self.binding.key.name.to_string()),
            "metadata.namespace" => Some(self.binding.key.namespace.to_string()),
            "metadata.uid" => Some(self.binding.uid.to_string()),
            "metadata.labels" => Some(listed(&self.labels())),
            "metadata.annotations" => Some(listed(&self.template.annotations)),
            "spec.nodeName" => Some(self.around.node.to_string()),
            "spec.serviceAccountName" => {
                let account = self.template.spec.service_account.as_ref();
                Some(account.map_or_else(|| "default".to_owned(), ToString::to_string))
            }
            "status.podIP" | "status.podIPs" => text(ip()),
            "status.hostIP" | "status.hostIPs" => text(self.around.node_ip),
            _ => None,
        }
    }

    /// An amount in units of the divisor, rounded up. A limit that is not set is what the node has.
    pub(crate) fn resource(&self, reference: &ResourceRef, own: &Container) -> Option<String> {
        let container = match &reference.container {
            Some(name) => self.template.spec.container(name.as_str())?,
            None => own,
        };
        let (kind, resource) = reference.resource.split_once('.')?;
        let resources = &container.resources;
        let (list, falls_back) = match kind {
            "limits" => (&resources.limits, true),
            "requests" => (&resources.requests, false),
            _ => return None,
        };
        let amount = match list.get(resource) {
            Some(amount) => *amount,
            None if falls_back => {
                self.around.allocatable.get(resource).copied().unwrap_or_default()
            }
            None => Quantity::ZERO,
        };
        Some(divided(amount, reference.divisor, resource).to_string())
    }
}

/// `amount / divisor`, rounded up, as `ExtractContainerResourceValue` does: CPU in thousandths.
fn divided(amount: Quantity, divisor: Quantity, resource: &str) -> i64 {
    let divisor = if divisor.is_zero() { Quantity::units(1) } else { divisor };
    let (amount, divisor) = if resource == "cpu" {
        (amount.as_millis(), divisor.as_millis())
    } else {
        (amount.as_units(), divisor.as_units())
    };
    let divisor = divisor.max(1);
    amount / divisor + i64::from(amount % divisor > 0)
}

/// `metadata.labels['key']` → `key`.
fn subscript<'p>(path: &'p str, field: &str) -> Option<&'p str> {
    path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']")
}

/// `key="value"` lines, as the downward API writes maps.
fn listed(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect()
}
