//! All tests with real parts, in one binary: it is linked once.

mod net;
mod support;
