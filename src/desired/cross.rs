//! Files become a wish: what holds of them together, and what only `windlass.yaml` and
//! `.windlassignore` can decide.
//!
//! This is run on every commit over all objects, changed or not, so it may cost some milliseconds
//! for ten thousand of them: it looks at what [`super::document`] has found, never at text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::admission::{self, ImagePolicy, Offences};
use super::apps::{AppSpec, Owners};
use super::charts;
use super::choose::choose;
use super::convert::{Mention, Wanted};
use super::document::{ParsedFile, Role, Waiver};
use super::ignore::Ignore;
use super::sealed::{CREATION_FILE, CreationRules};
use super::settings::Settings;
use super::support;
use super::trust::TRUST_FILE;
use super::{Desired, IGNORE_FILE, SETTINGS_FILE, Skipped};
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::finding::{Finding, Place};
use crate::kinds::labels::{Labels, Requirement, Selector};
use crate::kinds::name::{GIVEN_NAMESPACES, Name};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::{Kind, Support};
use crate::kinds::workload::SYSTEM_CLASSES;
use crate::ports::source::{FileEntry, FileKind};

/// Parsed files by path.
pub type Files = BTreeMap<Arc<str>, Arc<ParsedFile>>;

/// A commit, divided into its apps.
#[derive(Clone, Debug)]
pub struct Division {
    /// What is wrong with `windlass.yaml` itself: with an error among it nobody knows which file is
    /// whose, and there are no parts.
    pub settings: Vec<Finding>,
    /// The apps, the default app first, then as they are listed.
    pub parts: Vec<Part>,
    /// Whether any are listed; otherwise the only part is the whole repository.
    pub is_divided: bool,
}

/// What a commit says of one app.
#[derive(Clone, Debug)]
pub struct Part {
    /// How it is to be treated.
    pub spec: AppSpec,
    /// What its files come to: as long as this is the same, nothing of it has changed. Absent if
    /// it has none, and where the repository is not divided.
    pub tree: Option<Oid>,
    /// What it asks for.
    pub desired: Desired,
    /// What is wrong with it, whatever other apps have.
    pub findings: Vec<Finding>,
    /// What it needs that other apps may have, in this commit or another one that is in force.
    pub needs: Vec<Need>,
}

/// Something that an app needs and does not have itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub key: Key,
    /// What is to be said if it is nowhere.
    pub finding: Finding,
}

/// Puts the files of a commit together.
pub(super) fn assemble(listing: &[FileEntry], files: &Files) -> (Desired, Vec<Finding>) {
    let Whole { world, mut findings, needs, mut skipped, settings, .. } = Whole::of(listing, files);
    let nowhere = needs.into_iter().filter(|(_, need)| !world.has(&need.key));
    findings.extend(nowhere.map(|(_, need)| need.finding));
    findings.sort();
    findings.dedup();
    skipped.sort();
    let desired = Desired { objects: world.into_objects(), skipped, settings };
    (desired, findings)
}

/// Puts the files of a commit together, app by app.
pub(super) fn divide(listing: &[FileEntry], files: &Files) -> Division {
    let Whole { world, findings, needs, skipped, settings, owners } = Whole::of(listing, files);
    let is_divided = owners.is_divided();
    let is_general = |finding: &Finding| {
        [SETTINGS_FILE, IGNORE_FILE, TRUST_FILE, CREATION_FILE].contains(&&*finding.place.path)
    };
    let (mut general, mut findings): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_general);
    if !general.iter().any(Finding::is_error) {
        // Warnings are the default app's: it has the file.
        findings.append(&mut general);
    }
    general.sort();
    let trees = if is_divided { trees(listing, &owners, &settings, files) } else { Vec::new() };
    let mut parts: Vec<Part> = Vec::with_capacity(owners.specs.len());
    for (rank, spec) in owners.specs.iter().enumerate() {
        let desired = Desired { settings: settings.clone(), ..Desired::default() };
        let tree = trees.get(rank).cloned().flatten();
        let (findings, needs) = (Vec::new(), Vec::new());
        parts.push(Part { spec: spec.clone(), tree, desired, findings, needs });
    }
    for finding in findings {
        parts[owners.rank_of(&finding.place.path)].findings.push(finding);
    }
    for (rank, need) in needs {
        parts[rank].needs.push(need);
    }
    for skipped in skipped {
        parts[owners.rank_of(&skipped.path)].desired.skipped.push(skipped);
    }
    for Placed { rank, object, .. } in world.objects {
        parts[rank].desired.objects.insert(object.key.clone(), Arc::clone(object));
    }
    for part in &mut parts {
        part.findings.sort();
        part.findings.dedup();
        part.desired.skipped.sort();
    }
    if !general.is_empty() {
        parts.clear();
    }
    Division { settings: general, parts, is_divided }
}

/// A digest of the files of each app, and of what decides how they are read.
fn trees(
    listing: &[FileEntry],
    owners: &Owners,
    settings: &Settings,
    files: &Files,
) -> Vec<Option<Oid>> {
    let mut texts: Vec<String> = vec![String::new(); owners.specs.len()];
    let mut rules = format!("{:?} {:?}", settings.foreign, settings.unenforced);
    if settings.secrets_encrypted {
        rules.push_str("encrypted\n");
    }
    for entry in listing.iter().filter(|entry| files.contains_key(&entry.path)) {
        let line = format!("{}\0{}\n", entry.path, entry.blob);
        match &*entry.path {
            SETTINGS_FILE | TRUST_FILE => {}
            IGNORE_FILE | CREATION_FILE => rules.push_str(&line),
            path => texts[owners.rank_of(path)].push_str(&line),
        }
    }
    let digest = |text: String| {
        let digest = Digest::of_parts([rules.as_bytes(), text.as_bytes()]);
        (!text.is_empty()).then(|| Oid::new(&digest.hex()[..40]))
    };
    texts.into_iter().map(digest).collect()
}

/// All that a commit holds, before it is divided.
struct Whole<'f> {
    world: World<'f>,
    findings: Vec<Finding>,
    /// What apps need of each other, by rank.
    needs: Vec<(usize, Need)>,
    skipped: Vec<Skipped>,
    settings: Settings,
    owners: Owners,
}

impl<'f> Whole<'f> {
    fn of(listing: &[FileEntry], files: &'f Files) -> Self {
        let none = Ignore::default();
        let ignore = match files.get(IGNORE_FILE).map(|file| &file.role) {
            Some(Role::Ignore(ignore)) => ignore,
            _ => &none,
        };
        let settings = match files.get(SETTINGS_FILE).map(|file| &file.role) {
            Some(Role::Settings(settings)) => settings.clone(),
            _ => Settings::default(),
        };
        let owners = Owners::of(&settings.apps);
        let mut gathered = Gathered::default();
        let chosen = choose(listing, files, ignore, &mut gathered.findings, &mut gathered.skipped);
        for file in chosen {
            gathered.take(file, &settings);
        }
        let Gathered { mut findings, skipped, objects, refused, .. } = gathered;
        let world = World::of(objects, &refused, &owners, &mut findings);
        let every = ImagePolicy::default();
        let images = match files.get(TRUST_FILE).map(|file| &file.role) {
            Some(Role::Trust(images)) => images,
            _ => &every,
        };
        findings.extend(owners.specs.iter().filter_map(|spec| within_chart(spec, listing)));
        let needs = world.check(images, &mut findings);
        let locks = match files.get(CREATION_FILE).map(|file| &file.role) {
            Some(Role::Creation(rules)) => Some(rules),
            _ => None,
        };
        world.check_locks(locks, settings.secrets_encrypted, &mut findings);
        Self { world, findings, needs, skipped, settings, owners }
    }
}

/// A chart is taken whole or not at all, so no part of it can be an app of its own.
fn within_chart(spec: &AppSpec, listing: &[FileEntry]) -> Option<Finding> {
    let charts = listing.iter().filter(|entry| entry.kind == FileKind::Chart);
    let mut directories = charts.filter_map(|entry| charts::directory(&entry.path));
    let chart = directories.find(|chart| charts::below(&spec.path, chart).is_some())?;
    let message = format!("the directory of app {} lies within the chart {chart}/", spec.name);
    Some(Finding::error(spec.place.clone(), message).hint("let the app have all of the chart"))
}

/// An object as it came from its file.
struct Found<'f> {
    object: &'f Arc<Object>,
    mentions: &'f [Mention],
    offences: &'f Offences,
}

/// What the files hold.
#[derive(Default)]
struct Gathered<'f> {
    findings: Vec<Finding>,
    skipped: Vec<Skipped>,
    objects: Vec<Found<'f>>,
    /// Objects that were named but can't be used: others may rest on them all the same.
    refused: Vec<(&'f Key, Place)>,
}

impl<'f> Gathered<'f> {
    fn take(&mut self, file: &'f ParsedFile, settings: &Settings) {
        self.findings.extend(file.findings.iter().cloned());
        let beside = file.mentions.iter().map(|mentions| &**mentions).zip(&file.offences);
        let objects = file.objects.iter().zip(beside);
        self.objects.extend(objects.map(|(object, (mentions, offences))| Found {
            object,
            mentions,
            offences,
        }));
        let mut let_through = BTreeSet::new();
        for waivable in &file.waivable {
            let is_waived = match &waivable.waiver {
                Waiver::Foreign { group, kind } => settings.is_foreign(group, kind),
                Waiver::Unenforced(kind) => settings.unenforced.contains(kind),
            };
            if !is_waived {
                self.findings.push(waivable.finding.clone());
            } else if let Some(object) = &waivable.object {
                let_through.insert(&object.key);
                // Of those kinds none makes pods.
                static NONE: Offences = Offences::new();
                self.objects.push(Found { object, mentions: &[], offences: &NONE });
            }
        }
        for (key, place) in &file.refused {
            if !let_through.contains(key) {
                self.refused.push((key, place.clone()));
            }
        }
    }
}

/// An object with what it needs, and the place of its app among the apps.
struct Placed<'f> {
    rank: usize,
    object: &'f Arc<Object>,
    mentions: &'f [Mention],
    offences: &'f Offences,
}

/// All objects, by key.
struct World<'f> {
    objects: Vec<Placed<'f>>,
    refused: BTreeSet<(&'f Key, usize)>,
    /// How many apps there are.
    ranks: usize,
}

impl<'f> World<'f> {
    /// Sorts the objects; of those that are written twice the first stays: that of the app that is
    /// listed first, and within an app the first in the tree.
    fn of(
        objects: Vec<Found<'f>>,
        refused: &[(&'f Key, Place)],
        owners: &Owners,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let place = |Found { object, mentions, offences }: Found<'f>| Placed {
            rank: owners.rank_of(&object.place.path),
            object,
            mentions,
            offences,
        };
        let mut objects: Vec<Placed<'f>> = objects.into_iter().map(place).collect();
        let order = |placed: &Placed<'f>| (&placed.object.key, placed.rank, &placed.object.place);
        objects.sort_by(|a, b| order(a).cmp(&order(b)));
        let twice = |place: &Place, first: &Place, key: &Key| {
            let (own, other) = (owners.rank_of(&place.path), owners.rank_of(&first.path));
            let of = match owners.specs.get(other).filter(|_| own != other) {
                Some(spec) => format!(" (app {})", spec.name),
                None => String::new(),
            };
            Finding::error(place.clone(), format!("is written already at {first}{of}")).of(key)
        };
        let mut kept: Vec<Placed<'f>> = Vec::with_capacity(objects.len());
        for placed in objects {
            match kept.last() {
                Some(first) if first.object.key == placed.object.key => {
                    let object = placed.object;
                    findings.push(twice(&object.place, &first.object.place, &object.key));
                }
                _ => kept.push(placed),
            }
        }
        let mut firsts: BTreeMap<&Key, &Place> = BTreeMap::new();
        for (key, place) in refused {
            let usable = kept.binary_search_by(|placed| placed.object.key.cmp(key));
            let first = match usable {
                Ok(at) => Some(&kept[at].object.place),
                Err(_) => firsts.get(key).copied(),
            };
            match first {
                Some(first) => findings.push(twice(place, first, key)),
                None => {
                    firsts.insert(key, place);
                }
            }
        }
        let refused = refused.iter().map(|(key, place)| (*key, owners.rank_of(&place.path)));
        Self { objects: kept, refused: refused.collect(), ranks: owners.specs.len() }
    }

    fn into_objects(self) -> BTreeMap<Key, Arc<Object>> {
        self.objects
            .into_iter()
            .map(|placed| (placed.object.key.clone(), Arc::clone(placed.object)))
            .collect()
    }

    /// Whether anybody has it, be it fit for use or not.
    fn has(&self, key: &Key) -> bool {
        (0..self.ranks).any(|rank| self.has_in(rank, key))
    }

    fn has_in(&self, rank: usize, key: &Key) -> bool {
        let found = self.objects.binary_search_by(|placed| placed.object.key.cmp(key));
        found.is_ok_and(|at| self.objects[at].rank == rank) || self.refused.contains(&(key, rank))
    }

    /// Checks what holds between objects; returns what apps need of each other.
    fn check(&self, images: &ImagePolicy, findings: &mut Vec<Finding>) -> Vec<(usize, Need)> {
        let needs = self.check_mentions(findings);
        self.check_selectors(findings);
        self.check_default_class(findings);
        self.check_pod_names(findings);
        self.tell_of_shown(findings);
        let objects = self.objects.iter().map(|placed| (&**placed.object, placed.offences));
        admission::check(objects, images, findings);
        needs
    }

    fn check_mentions(&self, findings: &mut Vec<Finding>) -> Vec<(usize, Need)> {
        let mut needs = Vec::new();
        let mut node_ports: BTreeMap<u16, &Object> = BTreeMap::new();
        let mut cluster_ips: BTreeMap<Ipv4Addr, &Object> = BTreeMap::new();
        // App by app, so that of two that want the same the one that is listed first has it.
        for rank in 0..self.ranks {
            // Objects are sorted by namespace: most stand in the one that was looked up last.
            let mut namespace_seen: Option<&Wanted> = None;
            let mut asked: BTreeSet<Key> = BTreeSet::new();
            for Placed { object, mentions, .. } in self.objects.iter().filter(|p| p.rank == rank) {
                for mention in *mentions {
                    if namespace_seen == Some(&mention.wanted) {
                        continue;
                    }
                    let mut need = None;
                    let finding = match &mention.wanted {
                        Wanted::Object(kind, name) => {
                            let missing = self.missing(rank, object, *kind, name);
                            missing.map(|(key, finding)| {
                                need = Some(key);
                                finding
                            })
                        }
                        Wanted::NodePort(port) => {
                            claim(&mut node_ports, *port, object, "node port")
                        }
                        Wanted::ClusterIp(ip) => claim(&mut cluster_ips, *ip, object, "address"),
                    };
                    if let (None, Wanted::Object(Kind::Namespace, _)) = (&finding, &mention.wanted)
                    {
                        namespace_seen = Some(&mention.wanted);
                    }
                    let Some(finding) = finding else { continue };
                    let place = Place {
                        path: Arc::clone(&object.place.path),
                        line: mention.at.line,
                        column: mention.at.column,
                    };
                    let finding = Finding { place, ..finding.of(&object.key).at(&*mention.field) };
                    match need.filter(|_| self.ranks > 1) {
                        None => findings.push(finding),
                        // Once is enough to ask the others.
                        Some(key) if asked.insert(key.clone()) => {
                            needs.push((rank, Need { key, finding }));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        needs
    }

    /// What is to be said if the object that `object` needs is not in its app.
    fn missing(
        &self,
        rank: usize,
        object: &Object,
        kind: Kind,
        name: &Name,
    ) -> Option<(Key, Finding)> {
        let exists_by_itself = match kind {
            Kind::Namespace => GIVEN_NAMESPACES.contains(&name.as_str()),
            Kind::PriorityClass => SYSTEM_CLASSES.iter().any(|(class, _)| *name == *class),
            Kind::ServiceAccount => *name == *"default",
            _ => false,
        };
        let namespace = object.key.namespace.clone().filter(|_| kind.info().namespaced);
        let key = Key { kind, namespace, name: name.clone() };
        if exists_by_itself || self.has_in(rank, &key) {
            return None;
        }
        let nowhere = Place::file("");
        let finding = match kind {
            Kind::Namespace => Finding::error(nowhere, format!("there is no Namespace {name}"))
                .hint("add one: kind: Namespace with this name"),
            Kind::PriorityClass => {
                Finding::error(nowhere, format!("there is no PriorityClass {name}"))
            }
            Kind::ServiceAccount => Finding::warning(nowhere, format!("there is no {key}")),
            Kind::Service => Finding::warning(
                nowhere,
                format!("there is no {key}: the pods have no names in DNS without it"),
            ),
            _ => Finding::warning(nowhere, format!("there is no {key}: the pod will wait for it")),
        };
        Some((key, finding))
    }

    /// Secrets that are meant to be encrypted and are not.
    fn check_locks(
        &self,
        rules: Option<&CreationRules>,
        is_required: bool,
        findings: &mut Vec<Finding>,
    ) {
        for Placed { object, .. } in &self.objects {
            let Body::Secret(secret) = &object.body else { continue };
            if secret.sealed.is_some() || secret.data.values().all(|value| value.is_empty()) {
                continue;
            }
            let rule = rules.and_then(|rules| rules.of(&object.place.path));
            let why = match rule {
                Some(rule) => {
                    format!("{CREATION_FILE}:{} says that this file is encrypted", rule.line)
                }
                None if is_required => format!("{SETTINGS_FILE} asks for encrypted Secrets"),
                None => continue,
            };
            let message = format!("stands here in plain text, and {why}");
            let finding = Finding::error(object.place.clone(), message).of(&object.key).hint(
                "what was pushed counts as known: change its values, then `windlass secret encrypt` the file",
            );
            findings.push(finding);
        }
    }

    /// Workloads that would count each other's pods as their own.
    fn check_selectors(&self, findings: &mut Vec<Finding>) {
        let workloads: Vec<Workload<'_>> =
            self.objects.iter().filter_map(|placed| workload(placed.object)).collect();
        let mut carriers = Carriers::new();
        for (index, workload) in workloads.iter().enumerate() {
            for (key, value) in workload.labels {
                let at = (workload.namespace, key.as_str(), value.as_str());
                carriers.entry(at).or_default().push(index);
            }
        }
        for (index, workload) in workloads.iter().enumerate() {
            let candidates = narrowest(workload, &carriers).unwrap_or_else(|| {
                let all = 0..workloads.len();
                all.filter(|other| workloads[*other].namespace == workload.namespace).collect()
            });
            let caught = candidates
                .iter()
                .map(|other| (*other, &workloads[*other]))
                .find(|(other, found)| *other != index && workload.selector.matches(found.labels));
            if let Some((_, caught)) = caught {
                let message = format!(
                    "its selector {} also picks the pods of {} ({})",
                    workload.selector, caught.object.key, caught.object.place
                );
                let place = workload.object.place.clone();
                let finding =
                    Finding::warning(place, message).of(&workload.object.key).at("spec.selector");
                findings.push(finding);
            }
        }
    }

    /// Pods written by hand under a name that a StatefulSet gives to one of its own.
    fn check_pod_names(&self, findings: &mut Vec<Finding>) {
        let pods = self.objects.iter().filter(|placed| placed.object.key.kind == Kind::Pod);
        for Placed { object: pod, .. } in pods {
            let Some((name, number)) = pod.key.name.as_str().rsplit_once('-') else {
                continue;
            };
            let (Some(namespace), Ok(number)) = (&pod.key.namespace, number.parse::<u32>()) else {
                continue;
            };
            let key = Key::namespaced(Kind::StatefulSet, namespace, &Name::trusted(name));
            let found = self.objects.binary_search_by(|placed| placed.object.key.cmp(&key));
            let Ok(at) = found else {
                continue;
            };
            let set = self.objects[at].object;
            let takes = match &set.body {
                Body::StatefulSet(spec) => spec.ordinals().contains(&number),
                _ => false,
            };
            // `db-01` is another name than `db-1`.
            if takes && pod.key.name.as_str() == format!("{name}-{number}") {
                let message = format!("has the name of a pod of {} ({})", set.key, set.place);
                findings.push(Finding::error(pod.place.clone(), message).of(&pod.key));
            }
        }
    }

    fn check_default_class(&self, findings: &mut Vec<Finding>) {
        let mut defaults: Vec<&Placed<'_>> = self
            .objects
            .iter()
            .filter(|p| matches!(&p.object.body, Body::PriorityClass(class) if class.is_default))
            .collect();
        defaults.sort_by_key(|placed| placed.rank);
        let [Placed { object: first, .. }, others @ ..] = defaults.as_slice() else {
            return;
        };
        for Placed { object, .. } in others {
            let message = format!("{} is the default already ({})", first.key, first.place);
            let finding =
                Finding::error(object.place.clone(), message).of(&object.key).at("globalDefault");
            findings.push(finding);
        }
    }

    /// Kinds on which nothing acts are told of once each, not once for every object.
    fn tell_of_shown(&self, findings: &mut Vec<Finding>) {
        let mut counts: BTreeMap<Kind, (usize, &Place)> = BTreeMap::new();
        for Placed { object, .. } in &self.objects {
            let kind = object.key.kind;
            if matches!(kind.info().support, Support::Shown | Support::Refused) {
                let (count, first) = counts.entry(kind).or_insert((0, &object.place));
                *count += 1;
                *first = (*first).min(&object.place);
            }
        }
        for (kind, (count, place)) in counts {
            let message = match (kind.info().support, count) {
                (Support::Refused, 1) => {
                    format!("1 {kind} is accepted, but {}", support::refusal(kind))
                }
                (Support::Refused, _) => {
                    format!(
                        "{count} objects of kind {kind} are accepted, but each {}",
                        support::refusal(kind)
                    )
                }
                (_, 1) => format!("1 {kind} is accepted, but {}", support::consequence(kind)),
                _ => format!(
                    "{count} objects of kind {kind} are accepted, but {}",
                    support::consequence(kind)
                ),
            };
            findings.push(Finding::warning(place.clone(), message));
        }
    }
}

/// What is to be said if somebody else has asked for `what` before.
fn claim<'o, K: Ord + std::fmt::Display>(
    claims: &mut BTreeMap<K, &'o Object>,
    what: K,
    object: &'o Object,
    name: &str,
) -> Option<Finding> {
    let text = what.to_string();
    match claims.get(&what) {
        Some(first) if first.key != object.key => {
            let message = format!("{name} {text} is asked for by {} ({})", first.key, first.place);
            Some(Finding::error(Place::file(""), message))
        }
        Some(_) => None,
        None => {
            claims.insert(what, object);
            None
        }
    }
}

/// An object that counts pods as its own.
struct Workload<'o> {
    object: &'o Object,
    namespace: &'o str,
    selector: &'o Selector,
    labels: &'o Labels,
}

fn workload(object: &Object) -> Option<Workload<'_>> {
    let (selector, template) = (object.body.selector()?, object.body.template()?);
    Some(Workload {
        object,
        namespace: object.key.namespace_str(),
        selector,
        labels: &template.labels,
    })
}

/// The workloads whose pods carry a label, by (namespace, key, value).
type Carriers<'o> = BTreeMap<(&'o str, &'o str, &'o str), Vec<usize>>;

/// The fewest workloads among which are all whose pods `workload` can pick; none if nothing
/// narrows it down, as when it only says what labels must not be there.
fn narrowest<'o>(workload: &Workload<'o>, carriers: &Carriers<'o>) -> Option<Vec<usize>> {
    let of = |key: &'o str, value: &'o str| {
        let list = carriers.get(&(workload.namespace, key, value));
        list.map(Vec::as_slice).unwrap_or_default()
    };
    let requirements = workload.selector.requirements().iter();
    requirements
        .filter_map(|requirement| match requirement {
            Requirement::In(key, values) => {
                Some(values.iter().map(|value| of(key, value)).collect::<Vec<_>>())
            }
            _ => None,
        })
        .min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>())
        .map(|lists| lists.concat())
}
