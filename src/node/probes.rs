//! Is that container well? Startup, readiness and liveness probes.
//!
//! As kubelet's prober, with one difference: until a container has first been found ready, it is
//! asked sooner than `periodSeconds`, beginning after 100 ms and doubling, so that a program that
//! needs half a second does not wait ten for its traffic. A bad answer to such an early question
//! counts for nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::kinds::container::{Container, Handler, PortRef, Probe, Protocol};
use crate::kinds::name::{Name, Uid};
use crate::kinds::time::{Elapsed, Now};
use crate::ports::probe::{Call as ProbeCall, Target};
use crate::ports::runtime::{
    Answer as RuntimeAnswer, Call as RuntimeCall, ContainerId, ContainerSeen,
};
use crate::ports::{Answer, Call, Fault};

use super::memory::{Memory, Want};
use super::step::Step;
use super::stop::Ending;

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Is it up at last?
    Startup,
    /// May it get traffic?
    Readiness,
    /// Does it hang?
    Liveness,
}

impl ProbeKind {
    const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup.as_ref(),
            Self::Readiness => container.readiness.as_ref(),
            Self::Liveness => container.liveness.as_ref(),
        }
    }
}

/// The first early question comes after this, each next one after twice as long.
const EARLY_FIRST: Duration = Duration::from_millis(100);
/// An answer may come this much later than it was asked to before the call is given up.
const CALL_SLACK: Duration = Duration::from_secs(5);

/// What one probe has come to for one life of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeMemory {
    spec: Probe,
    life: ContainerId,
    began: Elapsed,
    next_at: Elapsed,
    good_row: u32,
    bad_row: u32,
    early: u32,
    /// What it has come to; none before the first answer that counts.
    pub(crate) result: Option<bool>,
}

/// Whether a container is up: its `postStart` is over and its startup probe has passed, as far as it
/// has them.
pub(super) fn is_started(container: &Container, life: &ContainerSeen, memory: &Memory) -> bool {
    life.is_running()
        && !is_in_post_start(container, life, memory)
        && (container.startup.is_none() || result(ProbeKind::Startup, life, memory) == Some(true))
}

/// Whether the `postStart` hook of this life is still to be done. A life that an earlier agent
/// started has had it.
pub(super) fn is_in_post_start(
    container: &Container,
    life: &ContainerSeen,
    memory: &Memory,
) -> bool {
    let pod = memory.pods.get(&life.marks.uid);
    let record = pod.and_then(|pod| pod.containers.get(&container.name));
    container.post_start.is_some()
        && record.is_some_and(|record| {
            record.is_started_by_us(life) && record.post_started.as_ref() != Some(&life.id)
        })
}

/// Whether a container may get traffic.
pub(super) fn is_ready(container: &Container, life: &ContainerSeen, memory: &Memory) -> bool {
    is_started(container, life, memory)
        && (container.readiness.is_none()
            || result(ProbeKind::Readiness, life, memory) == Some(true))
}

fn result(kind: ProbeKind, life: &ContainerSeen, memory: &Memory) -> Option<bool> {
    let known = life.marks.role.container().and_then(|name| {
        let record = memory.pods.get(&life.marks.uid)?.containers.get(name)?;
        record.probes.get(&kind).filter(|probe| probe.life == life.id)?.result
    });
    let inherited = || {
        let counts = matches!(kind, ProbeKind::Startup | ProbeKind::Readiness);
        (counts && memory.was_ready(&life.id)).then_some(true)
    };
    known.or_else(inherited)
}

/// The questions to be put now.
pub(super) fn next(
    uid: &Uid,
    container: &Container,
    life: &ContainerSeen,
    ip: Option<Ipv4Addr>,
    memory: &mut Memory,
    now: Now,
) -> Vec<Want> {
    let started = is_started(container, life, memory);
    let inherited = memory.was_ready(&life.id);
    let mut wants = Vec::new();
    for kind in ProbeKind::ALL {
        let Some(probe) = kind.of(container) else {
            continue;
        };
        let is_due = if kind == ProbeKind::Startup { !started } else { started };
        let Some(record) = memory.pods.get_mut(uid).filter(|_| is_due) else {
            continue;
        };
        let record = record.containers.entry(container.name.clone()).or_default();
        let known = record.probes.entry(kind).or_insert_with(|| begin(probe, life, inherited, now));
        if known.life != life.id {
            *known = begin(probe, life, inherited, now);
        }
        let next_at = known.next_at;
        if next_at > now.elapsed {
            memory.wake_at(next_at);
            continue;
        }
        let timeout = Duration::from_secs(probe.timeout_s.into());
        let Some(call) = handler_call(&probe.handler, container, life, ip, timeout) else {
            continue;
        };
        let step = Step::Probe(container.name.clone(), kind, life.id.clone());
        wants.push(Want { step, call, timeout: timeout + CALL_SLACK });
    }
    wants
}

fn begin(probe: &Probe, life: &ContainerSeen, inherited: bool, now: Now) -> ProbeMemory {
    let delay = Duration::from_secs(probe.initial_delay_s.into());
    let next_at = if inherited { now.elapsed } else { now.elapsed + delay };
    ProbeMemory {
        spec: probe.clone(),
        life: life.id.clone(),
        began: next_at,
        next_at,
        good_row: 0,
        bad_row: 0,
        early: 0,
        result: inherited.then_some(true),
    }
}

/// How a handler is carried out; none if its port has no number, or if it is only waited for.
pub(super) fn handler_call(
    handler: &Handler,
    container: &Container,
    life: &ContainerSeen,
    ip: Option<Ipv4Addr>,
    timeout: Duration,
) -> Option<Call> {
    let port = |port: &PortRef| port.resolve([container], Protocol::Tcp);
    let own = || ip.map(|ip| ip.to_string());
    let target = match handler {
        Handler::Exec(command) => {
            let command = command.clone();
            let id = life.id.clone();
            return Some(Call::Runtime(RuntimeCall::Exec { id, command, timeout }));
        }
        Handler::Http(get) => Target::Http {
            host: get.host.clone().or_else(own)?,
            port: port(&get.port)?,
            path: get.path.clone(),
            tls: get.tls,
            headers: get.headers.clone(),
        },
        Handler::Tcp { host, port: number } => {
            Target::Tcp { host: host.clone().or_else(own)?, port: port(number)? }
        }
        Handler::Grpc { port, service } => {
            Target::Grpc { host: ip?.into(), port: *port, service: service.clone() }
        }
        Handler::Sleep(_) => return None,
    };
    Some(Call::Probe(ProbeCall { target, timeout }))
}

/// What is wrong with a handler's answer; nothing if it was good.
pub(super) fn complaint(result: &Result<Answer, Fault>) -> Option<String> {
    match result {
        Ok(Answer::Probe(answer)) => (!answer.good).then(|| answer.message.clone()),
        Ok(Answer::Runtime(RuntimeAnswer::Exec(exec))) => (exec.exit_code != 0).then(|| {
            let output = exec.output.trim();
            format!("command failed with exit code {}: {output}", exec.exit_code)
        }),
        Ok(_) => None,
        Err(fault) => Some(fault.message.clone()),
    }
}

/// Takes the answer to a question.
pub(super) fn answered(
    memory: &mut Memory,
    uid: &Uid,
    name: &Name,
    kind: ProbeKind,
    life: &ContainerId,
    result: &Result<Answer, Fault>,
    now: Now,
) {
    let complaint = complaint(result);
    let Some(record) = memory.pods.get_mut(uid) else {
        return;
    };
    let Some(container) = record.containers.get_mut(name) else {
        return;
    };
    let Some(probe) = container.probes.get_mut(&kind).filter(|probe| probe.life == *life) else {
        return;
    };
    let verdict = probe.take(complaint.is_none(), kind, now.elapsed);
    let grace = probe.spec.grace_s.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(complaint) = complaint.filter(|_| verdict != Verdict::Early) {
        let message = format!("{} probe failed: {complaint}", kind.word());
        memory.event(uid, true, "Unhealthy", message, now);
    }
    if verdict == Verdict::Condemned {
        let message = format!(
            "Container {name} failed {} probe, will be restarted",
            kind.word().to_lowercase()
        );
        memory.event(uid, false, "Killing", message, now);
        if let Some(record) = memory.pods.get_mut(uid) {
            record.endings.entry(life.clone()).or_insert_with(|| Ending::begin(now.elapsed, grace));
        }
    }
}

/// What an answer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Asked sooner than the manifest says, and not good yet: it does not count.
    Early,
    /// It counts.
    Counted,
    /// The container is to be stopped.
    Condemned,
}

impl ProbeMemory {
    fn take(&mut self, good: bool, kind: ProbeKind, now: Elapsed) -> Verdict {
        let (successes, failures) = (self.spec.successes, self.spec.failures);
        let period = Duration::from_secs(self.spec.period_s.into());
        let asks_early = kind != ProbeKind::Liveness && self.result != Some(true);
        let due = self.began + period * self.bad_row;
        if asks_early && !good && self.early > 0 && now < due {
            self.ask_early(period, now);
            return Verdict::Early;
        }
        self.next_at = now + period;
        if good {
            self.good_row += 1;
            self.bad_row = 0;
            if self.good_row >= successes {
                self.result = Some(true);
            }
            return Verdict::Counted;
        }
        self.bad_row += 1;
        self.good_row = 0;
        if asks_early {
            self.ask_early(period, now);
        }
        if self.bad_row < failures {
            return Verdict::Counted;
        }
        if kind == ProbeKind::Readiness {
            self.result = Some(false);
            Verdict::Counted
        } else {
            self.bad_row = 0;
            Verdict::Condemned
        }
    }

    fn ask_early(&mut self, period: Duration, now: Elapsed) {
        let wait = EARLY_FIRST * 2_u32.saturating_pow(self.early.min(10));
        self.early += 1;
        self.next_at = now + wait.min(period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(failures: u32, successes: u32) -> Probe {
        Probe {
            handler: Handler::Sleep(0),
            initial_delay_s: 0,
            period_s: 10,
            timeout_s: 1,
            successes,
            failures,
            grace_s: None,
        }
    }

    fn fresh(failures: u32, successes: u32) -> ProbeMemory {
        ProbeMemory {
            spec: probe(failures, successes),
            life: "c".into(),
            began: Elapsed::default(),
            next_at: Elapsed::default(),
            good_row: 0,
            bad_row: 0,
            early: 0,
            result: None,
        }
    }

    fn at(millis: u64) -> Elapsed {
        Elapsed::new(Duration::from_millis(millis))
    }

    #[test]
    fn a_container_that_is_not_ready_yet_is_asked_again_soon() {
        let mut memory = fresh(3, 1);
        let mut now = 0;
        let mut asked = Vec::new();
        for _ in 0..6 {
            asked.push(now);
            memory.take(false, ProbeKind::Readiness, at(now));
            now = u64::try_from(memory.next_at.since_boot().as_millis()).expect("small");
        }
        assert_eq!(asked, [0, 100, 300, 700, 1500, 3100]);
        assert_eq!(memory.bad_row, 1, "only the first one counts within the first period");
        memory.take(true, ProbeKind::Readiness, at(now));
        assert_eq!(memory.result, Some(true));
        assert_eq!(memory.next_at, at(now) + Duration::from_secs(10), "from now on by the period");
    }

    #[test]
    fn a_startup_probe_gives_the_time_the_manifest_says() {
        let mut memory = fresh(3, 1);
        let mut now = 0;
        let condemned_at = loop {
            if memory.take(false, ProbeKind::Startup, at(now)) == Verdict::Condemned {
                break now;
            }
            now = u64::try_from(memory.next_at.since_boot().as_millis()).expect("small");
        };
        assert!((20_000..35_000).contains(&condemned_at), "3 failures, 10 s apart: {condemned_at}");
    }

    #[test]
    fn liveness_condemns_after_its_failures_and_a_good_answer_wipes_them() {
        let mut memory = fresh(2, 1);
        let mut take =
            |good, seconds: u64| memory.take(good, ProbeKind::Liveness, at(seconds * 1000));
        assert_eq!(take(false, 0), Verdict::Counted);
        assert_eq!(take(true, 10), Verdict::Counted);
        assert_eq!(take(false, 20), Verdict::Counted);
        assert_eq!(take(false, 30), Verdict::Condemned);
    }

    #[test]
    fn readiness_turns_bad_only_after_its_failures() {
        let mut memory = fresh(3, 2);
        for second in 0..2 {
            memory.take(true, ProbeKind::Readiness, at(second * 10_000));
        }
        assert_eq!(memory.result, Some(true), "two successes asked for");
        for second in 2..4 {
            memory.take(false, ProbeKind::Readiness, at(second * 10_000));
            assert_eq!(memory.result, Some(true));
        }
        memory.take(false, ProbeKind::Readiness, at(40_000));
        assert_eq!(memory.result, Some(false));
    }
}
