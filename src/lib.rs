//! Windlass: ordinary Kubernetes manifests on plain Docker hosts, straight from Git.
//!
//! A windlass hauls a ship up to the anchor it has thrown ahead: you throw the commit, the fleet
//! hauls itself to it. The rooms, in the order in which a commit walks through them:
//!
//! ```text
//! Git ──▶ desired ──▶ plan ──▶ (Git: bindings) ──▶ node ──▶ Docker
//!          findings     report                     net  ──▶ iptables, links, DNS
//! Git ◀── status ◀──────────────────────────────── agent ◀── observations
//! ```
//!
//! A room imports only from floors below its own: `kinds`, `ports` (0); `desired`, `state` (1);
//! `plan`, `node`, `net`, `view` (2); `agent` (3); `adapters` and its twin `sim` (4); `cli` (5).
//!
//! # Invariants
//!
//! What must hold whatever happens. Each sentence has a test of its name.
//!
//! - Pure rooms know no clock, disk, network, task or hash order.
//! - Plan never fails, it reports.
//! - The same input gives the same bytes.
//! - One writer per ref.
//! - An older generation changes nothing.
//! - Losing the lease or the store stops no pod.
//! - Every rule, link, container and file we own carries our mark, and we touch nothing unmarked.
//! - A tick is safe to repeat and to stop anywhere.
//! - Status is written even when all else fails.
//! - A refused commit changes nothing.
//! - Every queue, loop, wait and retry has a stated bound.

pub mod adapters;
pub mod agent;
pub mod cli;
pub mod desired;
pub mod kinds;
pub mod net;
pub mod node;
pub mod plan;
pub mod ports;
pub mod sim;
pub mod state;
pub mod view;
