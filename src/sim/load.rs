//! What a fleet asks of its Git server, counted where the simulated agents ask it.
//!
//! A turnstile: it counts everybody who passes, and what they carry. One look, write or sign of life
//! is one connection, and each is told of every ref, as Git's first protocol has it. The limit:
//! content is counted before it is compressed, and without what Git saves by differences.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::agent::readers::seldom;

use crate::ports::store::{Call, Register, Rev, Tree};

use super::store::Registers;

/// A ref as it is told (docs/GIT-SERVER.md: 73 kB for 1,000).
const REF_BYTES: u64 = 73;
/// An entry of a directory, beside its name.
const ENTRY_BYTES: u64 = 28;
/// A commit.
const COMMIT_BYTES: u64 = 250;

/// What a core of the server carries (docs/GIT-SERVER.md).
const OPERATIONS_PER_CORE: f64 = 65.0;
/// From so many nodes on, what is counted tells of larger fleets: all but a few read little.
const TELLING: u32 = 100;
/// How often nodes of a small fleet beat, and look.
const BASE: Duration = Duration::from_secs(10);

/// What was asked of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Looks at the state's refs.
    pub looks: u64,
    /// Registers read that were not known.
    pub reads: u64,
    /// Reports and decisions.
    pub writes: u64,
    /// Signs of life.
    pub beats: u64,
    /// Fetches of the desired repository.
    pub fetches: u64,
    /// Refs told to whoever asked, in bytes.
    pub told_bytes: u64,
    /// Content that was read, in bytes.
    pub read_bytes: u64,
    /// Content that was written, in bytes.
    pub written_bytes: u64,
}

impl Load {
    /// How many times the server was asked for something. What a look finds comes with it.
    pub fn operations(&self) -> u64 {
        self.looks + self.writes + self.beats + self.fetches
    }

    /// Counts a call that reaches the store.
    pub(super) fn count(
        &mut self,
        call: &Call,
        last_read: &mut BTreeMap<Register, Rev>,
        store: &Registers,
    ) {
        let told = store.size() * REF_BYTES;
        match call {
            Call::Look(_) => {
                self.looks += 1;
                self.told_bytes += told;
            }
            Call::Read { register, rev } => {
                let before = last_read.insert(register.clone(), rev.clone());
                let before = before.and_then(|before| store.state(&before));
                if let Some(after) = store.state(rev) {
                    self.reads += 1;
                    self.read_bytes += difference(before, after);
                }
            }
            Call::Commit { edits, .. } => {
                self.writes += 1;
                self.told_bytes += told;
                let content = edits.iter().filter_map(|edit| edit.content.as_ref());
                self.written_bytes += content.map(|content| content.len() as u64).sum::<u64>();
            }
            Call::Beat { .. } | Call::Remove { .. } => {
                self.beats += 1;
                self.told_bytes += told;
            }
            Call::Recall | Call::Fence(_) | Call::History { .. } | Call::Compact => {}
        }
    }

    /// In words: what a node asks in an hour, what the server is asked in a second, and, counted from
    /// a fleet that is large enough to tell, what 1,000 nodes would ask.
    pub fn told(&self, nodes: u32, lasted: Duration) -> String {
        let count = f64::from(nodes.max(1));
        let seconds = lasted.as_secs_f64().max(1.0);
        let hourly = |what: u64| exact(what) / seconds / count * 3600.0;
        let mut text = format!(
            "  a node and hour: {:.0} looks, {:.0} beats, {:.0} writes, {:.0} fetches of desired, \
             {:.0} registers read; {} of refs, {} read, {} written\n",
            hourly(self.looks),
            hourly(self.beats),
            hourly(self.writes),
            hourly(self.fetches),
            hourly(self.reads),
            bytes(hourly(self.told_bytes)),
            bytes(hourly(self.read_bytes)),
            bytes(hourly(self.written_bytes)),
        );
        let operations = exact(self.operations()) / seconds;
        let told = exact(self.told_bytes) / seconds;
        let read = exact(self.read_bytes) / seconds;
        let mut line = |who: String, operations: f64, told: f64, read: f64| {
            let cores = operations / OPERATIONS_PER_CORE;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {who}: {operations:.1} operations a second, {cores:.2} of a core, {}/s of refs, \
                 {}/s of content",
                bytes(told),
                bytes(read),
            );
        };
        line(format!("the server, {nodes} nodes"), operations, told, read);
        if nodes >= TELLING {
            let known = usize::try_from(nodes).unwrap_or(usize::MAX);
            let every = |nodes| seldom(BASE, nodes).as_secs_f64();
            let more = 1000.0 / count * every(known) / every(1000);
            line(
                "counted up to 1,000 nodes".into(),
                operations * more,
                told * more * 1000.0 / count,
                read * more,
            );
        }
        text
    }
}

impl std::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |one, other| Self {
            looks: one.looks + other.looks,
            reads: one.reads + other.reads,
            writes: one.writes + other.writes,
            beats: one.beats + other.beats,
            fetches: one.fetches + other.fetches,
            told_bytes: one.told_bytes + other.told_bytes,
            read_bytes: one.read_bytes + other.read_bytes,
            written_bytes: one.written_bytes + other.written_bytes,
        })
    }
}

fn exact(count: u64) -> f64 {
    // Counts of a simulation are far below the 53 bits that are exact.
    u32::try_from(count).map_or_else(|_| count as f64, f64::from)
}

fn bytes(count: f64) -> String {
    match count {
        count if count < 1e4 => format!("{count:.0} B"),
        count if count < 1e7 => format!("{:.0} kB", count / 1e3),
        count => format!("{:.0} MB", count / 1e6),
    }
}

/// What has to be sent to whoever has the one state and wants the other: a commit, the files that
/// differ, and the directories that they stand in.
fn difference(before: Option<&Tree>, after: &Tree) -> u64 {
    let known = |path: &String| before.and_then(|tree| tree.files.get(path));
    let changed = after.files.iter().filter(|(path, content)| {
        known(path).is_none_or(|known| !std::sync::Arc::ptr_eq(known, content))
    });
    let changed: Vec<_> = changed.collect();
    if changed.is_empty() {
        return 0;
    }
    let directory = |path: &str| path.rsplit_once('/').map(|(directory, _)| directory.to_owned());
    let directories: BTreeSet<_> = changed.iter().map(|(path, _)| directory(path)).collect();
    let entries = after.files.keys().filter(|path| directories.contains(&directory(path)));
    let entries: u64 = entries.map(|path| path.len() as u64 + ENTRY_BYTES).sum();
    let contents: u64 = changed.iter().map(|(_, content)| content.len() as u64).sum();
    COMMIT_BYTES + entries + contents
}
