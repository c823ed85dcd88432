//! Every test with real parts, in one program: it is linked once.

#![allow(clippy::print_stdout)] // What is left out and what was measured is for people.

mod docker;
mod examples;
mod git;
mod invariants;
mod net;
mod probe;
mod support;
mod view;
