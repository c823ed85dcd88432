//! The agent's engine room: events in, effects out, until somebody says stop.
//!
//! The agent itself is a pure machine. Here it is given a clock, its effects become tasks, and what
//! comes of them is brought back. A panic in the agent ends the process: containers go on without
//! it, and its successor takes them over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::Agent;
use crate::agent::event::{Ask, AskId, Done, Effect, EffectId, Event, Hint, Parsed, Reply, Work};
use crate::desired;
use crate::plan;
use crate::ports::source::FileContent;
use crate::ports::{Call, Fault};
use crate::view::picture::Picture;

use super::clock;
use super::world::World;

/// Events that wait for the agent. Each is the answer to an effect, so their number is bounded by
/// what the agent asks for; this only bounds a storm of hints.
const EVENTS_MAX: usize = 10_000;
/// A picture is published at most this often: a roll-out of hundreds of pods makes thousands of
/// events, and nobody can look that fast.
const PICTURE_EVERY: Duration = Duration::from_millis(20);
/// So often it is shown how far pulls have come: whoever watches is sent every pod that waits.
const PULLS_EVERY: Duration = Duration::from_secs(1);
/// The longest sleep: at least this often the agent shows that it is alive.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What the engine does next.
enum Next {
    /// Gives the agent an event.
    Event(Event),
    /// Notes that pulls have come further.
    Pulled,
    /// Shows how everything is.
    Publish,
}

/// A question of somebody on the socket, and where the answer goes.
pub type Question = (Ask, oneshot::Sender<Reply>);

/// What the engine needs besides the agent.
pub struct Engine {
    /// The world.
    pub world: Arc<World>,
    /// Hints from outside.
    pub hints: mpsc::Receiver<Hint>,
    /// Questions from the socket.
    pub questions: mpsc::Receiver<Question>,
    /// Where pictures are published.
    pub pictures: watch::Sender<Arc<Picture>>,
    /// Resolves when the agent is to end.
    pub stop: oneshot::Receiver<()>,
    /// Called after every event: the process is alive, and this is how it is.
    pub pulse: Box<dyn FnMut(&Picture) + Send>,
}

impl Engine {
    /// Runs the agent until it is told to stop.
    pub async fn run(mut self, mut agent: Agent) {
        let (events, mut inbox) = mpsc::channel::<Event>(EVENTS_MAX);
        let mut asked = Asked::default();
        let mut publish_at: Option<tokio::time::Instant> = None;
        let mut pulls = self.world.docker.pulls();
        self.give(&mut agent, Event::Began, &events, &mut asked);
        loop {
            let wake = sleep_until(agent.next_wake());
            let publish = publish_at.unwrap_or_else(|| after(SLEEP_MAX));
            let next = tokio::select! {
                biased;
                _ = &mut self.stop => break,
                Some(event) = inbox.recv() => Next::Event(event),
                Some(hint) = self.hints.recv() => Next::Event(Event::Hint(hint)),
                Some((ask, answer)) = self.questions.recv() => {
                    Next::Event(asked.put(ask, answer))
                }
                () = tokio::time::sleep_until(publish) => Next::Publish,
                Ok(()) = pulls.changed() => Next::Pulled,
                () = tokio::time::sleep_until(wake) => Next::Event(Event::Woke),
            };
            let soon = |at: Option<tokio::time::Instant>, wait| {
                Some(at.map_or(after(wait), |at| at.min(after(wait))))
            };
            match next {
                Next::Event(event) => {
                    self.give(&mut agent, event, &events, &mut asked);
                    publish_at = soon(publish_at, PICTURE_EVERY);
                }
                // Only what is shown changes: nothing is decided by it, and nothing written.
                Next::Pulled => publish_at = soon(publish_at, PULLS_EVERY),
                Next::Publish => {
                    publish_at = None;
                    let pulls = pulls.borrow().clone();
                    let picture = Arc::new(agent.picture(&pulls, clock::now()));
                    (self.pulse)(&picture);
                    self.pictures.send_replace(picture);
                }
            }
        }
        self.give(&mut agent, Event::Stop, &events, &mut asked);
        // The agent may have a last word, for which it has set a bound itself.
        while !agent.has_ended() {
            let Some(event) = inbox.recv().await else { return };
            self.give(&mut agent, event, &events, &mut asked);
        }
    }

    /// Gives the agent an event and carries out what follows.
    fn give(
        &self,
        agent: &mut Agent,
        event: Event,
        events: &mpsc::Sender<Event>,
        asked: &mut Asked,
    ) {
        for effect in agent.on(event, clock::now()) {
            let Effect { id, work, deadline } = effect;
            match work {
                Work::Reply(ask, reply) => asked.answer(ask, *reply),
                Work::Call(call) => self.call(id, call, deadline, events.clone()),
                Work::Parse(files) => {
                    compute(id, deadline, events.clone(), move || Done::Parsed(parse_all(&files)));
                }
                Work::Vouch(lineage, pin) => compute(id, deadline, events.clone(), move || {
                    Done::Judged(desired::trust::vouch(&lineage, &pin))
                }),
                Work::Plan(given) => compute(id, deadline, events.clone(), move || {
                    let (input, mut memory) = *given;
                    let plan = plan::plan(&input, &mut memory, clock::now());
                    Done::Planned(Box::new((plan, memory)))
                }),
            }
        }
    }

    fn call(&self, id: EffectId, call: Call, deadline: Duration, events: mpsc::Sender<Event>) {
        let world = self.world.clone();
        tokio::spawn(async move {
            let result = match tokio::time::timeout(deadline, world.perform(call)).await {
                Ok(result) => result.map(Done::Answer),
                Err(_) => Err(Fault::deadline(format!("no answer within {deadline:?}"))),
            };
            // The agent is gone: nobody waits.
            let _ = events.send(Event::Done(id, result)).await;
        });
    }
}

/// Does something pure that takes too long for the loop, on a thread of its own.
fn compute(
    id: EffectId,
    deadline: Duration,
    events: mpsc::Sender<Event>,
    work: impl FnOnce() -> Done + Send + 'static,
) {
    tokio::spawn(async move {
        // Pure code that panics has found a defect of ours; the rest of the agent goes on.
        let guarded = move || std::panic::catch_unwind(AssertUnwindSafe(work));
        let running = tokio::task::spawn_blocking(guarded);
        let result = match tokio::time::timeout(deadline, running).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(_) => Err(Fault::stalled("a defect in Windlass: please report the panic above")),
            Err(_) => Err(Fault::deadline(format!("not done within {deadline:?}"))),
        };
        let _ = events.send(Event::Done(id, result)).await;
    });
}

/// Parses files, on all cores where there are many.
fn parse_all(files: &[FileContent]) -> Vec<Parsed> {
    let parse = |file: &FileContent| (file.path.clone(), file.blob.clone(), desired::parse(file));
    /// Below this a thread costs more than it saves.
    const FILES_PER_THREAD: usize = 64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(files.len() / FILES_PER_THREAD).max(1);
    let share = files.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = files
            .chunks(share)
            .map(|part| scope.spawn(|| part.iter().map(parse).collect::<Vec<_>>()))
            .collect();
        // A part that panicked must not look like files that are empty.
        let joined = parts
            .into_iter()
            .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

/// Questions whose answers are awaited.
#[derive(Default)]
struct Asked {
    count: u64,
    waiting: std::collections::BTreeMap<AskId, oneshot::Sender<Reply>>,
}

impl Asked {
    fn put(&mut self, ask: Ask, answer: oneshot::Sender<Reply>) -> Event {
        self.count += 1;
        let id = AskId(self.count);
        // Whoever asked and went away again is forgotten here.
        self.waiting.retain(|_, answer| !answer.is_closed());
        self.waiting.insert(id, answer);
        Event::Asked(id, ask)
    }

    fn answer(&mut self, id: AskId, reply: Reply) {
        if let Some(answer) = self.waiting.remove(&id) {
            // Whoever asked has gone away.
            let _ = answer.send(reply);
        }
    }
}

/// The moment of tokio's clock that lies this far ahead.
fn after(wait: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + wait
}

fn sleep_until(wake: Option<crate::kinds::time::Elapsed>) -> tokio::time::Instant {
    let wait = wake.map_or(SLEEP_MAX, |at| at.since(clock::now().elapsed));
    after(wait.min(SLEEP_MAX))
}
