//! All tests with real parts, in one binary: it is linked once.

#![allow(clippy::print_stdout)] // What is left out and what was measured is for people.

mod net;
mod support;
