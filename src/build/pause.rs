//! Compiles the pause program (`src/adapters/docker/pause/main.rs`) for the machine we are compiled for,
//! so that the agent can carry it inside and needs no registry to start its first pod.
//!
//! Only the compiler that builds us is used; flags given for us (`RUSTFLAGS`) are not, so that the
//! same compiler always makes the same bytes, and the image made of them keeps its id.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::variable;

/// Where `number` and `_start` in the program are written.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Compiles it to the file `program`.
pub(crate) fn make(program: &Path) -> Result<(), String> {
    let (arch, os) = (variable("CARGO_CFG_TARGET_ARCH")?, variable("CARGO_CFG_TARGET_OS")?);
    if os != "linux" || !ARCHITECTURES.contains(&arch.as_str()) {
        return Err(format!(
            "windlass runs on Linux on {}, not on {os} on {arch}: the pause program \
             (src/adapters/docker/pause/main.rs) is written for these only",
            ARCHITECTURES.join(" or ")
        ));
    }
    let source =
        PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("src/adapters/docker/pause/main.rs");

    let mut compiler = Command::new(variable("RUSTC")?);
    compiler
        .args(["--edition=2024", "--crate-name=pause", "--crate-type=bin"])
        .args(["--target", &variable("TARGET")?])
        .args(["-C", "panic=abort", "-C", "opt-level=s"])
        .args(["-C", "debuginfo=0", "-C", "strip=symbols"])
        .args(["-C", "relocation-model=static", "-C", "codegen-units=1"]);
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
        "-Wl,--gc-sections",
    ] {
        compiler.args(["-C", &format!("link-arg={argument}")]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.args(["-C", &format!("linker={linker}")]);
    }
    compiler.arg("-o").arg(program).arg(&source);
    let run = compiler.output().map_err(|error| format!("can't run {compiler:?}: {error}"))?;
    if !run.status.success() {
        return Err(format!(
            "the pause program does not compile for {arch}; is this target's standard library \
             installed, and a linker for it (CARGO_TARGET_…_LINKER)?\n{}",
            String::from_utf8_lossy(&run.stderr)
        ));
    }
    Ok(())
}
