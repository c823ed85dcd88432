//! Tells those outside what became of commits: Git notes, webhooks, commit statuses.
//!
//! A town crier with a short memory: he calls out what is news since he last looked, to each square
//! until somebody there nods. Whoever takes the office over calls out first how things stand, because he
//! can't know what was heard; so everything that lasts is told at least once, and some of it twice.
//!
//! The rule: only who coordinates tells, and nothing waits for it: not a turn, not a node, not another
//! listener. Each listener has a queue of its own, with a bound, and a back-off. The limit: what was
//! true for a moment only, while the coordinator changed, may never be told.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::kinds::digest::Digest;
use crate::kinds::time::{Elapsed, Now, human_duration};
use crate::ports::outcomes::{Answer as OutcomeAnswer, Call as OutcomeCall, Outcome, OutcomeState};
use crate::ports::{Answer, Call, Fault, FaultKind};
use crate::state::State;
use crate::state::records::Verdict;

use super::config::{Config, Hook, HookKind};
use super::{Agent, Purpose};

/// More is not kept for one listener; then the oldest goes.
const QUEUE_MAX: usize = 1000;
/// So many notes are written with one push.
const NOTES_AT_ONCE: usize = 100;
/// Outcomes that a listener does not take after so many tries, some two hours, are given up.
const TRIES_MAX: u32 = 16;
/// The first wait after a failure; doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LONGEST: Duration = Duration::from_secs(600);
/// How long a push of notes may take, and how long a call.
const NOTE_TIMEOUT: Duration = Duration::from_secs(120);
const POST_TIMEOUT: Duration = Duration::from_secs(20);
/// GitHub's bound on a description; GitLab's is wider.
const DESCRIPTION_CHARS_MAX: usize = 140;

/// Who is told, and what of it is still to be.
#[derive(Debug)]
pub(super) struct Herald {
    /// How things stood at the last look; nothing while somebody else tells.
    seen: Option<BTreeSet<Outcome>>,
    /// The decision that was looked at.
    at: Option<crate::kinds::binding::Generation>,
    listeners: Vec<Listener>,
}

/// One who is told.
#[derive(Debug)]
struct Listener {
    name: String,
    hook: Option<Hook>,
    queue: VecDeque<Outcome>,
    /// How many of the first are being told.
    in_flight: usize,
    failures: u32,
    retry_at: Option<Elapsed>,
    fault: Option<String>,
}

impl Herald {
    pub(super) fn new(config: &Config) -> Self {
        let notes = config.notes.then(|| ("notes".to_owned(), None));
        let hooks = config.hooks.iter().map(|hook| (hook.name.clone(), Some(hook.clone())));
        let listeners = notes.into_iter().chain(hooks);
        let listeners = listeners.map(|(name, hook)| Listener::new(name, hook));
        Self { seen: None, at: None, listeners: listeners.collect() }
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        let waiting = self.listeners.iter().filter(|listener| !listener.queue.is_empty());
        waiting.filter_map(|listener| listener.retry_at).min()
    }

    /// Who does not hear, and why.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let deaf = self.listeners.iter();
        deaf.filter_map(|listener| Some((listener.name.clone(), listener.fault.clone()?))).collect()
    }

    /// Notes what is news.
    fn look(&mut self, state: &State) {
        if self.at == Some(state.generation) && self.seen.is_some() {
            return;
        }
        self.at = Some(state.generation);
        let now: BTreeSet<Outcome> = standing(state).into_iter().collect();
        let before = self.seen.replace(now.clone()).unwrap_or_default();
        for outcome in now.difference(&before) {
            for listener in &mut self.listeners {
                listener.hear(outcome);
            }
        }
    }
}

impl Listener {
    fn new(name: String, hook: Option<Hook>) -> Self {
        let queue = VecDeque::new();
        Self { name, hook, queue, in_flight: 0, failures: 0, retry_at: None, fault: None }
    }

    fn hear(&mut self, outcome: &Outcome) {
        // A note tells a story, and what only waits has none yet.
        if self.hook.is_none() && outcome.state == OutcomeState::Waiting {
            return;
        }
        self.queue.push_back(outcome.clone());
        if self.queue.len() > QUEUE_MAX {
            // What is being told is at the front.
            self.queue.remove(self.in_flight);
        }
    }

    /// What to tell next, if it may be told now.
    fn next(&mut self, place: usize, now: Now) -> Option<OutcomeCall> {
        self.retry_at = self.retry_at.filter(|at| *at > now.elapsed);
        if self.in_flight > 0 || self.retry_at.is_some() || self.queue.is_empty() {
            return None;
        }
        let Some(hook) = &self.hook else {
            self.in_flight = self.queue.len().min(NOTES_AT_ONCE);
            let batch = self.queue.iter().take(self.in_flight).cloned().collect();
            return Some(OutcomeCall::Note(batch));
        };
        self.in_flight = 1;
        let outcome = self.queue.front()?;
        let url = hook.url.replace("{commit}", outcome.commit.as_str());
        Some(OutcomeCall::Post { hook: place, url, body: body(hook.kind, outcome) })
    }

    fn told(&mut self, result: Result<(), Fault>, now: Now) {
        let count = std::mem::take(&mut self.in_flight);
        match result {
            Ok(()) => {
                self.queue.drain(..count.min(self.queue.len()));
                (self.failures, self.fault) = (0, None);
            }
            Err(fault) => {
                if self.fault.as_ref() != Some(&fault.message) {
                    tracing::warn!(listener = self.name, %fault, "an outcome can't be told; it is tried again");
                }
                self.fault = Some(fault.message);
                self.failures += 1;
                // What a hook does not understand it will not understand the next time.
                let is_final = self.hook.is_some() && fault.kind == FaultKind::NotFound;
                if self.failures >= TRIES_MAX || is_final {
                    self.queue.drain(..count.min(self.queue.len()));
                    self.failures = 0;
                }
                let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(1).min(16));
                let wait = RETRY_FIRST.saturating_mul(doubled).min(RETRY_LONGEST);
                self.retry_at = Some(now.elapsed + wait);
            }
        }
    }
}

impl Agent {
    pub(super) fn tend_herald(&mut self, now: Now) {
        if self.herald.listeners.is_empty() {
            return;
        }
        if !self.is_leading(now) {
            // Who leads now tells how things stand.
            self.herald.seen = None;
            self.herald.listeners.iter_mut().for_each(|listener| {
                listener.queue.truncate(listener.in_flight);
                listener.fault = None;
            });
            return;
        }
        if let Some(state) = self.store.state() {
            self.herald.look(state);
        }
        let mut hooks = 0;
        for index in 0..self.herald.listeners.len() {
            let listener = &mut self.herald.listeners[index];
            let place = hooks;
            hooks += usize::from(listener.hook.is_some());
            let Some(call) = listener.next(place, now) else { continue };
            let is_note = matches!(call, OutcomeCall::Note(_));
            let deadline = if is_note { NOTE_TIMEOUT } else { POST_TIMEOUT };
            self.call(Purpose::Tell(index), Call::Outcomes(call), deadline);
        }
    }

    pub(super) fn told(&mut self, listener: usize, result: Result<Answer, Fault>, now: Now) {
        let result = match result {
            Ok(Answer::Outcomes(OutcomeAnswer::Noted | OutcomeAnswer::Posted)) => Ok(()),
            Ok(_) => Err(Fault::transient("nobody said that it was heard")),
            Err(fault) => Err(fault),
        };
        if let Some(listener) = self.herald.listeners.get_mut(listener) {
            listener.told(result, now);
        }
    }
}

/// What is to be said of each app's commits, as things stand.
fn standing(state: &State) -> Vec<Outcome> {
    let is_part = state.apps.len() > 1;
    let mut all = Vec::new();
    for (app, own) in &state.apps {
        let head = &own.head;
        if let Some(applied) = &head.applied {
            let mut add = |state, since, message: String| {
                all.push(Outcome {
                    since,
                    commit: applied.revision.clone(),
                    subject: applied.subject.clone(),
                    author: applied.author.clone(),
                    app: app.clone(),
                    is_part,
                    state,
                    message,
                });
            };
            add(OutcomeState::Applied, applied.since, "in force".to_owned());
            if let Some(healthy) = applied.healthy {
                let after = human_duration(healthy.since(applied.since));
                add(OutcomeState::Healthy, healthy, format!("healthy after {after}"));
            }
            if let Some(failed) = head.failed_now() {
                add(OutcomeState::Failed, failed.since, format!("failed: {}", failed.why));
            }
        }
        if let Some(waiting) = &head.waiting {
            let first = waiting.findings.iter().find(|finding| finding.is_error());
            let first = first.map(|finding| format!(": {finding}")).unwrap_or_default();
            let (word, why) = (waiting.verdict.word(), waiting.verdict.why());
            all.push(Outcome {
                since: waiting.since,
                commit: waiting.revision.clone(),
                subject: waiting.subject.clone(),
                author: waiting.author.clone(),
                app: app.clone(),
                is_part,
                state: match waiting.verdict {
                    Verdict::Refused(_) => OutcomeState::Refused,
                    Verdict::Held(_) => OutcomeState::Held,
                    Verdict::Waits(_) => OutcomeState::Waiting,
                    Verdict::Reverted(_) => OutcomeState::Reverted,
                },
                message: format!("{word}: {why}{first}"),
            });
        }
    }
    all
}

/// What is sent.
fn body(kind: HookKind, outcome: &Outcome) -> String {
    use OutcomeState::{Applied, Failed, Healthy, Held, Refused, Reverted, Waiting};
    let words: Vec<&str> = outcome.message.split_whitespace().collect();
    let mut description: String = words.join(" ").chars().take(DESCRIPTION_CHARS_MAX).collect();
    if description.is_empty() {
        description = "in force".to_owned();
    }
    let context = format!("windlass/{}", outcome.app);
    let body = match kind {
        HookKind::Generic => {
            let mut body = serde_json::to_value(outcome).unwrap_or_default();
            // Twice told is known by this.
            let id = Digest::of(format!("{} {}", outcome.commit, outcome.line()).as_bytes());
            body["id"] = id.hex()[..32].into();
            body
        }
        HookKind::Github => serde_json::json!({
            "state": match outcome.state {
                Healthy => "success",
                Refused | Failed | Reverted => "failure",
                Applied | Held | Waiting => "pending",
            },
            "context": context,
            "description": description,
        }),
        HookKind::Gitlab => serde_json::json!({
            "state": match outcome.state {
                Healthy => "success",
                Refused | Failed | Reverted => "failed",
                Applied => "running",
                Held | Waiting => "pending",
            },
            "name": context,
            "description": description,
        }),
    };
    body.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kinds::binding::{Generation, Oid};
    use crate::kinds::name::Name;
    use crate::kinds::time::Wall;
    use crate::state::AppState;
    use crate::state::records::{AppHead, Applied, WaitingRevision};

    fn applied(commit: &str, healthy: Option<i64>) -> Applied {
        Applied {
            revision: Oid::new(commit),
            tree: Oid::new("t"),
            subject: "web: two".into(),
            author: "Ada <ada@example.org>".into(),
            since: Wall::from_seconds(1_000),
            origin: "main:".into(),
            signer: None,
            objects: 3,
            healthy: healthy.map(Wall::from_seconds),
            warnings: Vec::new(),
            unknown: std::collections::BTreeMap::new(),
        }
    }

    fn waiting(commit: &str, verdict: Verdict) -> WaitingRevision {
        WaitingRevision {
            revision: Oid::new(commit),
            subject: "web: three".into(),
            author: "Bob <bob@example.org>".into(),
            since: Wall::from_seconds(2_000),
            verdict,
            signer: None,
            findings: Vec::new(),
            finding_count: 0,
            unknown: std::collections::BTreeMap::new(),
        }
    }

    fn state(number: u64, head: AppHead) -> State {
        let app = AppState { head: Arc::new(head), ..AppState::default() };
        let mut state = State { generation: Generation { epoch: 1, number }, ..State::default() };
        state.apps.insert(Name::trusted("default"), app);
        state
    }

    fn herald(hooks: &[(&str, HookKind)]) -> Herald {
        let hooks = hooks.iter().map(|(url, kind)| Hook {
            name: format!("hook {url}"),
            url: (*url).to_owned(),
            kind: *kind,
        });
        let mut herald = Herald { seen: None, at: None, listeners: Vec::new() };
        for hook in std::iter::once(None).chain(hooks.map(Some)) {
            herald.listeners.push(Listener::new(String::new(), hook));
        }
        herald
    }

    fn queued(listener: &Listener) -> Vec<String> {
        listener.queue.iter().map(Outcome::line).collect()
    }

    fn at(seconds: u64) -> Now {
        Now { elapsed: Elapsed::new(Duration::from_secs(seconds)), wall: Wall::default() }
    }

    #[test]
    fn each_outcome_is_told_once_and_a_new_coordinator_tells_how_things_stand() {
        let mut told = herald(&[("http://x", HookKind::Generic)]);
        let first = AppHead { applied: Some(applied("a", None)), ..AppHead::default() };
        told.look(&state(1, first.clone()));
        told.look(&state(2, first));
        let refused = waiting("b", Verdict::Refused("1 error in it".into()));
        let second = AppHead {
            applied: Some(applied("a", Some(1_012))),
            waiting: Some(refused),
            ..AppHead::default()
        };
        told.look(&state(3, second.clone()));
        let story = [
            "1970-01-01T00:16:40Z in force",
            "1970-01-01T00:16:52Z healthy after 12s",
            "1970-01-01T00:33:20Z refused: 1 error in it",
        ];
        assert_eq!(queued(&told.listeners[0]), story);
        assert_eq!(queued(&told.listeners[1]), story);
        let mut successor = herald(&[]);
        successor.look(&state(3, second.clone()));
        assert_eq!(queued(&successor.listeners[0]), story);
        // Waiting is for those who show a state, not for a story.
        let waits = waiting("c", Verdict::Waits("it is suspended".into()));
        told.look(&state(4, AppHead { waiting: Some(waits), ..second }));
        assert_eq!((told.listeners[0].queue.len(), told.listeners[1].queue.len()), (3, 4));
    }

    #[test]
    fn a_listener_that_does_not_hear_is_asked_again_ever_more_seldom_and_not_for_ever() {
        let mut told = herald(&[]);
        told.look(&state(1, AppHead { applied: Some(applied("a", None)), ..AppHead::default() }));
        let listener = &mut told.listeners[0];
        let mut now = 0;
        let mut tries = 0;
        while !listener.queue.is_empty() {
            match listener.next(0, at(now)) {
                Some(OutcomeCall::Note(batch)) => {
                    assert_eq!(batch.len(), 1);
                    assert!(listener.next(0, at(now)).is_none(), "one at a time");
                    listener.told(Err(Fault::transient("no way there")), at(now));
                    assert_eq!(listener.fault.as_deref(), Some("no way there"));
                    tries += 1;
                }
                Some(OutcomeCall::Post { .. }) => panic!("it is no hook"),
                None => now += 1,
            }
        }
        assert_eq!(tries, TRIES_MAX);
        assert!((3_600..3 * 3_600).contains(&now), "{now} s");
    }

    #[test]
    fn a_full_queue_loses_the_oldest() {
        let mut told = herald(&[]);
        let listener = &mut told.listeners[0];
        let mut outcome = standing(&state(
            1,
            AppHead { applied: Some(applied("a", None)), ..AppHead::default() },
        ))
        .remove(0);
        for number in 0..QUEUE_MAX + 5 {
            outcome.message = number.to_string();
            listener.hear(&outcome);
        }
        assert_eq!(listener.queue.len(), QUEUE_MAX);
        assert_eq!(listener.queue[0].message, "5");
    }

    #[test]
    fn statuses_are_those_of_the_hosts() {
        let head = AppHead {
            applied: Some(applied("a1", Some(1_012))),
            waiting: Some(waiting("b2", Verdict::Refused("1 error in it".into()))),
            ..AppHead::default()
        };
        let url = "https://api.github.com/repos/acme/fleet/statuses/{commit}";
        let mut told = herald(&[(url, HookKind::Github), (url, HookKind::Gitlab)]);
        told.look(&state(1, head));
        let mut said = Vec::new();
        for listener in &mut told.listeners[1..] {
            while let Some(OutcomeCall::Post { url, body, .. }) = listener.next(0, at(0)) {
                said.push(format!("{} {body}", url.rsplit('/').next().unwrap_or_default()));
                listener.told(Ok(()), at(0));
            }
        }
        assert_eq!(
            said,
            [
                r#"a1 {"state":"pending","context":"windlass/default","description":"in force"}"#,
                r#"a1 {"state":"success","context":"windlass/default","description":"healthy after 12s"}"#,
                r#"b2 {"state":"failure","context":"windlass/default","description":"refused: 1 error in it"}"#,
                r#"a1 {"state":"running","name":"windlass/default","description":"in force"}"#,
                r#"a1 {"state":"success","name":"windlass/default","description":"healthy after 12s"}"#,
                r#"b2 {"state":"failed","name":"windlass/default","description":"refused: 1 error in it"}"#,
            ]
        );
    }
}
