//! Every test with real parts, in one program: it is linked once.

#![allow(clippy::print_stdout)] // What is left out and what was measured is for people.

mod api;
mod charts;
mod cli;
mod docker;
mod docs;
mod e2e;
mod examples;
mod git;
mod hooks;
mod invariants;
mod net;
mod probe;
mod support;
mod view;
