//! The adapter: what it writes, leaves alone, puts back and takes away.
