//! Images that nobody needs any more, and a disk that fills.
//!
//! With each look at the machine it is noted what the revisions in force name; where a disk is too
//! full, [`crate::node::larder`] says which images go, they are removed, and it is looked again. Until
//! everything that is in force has been read, none goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::desired::Desired;
use crate::kinds::binding::AppName;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::EventRecord;
use crate::kinds::time::Now;
use crate::node::larder::{self, images_of};
use crate::plan::{self, Revision};
use crate::ports::larder::{Image, ImageKey, Named, Stock};
use crate::ports::runtime::{Answer as RuntimeAnswer, Call as RuntimeCall};
use crate::ports::{Answer, Call, Fault};
use crate::view::images::{self, Images, Needer};

use super::event::{AskId, Reply};
use super::{Agent, Purpose};

/// How long a removal may take: Docker deletes files one by one.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a note may take.
const NOTE_TIMEOUT: Duration = Duration::from_secs(30);
const MB: u64 = 1 << 20;

/// What is known of images here, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Larder {
    memory: larder::Memory,
    /// What revisions have named; absent until it is known what an earlier life has noted.
    named: Option<Named>,
    /// The revisions of which that is known.
    followed: BTreeMap<AppName, Arc<Desired>>,
    /// Something of it is not on the disk.
    is_unwritten: bool,
    is_writing: bool,
    is_removing: bool,
    /// Who waits for a look at what lies here.
    asked: Vec<AskId>,
    /// Who has asked since the look under way began.
    asked_since: Vec<AskId>,
    /// What is too full though nothing may go.
    pub(super) complaint: Option<String>,
    /// Images removed since the agent began, and their bytes.
    pub(super) removed: (u64, u64),
}

impl Agent {
    /// Takes note of what has come into force.
    pub(super) fn tend_larder(&mut self) {
        let applied = &self.wish.applied;
        let is_followed = |app: &AppName, desired| {
            let its = self.host.larder.followed.get(app);
            its.is_some_and(|its| Arc::ptr_eq(its, desired))
        };
        let news: Vec<(&AppName, &Arc<Revision>)> =
            applied.iter().filter(|(app, its)| !is_followed(app, &its.desired)).collect();
        let is_same = news.is_empty() && applied.len() == self.host.larder.followed.len();
        if is_same || self.host.larder.named.is_none() || !self.has_read_all() {
            return;
        }
        let revisions = self.config.collect.revisions;
        let mut named = self.host.larder.named.take().unwrap_or_default();
        let mut has_changed = false;
        for (app, revision) in news {
            let images = named_by(&revision.desired).collect();
            has_changed |= named.follow(app, &revision.commit.id, &images, revisions);
        }
        if has_changed {
            named.age_others(&applied.keys().cloned().collect(), revisions);
            self.host.larder.is_unwritten = true;
        }
        let followed = applied.iter().map(|(app, its)| (app.clone(), its.desired.clone()));
        self.host.larder.followed = followed.collect();
        self.host.larder.named = Some(named);
        self.note_named();
    }

    fn note_named(&mut self) {
        let larder = &mut self.host.larder;
        if let (Some(named), true, false) = (&larder.named, larder.is_unwritten, larder.is_writing)
        {
            larder.is_writing = true;
            larder.is_unwritten = false;
            let call = RuntimeCall::NoteNamed(Box::new(named.clone()));
            self.call(Purpose::NoteNamed, Call::Runtime(call), NOTE_TIMEOUT);
        }
    }

    pub(super) fn named_noted(&mut self, result: Result<Answer, Fault>) {
        self.host.larder.is_writing = false;
        if let Err(fault) = result {
            // With the next look at the machine, or the next change. This life knows it anyway.
            tracing::warn!(%fault, "which images revisions name could not be noted");
            self.host.larder.is_unwritten = true;
        } else {
            self.note_named();
        }
    }

    /// Takes stock, and has removed what is to go.
    pub(super) fn collect_images(&mut self, now: Now) {
        let Some(stock) = self.images_here() else { return };
        let noted = stock.named.clone();
        self.host.larder.named.get_or_insert(noted);
        self.tend_larder();
        self.note_named();
        if self.host.larder.is_removing || !self.knows_what_is_needed() {
            return;
        }
        let kept = self.needed_images().into_keys().collect();
        let Some(stock) = self.host.runtime.as_ref().and_then(|seen| seen.stock.as_ref()) else {
            return;
        };
        let limits = &self.config.collect;
        let verdict = larder::collect(stock, &kept, limits, &mut self.host.larder.memory, now);
        if let Some(at) = verdict.again {
            let survey = &mut self.host.survey_at;
            *survey = Some(survey.map_or(at, |before| before.min(at)));
        }
        let full = verdict.full.iter().filter_map(|id| stock.disks.get(id));
        let full: Vec<String> =
            full.map(|disk| format!("{} is {} % full", disk.path, disk.used_percent())).collect();
        let foreign = stock.images.iter().filter(|image| !image.is_ours && !image.is_used);
        let foreign = foreign.map(|image| image.bytes).sum::<u64>() / MB;
        let complaint = (!full.is_empty()).then(|| {
            format!(
                "{}, and no image may be removed: what is here is in use, named by one of the last \
                 revisions, or not brought by Windlass ({foreign} MB)",
                full.join(", ")
            )
        });
        self.complain_of_disk(complaint, now);
        if !verdict.remove.is_empty() {
            self.host.larder.is_removing = true;
            let call = Call::Runtime(RuntimeCall::RemoveImages(verdict.remove.clone()));
            self.call(Purpose::RemoveImages(verdict.remove), call, REMOVAL_TIMEOUT);
        }
    }

    fn complain_of_disk(&mut self, complaint: Option<String>, now: Now) {
        let was_full = self.host.larder.complaint.is_some();
        if let (Some(message), false) = (&complaint, was_full) {
            tracing::warn!(message, "a disk is too full");
            let event = EventRecord {
                about: Key::cluster(Kind::Node, &self.config.node),
                uid: None,
                warning: true,
                // kubelet's word.
                reason: "FreeDiskSpaceFailed".to_owned(),
                message: message.clone(),
                count: 1,
                first: now.wall,
                last: now.wall,
                source: "node".to_owned(),
                unknown: BTreeMap::new(),
            };
            let report = self.host.report.get_or_insert_default();
            report.events = Arc::new(plan::append_events(&report.events, vec![event]));
        }
        let is_full = complaint.is_some();
        self.host.larder.complaint = complaint;
        if is_full != was_full {
            self.refresh_facts(now);
        }
    }

    pub(super) fn images_removed(
        &mut self,
        asked: &[ImageKey],
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.host.larder.is_removing = false;
        let gone: BTreeSet<ImageKey> = match result {
            Ok(Answer::Runtime(RuntimeAnswer::Removed(gone))) => gone.into_iter().collect(),
            Ok(_) => BTreeSet::new(),
            Err(fault) => {
                tracing::warn!(%fault, "images could not be removed");
                BTreeSet::new()
            }
        };
        let larder = &mut self.host.larder;
        for key in asked.iter().filter(|key| !gone.contains(*key)) {
            larder.memory.refused(key, now);
        }
        let stock = self.host.runtime.as_ref().and_then(|seen| seen.stock.as_ref());
        let went = |image: &&Image| gone.contains(&image.key);
        let bytes =
            stock.into_iter().flat_map(|stock| &stock.images).filter(went).map(|its| its.bytes);
        larder.removed.0 += gone.len() as u64;
        larder.removed.1 += bytes.sum::<u64>();
        // What went is measured, and what else must go.
        self.survey_soon(now);
    }

    /// Every image that is needed here or may be soon, by name, and by whom: the pods bound here, what is
    /// in force or about to be, and the last revisions.
    fn needed_images(&self) -> BTreeMap<String, BTreeSet<Needer>> {
        let mut needed = BTreeMap::<String, BTreeSet<Needer>>::new();
        let mut note = |name: String, by: Option<Needer>| {
            needed.entry(name).or_default().extend(by);
        };
        for template in self.library.templates() {
            images_of(&template.spec).for_each(|name| note(name, None));
        }
        for pod in self.host.mine.pods.values() {
            let images = pod.template.iter().flat_map(|template| images_of(&template.spec));
            images.for_each(|name| note(name, Some(Needer::Pod(pod.binding.key.clone()))));
        }
        let named = self.host.larder.named.iter();
        for (app, name) in named.flat_map(|named| named.kept(self.config.collect.revisions)) {
            note(name.clone(), Some(Needer::App(app.clone())));
        }
        let newest = self.wish.newest.iter().flat_map(|newest| newest.parts.iter());
        for (app, revision) in self.wish.applied.iter().chain(&self.wish.fallbacks).chain(newest) {
            named_by(&revision.desired).for_each(|name| note(name, Some(Needer::App(app.clone()))));
        }
        needed
    }

    /// What lies here of images, and why; or why that can't be said yet.
    pub fn images(&self) -> Result<Images, &'static str> {
        let stock =
            self.images_here().ok_or("images have not been looked at yet: ask again soon")?;
        if !self.knows_what_is_needed() {
            return Err(
                "what is in force has not been read yet, so nobody knows which images are \
                        needed; windlass status says what is missing",
            );
        }
        Ok(images::images(stock, &self.needed_images(), &self.config.collect))
    }

    /// Answers a person once it has been looked what lies here.
    pub(super) fn ask_images(&mut self, id: AskId, now: Now) {
        let larder = &mut self.host.larder;
        match self.host.is_surveying {
            true => larder.asked_since.push(id),
            false => larder.asked.push(id),
        }
        self.survey_soon(now);
    }

    /// Answers whoever has asked before a look that is over now, or has failed.
    pub(super) fn tell_images(&mut self, fault: Option<&Fault>, now: Now) {
        let larder = &mut self.host.larder;
        let since = std::mem::take(&mut larder.asked_since);
        for id in std::mem::replace(&mut larder.asked, since) {
            let images = match fault {
                Some(fault) => Err(fault.message.clone()),
                None => self.images().map_err(str::to_owned),
            };
            self.reply(id, images.map_or_else(Reply::Refused, Reply::Images));
        }
        if !self.host.larder.asked.is_empty() {
            self.survey_soon(now);
        }
    }

    /// Whether an image that nothing is seen to need is needed by nothing.
    fn knows_what_is_needed(&self) -> bool {
        self.host.mine.is_known && self.has_read_any() && self.has_read_all()
    }

    /// The disks with images, as they were last seen.
    pub(super) fn images_here(&self) -> Option<&Stock> {
        self.host.runtime.as_ref()?.stock.as_ref()
    }
}

/// The images that a revision names.
fn named_by(desired: &Desired) -> impl Iterator<Item = String> {
    let templates = desired.objects.values().filter_map(|object| object.body.template());
    templates.flat_map(|template| images_of(&template.spec))
}
