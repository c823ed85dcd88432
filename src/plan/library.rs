//! Templates of revisions that are no longer in force, which pods still run or return to; and the
//! LimitRanges under which pods were made.
//!
//! The agent fetches them from Git before it plans: [`missing_templates`] says which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::MEANING_VERSION;
use crate::kinds::binding::{AppName, Binding, Oid, TemplateRef};
use crate::kinds::digest::Digest;
use crate::kinds::limits::{self, LimitRange};
use crate::kinds::object::{Body, Key, Object};
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

/// What has a template, and LimitRanges, by where they are written; `None` where nothing of that name
/// was found there.
#[derive(Clone, Debug, Default)]
pub struct Library {
    books: Arc<BTreeMap<Shelf, Option<Body>>>,
}

impl Library {
    /// What stands there: not looked yet, nothing, or a book.
    pub fn get(&self, shelf: &Shelf) -> Option<&Option<Body>> {
        self.books.get(shelf)
    }

    /// Adds what was found, or that nothing was.
    pub fn put(&mut self, shelf: Shelf, book: Option<Body>) {
        Arc::make_mut(&mut self.books).insert(shelf, book);
    }

    /// Every template that was found.
    pub fn templates(&self) -> impl Iterator<Item = &Arc<PodTemplate>> {
        self.books.values().flatten().filter_map(Body::template)
    }

    /// Forgets what nobody refers to.
    pub fn keep_only(&mut self, used: &BTreeSet<Shelf>) {
        if self.books.keys().any(|shelf| !used.contains(shelf)) {
            Arc::make_mut(&mut self.books).retain(|shelf, _| used.contains(shelf));
        }
    }
}

/// What a reference means: as it stands in the revision in force if that says the same, else as it
/// stood in its own revision.
pub fn book_of<'l>(
    reference: &TemplateRef,
    apps: &'l BTreeMap<AppName, AppInput>,
    library: &'l Library,
) -> Option<&'l Body> {
    in_force(reference, apps).or_else(|| library.get(&Shelf::of(reference))?.as_ref())
}

/// The template a reference means.
pub fn template_of(
    reference: &TemplateRef,
    apps: &BTreeMap<AppName, AppInput>,
    library: &Library,
) -> Option<Arc<PodTemplate>> {
    book_of(reference, apps, library)?.template().cloned()
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

/// What a pod runs: the template its binding refers to, as this pod has it. None where that can't be
/// read, or a LimitRange under which it was made.
pub fn template_for(
    binding: &Binding,
    apps: &BTreeMap<AppName, AppInput>,
    library: &Library,
) -> Option<Arc<PodTemplate>> {
    Reader::new(apps, library).template_for(binding)
}

/// Reads for many pods: those of one template, made under the same LimitRanges, share what comes of it.
#[derive(Debug)]
pub struct Reader<'l> {
    apps: &'l BTreeMap<AppName, AppInput>,
    library: &'l Library,
    /// By where the template and the LimitRanges lie in memory: they outlive the reader.
    made: BTreeMap<Vec<usize>, Arc<PodTemplate>>,
}

impl<'l> Reader<'l> {
    /// One who has read nothing yet.
    pub fn new(apps: &'l BTreeMap<AppName, AppInput>, library: &'l Library) -> Self {
        Self { apps, library, made: BTreeMap::new() }
    }

    /// See [`template_for`].
    pub fn template_for(&mut self, binding: &Binding) -> Option<Arc<PodTemplate>> {
        let template = book_of(&binding.template, self.apps, self.library)?.template()?;
        if binding.limit_ranges.is_empty() {
            return Some(binding.own_template(template));
        }
        let range = |reference| book_of(reference, self.apps, self.library)?.limit_range().cloned();
        let ranges: Vec<Arc<LimitRange>> =
            binding.limit_ranges.iter().map(range).collect::<Option<_>>()?;
        let place = ranges.iter().map(|range| Arc::as_ptr(range).addr());
        let place = std::iter::once(Arc::as_ptr(template).addr()).chain(place).collect();
        let made = self.made.entry(place).or_insert_with(|| limits::under(template, &ranges));
        Some(binding.own_template(made))
    }
}

/// What an object means as far as pods are made of it, with the digest of that.
fn meaning_of(object: &Object) -> Option<(Digest, &Body)> {
    let body = &object.body;
    let template = body.template().map(|template| template.meaning);
    let meaning = template.or_else(|| body.limit_range().map(|_| object.meaning))?;
    Some((meaning, body))
}

fn in_force<'l>(
    reference: &TemplateRef,
    apps: &'l BTreeMap<AppName, AppInput>,
) -> Option<&'l Body> {
    let own = apps.get(&reference.app).into_iter();
    // Where it is now, if it moved between apps.
    let others = apps.iter().filter(|(app, _)| **app != reference.app).map(|(_, input)| input);
    let revisions = own.chain(others).flat_map(|app| [&app.applied, &app.candidate]);
    revisions.flatten().find_map(|revision| {
        let (meaning, body) = meaning_of(revision.desired.objects.get(&reference.owner)?)?;
        let says_the_same =
            reference.meaning_version == MEANING_VERSION && meaning == reference.meaning;
        let is_the_same = *revision.commit_of(&reference.owner) == reference.revision;
        (says_the_same || is_the_same).then_some(body)
    })
}

/// Every template that something runs from, or that must be read to be compared, and every LimitRange
/// under which a pod was made.
pub fn references(state: &State) -> impl Iterator<Item = &TemplateRef> {
    let pods = state.all_pods().flat_map(|(_, pod)| pod.references());
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
