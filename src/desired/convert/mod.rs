//! From Kubernetes' types to ours: every value is checked on the way, by Kubernetes' own rules, and
//! what comes out is valid by its type.
//!
//! A conversion does not stop at the first fault: it says what is wrong, puts a stand-in there, and
//! goes on, so that all faults of an object are found at once. An object with a fault never leaves
//! this room, and its stand-ins with it.
//!
//! Rules: `pkg/apis/*/validation` of Kubernetes; where a rule has a name there, it is cited.

mod affinity;
mod batch;
mod config;
mod container;
mod limits;
mod meta;
mod node;
mod pod;
mod probe;
mod quota;
mod resources;
mod security;
mod selector;
mod service;
mod sets;
mod storage;
mod volume;
mod workload;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::de::DeserializeOwned;

use super::near::nearest;
use super::path::Path;
use super::report::{Alternatives, Report};
use super::tree::{At, Node, quoted};
use crate::kinds::digest::Digest;
use crate::kinds::finding::Severity;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::Body;
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;

pub(super) use meta::{Meta, meta};

/// Something outside itself that an object asks for, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) wanted: Wanted,
    pub(super) at: At,
    pub(super) field: Box<str>,
}

/// What an object may ask for outside itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    /// Another object, in the object's own namespace if it lives in one.
    Object(Kind, Name),
    /// A port of the nodes, for itself alone.
    NodePort(u16),
    /// An address of the cluster, for itself alone.
    ClusterIp(Ipv4Addr),
}

/// Converts the object `root` of `kind`, whose JSON is `json`. `templates` are the parts that a pod
/// template carries with it.
pub(super) fn body(
    kind: Kind,
    json: &str,
    meta: &Meta,
    template: Option<TemplateParts>,
    check: &mut Check<'_, '_>,
) -> Body {
    match kind {
        Kind::ConfigMap => typed(json, check, config::config_map),
        Kind::Secret => typed(json, check, config::secret),
        Kind::ServiceAccount => typed(json, check, config::service_account),
        Kind::Service => typed(json, check, service::service),
        Kind::Node => typed(json, check, |node, check| node::node(node, meta, check)),
        Kind::LimitRange => typed(json, check, limits::limit_range),
        Kind::ResourceQuota => typed(json, check, quota::quota),
        Kind::PodDisruptionBudget => typed(json, check, workload::disruption_budget),
        Kind::PriorityClass => {
            typed(json, check, |class, check| node::priority_class(class, &meta.name, check))
        }
        Kind::PersistentVolumeClaim => typed(json, check, storage::claim),
        Kind::PersistentVolume => typed(json, check, storage::volume),
        Kind::StorageClass => typed(json, check, |class, check| storage::class(class, meta, check)),
        Kind::Pod
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::Job
        | Kind::CronJob => {
            let Some(parts) = template else {
                let spec = Path::Root.field("spec");
                check.error(&spec.field("template"), "is required");
                return Body::Plain;
            };
            match kind {
                Kind::Pod => typed(json, check, |p, c| workload::pod(p, meta, parts, c)),
                Kind::Deployment => typed(json, check, |d, c| workload::deployment(d, parts, c)),
                Kind::ReplicaSet => typed(json, check, |r, c| workload::replica_set(r, parts, c)),
                Kind::StatefulSet => {
                    typed(json, check, |s, c| sets::stateful_set(s, meta, parts, c))
                }
                Kind::DaemonSet => typed(json, check, |d, c| sets::daemon_set(d, parts, c)),
                Kind::Job => typed(json, check, |j, c| batch::job(j, meta, parts, c)),
                Kind::CronJob => typed(json, check, |j, c| batch::cron_job(j, meta, parts, c)),
                _ => typed(json, check, |r, c| workload::replication_controller(r, parts, c)),
            }
        }
        _ => Body::Plain,
    }
}

/// What a template is besides its fields.
pub(super) struct TemplateParts {
    pub(super) json: Arc<str>,
    pub(super) meaning: Digest,
    pub(super) written: Digest,
}

fn typed<T: DeserializeOwned>(
    json: &str,
    check: &mut Check<'_, '_>,
    convert: impl FnOnce(T, &mut Check<'_, '_>) -> Body,
) -> Body {
    match serde_json::from_str::<T>(json) {
        Ok(object) => convert(object, check),
        Err(error) => {
            // The walk over the shape lets nothing through that would come here.
            let why = if check.report.quiet { String::new() } else { format!(": {error}") };
            check.error(&Path::Root, format!("does not fit its type{why}"));
            Body::Plain
        }
    }
}

/// An object being checked: where things stand, and what was found.
pub(super) struct Check<'c, 't> {
    root: &'c Node<'t>,
    report: &'c mut Report,
    mentions: Vec<Mention>,
}

impl<'c, 't> Check<'c, 't> {
    pub(super) fn new(root: &'c Node<'t>, report: &'c mut Report) -> Self {
        Self { root, report, mentions: Vec::new() }
    }

    /// The other objects it names, each where it is named first.
    pub(super) fn into_mentions(mut self) -> Vec<Mention> {
        let mut seen = BTreeSet::new();
        self.mentions.sort_by_key(|mention| mention.at);
        self.mentions.retain(|mention| seen.insert(mention.wanted.clone()));
        self.mentions
    }

    fn say(&mut self, severity: Severity, path: &Path<'_>, message: String, hint: Option<String>) {
        if self.report.is_full() {
            self.report.add(severity, At::default(), path, message, hint);
        } else if !self.report.is_echo(path) {
            let at = path.locate(self.root);
            self.report.add(severity, at, path, message, hint);
        }
    }

    /// Refuses the object.
    fn error(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.say(Severity::Error, path, message.into(), None);
    }

    /// Refuses the object and says what to write instead.
    fn error_hint(&mut self, path: &Path<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.say(Severity::Error, path, message.into(), Some(hint.into()));
    }

    /// Says something that somebody should look at.
    fn warn(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.say(Severity::Warning, path, message.into(), None);
    }

    /// Refuses the object if `complaint` holds one.
    fn complain(&mut self, path: &Path<'_>, text: &str, complaint: Option<String>) {
        if let Some(complaint) = complaint {
            self.error(path, format!("{}: {complaint}", quoted(text)));
        }
    }

    /// A name that must follow `rule`.
    fn name(&mut self, path: &Path<'_>, text: &str, rule: NameRule) -> Name {
        if text.is_empty() {
            self.error(path, "is required");
        } else {
            self.complain(path, text, rule.complaint(text));
        }
        Name::trusted(text)
    }

    /// A name that may be missing.
    fn name_if_given(
        &mut self,
        path: &Path<'_>,
        text: Option<&str>,
        rule: NameRule,
    ) -> Option<Name> {
        text.filter(|text| !text.is_empty()).map(|text| self.name(path, text, rule))
    }

    /// A number within bounds.
    fn number<N>(&mut self, path: &Path<'_>, value: N, least: N, most: N) -> u32
    where
        N: Copy + PartialOrd + std::fmt::Display + TryInto<u32>,
    {
        if value < least || value > most {
            self.error(path, format!("{value} is not within {least} and {most}"));
        }
        value.try_into().unwrap_or_default()
    }

    /// A number that is not negative, or its default where it is not given.
    fn count(&mut self, path: &Path<'_>, value: Option<i32>, default: i32) -> u32 {
        let value = value.unwrap_or(default);
        if value < 0 {
            self.error(path, format!("{value} must not be negative"));
        }
        u32::try_from(value).unwrap_or_default()
    }

    /// A port number.
    fn port(&mut self, path: &Path<'_>, value: i32) -> u16 {
        let port = u16::try_from(value).unwrap_or_default();
        if port == 0 {
            self.error(path, format!("{value} is not a port: ports are 1 to 65535"));
        }
        port
    }

    /// An amount; the walk over the shape has seen to it that it is one.
    fn quantity(&mut self, path: &Path<'_>, value: &ApiQuantity) -> Quantity {
        Quantity::parse(&value.0).unwrap_or_else(|message| {
            self.error(path, message);
            Quantity::ZERO
        })
    }

    /// One of a few words.
    fn word<T: Copy>(&mut self, path: &Path<'_>, text: &str, words: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{} must be {}", quoted(text), Alternatives(&known));
        match nearest(text, known) {
            Some(word) => self.error_hint(path, message, format!("did you mean {word:?}?")),
            None => self.error(path, message),
        }
        None
    }

    /// One of a few words, or the default where none is given.
    fn word_or<T: Copy>(
        &mut self,
        path: &Path<'_>,
        text: Option<&str>,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        text.map_or(Some(default), |text| self.word(path, text, words)).unwrap_or(default)
    }

    /// Labels, annotations aside: keys and values by their rules.
    fn labels(&mut self, path: &Path<'_>, labels: &Labels) {
        use crate::kinds::labels::{label_key_complaint, label_value_complaint};
        for (key, value) in labels {
            let path = path.key(key);
            self.complain(&path, key, label_key_complaint(key));
            self.complain(&path, value, label_value_complaint(value));
        }
    }

    /// A label's key.
    fn label_key(&mut self, path: &Path<'_>, key: &str) {
        if key.is_empty() {
            self.error(path, "is required");
        } else {
            self.complain(path, key, crate::kinds::labels::label_key_complaint(key));
        }
    }

    /// Notes that another object is needed.
    fn mention(&mut self, kind: Kind, name: &Name, path: &Path<'_>) {
        self.want(Wanted::Object(kind, name.clone()), path);
    }

    /// Notes that something outside the object is asked for.
    fn want(&mut self, wanted: Wanted, path: &Path<'_>) {
        let at = path.locate(self.root);
        self.mentions.push(Mention { wanted, at, field: path.to_string().into() });
    }
}
