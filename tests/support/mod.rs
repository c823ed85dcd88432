//! What the tests stand on: hosts of their own, and images for them.

pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod pods;
pub(crate) mod proxy;
pub(crate) mod registry;
