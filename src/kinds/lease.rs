//! Who coordinates, and since which term.
//!
//! The lease stands in the same ref as the decisions, so a write by a deposed coordinator fails as
//! every stale write fails: no second mechanism guards it. Nothing in it is a time that another
//! machine compares with its own clock; `acquired` is for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::NodeName;
use super::time::Wall;

/// The content of `lease.json` in the coordinator's ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The node whose agent coordinates.
    pub holder: NodeName,
    /// Which life of that agent: two agents started under one name are told apart by it.
    pub incarnation: String,
    /// Raised each time another incarnation takes over.
    pub term: u64,
    /// How long others wait without seeing the ref move before they may take over, in seconds.
    pub duration_s: u32,
    /// Since when, for people.
    pub acquired: Wall,
    /// The holder has ended and needs not be waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}
