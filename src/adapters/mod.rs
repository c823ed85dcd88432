//! The real world: what the ports ask for, done.
//!
//! An adapter does input and output and decides nothing. Floor 4: imports `kinds` and `ports`.

pub mod git;
