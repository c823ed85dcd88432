//! A pod that should be here: its sandbox, then init containers one after the other, then its
//! containers side by side; each started again by its policy when it ends.
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>.

use std::sync::Arc;
use std::time::Duration;

use crate::kinds::container::{Container, Handler};
use crate::kinds::name::Uid;
use crate::kinds::pod::{PodSpec, PodTemplate, RestartPolicy};
use crate::kinds::status::Phase;
use crate::kinds::time::{Elapsed, Now};
use crate::ports::Call;
use crate::ports::files::Call as FilesCall;
use crate::ports::runtime::{Call as RuntimeCall, ContainerId, ContainerSeen, Role, RunState};

use super::backoff::restart_delay;
use super::fields::Myself;
use super::files::last_words_file;
use super::house::{House, is_stillborn};
use super::memory::{Memory, Over, Want};
use super::probes;
use super::sandbox::{self, Ready, START_TIMEOUT};
use super::start::{self, Attempt};
use super::step::Step;
use super::stop;
use super::{Around, Assignment, Seen};

/// How long an image may take to arrive over a slow line.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long reading last words may take, a file in memory: the container's next start waits for it.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// The next steps for a pod that is bound here.
pub(super) fn next(
    uid: &Uid,
    pod: &Assignment,
    house: &House<'_>,
    seen: &Seen,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    memory.pod(uid, &pod.binding.key, now);
    if pod.binding.deletion.is_some() {
        return stop::end_pod(uid, Some(pod), house, seen, around, memory, now);
    }
    let Some(template) = pod.template.clone() else {
        return Vec::new();
    };
    let mut wants = read_last_words(uid, &template, house, memory);
    note_ended(uid, house, memory, now);
    if judge(uid, &template, house, memory, now) {
        wants.extend(wind_down(uid, pod, house, seen, memory, now));
        return wants;
    }
    wants.extend(end_condemned(uid, pod, house, memory, now));
    let turn = Turn { uid, pod, template: &template, house, around };
    fetch_images(&turn, memory, &mut wants, now);
    let sandbox = sandbox::next(uid, pod, house, seen, around, memory, &mut wants, now);
    if let Some(sandbox) = &sandbox {
        run_containers(&turn, sandbox, memory, &mut wants, now);
    }
    tend_containers(&turn, memory, &mut wants, now);
    remove_leftovers(uid, house, memory, &mut wants);
    wants
}

/// One pod at one moment.
struct Turn<'t> {
    uid: &'t Uid,
    pod: &'t Assignment,
    template: &'t Arc<PodTemplate>,
    house: &'t House<'t>,
    around: &'t Around,
}

/// What a container is to do next.
enum Duty<'t> {
    /// Be started; which start it is.
    Start(&'t Container, Attempt),
    /// Be started when its back-off after this life is over.
    BackOff(&'t Container, &'t ContainerSeen, Elapsed),
    /// Be started when a failed start may be tried again.
    Wait(Elapsed),
    /// Nothing: it runs, or has done its work.
    Nothing,
}

/// The newest life of a container, if it belongs to the present sandbox.
fn present<'s>(house: &House<'s>, container: &Container) -> Option<&'s ContainerSeen> {
    house.life(&container.name).filter(|life| life.marks.sandbox == house.sandbox())
}

/// Whether a container that ended this way is started again.
fn is_restarted(spec: &PodSpec, container: &Container, is_init: bool, exit_code: i64) -> bool {
    if container.is_sidecar {
        return true;
    }
    match spec.restart_policy {
        // An init container that has done its work is not asked again.
        RestartPolicy::Always => !is_init || exit_code != 0,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

/// Whether an ended life will be followed by another.
pub(super) fn will_restart(
    spec: &PodSpec,
    container: &Container,
    life: &ContainerSeen,
    is_init: bool,
) -> bool {
    exit_code(life).is_some_and(|code| is_restarted(spec, container, is_init, code))
}

/// The back-off that follows an ended life.
pub(super) fn next_backoff(life: &ContainerSeen) -> Duration {
    restart_delay(life.marks.backoff, life.marks.attempt, ran_for(life))
}

fn exit_code(life: &ContainerSeen) -> Option<i64> {
    match life.state {
        RunState::Ended { exit_code, .. } => Some(exit_code),
        RunState::Created | RunState::Running { .. } => None,
    }
}

/// Whether the init containers have done their work: judged by themselves, or by the fact that a
/// container after them has been started (their remains may have been pruned by somebody).
pub(super) fn is_initialized(spec: &PodSpec, house: &House<'_>, memory: &Memory) -> bool {
    let main_was_started =
        spec.containers.iter().any(|container| present(house, container).is_some());
    main_was_started
        || spec.init_containers.iter().all(|container| {
            present(house, container).is_some_and(|life| {
                if container.is_sidecar {
                    probes::is_started(container, life, memory)
                } else {
                    exit_code(life) == Some(0)
                }
            })
        })
}

/// Starts what is to be started.
fn run_containers(
    turn: &Turn<'_>,
    sandbox: &Ready,
    memory: &mut Memory,
    wants: &mut Vec<Want>,
    now: Now,
) {
    let spec = &turn.template.spec;
    let initialized = is_initialized(spec, turn.house, memory);
    for container in &spec.init_containers {
        let life = present(turn.house, container);
        if container.is_sidecar {
            let duty = duty(turn, container, true, memory, now);
            carry_out(turn, sandbox, duty, memory, wants, now);
            let is_started = life.is_some_and(|life| probes::is_started(container, life, memory));
            if !is_started && !initialized {
                return;
            }
        } else if !initialized && life.and_then(exit_code) != Some(0) {
            let duty = duty(turn, container, true, memory, now);
            carry_out(turn, sandbox, duty, memory, wants, now);
            return;
        }
    }
    for container in &spec.containers {
        let duty = duty(turn, container, false, memory, now);
        carry_out(turn, sandbox, duty, memory, wants, now);
    }
}

fn duty<'t>(
    turn: &Turn<'t>,
    container: &'t Container,
    is_init: bool,
    memory: &Memory,
    now: Now,
) -> Duty<'t> {
    if !has_spoken(turn, container, memory) {
        return Duty::Nothing;
    }
    let name = container.name.clone();
    let role = if is_init { Role::Init(name) } else { Role::App(name) };
    let newest = turn.house.life(&container.name);
    let Some(life) = present(turn.house, container).filter(|life| !is_stillborn(life)) else {
        // First start in this sandbox; starts in earlier ones count on.
        let number = match newest {
            Some(before) if !is_stillborn(before) => before.marks.attempt + 1,
            Some(stillborn) => stillborn.marks.attempt,
            None => 0,
        };
        return after_trouble(
            turn,
            container,
            Attempt { role, number, backoff: Duration::ZERO },
            memory,
            now,
        );
    };
    let Some(exit_code) = exit_code(life) else {
        return Duty::Nothing;
    };
    if !is_restarted(&turn.template.spec, container, is_init, exit_code) {
        return Duty::Nothing;
    }
    let backoff = next_backoff(life);
    let ended_at = ended_at(turn.uid, life, memory).unwrap_or(now.elapsed);
    let due = ended_at + backoff;
    if due > now.elapsed {
        return Duty::BackOff(container, life, due);
    }
    let attempt = Attempt { role, number: life.marks.attempt + 1, backoff };
    after_trouble(turn, container, attempt, memory, now)
}

/// Whether the last words of a container's newest life have been taken: the next one writes to the
/// same file. Their answer wakes us.
fn has_spoken(turn: &Turn<'_>, container: &Container, memory: &Memory) -> bool {
    let Some(life) = turn.house.life(&container.name).filter(|life| exit_code(life).is_some())
    else {
        return true;
    };
    let record = memory.pods.get(turn.uid).and_then(|pod| pod.containers.get(&container.name));
    record.is_some_and(|record| record.last_words.contains_key(&life.id))
}

/// A start that failed before is tried again only after a while.
fn after_trouble<'t>(
    turn: &Turn<'t>,
    container: &'t Container,
    attempt: Attempt,
    memory: &Memory,
    now: Now,
) -> Duty<'t> {
    let record = memory.pods.get(turn.uid).and_then(|pod| pod.containers.get(&container.name));
    let retry_at = record
        .and_then(|record| record.start_trouble.as_ref())
        .map(super::backoff::Trouble::retry_at);
    match retry_at.filter(|at| *at > now.elapsed) {
        Some(retry_at) => Duty::Wait(retry_at),
        None => Duty::Start(container, attempt),
    }
}

fn ran_for(life: &ContainerSeen) -> Duration {
    match life.state {
        RunState::Ended { started: Some(started), finished, .. } => finished.since(started),
        _ => Duration::ZERO,
    }
}

fn ended_at(uid: &Uid, life: &ContainerSeen, memory: &Memory) -> Option<Elapsed> {
    let name = life.marks.role.container()?;
    memory.pods.get(uid)?.containers.get(name)?.ended_at.get(&life.id).copied()
}

/// Notes when each ended life was first seen ended: back-off is counted from then on our own clock.
/// What ended while no agent watched is taken to have ended as long ago as the wall clock says, if
/// that is plausible.
fn note_ended(uid: &Uid, house: &House<'_>, memory: &mut Memory, now: Now) {
    let Some(record) = memory.pods.get_mut(uid) else {
        return;
    };
    for (name, lives) in &house.containers {
        let known = record.containers.entry(name.clone()).or_default();
        for life in lives {
            let RunState::Ended { finished, .. } = life.state else {
                continue;
            };
            known.ended_at.entry(life.id.clone()).or_insert_with(|| {
                let ago = now.wall.since(finished).min(Duration::from_secs(300));
                now.elapsed - ago
            });
        }
        let is_here = |id: &ContainerId| lives.iter().any(|life| life.id == *id);
        known.ended_at.retain(|id, _| is_here(id));
        known.last_words.retain(|id, _| is_here(id));
    }
}

fn carry_out(
    turn: &Turn<'_>,
    sandbox: &Ready,
    duty: Duty<'_>,
    memory: &mut Memory,
    wants: &mut Vec<Want>,
    now: Now,
) {
    let (container, attempt) = match duty {
        Duty::Nothing => return,
        Duty::Wait(at) => {
            memory.wake_at(at);
            return;
        }
        Duty::BackOff(container, life, at) => {
            memory.wake_at(at);
            announce_backoff(turn, container, life, memory, now);
            return;
        }
        Duty::Start(container, attempt) => (container, attempt),
    };
    if let Some(stillborn) = present(turn.house, container).filter(|life| is_stillborn(life)) {
        let starting = Step::Start(container.name.clone());
        let is_starting =
            memory.pods.get(turn.uid).is_some_and(|record| record.is_busy_with(&starting));
        if !is_starting {
            wants.push(remove(vec![stillborn.id.clone()]));
        }
        return;
    }
    let Some(record) = memory.pods.get_mut(turn.uid) else {
        return;
    };
    let starting = Step::Start(container.name.clone());
    if record.is_busy_with(&starting) {
        return;
    }
    let ip = record.ip;
    let kept = record.containers.entry(container.name.clone()).or_default();
    let Some(image) = kept.image.clone() else {
        return;
    };
    let myself =
        Myself { binding: &turn.pod.binding, template: turn.template, around: turn.around, ip };
    match start::container_spec(container, &attempt, turn.pod, sandbox, &image, &myself) {
        Ok(spec) => {
            kept.lacks = None;
            wants.push(Want {
                step: starting,
                call: Call::Runtime(RuntimeCall::Start(Box::new(spec))),
                timeout: START_TIMEOUT,
            });
        }
        Err(missing) => {
            if kept.lacks.as_ref() != Some(&missing.0) {
                kept.lacks = Some(missing.0.clone());
                memory.event(turn.uid, true, "Failed", format!("Error: {}", missing.0), now);
            }
        }
    }
}

fn announce_backoff(
    turn: &Turn<'_>,
    container: &Container,
    life: &ContainerSeen,
    memory: &mut Memory,
    now: Now,
) {
    let Some(record) = memory.pods.get_mut(turn.uid) else {
        return;
    };
    let kept = record.containers.entry(container.name.clone()).or_default();
    if kept.backoff_said.as_ref() != Some(&life.id) {
        kept.backoff_said = Some(life.id.clone());
        let message = format!("Back-off restarting failed container {}", container.name);
        memory.event(turn.uid, true, "BackOff", message, now);
    }
}

fn remove(ids: Vec<ContainerId>) -> Want {
    let call = Call::Runtime(RuntimeCall::Remove { ids: ids.clone() });
    Want { step: Step::Remove(ids), call, timeout: stop::STOP_TIMEOUT }
}

/// Has the images of all containers that will be started, the later ones too: a pull takes longer
/// than everything else together.
fn fetch_images(turn: &Turn<'_>, memory: &mut Memory, wants: &mut Vec<Want>, now: Now) {
    let spec = &turn.template.spec;
    for container in spec.all_containers() {
        let is_done = present(turn.house, container).is_some_and(|life| {
            let is_init = spec.init_containers.iter().any(|init| init.name == container.name);
            life.is_running()
                || exit_code(life).is_some_and(|code| !is_restarted(spec, container, is_init, code))
        });
        let Some(record) = memory.pods.get_mut(turn.uid) else {
            return;
        };
        let step = Step::Image(container.name.clone());
        let is_under_way = record.is_busy_with(&step);
        let kept = record.containers.entry(container.name.clone()).or_default();
        if is_done || is_under_way || kept.image.is_some() {
            continue;
        }
        let retry_at = kept.image_trouble.as_ref().map(super::backoff::Trouble::retry_at);
        if let Some(retry_at) = retry_at.filter(|at| *at > now.elapsed) {
            memory.wake_at(retry_at);
            continue;
        }
        let wish = start::image_wish(container, turn.pod, turn.around);
        wants.push(Want {
            step,
            call: Call::Runtime(RuntimeCall::EnsureImage(wish)),
            timeout: PULL_TIMEOUT,
        });
    }
}

/// Hooks and probes of what runs.
fn tend_containers(turn: &Turn<'_>, memory: &mut Memory, wants: &mut Vec<Want>, now: Now) {
    let ip = memory.pods.get(turn.uid).and_then(|record| record.ip);
    for container in turn.template.spec.all_containers() {
        let Some(life) = present(turn.house, container).filter(|life| life.is_running()) else {
            continue;
        };
        let is_ending =
            memory.pods.get(turn.uid).is_some_and(|record| record.endings.contains_key(&life.id));
        if is_ending {
            continue;
        }
        if probes::is_in_post_start(container, life, memory) {
            wants.extend(post_start(turn, container, life, ip, memory, now));
        }
        if probes::is_in_post_start(container, life, memory) {
            continue;
        }
        wants.extend(probes::next(turn.uid, container, life, ip, memory, now));
    }
}

/// The `postStart` hook, once for each life. Until it is over the container is not up, and nobody
/// asks it anything.
fn post_start(
    turn: &Turn<'_>,
    container: &Container,
    life: &ContainerSeen,
    ip: Option<std::net::Ipv4Addr>,
    memory: &mut Memory,
    now: Now,
) -> Option<Want> {
    let hook = container.post_start.as_ref()?;
    if let Handler::Sleep(seconds) = hook {
        let record = memory.pods.get_mut(turn.uid)?;
        let kept = record.containers.entry(container.name.clone()).or_default();
        let began = kept.started_at.as_ref().filter(|(id, _)| *id == life.id).map(|(_, at)| *at);
        let over = began.unwrap_or(now.elapsed) + Duration::from_secs((*seconds).into());
        if over <= now.elapsed {
            kept.post_started = Some(life.id.clone());
        } else {
            memory.wake_at(over);
        }
        return None;
    }
    let call = probes::handler_call(hook, container, life, ip, START_TIMEOUT)?;
    let step = Step::PostStart(container.name.clone(), life.id.clone());
    Some(Want { step, call, timeout: START_TIMEOUT + Duration::from_secs(5) })
}

/// Stops containers that a probe or a hook condemned.
fn end_condemned(
    uid: &Uid,
    pod: &Assignment,
    house: &House<'_>,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    let Some(record) = memory.pods.get_mut(uid) else {
        return Vec::new();
    };
    let ip = record.ip;
    record.endings.retain(|id, _| house.running().any(|life| life.id == *id));
    let condemned: Vec<&ContainerSeen> =
        house.running().filter(|life| record.endings.contains_key(&life.id)).collect();
    condemned
        .into_iter()
        .filter_map(|life| stop::end_condemned(uid, pod, life, ip, memory, now))
        .collect()
}

/// Reads what ended containers left to say.
fn read_last_words(
    uid: &Uid,
    template: &PodTemplate,
    house: &House<'_>,
    memory: &mut Memory,
) -> Vec<Want> {
    let Some(record) = memory.pods.get_mut(uid) else {
        return Vec::new();
    };
    let mut wants = Vec::new();
    for container in template.spec.all_containers() {
        let Some(life) = house.life(&container.name) else {
            continue;
        };
        let kept = record.containers.entry(container.name.clone()).or_default();
        let Some(exit_code) = exit_code(life) else {
            continue;
        };
        if let Some(words) = kept.last_words.get(&life.id) {
            // `FallbackToLogsOnError`.
            let is_mute = words.is_empty() && container.termination_message_from_logs;
            if is_mute && exit_code != 0 && kept.tail_read.as_ref() != Some(&life.id) {
                wants.push(Want {
                    step: Step::Tail(container.name.clone(), life.id.clone()),
                    call: Call::Runtime(RuntimeCall::Tail(life.id.clone())),
                    timeout: stop::STOP_TIMEOUT,
                });
            }
            continue;
        }
        let call =
            FilesCall::LastWords { pod: uid.clone(), name: last_words_file(&container.name) };
        wants.push(Want {
            step: Step::LastWords(container.name.clone(), life.id.clone()),
            call: Call::Files(call),
            timeout: LAST_WORDS_TIMEOUT,
        });
    }
    wants
}

fn remove_leftovers(uid: &Uid, house: &House<'_>, memory: &mut Memory, wants: &mut Vec<Want>) {
    let leftovers = house.leftovers();
    let is_idle = memory.pods.get(uid).is_some_and(super::memory::PodMemory::is_still);
    if !leftovers.is_empty() && is_idle {
        wants.push(remove(leftovers));
    }
}

/// Decides whether the pod has finished, and remembers it: a pod that has finished stays so.
fn judge(
    uid: &Uid,
    template: &PodTemplate,
    house: &House<'_>,
    memory: &mut Memory,
    now: Now,
) -> bool {
    let spec = &template.spec;
    let Some(record) = memory.pods.get_mut(uid) else {
        return false;
    };
    if record.over.is_some() {
        return true;
    }
    let over = deadline_passed(spec, record.began_at, now).or_else(|| finished(spec, house));
    if over.is_none() {
        if let (Some(seconds), Some(began)) = (spec.active_deadline_s, record.began_at) {
            memory.wake_at(began + Duration::from_secs(seconds.into()));
        }
        return false;
    }
    record.over = over;
    true
}

fn deadline_passed(spec: &PodSpec, began: Option<Elapsed>, now: Now) -> Option<Over> {
    let deadline = Duration::from_secs(spec.active_deadline_s?.into());
    (now.elapsed.since(began?) >= deadline).then(|| Over {
        phase: Phase::Failed,
        reason: Some("DeadlineExceeded".to_owned()),
        message: Some("Pod was active on the node longer than the specified deadline".to_owned()),
    })
}

fn finished(spec: &PodSpec, house: &House<'_>) -> Option<Over> {
    let over = |phase| Some(Over { phase, reason: None, message: None });
    let init_failed = spec.init_containers.iter().any(|container| {
        let code = present(house, container).and_then(exit_code);
        code.is_some_and(|code| code != 0 && !is_restarted(spec, container, true, code))
    });
    let main_was_started = spec.containers.iter().any(|c| present(house, c).is_some());
    if init_failed && !main_was_started {
        return over(Phase::Failed);
    }
    let mut failed = false;
    for container in &spec.containers {
        let code = house.life(&container.name).and_then(exit_code)?;
        if is_restarted(spec, container, false, code) {
            return None;
        }
        failed |= code != 0;
    }
    over(if failed { Phase::Failed } else { Phase::Succeeded })
}

/// A pod that has finished keeps its dead containers, for their logs, and gives back the rest.
fn wind_down(
    uid: &Uid,
    pod: &Assignment,
    house: &House<'_>,
    seen: &Seen,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    let running: Vec<&ContainerSeen> = house.running().collect();
    if !running.is_empty() {
        let ip = memory.pods.get(uid).and_then(|record| record.ip);
        return running
            .into_iter()
            .filter_map(|life| stop::end_condemned(uid, pod, life, ip, memory, now))
            .collect();
    }
    let mut wants = Vec::new();
    let pauses: Vec<_> = house.pauses.iter().map(|pause| pause.id.clone()).collect();
    if !pauses.is_empty() {
        wants.push(remove(pauses));
    }
    let link = sandbox::link_name(uid);
    if seen.links.contains(&link) {
        wants.push(sandbox::detach(&link));
    }
    if !memory.doubts.about(uid) {
        memory.addresses.give_back(uid);
    }
    wants
}
