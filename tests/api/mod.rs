//! The API over a real socket: what it shows is the simulation's, what asks is a plain client, and
//! kubectl where the machine has one.

pub(crate) mod kubectl;
mod peer;
mod plain;
mod server;
mod talk;
pub(crate) mod tunnel;
