//! `windlass agent`: this machine's agent, until it is told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::adapters::docker::{Docker, Options};
use crate::adapters::dns::Dns;
use crate::adapters::engine::Engine;
use crate::adapters::files::Files;
use crate::adapters::git::{Source, SourceConfig, Store, StoreConfig, watch as git_watch};
use crate::adapters::iptables::Iptables;
use crate::adapters::links::Links;
use crate::adapters::notify::Notify;
use crate::adapters::probe::Prober;
use crate::adapters::world::World;
use crate::adapters::clock;
use crate::agent::Agent;
use crate::agent::event::Hint;
use crate::ports::links::{Answer as LinksAnswer, Call as LinksCall};

use super::config::{self, Loaded};

/// Hints that wait for the agent; more are dropped, because each only says "look".
const HINTS_MAX: usize = 1000;
/// Questions that wait for the agent.
const QUESTIONS_MAX: usize = 100;
/// How long the machine's addresses may take to be read at the start.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(30);
