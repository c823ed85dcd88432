//! Windlass: ordinary Kubernetes manifests on plain Docker hosts, straight from Git.
pub mod adapters;
pub mod kinds;
pub mod ports;
