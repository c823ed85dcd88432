//! Templates of revisions that are no longer in force, which pods still run or return to.
//!
//! The agent fetches them from Git before it plans: [`missing_templates`] says which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::MEANING_VERSION;
use crate::kinds::binding::{AppName, Binding, Oid, TemplateRef};
use crate::kinds::object::Key;
use crate::kinds::pod::PodTemplate;
use crate::state::{RecordKey, State};

use super::AppInput;

/// Where a template is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf {
    /// The commit.
    pub revision: Oid,
    /// The file.
    pub path: String,
    /// The object in it.
    pub owner: Key,
}

impl Shelf {
    /// Where `reference` points.
    pub fn of(reference: &TemplateRef) -> Self {
        Self {
            revision: reference.revision.clone(),
            path: reference.path.clone(),
            owner: reference.owner.clone(),
        }
    }
}

/// Templates by where they are written; `None` where nothing of that name was found there.
#[derive(Clone, Debug, Default)]
pub struct Library {
    books: Arc<BTreeMap<Shelf, Option<Arc<PodTemplate>>>>,
}

impl Library {
    /// What stands there: not looked yet, nothing, or a template.
    pub fn get(&self, shelf: &Shelf) -> Option<&Option<Arc<PodTemplate>>> {
        self.books.get(shelf)
    }

    /// Adds what was found, or that nothing was.
    pub fn put(&mut self, shelf: Shelf, template: Option<Arc<PodTemplate>>) {
        Arc::make_mut(&mut self.books).insert(shelf, template);
    }

    /// Every template that was found.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<PodTemplate>> {
        self.books.values().flatten()
    }

    /// Forgets what nobody refers to.
    pub fn keep_only(&mut self, used: &BTreeSet<Shelf>) {
        if self.books.keys().any(|shelf| !used.contains(shelf)) {
            Arc::make_mut(&mut self.books).retain(|shelf, _| used.contains(shelf));
        }
    }
}

/// The template a reference means: as it stands in the revision in force if that says the same,
/// else as it stood in its own revision.
pub fn template_of(
    reference: &TemplateRef,
    apps: &BTreeMap<AppName, AppInput>,
    library: &Library,
) -> Option<Arc<PodTemplate>> {
    if let Some(template) = in_force(reference, apps) {
        return Some(template);
    }
    library.get(&Shelf::of(reference)).cloned().flatten()
}

/// Whether a template says what `reference` said; none where that can't be read any more. By meaning,
/// so that neither notation nor an upgrade of ours makes a difference.
pub fn still_means(
    reference: &TemplateRef,
    template: &PodTemplate,
    apps: &BTreeMap<AppName, AppInput>,
    library: &Library,
) -> Option<bool> {
    if reference.meaning_version == MEANING_VERSION {
        return Some(reference.meaning == template.meaning);
    }
    let read = template_of(reference, apps, library)?;
    Some(read.meaning == template.meaning)
}

/// What a pod runs: the template its binding refers to, as this pod has it.
pub fn template_for(
    binding: &Binding,
    apps: &BTreeMap<AppName, AppInput>,
    library: &Library,
) -> Option<Arc<PodTemplate>> {
    let template = template_of(&binding.template, apps, library)?;
    Some(binding.own_template(&template))
}

fn in_force(
    reference: &TemplateRef,
    apps: &BTreeMap<AppName, AppInput>,
) -> Option<Arc<PodTemplate>> {
    let own = apps.get(&reference.app).into_iter();
    // Where it is now, if it moved between apps.
    let others = apps.iter().filter(|(app, _)| **app != reference.app).map(|(_, input)| input);
    let revisions = own.chain(others).flat_map(|app| [&app.applied, &app.candidate]);
    revisions.flatten().find_map(|revision| {
        let template = revision.desired.objects.get(&reference.owner)?.body.template()?;
        let says_the_same =
            reference.meaning_version == MEANING_VERSION && template.meaning == reference.meaning;
        let is_the_same = *revision.commit_of(&reference.owner) == reference.revision;
        (says_the_same || is_the_same).then(|| template.clone())
    })
}

/// Every template that something runs from, or that must be read to be compared.
pub fn references(state: &State) -> impl Iterator<Item = &TemplateRef> {
    let pods = state.all_pods().map(|(_, pod)| &pod.template);
    let sets = state
        .apps
        .values()
        .flat_map(|app| app.sets.values())
        .filter(|set| set.replicas > 0 || set.template.meaning_version != MEANING_VERSION)
        .map(|set| &set.template);
    // Pods below a partition, and what a canary holds back, are made anew from what was in force before.
    let revisions = state.apps.values().flat_map(|app| {
        let current = app.stateful_sets.iter().filter_map(|(key, set)| {
            app.revisions.get(&RecordKey::new(&key.namespace, &set.current))
        });
        let held = app.head.canary_now().into_iter().flat_map(|canary| &canary.parts);
        let held = held.filter_map(|part| {
            let namespace = part.owner.namespace.as_ref()?;
            app.revisions.get(&RecordKey::new(namespace, &part.from))
        });
        let unread = app.revisions.values();
        let unread = unread.filter(|own| own.template.meaning_version != MEANING_VERSION);
        current.chain(held).chain(unread).map(|revision| &revision.template)
    });
    let jobs = state.apps.values().flat_map(|app| app.jobs.values());
    let runs = jobs
        .flat_map(|job| job.run.iter().chain(&job.past))
        .filter(|run| run.end().is_none() || run.template.meaning_version != MEANING_VERSION)
        .map(|run| &run.template);
    pods.chain(sets).chain(revisions).chain(runs)
}

/// The templates that pods and ReplicaSets refer to and that neither the revision in force nor the
/// library has: the agent looks for them in Git before it plans. `used` collects every reference,
/// so that the library can be weeded.
pub fn missing_templates(
    state: &State,
    apps: &BTreeMap<AppName, AppInput>,
    library: &Library,
    used: &mut BTreeSet<Shelf>,
) -> BTreeSet<Shelf> {
    let mut missing = BTreeSet::new();
    for reference in references(state) {
        if in_force(reference, apps).is_some() {
            continue;
        }
        let shelf = Shelf::of(reference);
        if library.get(&shelf).is_none() {
            missing.insert(shelf.clone());
        }
        used.insert(shelf);
    }
    missing
}
