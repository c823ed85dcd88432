//! The log: lines on standard error, as text or JSON.

use tracing_subscriber::EnvFilter;

use super::config::Log;

/// Begins to log. `WINDLASS_LOG` wins over the configured level.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_from_env("WINDLASS_LOG")
        .or_else(|_| EnvFilter::try_new(&log.level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // journald stamps each line itself.
    let is_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let done = match (log.format.as_str(), is_journal) {
        ("json", _) => lines.json().try_init(),
        (_, true) => lines.without_time().with_ansi(false).try_init(),
        (_, false) => lines.with_ansi(false).try_init(),
    };
    // Somebody began before us: a test.
    let _ = done;
}
