//! How a container, or a whole pod, is brought to its end.
//!
//! ```text
//! t=0         preStop begins, and packets stop being led here
//!             preStop over, and nobody leads packets here ─▶ TERM
//! t=grace     KILL (at least 2 s after TERM)
//! ```
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>.

use std::time::Duration;

use crate::kinds::container::{Container, Handler};
use crate::kinds::name::Uid;
use crate::kinds::time::{Elapsed, Now};
use crate::ports::Call;
use crate::ports::runtime::{Call as RuntimeCall, ContainerSeen, Role};

use super::house::House;
use super::memory::{Memory, PodMemory, Want, container_uri};
use super::step::Step;
use super::{Around, Assignment, Seen, probes, sandbox};

/// The least time between TERM and KILL, however long `preStop` took
/// (`minimumGracePeriodInSeconds` of kubelet).
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// After this, a container that was killed and still runs is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// How long TERM waits for packets to be led elsewhere (docs/DESIGN.md, Hard cases 14).
const RELEASE_WAIT: Duration = Duration::from_secs(3);
/// The first wait after a signal that did not arrive, and the longest.
const SIGNAL_AGAIN: Duration = Duration::from_secs(1);
const SIGNAL_AGAIN_MAX: Duration = Duration::from_secs(30);
/// How long a signal or a removal may take.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A container on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) since: Elapsed,
    /// How long it may take where not the pod's own time: a probe's, or a hand's.
    pub(crate) grace: Option<Duration>,
    pub(crate) pre_stop_is_over: bool,
    pub(crate) term_at: Option<Elapsed>,
    pub(crate) kill_at: Option<Elapsed>,
    retry_at: Option<Elapsed>,
    failures: u32,
}

impl Ending {
    pub(crate) fn begin(since: Elapsed, grace: Option<Duration>) -> Self {
        Self {
            since,
            grace,
            pre_stop_is_over: false,
            term_at: None,
            kill_at: None,
            retry_at: None,
            failures: 0,
        }
    }

    /// An ending that an earlier agent began: it goes on from there.
    fn inherit(since: Elapsed, was_told: bool) -> Self {
        let term_at = was_told.then_some(since);
        Self { pre_stop_is_over: was_told, term_at, ..Self::begin(since, None) }
    }

    /// The last signal did not arrive: it is sent again, a second later, then after twice as long
    /// each time. Says whether that is the first failure.
    pub(crate) fn signal_failed(&mut self, now: Elapsed) -> bool {
        let wait = SIGNAL_AGAIN * 2_u32.saturating_pow(self.failures.min(16));
        self.retry_at = Some(now + wait.min(SIGNAL_AGAIN_MAX));
        self.failures = self.failures.saturating_add(1);
        if self.kill_at.take().is_none() {
            self.term_at = None;
        }
        self.failures == 1
    }
}

/// What is known about a container that is to end.
struct Leaving<'a> {
    uid: &'a Uid,
    life: &'a ContainerSeen,
    /// Its manifest; absent for strangers.
    container: Option<&'a Container>,
    ip: Option<std::net::Ipv4Addr>,
    grace: Duration,
    /// Whether it may be told: no packet is led to it any more.
    may_tell: bool,
}

/// The next step to end one container; its ending must have begun.
fn end_container(leaving: &Leaving<'_>, memory: &mut Memory, now: Now) -> Option<Want> {
    let Leaving { uid, life, container, ip, grace, may_tell } = *leaving;
    let record = memory.pods.get_mut(uid)?;
    let ending =
        record.endings.entry(life.id.clone()).or_insert_with(|| Ending::begin(now.elapsed, None));
    let grace = ending.grace.unwrap_or(grace);
    let spent = now.elapsed.since(ending.since);
    if let Some(retry_at) = ending.retry_at.filter(|at| *at > now.elapsed) {
        memory.wake_at(retry_at);
        return None;
    }
    let hook = container.and_then(|container| container.pre_stop.as_ref());
    if let Some(hook) = hook.filter(|_| !ending.pre_stop_is_over && !grace.is_zero()) {
        let lasts = match hook {
            Handler::Sleep(seconds) => grace.min(Duration::from_secs((*seconds).into())),
            _ => grace,
        };
        if spent < lasts {
            let want = pre_stop(life, hook, container, ip, lasts - spent);
            let wake = ending.since + lasts;
            memory.wake_at(wake);
            return want;
        }
        ending.pre_stop_is_over = true;
    }
    let told_at = match ending.term_at {
        Some(at) => at,
        None if grace.is_zero() => ending.since,
        None if !may_tell => return None,
        None => {
            ending.term_at = Some(now.elapsed);
            let deadline = (ending.since + grace).max(now.elapsed + LEAST_GRACE);
            memory.wake_at(deadline);
            let signal = container.and_then(|container| container.stop_signal.clone());
            return Some(signal_want(life, signal.unwrap_or_default()));
        }
    };
    let deadline = if grace.is_zero() {
        ending.since
    } else {
        (ending.since + grace).max(told_at + LEAST_GRACE)
    };
    let due = ending.kill_at.map_or(deadline, |at| at + KILL_AGAIN);
    if now.elapsed < due {
        memory.wake_at(due);
        return None;
    }
    ending.kill_at = Some(now.elapsed);
    memory.wake_at(now.elapsed + KILL_AGAIN);
    Some(signal_want(life, "KILL".to_owned()))
}

fn signal_want(life: &ContainerSeen, signal: String) -> Want {
    Want {
        step: Step::Signal(life.id.clone()),
        call: Call::Runtime(RuntimeCall::Signal { id: life.id.clone(), signal }),
        timeout: STOP_TIMEOUT,
    }
}

fn pre_stop(
    life: &ContainerSeen,
    hook: &Handler,
    container: Option<&Container>,
    ip: Option<std::net::Ipv4Addr>,
    left: Duration,
) -> Option<Want> {
    let call = probes::handler_call(hook, container?, life, ip, left)?;
    // A hook may use the whole grace; the call's own bound is a little wider than what is asked.
    let timeout = left + Duration::from_secs(2);
    Some(Want { step: Step::PreStop(life.id.clone()), call, timeout })
}

/// Ends a container at once.
pub(super) fn kill(uid: &Uid, life: &ContainerSeen, memory: &mut Memory, now: Now) -> Option<Want> {
    let grace = Duration::ZERO;
    let endings = &mut memory.pods.get_mut(uid)?.endings;
    let begin = || Ending::begin(now.elapsed, None);
    endings.entry(life.id.clone()).or_insert_with(begin).grace = Some(grace);
    let leaving = Leaving { uid, life, container: None, ip: None, grace, may_tell: true };
    end_container(&leaving, memory, now)
}

/// Ends one container of a pod that stays: a probe or a hook condemned it.
pub(super) fn end_condemned(
    uid: &Uid,
    pod: &Assignment,
    life: &ContainerSeen,
    ip: Option<std::net::Ipv4Addr>,
    memory: &mut Memory,
    now: Now,
) -> Option<Want> {
    let template = pod.template.as_ref()?;
    let name = life.marks.role.container()?;
    let grace = Duration::from_secs(template.spec.termination_grace_s.into());
    let container = template.spec.container(name.as_str());
    end_container(&Leaving { uid, life, container, ip, grace, may_tell: true }, memory, now)
}

/// The next steps to end a pod, or a stranger's containers (`pod` absent).
pub(super) fn end_pod(
    uid: &Uid,
    pod: Option<&Assignment>,
    house: &House<'_>,
    seen: &Seen,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    let Some(record) = memory.pods.get_mut(uid) else {
        return Vec::new();
    };
    let since = ending_since(record, now);
    if is_starting(record) {
        // What is being started can't be stopped yet; its answer wakes us.
        return Vec::new();
    }
    let running: Vec<&ContainerSeen> = house.running().collect();
    if running.is_empty() {
        return clear_away(uid, house, seen, memory, now);
    }
    let patience = RELEASE_WAIT + around.following_takes;
    let may_tell =
        pod.is_none() || around.released.contains(uid) || now.elapsed.since(since) >= patience;
    if !may_tell {
        memory.wake_at(since + patience);
    }
    let ip = house.ip();
    let turn = whose_turn(pod, &running);
    let mut wants = Vec::new();
    for life in turn {
        let grace = grace_of(pod, life);
        let name = life.marks.role.container();
        let template = pod.and_then(|pod| pod.template.as_ref());
        let container =
            template.zip(name).and_then(|(template, name)| template.spec.container(name.as_str()));
        let leaving = Leaving { uid, life, container, ip, grace, may_tell };
        begin_ending(uid, life, memory, now);
        keep_grace_short(uid, life, pod, memory);
        wants.extend(end_container(&leaving, memory, now));
    }
    wants
}

/// Since when the pod is being ended. An agent that takes over goes on from where the last one was,
/// unless the machine was booted in between.
fn ending_since(record: &mut PodMemory, now: Now) -> Elapsed {
    let inherited = record.inherited_ending.as_ref();
    let began = inherited.map(|e| Elapsed::new(Duration::from_millis(e.since_boot_ms)));
    let began = began.filter(|began| *began <= now.elapsed).unwrap_or(now.elapsed);
    *record.ending_since.get_or_insert(began)
}

/// Begins to end a container, or goes on with what an earlier agent began.
fn begin_ending(uid: &Uid, life: &ContainerSeen, memory: &mut Memory, now: Now) {
    let Some(record) = memory.pods.get_mut(uid) else {
        return;
    };
    let since = record.ending_since.unwrap_or(now.elapsed);
    let inherited = record.inherited_ending.as_ref();
    let was_told = inherited.map(|ending| ending.told.contains(&container_uri(&life.id)));
    record.endings.entry(life.id.clone()).or_insert_with(|| match was_told {
        Some(was_told) => Ending::inherit(since, was_told),
        None => Ending::begin(now.elapsed, None),
    });
}

/// A later request may ask for a shorter time than the one the ending began with.
fn keep_grace_short(
    uid: &Uid,
    life: &ContainerSeen,
    pod: Option<&Assignment>,
    memory: &mut Memory,
) {
    let Some(deletion) = pod.and_then(|pod| pod.binding.deletion.as_ref()) else {
        return;
    };
    let asked = Duration::from_secs(deletion.grace_s.into());
    let ending = memory.pods.get_mut(uid).and_then(|record| record.endings.get_mut(&life.id));
    if let Some(grace) = ending.and_then(|ending| ending.grace.as_mut()) {
        *grace = (*grace).min(asked);
    }
}

fn is_starting(record: &PodMemory) -> bool {
    record.in_flight.iter().any(|step| matches!(step, Step::Pause | Step::Start(_)))
}

fn grace_of(pod: Option<&Assignment>, life: &ContainerSeen) -> Duration {
    let seconds = match pod.and_then(|pod| pod.binding.deletion.as_ref()) {
        Some(deletion) => deletion.grace_s,
        None => life.marks.grace_s,
    };
    Duration::from_secs(seconds.into())
}

/// Containers are stopped together, sidecars after them, the last started first.
fn whose_turn<'s>(
    pod: Option<&Assignment>,
    running: &[&'s ContainerSeen],
) -> Vec<&'s ContainerSeen> {
    let main: Vec<&ContainerSeen> =
        running.iter().filter(|life| matches!(life.marks.role, Role::App(_))).copied().collect();
    if !main.is_empty() {
        return main;
    }
    let order = |life: &ContainerSeen| {
        let init = pod.and_then(|pod| pod.template.as_ref()).map(|t| &t.spec.init_containers);
        let name = life.marks.role.container();
        init.and_then(|init| init.iter().position(|container| Some(&container.name) == name))
    };
    running.iter().copied().max_by_key(|life| order(life)).into_iter().collect()
}

/// Nothing runs: containers, link and files go, in one sweep.
fn clear_away(
    uid: &Uid,
    house: &House<'_>,
    seen: &Seen,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    let Some(record) = memory.pods.get_mut(uid) else {
        return Vec::new();
    };
    if let Some(trouble) = &record.remove_trouble {
        let retry_at = trouble.retry_soon_at();
        if now.elapsed < retry_at {
            memory.wake_at(retry_at);
            return Vec::new();
        }
    }
    let ids: Vec<_> = house.all().map(|container| container.id.clone()).collect();
    let link = sandbox::link_name(uid);
    let mut wants = Vec::new();
    if !ids.is_empty() {
        let call = Call::Runtime(RuntimeCall::Remove { ids: ids.clone() });
        wants.push(Want { step: Step::Remove(ids), call, timeout: STOP_TIMEOUT });
    }
    if seen.links.contains(&link) {
        wants.push(sandbox::detach(&link));
    }
    // Files go last: while a container is left, its mounts are in use.
    if house.is_empty() && seen.files.contains(uid) {
        wants.push(sandbox::remove_files(uid));
    }
    if wants.is_empty() && record.is_still() && !memory.doubts.about(uid) {
        record.gone = true;
        memory.addresses.give_back(uid);
    }
    wants
}
