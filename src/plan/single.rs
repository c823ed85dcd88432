//! Pods written by hand: one pod of that name, running what the manifest says.
//!
//! A pod can't be changed in place (its labels can, they are read from the manifest), so another
//! template ends the old pod and makes a new one when the name is free. A pod that has finished and
//! may not restart stays as it is, as in Kubernetes, until its manifest changes.

use crate::kinds::labels::Labels;
use crate::kinds::name::PodKey;
use crate::kinds::object::{Body, Object};
use crate::kinds::pod::PodTemplate;

use super::work::{NewName, NewPod, Work};

pub(super) fn keep_pods(work: &mut Work) {
    for (app, revision) in work.revisions.clone() {
        for object in revision.desired.objects.values() {
            if let Body::Pod(template) = &object.body {
                keep(work, &app, object, template);
            }
        }
    }
}

fn keep(work: &mut Work, app: &crate::kinds::name::Name, object: &Object, template: &PodTemplate) {
    let Some(namespace) = &object.key.namespace else {
        return;
    };
    let key = PodKey::new(namespace, &object.key.name);
    match work.pods.get(&key) {
        None => {
            let Some(reference) = work.reference(app, object, template) else {
                return;
            };
            work.make_pod(NewPod {
                namespace,
                name: NewName::Exact(&object.key.name),
                template: reference,
                owner: object.key.clone(),
                labels: Labels::new(),
                index: None,
                only_node: None,
            });
            work.note(format!("{} is made", object.key));
        }
        Some(pod) if pod.is_leaving() => {}
        Some(pod) if pod.binding.template.owner != object.key => {
            // A set happened to give one of its pods this name; the manifest has the better right.
            work.note(format!("pod {key} ends: {} takes its name", object.key));
            work.end_pod(&key, None, "NameTaken");
        }
        Some(pod) if is_other(pod, template) => {
            work.note(format!("{} is replaced: its template changed", object.key));
            work.end_pod(&key, None, "TemplateChanged");
        }
        Some(_) => {}
    }
}

/// Whether the pod runs another template than the manifest says; by meaning, so that neither
/// notation nor an upgrade of ours replaces it.
fn is_other(pod: &super::Pod, template: &PodTemplate) -> bool {
    let same_reading = pod.binding.template.meaning_version == crate::desired::MEANING_VERSION;
    let says = match &pod.template {
        _ if same_reading => pod.binding.template.meaning,
        Some(read_again) => read_again.meaning,
        None => return false,
    };
    says != template.meaning
}
