//! The adapters for Docker, for the files pods read and for probes, on a real Docker.

mod files;
mod images;
mod larder;
mod measure;
mod pods;
mod processes;
mod streams;
mod watch;
