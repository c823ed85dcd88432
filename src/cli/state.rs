//! `windlass state adopt`: a person says that a state store which was restored from a backup, set back,
//! or lost is to be taken as it is.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};

use super::Context;
use super::client;
use super::fault::Failure;
use super::nodes::STEP;
use super::out::talk;
use crate::adapters::clock;
use crate::view::picture::Adoptable;
use crate::view::status::Status;

/// How long it may take until the store is taken: whoever led before must have noticed, and a look may
/// be under way.
const DONE_MAX_S: u64 = 60;

/// Arguments of `windlass state`.
#[derive(Args, Debug)]
pub(super) struct State {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a restored state store as it is, and forget what was decided after the backup
    Adopt(Adopt),
}

/// Arguments of `windlass state adopt`.
#[derive(Args, Debug)]
struct Adopt {
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs `windlass state`.
pub(super) async fn run(args: &State, context: &mut Context) -> Result<(), Failure> {
    let Command::Adopt(args) = &args.command;
    let before = status(context).await?;
    if let Some(offer) = &before.adoptable {
        talk(&explanation(offer));
        if !args.yes {
            confirm(offer)?;
        }
    }
    // Whether there is anything to be taken, the agent says.
    context.client.post("/windlass/v1/adopt", client::JSON).await?;
    let epoch = before.adoptable.map_or(before.decision.epoch, |offer| offer.epoch);
    let until = clock::now().elapsed.since_boot() + std::time::Duration::from_secs(DONE_MAX_S);
    loop {
        let now = status(context).await?;
        if now.adoptable.is_none() && now.decision.epoch >= epoch {
            return context
                .out
                .text(&format!("The state store is taken as it is: decision {}.\n", now.decision));
        }
        if clock::now().elapsed.since_boot() >= until {
            return Err(Failure::hinted(
                format!("nothing has come of it within {DONE_MAX_S} s"),
                "it is done as soon as the store can be written; windlass status says what is in the way",
            ));
        }
        tokio::time::sleep(STEP).await;
    }
}

async fn status(context: &Context) -> Result<Status, Failure> {
    let json = context.client.json("/windlass/v1/status", client::JSON).await?;
    serde_json::from_value(json).map_err(Failure::plain)
}

fn explanation(offer: &Adoptable) -> String {
    let Adoptable { what, decision, newest, epoch, is_empty } = offer;
    let mut text = format!("The state store can't be followed: {what}.\n");
    // Writing to a String cannot fail.
    let _ = match is_empty {
        true => writeln!(
            text,
            "Nothing of it is left here. The fleet would begin anew, in epoch {epoch}: every pod is \
             ended and made\nanew; cluster IPs and node ports that manifests don't name may change. If \
             another node has a copy, say\nso there instead: its status does not speak of lost copies."
        ),
        false => writeln!(
            text,
            "Decision {decision} would be taken, in epoch {epoch}; the newest that anybody is known to \
             have acted on is\n{newest}. What was decided in between is forgotten: pods of that time \
             end, and others are made as the\nnewest commit says."
        ),
    };
    text
}

fn confirm(offer: &Adoptable) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::hinted(
            "nobody is there to confirm it",
            "--yes says that it is meant",
        ));
    }
    talk(&format!("Type {} to go on: ", offer.epoch));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::plain(format!("standard input can't be read: {error}")))?;
    let is_meant = answer.trim() == offer.epoch.to_string();
    if is_meant { Ok(()) } else { Err(Failure::plain("nothing was done")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::binding::Generation;

    #[test]
    fn what_would_be_lost_is_said_before() {
        let offer = Adoptable {
            what: "it was set back".into(),
            decision: Generation { epoch: 0, number: 12 },
            newest: Generation { epoch: 0, number: 20 },
            epoch: 1,
            is_empty: false,
        };
        let text = explanation(&offer);
        for words in ["it was set back", "Decision 0.12", "epoch 1", "0.20", "forgotten"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let text = explanation(&Adoptable { is_empty: true, ..offer });
        assert!(text.contains("every pod is ended"), "{text}");
    }
}
