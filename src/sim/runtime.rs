//! A container runtime in memory. Its programs do what their image's name says:
//!
//! ```text
//! run            runs until told to stop, stops at once
//! slow           as `run`, but takes five seconds to stop
//! deaf           as `run`, but does not hear TERM
//! crash          ends with exit code 1 after a second
//! task           ends with exit code 0 after two seconds
//! missing        can't be pulled
//! broken         can't be started
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kinds::image::ImageName;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::larder::{Disk, Image, ImageKey, Named, Place, Stock};
use crate::ports::runtime::{
    Answer, Call, ContainerId, ContainerSeen, ContainerSpec, ExecResult, ImageSeen, Marks, Pull,
    REASON_CANNOT_RUN, REASON_CREATE, REASON_NEVER_PULL, REASON_PULL, Role, RunState, RuntimeSeen,
};

/// What an image's id begins with; its name follows.
const ID: &str = "sha256:";
/// The size of every image.
const IMAGE_BYTES: u64 = 1 << 20;
/// So many fit on a disk: more than a scenario's revisions name, and few enough that some must go.
const IMAGES_MAX: u64 = 20;

/// One machine's containers.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Programs do what any program is hoped to do, whatever their image's name says.
    pub is_plain: bool,
    /// Images of init containers that run on beside the others.
    pub sidecars: BTreeSet<String>,
    /// Processors, and bytes of memory.
    pub size: (u32, u64),
    containers: BTreeMap<ContainerId, Kept>,
    made: u64,
    pids: u32,
    images: BTreeMap<String, u64>,
    named: Named,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            is_plain: false,
            sidecars: BTreeSet::new(),
            size: (4, 8 << 30),
            containers: BTreeMap::new(),
            made: 0,
            pids: 0,
            images: BTreeMap::new(),
            named: Named::default(),
        }
    }
}

#[derive(Clone, Debug)]
struct Kept {
    seen: ContainerSeen,
    name: String,
    image: String,
}

/// What a call leads to later by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// After this long.
    pub after: Duration,
    /// This container ends.
    pub id: ContainerId,
    /// So.
    pub exit_code: i64,
}

/// What came of a call: the answer, what others hear of, and what follows by itself.
pub struct Outcome {
    /// The answer.
    pub answer: Result<Answer, Fault>,
    /// Containers that changed.
    pub changed: Vec<ContainerId>,
    /// What follows.
    pub later: Option<Later>,
}

impl Outcome {
    fn of(answer: Result<Answer, Fault>) -> Self {
        Self { answer, changed: Vec::new(), later: None }
    }
}

impl Runtime {
    /// Every container.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerSeen> {
        self.containers.values().map(|kept| &kept.seen)
    }

    /// A process ends; false if it did before.
    pub fn end(&mut self, id: &ContainerId, exit_code: i64, now: Wall) -> bool {
        let Some(found) = self.containers.get_mut(id) else {
            return false;
        };
        let RunState::Running { started, .. } = found.seen.state else {
            return false;
        };
        found.seen.state = RunState::Ended {
            started: Some(started),
            finished: now,
            exit_code,
            oom_killed: false,
            error: None,
        };
        true
    }

    /// Every process ends at once: the power went, or the runtime was restarted.
    pub fn end_all(&mut self, now: Wall) {
        let ids: Vec<ContainerId> = self.containers.keys().cloned().collect();
        for id in ids {
            self.end(&id, 137, now);
        }
    }

    /// Carries out a call.
    pub fn perform(&mut self, call: &Call, now: Wall) -> Outcome {
        match call {
            Call::List => {
                let all = self.containers.values().map(|kept| kept.seen.clone()).collect();
                Outcome::of(Ok(Answer::Containers(all)))
            }
            Call::Inspect(id) => {
                let found = self.containers.get(id).map(|kept| Box::new(kept.seen.clone()));
                Outcome::of(Ok(Answer::Container(found)))
            }
            Call::EnsureImage(wish) => Outcome::of(self.ensure_image(&wish.image, wish.pull)),
            Call::Start(spec) => self.start(spec, now),
            Call::Signal { id, signal } => self.signal(id, signal, now),
            Call::Remove { ids } => {
                for id in ids {
                    self.containers.remove(id);
                }
                Outcome { changed: ids.clone(), ..Outcome::of(Ok(Answer::Done)) }
            }
            Call::RemoveVolume { .. } => Outcome::of(Ok(Answer::Done)),
            Call::Exec { id, .. } => Outcome::of(match self.containers.get(id) {
                Some(found) if found.seen.is_running() => {
                    Ok(Answer::Exec(ExecResult { exit_code: 0, output: String::new() }))
                }
                _ => Err(Fault::not_found(format!("container {id} does not run"))),
            }),
            Call::Tail(_) => Outcome::of(Ok(Answer::Text(String::new()))),
            Call::Survey => Outcome::of(Ok(Answer::Survey(Box::new(RuntimeSeen {
                version: "20.10.24".into(),
                kernel: "6.1.0".into(),
                os: "Simulated GNU/Linux".into(),
                arch: "amd64".into(),
                cpus: self.size.0,
                memory_bytes: self.size.1,
                images: Vec::new(),
                stock: Some(self.stock()),
            })))),
            Call::NoteNamed(named) => {
                self.named = Named::clone(named);
                Outcome::of(Ok(Answer::Done))
            }
            Call::RemoveImages(keys) => {
                let used = |id: &str| self.containers.values().any(|kept| kept.image == id);
                let gone: Vec<ImageKey> =
                    keys.iter().filter(|(_, id)| !used(id)).cloned().collect();
                for (_, id) in &gone {
                    self.images.remove(id.trim_start_matches(ID));
                }
                Outcome::of(Ok(Answer::Removed(gone)))
            }
        }
    }

    /// Images, on a disk of their own that is nearly full once there are as many as fit on it.
    fn stock(&self) -> Stock {
        let used: u64 = self.images.values().sum();
        let disk = Disk {
            path: "/var/lib/docker".into(),
            bytes_total: IMAGES_MAX * IMAGE_BYTES,
            bytes_free: (IMAGES_MAX * IMAGE_BYTES).saturating_sub(used),
        };
        let images = self.images.iter().map(|(name, bytes)| {
            let complete =
                ImageName::parse(name).map_or_else(|_| name.clone(), |its| its.to_string());
            Image {
                key: (Place::Docker, format!("{ID}{name}")),
                disk: 1,
                names: [complete].into(),
                digests: [format!("{ID}{name}")].into(),
                bytes: *bytes,
                is_used: self.containers.values().any(|kept| kept.image == format!("{ID}{name}")),
                is_ours: true,
            }
        });
        Stock { disks: [(1, disk)].into(), images: images.collect(), named: self.named.clone() }
    }

    fn ensure_image(&mut self, image: &str, pull: Pull) -> Result<Answer, Fault> {
        if !self.is_plain && image.contains("missing") {
            return Err(Fault::not_found(format!("{REASON_PULL}: manifest unknown: {image}")));
        }
        if pull == Pull::Never && !self.images.contains_key(image) {
            return Err(Fault::not_found(format!("{REASON_NEVER_PULL}: {image} is not here")));
        }
        self.images.insert(image.to_owned(), IMAGE_BYTES);
        let id = format!("{ID}{image}");
        Ok(Answer::Image(Box::new(ImageSeen { id, has_command: true, ..ImageSeen::default() })))
    }

    fn start(&mut self, spec: &ContainerSpec, now: Wall) -> Outcome {
        let fails = |fault: String| Outcome::of(Err(Fault::stalled(fault)));
        let marks = match Marks::from_labels(|key| spec.labels.get(key).map(String::as_str)) {
            Ok(marks) => marks,
            Err(why) => return fails(format!("{REASON_CREATE}: {why}")),
        };
        if let Some(kept) = self.containers.values().find(|kept| kept.name == spec.name) {
            // An earlier attempt, whose answer was lost.
            if kept.seen.marks == marks {
                return Outcome::of(Ok(Answer::Started(Box::new(kept.seen.clone()))));
            }
            return fails(format!("{REASON_CREATE}: name {} is taken", spec.name));
        }
        if !self.is_plain && spec.image.contains("broken") {
            return fails(format!("{REASON_CANNOT_RUN}: no such file"));
        }
        self.made += 1;
        self.pids += 1;
        let id: ContainerId = format!("c{:08}", self.made).into();
        let seen = ContainerSeen {
            id: id.clone(),
            marks,
            state: RunState::Running { started: now, pid: self.pids },
            image_id: spec.image.clone(),
        };
        let later = |seconds, exit_code| {
            Some(Later { after: Duration::from_secs(seconds), id: id.clone(), exit_code })
        };
        let is_init = matches!(seen.marks.role, Role::Init(_));
        let later = match &spec.image {
            image if self.is_plain => {
                later(1, 0).filter(|_| is_init && !self.sidecars.contains(image))
            }
            image if image.contains("crash") => later(1, 1),
            image if image.contains("task") => later(2, 0),
            _ => None,
        };
        let (name, image) = (spec.name.clone(), spec.image.clone());
        self.containers.insert(id.clone(), Kept { seen: seen.clone(), name, image });
        Outcome { answer: Ok(Answer::Started(Box::new(seen))), changed: vec![id], later }
    }

    fn signal(&mut self, id: &ContainerId, signal: &str, now: Wall) -> Outcome {
        let Some(found) = self.containers.get(id).filter(|found| found.seen.is_running()) else {
            return Outcome::of(Err(Fault::not_found(format!("container {id} does not run"))));
        };
        let image = found.image.clone();
        let done = Outcome::of(Ok(Answer::Done));
        if signal == "KILL" {
            self.end(id, 137, now);
            return Outcome { changed: vec![id.clone()], ..done };
        }
        if self.is_plain {
            self.end(id, 0, now);
            return Outcome { changed: vec![id.clone()], ..done };
        }
        if image.contains("deaf") {
            return done;
        }
        if image.contains("slow") {
            let later = Later { after: Duration::from_secs(5), id: id.clone(), exit_code: 0 };
            return Outcome { later: Some(later), ..done };
        }
        self.end(id, 0, now);
        Outcome { changed: vec![id.clone()], ..done }
    }
}
