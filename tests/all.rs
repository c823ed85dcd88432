//! All tests that need more than a function: one binary, linked once.

mod docker;
mod probe;
mod support;
