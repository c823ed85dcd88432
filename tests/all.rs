//! Every integration test, in one program: it is linked once.

mod git;
mod support;
