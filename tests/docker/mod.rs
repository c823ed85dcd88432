//! The adapters for Docker, for the files pods read and for probes, on a real Docker.

mod measure;
mod pods;
