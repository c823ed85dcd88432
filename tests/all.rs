//! Every test with real parts, in one program: it is linked once.

mod git;
mod net;
mod support;
mod view;
