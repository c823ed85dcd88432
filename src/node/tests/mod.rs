//! The node's tests at [`super::decide`], as tables and short stories: what is done, in which order
//! and when.

mod account;
mod admit;
mod containers;
mod ends;
mod house;
mod probes;
mod properties;
mod secrets;
mod starts;

use house::{Host, seconds};
