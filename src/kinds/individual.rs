//! What sets a pod apart from the others of its template.
//!
//! A binding refers to a template that many pods share, and says which of them this one is: by its
//! number, by the node it is meant for. What follows (its host name, its claims, its variables) is
//! worked out here, by the coordinator and by the node alike. So a binding still carries nothing that
//! could be run, only numbers.

use std::sync::Arc;

use super::binding::Binding;
use super::name::Name;
use super::pod::{PodSpec, PodTemplate};
use super::registry::Kind;
use super::volume::VolumeSource;

impl Binding {
    /// The template as this pod has it; the template itself where nothing sets its pods apart.
    pub fn own_template(&self, template: &Arc<PodTemplate>) -> Arc<PodTemplate> {
        let named = self.template.owner.kind == Kind::StatefulSet;
        let claims = template.spec.volumes.iter().any(|volume| volume.source.is_own_claim());
        if !named && !claims {
            return template.clone();
        }
        let mut spec = PodSpec::clone(&template.spec);
        if named {
            spec.hostname = Some(self.key.name.clone());
        }
        for volume in &mut spec.volumes {
            if let VolumeSource::OwnClaim { template } = &volume.source {
                let name = self.claim_name(template);
                volume.source = VolumeSource::Claim { name, read_only: false };
            }
        }
        Arc::new(PodTemplate { spec: Arc::new(spec), ..PodTemplate::clone(template) })
    }

    /// What this pod's claim of a template is called (`getPersistentVolumeClaimName`).
    pub fn claim_name(&self, template: &Name) -> Name {
        Name::trusted(&format!("{template}-{}", self.key.name))
    }
}
