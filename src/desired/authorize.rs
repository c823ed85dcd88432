//! Who may change what: Kubernetes' RBAC, asked of a commit.
//!
//! A ship's standing orders: the cook orders stores, the mate moves cargo, and nobody hands out a power
//! that he has not. The orders are the Roles and bindings as they stand **in the commit before**, so
//! nobody writes his own permission and uses it with one stroke. Each object that a commit creates,
//! updates or deletes asks for that verb on its resource, in its namespace, by its name.
//!
//! ```text
//!   files of the parent ─▶ World ─┬─▶ Roles ──┐
//!   files of the commit ─▶ World ─┴─▶ changes ┴─▶ what the signer lacks, by file and line
//! ```
//! The rules are Kubernetes': rules only add; `*`; subresources; `resourceNames`, also for what is
//! created, since its name is known here; aggregated ClusterRoles; a RoleBinding to a ClusterRole; the
//! group `system:authenticated`; and escalation: a role may be written only by who has all that is in
//! it, or `escalate`; a binding only by who has all that it gives, or `bind`.
//! Of Kubernetes' own roles there is `cluster-admin`, whether or not it is written down.
//!
//! Files that are no objects have resources of the group [`GROUP`], outside namespaces: `trust`
//! (trust.yaml), `settings` (windlass.yaml, .sops.yaml), `ignores` (what keeps files from being read:
//! .windlassignore, kustomization.yaml, that there is a Chart.yaml).
//! Source: `plugin/pkg/auth/authorizer/rbac`, `pkg/registry/rbac/validation`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::document::{ParsedFile, Role as FileRole};
use super::trust::Signer;
use super::{Desired, Files, charts, cross};
use crate::kinds::binding::Oid;
use crate::kinds::finding::{Finding, Place};
use crate::kinds::labels::{Labels, Requirement, Selector};
use crate::kinds::name::Name;
use crate::kinds::object::{Key, Object};
use crate::kinds::registry::Kind;
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// The API group of what is no Kubernetes object.
pub const GROUP: &str = "windlass.dev";

/// The group of everybody who signs.
const AUTHENTICATED: &str = "system:authenticated";

/// The role that may do everything.
const CLUSTER_ADMIN: &str = "cluster-admin";

/// Somebody who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Names: a `User` of a binding is one of them.
    pub names: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
}

impl From<&Signer> for Who {
    fn from(signer: &Signer) -> Self {
        Self { names: signer.names.clone(), groups: signer.groups.clone() }
    }
}

impl Who {
    fn is(&self, subject: &Subject) -> bool {
        match subject.kind.as_str() {
            "User" => self.names.contains(&subject.name),
            "Group" => subject.name == AUTHENTICATED || self.groups.contains(&subject.name),
            _ => false,
        }
    }

    fn name(&self) -> &str {
        self.names.first().map_or("nobody", String::as_str)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `create`, `update`, …
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The plural, with a subresource after a slash if one is meant.
    pub resource: &'a str,
    /// The namespace; absent outside namespaces, or for all of them.
    pub namespace: Option<&'a str>,
    /// The object's name; absent for any.
    pub name: Option<&'a str>,
}

/// `create deployments.apps "web" in namespace shop`.
impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)?;
        if let Some(name) = self.name {
            write!(f, " {name:?}")?;
        }
        self.namespace.map_or(Ok(()), |namespace| write!(f, " in namespace {namespace}"))
    }
}

/// A rule of a role, as it is written (`PolicyRule`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

impl Rule {
    fn everything() -> Vec<Self> {
        let all = || vec!["*".to_owned()];
        let objects = Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() };
        let paths = Self { verbs: all(), non_resource_urls: all(), ..Self::default() };
        vec![objects, paths]
    }

    /// `RuleAllows`.
    fn allows(&self, asked: &Asked<'_>) -> bool {
        has(&self.verbs, asked.verb)
            && has(&self.api_groups, asked.group)
            && has_resource(&self.resources, asked.resource)
            && has_name(&self.resource_names, asked.name)
    }

    /// Whether it allows requests for a path that is no object's.
    fn allows_path(&self, verb: &str, path: &str) -> bool {
        let matches = |known: &String| match known.strip_suffix('*') {
            Some(begin) => path.starts_with(begin),
            None => known == path,
        };
        has(&self.verbs, verb) && self.non_resource_urls.iter().any(matches)
    }

    /// What of it these rules don't give, as one example (`Covers`).
    fn beyond(&self, owned: &[&Self]) -> Option<String> {
        let any = vec![None];
        let names: Vec<Option<&str>> = match self.resource_names.as_slice() {
            [] => any,
            names => names.iter().map(|name| Some(name.as_str())).collect(),
        };
        for verb in &self.verbs {
            for path in &self.non_resource_urls {
                if !owned.iter().any(|rule| rule.allows_path(verb, path)) {
                    return Some(format!("{verb} {path}"));
                }
            }
            for (group, resource) in self
                .api_groups
                .iter()
                .flat_map(|group| self.resources.iter().map(move |resource| (group, resource)))
            {
                for name in &names {
                    let (namespace, name) = (None, *name);
                    let asked = Asked { verb, group, resource, namespace, name };
                    if !owned.iter().any(|rule| rule.allows(&asked)) {
                        return Some(asked.to_string());
                    }
                }
            }
        }
        None
    }
}

fn has(known: &[String], asked: &str) -> bool {
    known.iter().any(|known| known == "*" || known == asked)
}

/// `ResourceMatches`: of a subresource also `*/scale`.
fn has_resource(known: &[String], asked: &str) -> bool {
    let of_any = asked.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    has(known, asked) || of_any.is_some_and(|of_any| known.contains(&of_any))
}

fn has_name(known: &[String], asked: Option<&str>) -> bool {
    known.is_empty() || asked.is_some_and(|asked| known.iter().any(|known| known == asked))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RoleText {
    rules: Option<Vec<Rule>>,
    aggregation_rule: Option<Aggregation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Aggregation {
    cluster_role_selectors: Option<Vec<SelectorText>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SelectorText {
    match_labels: Labels,
    match_expressions: Vec<ExpressionText>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ExpressionText {
    key: String,
    operator: String,
    values: BTreeSet<String>,
}

impl SelectorText {
    /// None where it has an operator that nobody knows: then it picks nothing.
    fn read(&self) -> Option<Selector> {
        let mut all = Selector::from_labels(&self.match_labels).requirements().to_vec();
        for ExpressionText { key, operator, values } in &self.match_expressions {
            let (key, values) = (key.clone(), values.clone());
            all.push(match operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::DoesNotExist(key),
                _ => return None,
            });
        }
        Some(Selector::new(all))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct BindingText {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

impl RoleRef {
    /// The role that a binding in that namespace, or outside namespaces, gives.
    fn key(&self, namespace: Option<&Name>) -> Key {
        let name = Name::trusted(&self.name);
        match (self.kind.as_str(), namespace) {
            ("Role", Some(namespace)) => Key::namespaced(Kind::Role, namespace, &name),
            _ => Key::cluster(Kind::ClusterRole, &name),
        }
    }
}

/// A role, with what it takes over from others.
#[derive(Clone, Debug, Default)]
struct Role {
    rules: Vec<Rule>,
    is_aggregated: bool,
}

#[derive(Clone, Debug)]
struct Binding {
    namespace: Option<Name>,
    subjects: Vec<Subject>,
    role: Key,
}

/// The roles and bindings of a commit.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    roles: BTreeMap<Key, Role>,
    bindings: Vec<Binding>,
}

impl Roles {
    /// Those of a wish.
    pub fn of(desired: &Desired) -> Self {
        let mut roles = Self::default();
        let admin = Key::cluster(Kind::ClusterRole, &Name::trusted(CLUSTER_ADMIN));
        let everything = Role { rules: Rule::everything(), is_aggregated: false };
        roles.roles.insert(admin, everything);
        let every: Vec<(&Arc<Object>, RoleText)> = [Kind::ClusterRole, Kind::Role]
            .into_iter()
            .flat_map(|kind| desired.of_kind(kind))
            .map(|object| (object, read(object)))
            .collect();
        for (object, text) in &every {
            let mut rules = text.rules.clone().unwrap_or_default();
            // Whatever is written in it, its rules are those of the others (`ClusterRoleAggregation`).
            if let Some(aggregation) = &text.aggregation_rule {
                let picks = aggregation.cluster_role_selectors.iter().flatten();
                let picks: Vec<Selector> = picks.filter_map(SelectorText::read).collect();
                let is_picked = |other: &Object| {
                    other.key.kind == Kind::ClusterRole
                        && other.key != object.key
                        && picks.iter().any(|pick| pick.matches(&other.labels))
                };
                let others = every.iter().filter(|(other, _)| is_picked(other));
                rules =
                    others.flat_map(|(_, text)| text.rules.clone().unwrap_or_default()).collect();
            }
            let is_aggregated = text.aggregation_rule.is_some();
            roles.roles.insert(object.key.clone(), Role { rules, is_aggregated });
        }
        for kind in [Kind::ClusterRoleBinding, Kind::RoleBinding] {
            roles.bindings.extend(desired.of_kind(kind).map(|object| {
                let text: BindingText = read(object);
                let namespace = object.key.namespace.clone();
                let role = text.role_ref.key(namespace.as_ref());
                Binding { namespace, subjects: text.subjects.unwrap_or_default(), role }
            }));
        }
        roles
    }

    /// The rules that somebody has in a namespace, or everywhere where none is named.
    fn rules(&self, who: &Who, namespace: Option<&str>) -> Vec<&Rule> {
        let holds = |binding: &&Binding| {
            let is_here = match &binding.namespace {
                None => true,
                Some(own) => namespace.is_some_and(|asked| *own == *asked),
            };
            is_here && binding.subjects.iter().any(|subject| who.is(subject))
        };
        let roles = self.bindings.iter().filter(holds).filter_map(|b| self.roles.get(&b.role));
        roles.flat_map(|role| &role.rules).collect()
    }

    /// Whether somebody may do something.
    pub fn may(&self, who: &Who, asked: &Asked<'_>) -> bool {
        self.rules(who, asked.namespace).iter().any(|rule| rule.allows(asked))
    }

    /// What somebody may do, a line for each rule: resources, names and verbs, with tabs between.
    pub fn list(&self, who: &Who, namespace: Option<&str>) -> Vec<String> {
        let line = |rule: &&Rule| {
            let qualified = rule.api_groups.iter().flat_map(|group| {
                let dot = if group.is_empty() { "" } else { "." };
                rule.resources.iter().map(move |resource| format!("{resource}{dot}{group}"))
            });
            let what: Vec<String> =
                qualified.chain(rule.non_resource_urls.iter().cloned()).collect();
            let (names, verbs) = (rule.resource_names.join(","), rule.verbs.join(","));
            format!("{}\t[{names}]\t[{verbs}]", what.join(","))
        };
        let mut lines: Vec<String> = self.rules(who, namespace).iter().map(line).collect();
        lines.sort();
        lines.dedup();
        lines
    }
}

/// The accepted kinds are checked against Kubernetes' schema when they are read; what can't be read
/// all the same gives nothing.
fn read<T: for<'de> Deserialize<'de> + Default>(object: &Object) -> T {
    serde_json::from_str(&object.json).unwrap_or_default()
}

/// Files, and what they come to.
#[derive(Clone, Debug, Default)]
pub struct World {
    desired: Desired,
    /// Files that are no manifests and count: their content's id, and their resource.
    others: BTreeMap<Arc<str>, (Oid, &'static str)>,
}

/// Files that were parsed before.
pub(super) type Parsed = BTreeMap<(Arc<str>, Oid), Arc<ParsedFile>>;

impl World {
    /// Of these files, which may be a part of a commit's.
    pub fn of(contents: &[FileContent]) -> Self {
        Self::remembering(contents, &mut Parsed::new())
    }

    /// The same; what is parsed is kept.
    pub(super) fn remembering(contents: &[FileContent], parsed: &mut Parsed) -> Self {
        let entry = |content: &FileContent| {
            let is_chart = charts::is_packed(&content.bytes);
            // How large a chart is shows when it is taken apart.
            let bytes = if is_chart { 0 } else { content.bytes.len() };
            FileEntry {
                path: content.path.clone(),
                blob: content.blob.clone(),
                kind: if is_chart { FileKind::Chart } else { FileKind::File },
                bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            }
        };
        let listing: Vec<FileEntry> = contents.iter().map(entry).collect();
        let wanted = super::wanted(&listing);
        let is_wanted: BTreeSet<&str> = wanted.iter().map(|entry| &*entry.path).collect();
        let (mut files, mut others) = (Files::new(), BTreeMap::new());
        for content in contents.iter().filter(|content| is_wanted.contains(&*content.path)) {
            let key = (content.path.clone(), content.blob.clone());
            let file = parsed.entry(key).or_insert_with(|| Arc::new(super::parse(content))).clone();
            // That a directory is a chart keeps what lies there from being read as it is. What a
            // chart becomes is judged by its objects.
            let id = if matches!(file.role, FileRole::Chart) {
                Oid::new("")
            } else {
                content.blob.clone()
            };
            let resource = match file.role {
                FileRole::Plain => None,
                FileRole::Settings(_) | FileRole::Creation(_) => Some("settings"),
                FileRole::Ignore(_) | FileRole::Source | FileRole::Chart => Some("ignores"),
                FileRole::Trust(_) => Some("trust"),
            };
            if let Some(resource) = resource {
                others.insert(content.path.clone(), (id, resource));
            }
            files.insert(content.path.clone(), file);
        }
        let (desired, _) = cross::assemble(&wanted, &files);
        Self { desired, others }
    }

    /// Its roles and bindings.
    pub fn roles(&self) -> Roles {
        Roles::of(&self.desired)
    }
}

/// What of the changes from one world to the next somebody may not make.
pub fn lacks(before: &World, after: &World, who: &Who) -> Vec<Finding> {
    let (roles, new) = (before.roles(), after.roles());
    let mut found = Vec::new();
    let (old, objects) = (&before.desired.objects, &after.desired.objects);
    let keys: BTreeSet<&Key> = old.keys().chain(objects.keys()).collect();
    for key in keys {
        let (verb, object) = match (old.get(key), objects.get(key)) {
            (Some(was), Some(is)) if was.meaning == is.meaning => continue,
            (Some(_), Some(is)) => ("update", is),
            (None, Some(is)) => ("create", is),
            (Some(was), None) => ("delete", was),
            (None, None) => continue,
        };
        let info = key.kind.info();
        let asked = Asked {
            verb,
            group: info.group,
            resource: info.plural,
            namespace: key.namespace.as_ref().map(Name::as_str),
            name: Some(key.name.as_str()),
        };
        let place = object.place.clone();
        if !roles.may(who, &asked) {
            found.push(denied(place, who, &asked));
        } else if verb != "delete"
            && let Some(finding) = escalates(object, who, &roles, &new)
        {
            found.push(finding);
        }
    }
    let paths: BTreeSet<&Arc<str>> = before.others.keys().chain(after.others.keys()).collect();
    for path in paths {
        let (was, is) = (before.others.get(path), after.others.get(path));
        let (verb, resource) = match (was, is) {
            (Some(was), Some(is)) if was == is => continue,
            (Some(_), Some((_, resource))) => ("update", *resource),
            (None, Some((_, resource))) => ("create", *resource),
            (Some((_, resource)), None) => ("delete", *resource),
            (None, None) => continue,
        };
        let asked = Asked { verb, group: GROUP, resource, namespace: None, name: Some(path) };
        if !roles.may(who, &asked) {
            found.push(denied(Place::file(path), who, &asked));
        }
    }
    found
}

fn denied(place: Place, who: &Who, asked: &Asked<'_>) -> Finding {
    let message = format!("{} may not {asked}", who.name());
    let hint = "somebody who may is to sign it; or a Role and a binding come first, in a commit of \
                somebody who may do both";
    Finding::error(place, message).hint(hint)
}

/// What a role or a binding would give that its author has not (`ConfirmNoEscalation`).
fn escalates(object: &Object, who: &Who, roles: &Roles, new: &Roles) -> Option<Finding> {
    let key = &object.key;
    let namespace = key.namespace.as_ref().map(Name::as_str);
    let (verb, role) = match key.kind {
        Kind::Role | Kind::ClusterRole => ("escalate", key.clone()),
        Kind::RoleBinding | Kind::ClusterRoleBinding => {
            let text: BindingText = read(object);
            ("bind", text.role_ref.key(key.namespace.as_ref()))
        }
        _ => return None,
    };
    let info = role.kind.info();
    let (group, resource, name) = (info.group, info.plural, Some(role.name.as_str()));
    let asked = Asked { verb, group, resource, namespace, name };
    if roles.may(who, &asked) {
        return None;
    }
    // What comes with the same commit counts as it will be; what it does not touch, as it was.
    let given = new.roles.get(&role).or_else(|| roles.roles.get(&role));
    let everything = Rule::everything();
    let owned = roles.rules(who, namespace);
    let beyond = match given {
        None => Some(format!("{role}, which is not there")),
        // Whatever others are labelled for it later.
        Some(given) if verb == "escalate" && given.is_aggregated => {
            everything.iter().find_map(|rule| rule.beyond(&owned))
        }
        Some(given) => given.rules.iter().find_map(|rule| rule.beyond(&owned)),
    }?;
    let message = format!("{} may not give what he may not do himself: {beyond}", who.name());
    let hint = format!("somebody who may is to sign it, or who may {asked}");
    Some(Finding::error(object.place.clone(), message).hint(hint))
}

/// Whether any of these people could let others change things again, by what a commit has.
pub(super) fn has_keeper(world: &World, everybody: impl IntoIterator<Item = Who>) -> bool {
    let roles = world.roles();
    let (verb, group, resource) = ("update", GROUP, "trust");
    let asked =
        Asked { verb, group, resource, namespace: None, name: Some(super::trust::TRUST_FILE) };
    everybody.into_iter().any(|who| roles.may(&who, &asked))
}

#[cfg(test)]
mod tests;
