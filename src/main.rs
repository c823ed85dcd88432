//! The `windlass` program.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args()
        .nth(3)
        .map_or_else(|| windlass::cli::config::DEFAULT_PATH.into(), PathBuf::from);
    match windlass::cli::agent::run(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}
