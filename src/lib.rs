//! Windlass: ordinary Kubernetes manifests on plain Docker hosts, straight from Git.
pub mod desired;
pub mod kinds;
pub mod ports;
