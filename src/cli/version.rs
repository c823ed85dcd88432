//! `windlass version`: of this program, and of the agent.

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::client;
use super::fault::Failure;
use super::out::Data;

/// Arguments of `windlass version`.
#[derive(Args, Debug)]
pub(super) struct Version {
    /// Don't ask the agent
    #[arg(long)]
    client: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

pub(super) async fn run(args: &Version, context: &mut Context) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let agent =
        if args.client { None } else { Some(context.client.json("/version", client::JSON).await) };
    if let Some(form) = args.output {
        let agent = agent.transpose()?.unwrap_or_default();
        return context.out.data(form, &json!({"program": own, "agent": agent}));
    }
    context.out.text(&format!("Program: {own}\n"))?;
    match agent {
        None => Ok(()),
        Some(Ok(agent)) => {
            let version = agent.get("gitVersion").and_then(Value::as_str).unwrap_or("unknown");
            context.out.text(&format!("Agent:   {version}\n"))
        }
        // The program's own version has been told; nobody can say that the agent's has.
        Some(Err(failure)) => Err(failure),
    }
}
