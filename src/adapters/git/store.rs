//! The state store, wherever it is: one set of verbs, two ways to do them.

use std::path::PathBuf;

use crate::kinds::name::NodeName;
use crate::ports::Fault;
use crate::ports::store::{Answer, Call};

use super::access::Credentials;
use super::place::Place;
use super::setup::{self, Timeouts};
use super::store_local::LocalStore;
use super::store_remote::RemoteStore;
use super::{durable, history};

/// Where the state store is and who uses it.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// A path of this machine, or an address of a Git server.
    pub url: String,
    /// The node whose agent this is. It writes its own register and, when it leads, the
    /// coordinator's.
    pub node: NodeName,
    /// A directory of this node's own: the fence, and a copy of a remote store.
    pub data: PathBuf,
    /// What opens a remote store.
    pub credentials: Credentials,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// How long the coordinator's history may grow, and to how many decisions it is then cut back.
    pub history: (usize, usize),
}

impl StoreConfig {
    /// A store with nothing but what it needs.
    pub fn new(url: &str, node: NodeName, data: PathBuf) -> Self {
        Self {
            url: url.to_owned(),
            node,
            data,
            credentials: Credentials::default(),
            timeouts: Timeouts::default(),
            history: (history::MAX, history::KEPT),
        }
    }
}

/// The state store.
pub enum Store {
    /// On this machine.
    Local(LocalStore),
    /// Behind a Git server.
    Remote(RemoteStore),
}

impl Store {
    /// Opens the store; one on this machine is made if nothing is there. Blocks on the disk for a
    /// moment, and asks no server.
    pub fn open(config: StoreConfig) -> Result<Self, Fault> {
        setup::prepare(&config.timeouts)?;
        durable::make_dir(&config.data, 0o700)?;
        match Place::parse(&config.url)? {
            Place::Path(path) => Ok(Self::Local(LocalStore::open(config, &path)?)),
            place @ Place::Remote(_) => Ok(Self::Remote(RemoteStore::open(config, place)?)),
        }
    }

    /// Does what is asked.
    pub async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        match self {
            Self::Local(store) => store.perform(call).await,
            Self::Remote(store) => store.perform(call).await,
        }
    }
}
