//! What namespaces ask of the pods in them, and `trust.yaml` of their images: findings on the commit,
//! before anything runs.
//!
//! A doorkeeper with the house rules of each floor: the labels of a Namespace say which of the Pod
//! Security Standards its pods must keep, and a workload whose pods would be turned away is told so
//! where it is written.
//!
//! The rule: a mode and a level are Kubernetes' (`pod-security.kubernetes.io/enforce`, `warn`, `audit`,
//! each with `-version`). What Kubernetes would say to a pod is said to the template it is made from:
//! `enforce` refuses the commit, where Kubernetes would take the Deployment and refuse its pods one by
//! one; `warn` and `audit` are warnings. LimitRanges ([`limits`]) and then ResourceQuotas ([`quota`])
//! are judged by what is written.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

mod images;
mod limits;
mod pods;
mod quota;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::report::Alternatives;
use crate::kinds::finding::{Finding, Severity};
use crate::kinds::name::Name;
use crate::kinds::object::Object;
use crate::kinds::registry::Kind;

pub(super) use images::{ImagePolicy, read as read_images};
pub use quota::used as quota_used;
pub(super) use rules::Violation;

/// Against what a pod template offends; found when it is first asked.
pub(super) type Offences = OnceLock<Box<[Violation]>>;

/// An object, and what is known of the pods made from it.
pub(super) type Candidate<'f> = (&'f Object, &'f Offences);

/// How strict a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

const LEVELS: [(&str, Level); 3] = [
    ("privileged", Level::Privileged),
    ("baseline", Level::Baseline),
    ("restricted", Level::Restricted),
];

/// The minor version of Kubernetes whose rules are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16);

impl Version {
    /// The newest rules there are.
    const LATEST: Self = Self(u16::MAX);

    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::LATEST);
        }
        let minor = text.strip_prefix("v1.")?;
        let is_plain = minor == "0" || !minor.starts_with(['0', '+']);
        minor.parse().ok().filter(|_| is_plain).map(Self)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::LATEST => f.write_str("latest"),
            Self(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// What happens to who does not keep to it.
const MODES: [(&str, Severity); 3] =
    [("enforce", Severity::Error), ("audit", Severity::Warning), ("warn", Severity::Warning)];

const PREFIX: &str = "pod-security.kubernetes.io/";

/// A namespace's rule.
type Demand = (Severity, Level, Version);

/// Says what is wrong with namespaces' labels, with the pods in them, and with all pods' images.
pub(super) fn check<'f>(
    candidates: impl Iterator<Item = Candidate<'f>>,
    policy: &ImagePolicy,
    found: &mut Vec<Finding>,
) {
    let mut demands: BTreeMap<&Name, Vec<Demand>> = BTreeMap::new();
    let mut templates: Vec<Candidate<'f>> = Vec::new();
    let candidates: Vec<Candidate<'f>> = candidates.collect();
    let bounds = [Kind::LimitRange, Kind::ResourceQuota];
    if candidates.iter().any(|(object, _)| bounds.contains(&object.key.kind)) {
        let objects: Vec<&Object> = candidates.iter().map(|(object, _)| *object).collect();
        let filled = limits::Filled::of(&objects);
        limits::check(&objects, &filled, found);
        quota::check(&objects, &filled, found);
    }
    for (object, offences) in candidates {
        if object.key.kind == Kind::Namespace {
            let asked = read(object, found);
            if !asked.is_empty() {
                demands.insert(&object.key.name, asked);
            }
        } else if object.body.template().is_some() {
            templates.push((object, offences));
        }
    }
    let asks_of_images = *policy != ImagePolicy::default();
    if demands.is_empty() && !asks_of_images {
        return;
    }
    for (object, offences) in templates {
        if asks_of_images {
            images::check(object, policy, found);
        }
        let asked = object.key.namespace.as_ref().and_then(|namespace| demands.get(namespace));
        for demand in asked.into_iter().flatten() {
            found.extend(judge(object, offences, demand));
        }
    }
}

/// What a Namespace's labels ask. The same asked twice, as a warning and for the record, is said once.
fn read(namespace: &Object, found: &mut Vec<Finding>) -> Vec<Demand> {
    let mut demands: Vec<Demand> = Vec::new();
    for (mode, severity) in MODES {
        let label = |suffix: &str| {
            let key = format!("{PREFIX}{mode}{suffix}");
            namespace.labels.get(key.as_str()).map(|value| (key, value))
        };
        let mut wrong = |key: &str, expected: &str| {
            let finding = Finding::error(namespace.place.clone(), format!("must be {expected}"));
            let field = format!("metadata.labels[{key}]");
            found.push(finding.of(&namespace.key).at(field));
        };
        let version = match label("-version") {
            None => Version::LATEST,
            Some((key, text)) => Version::parse(text).unwrap_or_else(|| {
                wrong(&key, "latest or a version such as v1.30");
                Version::LATEST
            }),
        };
        let Some((key, text)) = label("") else { continue };
        match LEVELS.iter().find(|(name, _)| name == text) {
            Some((_, level)) => {
                let demand = (severity, *level, version);
                if *level != Level::Privileged && !demands.contains(&demand) {
                    demands.push(demand);
                }
            }
            None => {
                let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
                wrong(&key, &Alternatives(&names).to_string());
            }
        }
    }
    demands
}

/// In Kubernetes' words: `violates PodSecurity "baseline:latest": privileged (container "web" …)`.
fn judge(object: &Object, offences: &Offences, demand: &Demand) -> Option<Finding> {
    let (severity, level, version) = *demand;
    let template = object.body.template()?;
    let offences = offences.get_or_init(|| rules::violations(&template.json).into());
    let mut said = Vec::new();
    for offence in offences.iter().filter(|offence| offence.counts(level, version)) {
        said.push(format!("{} ({})", offence.reason, offence.detail));
    }
    if said.is_empty() {
        return None;
    }
    let (level, _) = LEVELS.iter().find(|(_, known)| *known == level)?;
    let said = said.join(", ");
    let message = format!("violates PodSecurity \"{level}:{version}\": {said}");
    let finding = Finding::error(object.place.clone(), message).of(&object.key);
    Some(Finding { severity, ..finding })
}
