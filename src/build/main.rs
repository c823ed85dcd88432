//! What is made before the program is compiled, and carried inside it.

mod pause;
mod shapes;

use std::env;
use std::path::PathBuf;

fn main() -> Result<(), String> {
    let out = variable("OUT_DIR").map(PathBuf::from)?;
    shapes::make(&out)?;
    let program = out.join("pause");
    pause::make(&program)?;
    // Cargo reads these lines from standard output; there is no other way to say them.
    #[allow(clippy::print_stdout)]
    for line in [
        "cargo::rerun-if-changed=src/build".to_owned(),
        "cargo::rerun-if-changed=src/adapters/docker/pause/main.rs".to_owned(),
        format!("cargo::rustc-env=WINDLASS_PAUSE={}", program.display()),
    ] {
        println!("{line}");
    }
    Ok(())
}

/// A variable that Cargo sets for build scripts.
fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo has not set {name}"))
}
