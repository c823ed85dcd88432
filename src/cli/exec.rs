//! `windlass exec`: a program is run in a container, and this terminal is its terminal.

use std::io::{IsTerminal as _, Read as _};

use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Context;
use super::client::{segment, with_query};
use super::fault::Failure;
use super::out::talk;
use super::pods;
use super::socket::{self, Ear, Mouth, Said};
use super::target;
use crate::kinds::registry::Kind;

/// Input goes in pieces of this length.
const PIECE: usize = 32 * 1024;

/// Arguments of `windlass exec`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  windlass exec web-0 -- ls /data
  windlass exec -it deploy/web -- sh
  tar c . | windlass exec -i web-0 -- tar x -C /data

Exits with the program's own code.")]
pub(super) struct Exec {
    /// POD, pod/NAME, or deploy/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// Container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Say nothing but what the program says
    #[arg(short, long)]
    quiet: bool,
    /// Program and its arguments, after --
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
}

pub(super) async fn run(args: &Exec, context: &mut Context) -> Result<(), Failure> {
    let mut tty = args.tty;
    if tty && !(args.stdin && std::io::stdin().is_terminal()) {
        if args.stdin {
            talk("Unable to use a TTY - input is not a terminal or the right kind of file\n");
        }
        tty &= !args.stdin;
    }
    let pod = pods::one_of(&args.pod, context).await?;
    let container = match &args.container {
        Some(container) => container.clone(),
        None => pods::default_container(&pod),
    };
    let path = path(args, tty, pods::name(&pod), &container, context);
    let (mouth, ear) = socket::open(&context.client, &path).await?;
    let status = {
        let _raw = if tty && args.stdin { Raw::enter() } else { None };
        talk_to(args.stdin, tty, mouth, ear, context).await?
    };
    conclude(&status)
}

fn path(args: &Exec, tty: bool, pod: &str, container: &str, context: &Context) -> String {
    let flag = |is_set: bool| if is_set { "true" } else { "" };
    let mut parameters: Vec<(&str, &str)> = vec![
        ("container", container),
        ("stdin", flag(args.stdin)),
        ("stdout", "true"),
        // A terminal has one output.
        ("stderr", flag(!tty)),
        ("tty", flag(tty)),
    ];
    parameters.extend(args.command.iter().map(|word| ("command", word.as_str())));
    let pods = target::collection(Kind::Pod, Some(&context.namespace));
    with_query(&format!("{pods}/{}/exec", segment(pod)), &parameters)
}

/// Carries input and output until the program ends, and returns its status.
async fn talk_to(
    stdin: bool,
    tty: bool,
    mouth: Mouth,
    mut ear: Ear,
    context: &mut Context,
) -> Result<Value, Failure> {
    // Input has a task of its own: a program that waits to be listened to must not keep us from
    // listening because we wait to be read.
    let input = tokio::spawn(speak(stdin, tty, mouth));
    let outcome = loop {
        match ear.next().await {
            Ok(Some(Said::Output(bytes))) => context.out.bytes(&bytes)?,
            Ok(Some(Said::Errors(bytes))) => {
                use std::io::Write as _;
                // If nobody listens, that is no reason to stop the program.
                let _ = std::io::stderr().lock().write_all(&bytes);
            }
            Ok(Some(Said::End(status))) => break Ok(status),
            Ok(None) => break Err(Failure::plain("the connection ended before the program did")),
            Err(failure) => break Err(failure),
        }
    };
    input.abort();
    outcome
}

/// Passes on what is typed, and the terminal's size. Keeps the mouth open to the end.
async fn speak(stdin: bool, tty: bool, mut mouth: Mouth) -> Result<(), Failure> {
    let mut sizes = if tty { signal(SignalKind::window_change()).ok() } else { None };
    if tty {
        tell_size(&mut mouth).await?;
    }
    let (sender, mut pieces) = mpsc::channel(1);
    if stdin {
        std::thread::spawn(move || listen(&sender));
    } else {
        drop(sender);
    }
    let mut is_open = stdin;
    loop {
        tokio::select! {
            piece = pieces.recv(), if is_open => match piece {
                Some(piece) => mouth.input(&piece).await?,
                None => {
                    is_open = false;
                    mouth.input_ends().await?;
                }
            },
            () = changed(&mut sizes) => tell_size(&mut mouth).await?,
        }
    }
}

/// Reads standard input for as long as somebody takes it. A thread of its own: it can't be woken.
fn listen(sender: &mpsc::Sender<Vec<u8>>) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; PIECE];
    loop {
        match stdin.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // An input that can't be read has ended.
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        }
    }
}

async fn changed(sizes: &mut Option<tokio::signal::unix::Signal>) {
    let heard = match sizes {
        Some(sizes) => sizes.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn tell_size(mouth: &mut Mouth) -> Result<(), Failure> {
    match tcgetwinsize(std::io::stdin()) {
        Ok(size) if size.ws_col > 0 => mouth.size(size.ws_col, size.ws_row).await,
        _ => Ok(()),
    }
}

/// What the program's status means for ours.
fn conclude(status: &Value) -> Result<(), Failure> {
    if status["status"] == "Success" {
        return Ok(());
    }
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    let mut codes = causes.into_iter().flatten().filter(|cause| cause["reason"] == "ExitCode");
    let code = codes.next().and_then(|cause| cause.get("message")?.as_str()?.parse::<i64>().ok());
    match code {
        Some(code) => {
            talk(&format!("command terminated with exit code {code}\n"));
            Err(Failure::Code(u8::try_from(code).unwrap_or(1).max(1)))
        }
        None => {
            let message =
                status.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            Err(Failure::plain(message))
        }
    }
}

/// A terminal that passes every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_programs_code_becomes_ours() {
        let failed = |code: &str| {
            json!({
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code}]},
            })
        };
        assert!(conclude(&json!({"status": "Success"})).is_ok());
        assert!(matches!(conclude(&failed("3")), Err(Failure::Code(3))));
        assert!(matches!(conclude(&failed("-1")), Err(Failure::Code(1))));
        let other = json!({"status": "Failure", "message": "no such container"});
        assert!(matches!(conclude(&other), Err(Failure::Failed { .. })));
    }
}
