//! What sets a pod apart from the others of its template.
//!
//! A binding refers to a template that many pods share, and says which of them this one is: by its
//! number, by the node it is meant for. What follows (its host name, its claims, its variables) is
//! worked out here, by the coordinator and by the node alike. So a binding still carries nothing that
//! could be run, only numbers.

use std::sync::Arc;

use super::binding::Binding;
use super::container::{Container, EnvValue, EnvVar};
use super::name::Name;
use super::pod::{PodSpec, PodTemplate};
use super::registry::Kind;
use super::volume::VolumeSource;

/// The annotation by which a template's author lets pods that have an identity begin on a machine that
/// has booted and reaches nobody.
pub const ANNOTATION_START_OFFLINE: &str = "windlass.dev/start-offline";
/// The label and annotation in which a pod of an Indexed Job has its number.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#batch-kubernetes-io-job-completion-index>
pub const JOB_COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The variable in which its containers have it.
pub const ENV_COMPLETION_INDEX: &str = "JOB_COMPLETION_INDEX";

impl Binding {
    /// Whether there must never be two of it: a StatefulSet's pod, one of an Indexed Job.
    pub fn is_identity(&self) -> bool {
        self.index.is_some()
    }

    /// The template as this pod has it; the template itself where nothing sets its pods apart.
    pub fn own_template(&self, template: &Arc<PodTemplate>) -> Arc<PodTemplate> {
        let named = self.template.owner.kind == Kind::StatefulSet;
        let claims = template.spec.volumes.iter().any(|volume| volume.source.is_own_claim());
        let job_index = self.job_index();
        if !named && !claims && job_index.is_none() {
            return template.clone();
        }
        let mut own = PodTemplate::clone(template);
        let mut spec = PodSpec::clone(&template.spec);
        if let Some(index) = job_index {
            own.labels.insert(JOB_COMPLETION_INDEX.to_owned(), index.to_string());
            own.annotations.insert(JOB_COMPLETION_INDEX.to_owned(), index.to_string());
            spec.hostname = Some(self.job_hostname(index));
            spec.init_containers.iter_mut().chain(&mut spec.containers).for_each(tell_index);
        }
        if named {
            spec.hostname = Some(self.key.name.clone());
        }
        for volume in &mut spec.volumes {
            let (name, scratch) = match &volume.source {
                VolumeSource::OwnClaim { template } => (self.claim_name(template), None),
                VolumeSource::Scratch(template) => {
                    (self.scratch_name(&volume.name), Some(template.clone()))
                }
                _ => continue,
            };
            volume.source = VolumeSource::Claim { name, read_only: false, scratch };
        }
        own.spec = Arc::new(spec);
        Arc::new(own)
    }

    /// Its number, if it is a pod of an Indexed Job.
    pub fn job_index(&self) -> Option<u32> {
        self.index.filter(|_| self.owner.kind == Kind::Job)
    }

    /// `<job>-<index>`, by which the pods of an Indexed Job find each other.
    pub fn job_hostname(&self, index: u32) -> Name {
        Name::trusted(&format!("{}-{index}", self.owner.name))
    }

    /// What this pod's claim of a template is called (`getPersistentVolumeClaimName`).
    pub fn claim_name(&self, template: &Name) -> Name {
        Name::trusted(&format!("{template}-{}", self.key.name))
    }

    /// What the claim of a volume is called that is written in the pod (`VolumeClaimName`).
    fn scratch_name(&self, volume: &Name) -> Name {
        Name::trusted(&format!("{}-{volume}", self.key.name))
    }
}

/// Gives a container its number in a variable, unless it has one of that name
/// (`addCompletionIndexEnvVariables`).
fn tell_index(container: &mut Container) {
    if container.env.iter().all(|variable| variable.name != ENV_COMPLETION_INDEX) {
        let value = EnvValue::Field(format!("metadata.labels['{JOB_COMPLETION_INDEX}']"));
        container.env.push(EnvVar { name: ENV_COMPLETION_INDEX.to_owned(), value });
    }
}
