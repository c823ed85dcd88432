//! The process's heap: what a burst has left free goes back to the machine.
//!
//! A roll-out of hundreds of pods needs, for a few seconds, several times the memory of an agent at
//! rest. glibc keeps what is free between two things in use, so an agent stays nearly as large as in its
//! busiest moment; jemalloc fills gaps first, and a thread of its own gives back what has been free for
//! a second. With 100 pods, after some roll-outs: 10 MB where glibc, trimmed, holds 17.
//!
//! It serves libgit2 and OpenSSL as well: their buffers are the largest.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static HEAP: Jemalloc = Jemalloc;

/// Read by jemalloc before `main` (`malloc_conf` in jemalloc(3)). One arena: what another has free is of no
/// use to another.
#[allow(unsafe_code, reason = "jemalloc looks for its settings under this name")]
#[unsafe(export_name = "malloc_conf")]
static SETTINGS: &std::ffi::c_char = {
    let settings: &std::ffi::CStr =
        c"narenas:1,tcache_max:256,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true";
    // SAFETY: a literal has a first byte.
    unsafe { &*settings.as_ptr() }
};
