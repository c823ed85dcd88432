//! What became of commits, told to those outside who asked for it: notes in a Git repository, and
//! addresses that are called.

use serde::Serialize;

use crate::kinds::binding::{AppName, Oid};
use crate::kinds::time::Wall;

/// What may be asked.
#[derive(Clone, Debug)]
pub enum Call {
    /// Write these down in the notes of their commits; what stands there already is left as it is.
    Note(Vec<Outcome>),
    /// Call an address.
    Post {
        /// Which, by its place in the settings: it has the token and the certificates.
        hook: usize,
        /// The address.
        url: String,
        /// What is sent, as JSON.
        body: String,
    },
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is written, or was.
    Noted,
    /// The other side has taken it.
    Posted,
}

/// What became of a commit, for one app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Since when, by the coordinator's clock.
    pub since: Wall,
    /// The commit.
    pub commit: Oid,
    /// Its first line.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// The app.
    pub app: AppName,
    /// Whether there are others: a fleet with one app does not name it.
    #[serde(skip)]
    pub is_part: bool,
    /// What became of it, in a word.
    pub state: OutcomeState,
    /// The same as a sentence, with the reason.
    pub message: String,
}

/// What became of a commit, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeState {
    /// Something in it is wrong.
    Refused,
    /// It would delete too much.
    Held,
    /// Something else must come first.
    Waiting,
    /// It is in force, and on its way.
    Applied,
    /// All of it is healthy.
    Healthy,
    /// It did not become healthy in its time.
    Failed,
    /// It failed, and what was before it is in force again.
    Reverted,
}

impl Outcome {
    /// A line of the commit's note.
    pub fn line(&self) -> String {
        let app = if self.is_part { format!("{}: ", self.app) } else { String::new() };
        // A note is read line by line.
        let message: Vec<&str> = self.message.split_whitespace().collect();
        format!("{} {app}{}", self.since, message.join(" "))
    }
}
