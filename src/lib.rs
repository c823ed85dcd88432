//! Windlass: ordinary Kubernetes manifests on plain Docker hosts, straight from Git.
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
