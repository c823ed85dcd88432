//! `windlass completion`: a script for the shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::fault::Failure;
use super::out::Out;

/// Arguments of `windlass completion`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  windlass completion bash > /etc/bash_completion.d/windlass
  windlass completion zsh > \"${fpath[1]}/_windlass\"
  windlass completion fish > ~/.config/fish/completions/windlass.fish")]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Completion, out: &mut Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "windlass", &mut script);
    out.bytes(&script)
}
