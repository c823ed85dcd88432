//! Everything that can wake the agent, and everything it can ask for, each on one screen.

use std::time::Duration;

use crate::desired::ParsedFile;
use crate::desired::trust::{Refusal, Signer, Vouched};
use crate::kinds::digest::Digest;
use crate::kinds::name::NodeName;
use crate::plan::{Input, Memory, Plan};
use crate::ports::peers::Word;
use crate::ports::runtime::RuntimeHint;
use crate::ports::source::{FileContent, Lineage};
use crate::ports::{Answer, Call, Fault};
use crate::state::RequestKind;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The agent begins.
    Began,
    /// The time given by [`super::Agent::next_wake`] has come.
    Woke,
    /// An effect was carried out, or not.
    Done(EffectId, Result<Done, Fault>),
    /// Something may have changed; the agent looks for itself.
    Hint(Hint),
    /// Somebody asks something on the socket.
    Asked(AskId, Ask),
    /// The agent is to end. Pods go on without it.
    Stop,
}

/// What an effect came to.
#[derive(Debug)]
pub enum Done {
    /// Of a call.
    Answer(Answer),
    /// Of reading manifests.
    Parsed(Vec<Parsed>),
    /// Of judging whether a commit is to be trusted.
    Judged(Result<Vouched, Box<Refusal>>),
    /// Of planning.
    Planned(Box<(Plan, Memory)>),
}

/// A file that was read: its path, its content's id, and what is in it.
pub type Parsed = (std::sync::Arc<str>, crate::kinds::binding::Oid, ParsedFile);

/// Something may have changed.
#[derive(Clone, Debug)]
pub enum Hint {
    /// The desired repository.
    SourceMoved,
    /// The state store.
    StoreMoved,
    /// A container.
    Runtime(RuntimeHint),
    /// Another node has said something, and signed it.
    Heard(NodeName, Word),
}

/// Which effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EffectId(pub u64);

/// Something to be carried out.
#[derive(Debug)]
pub struct Effect {
    /// Comes back with the result.
    pub id: EffectId,
    /// What.
    pub work: Work,
    /// After this it counts as failed, whether or not it still takes effect.
    pub deadline: Duration,
}

/// What is to be carried out.
#[derive(Debug)]
pub enum Work {
    /// Something in the world.
    Call(Call),
    /// Reading manifests: pure, but too long for the loop.
    Parse(Vec<FileContent>),
    /// Judging whether a commit is to be trusted, from a pin: pure, but too long for the loop.
    Vouch(Box<Lineage>, Digest),
    /// Planning: pure, but too long for the loop.
    Plan(Box<(Input, Memory)>),
    /// Answering somebody on the socket; has no result.
    Reply(AskId, Box<Reply>),
}

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// What somebody asks on the socket, beyond what [`super::picture::Picture`] answers by itself.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Look at the desired repository now, and say what came of it.
    Sync,
    /// What would change if this commit came into force?
    Diff {
        /// A branch, a tag, an id.
        commit: String,
    },
    /// Which images lie here, and why?
    Images,
    /// Take the state store as it is, under a new epoch.
    Adopt {
        /// Who says so.
        by: String,
    },
    /// Carry this out, in the name of this person.
    Request {
        /// What.
        what: RequestKind,
        /// Who.
        by: String,
    },
}

/// What the agent says to an [`Ask`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Ask::Sync`]: one line for people.
    Synced(String),
    /// To [`Ask::Diff`].
    Diff {
        /// The commit.
        commit: String,
        /// What would change.
        changes: Vec<crate::desired::Change>,
        /// What is wrong with it.
        findings: Vec<crate::kinds::finding::Finding>,
        /// Who signed it, where that counts.
        signer: Option<std::sync::Arc<Signer>>,
    },
    /// To [`Ask::Images`].
    Images(crate::view::images::Images),
    /// To [`Ask::Request`]: it will be carried out.
    Accepted,
    /// It can't be done, and why.
    Refused(String),
}
