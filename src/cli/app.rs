//! `windlass app`: how each app stands. `suspend`, `resume`: newer revisions of an app are left alone, at
//! once and beside Git.

use clap::{Args, Subcommand};

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::nodes::{ANSWER_MAX, STEP};
use super::out::talk;
use crate::adapters::clock;
use crate::view::status::{App, Status};

/// Arguments of `windlass app`.
#[derive(Args, Debug)]
pub(super) struct AppArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show how an app stands: what is in force, its waves, its canary, its windows
    Show(Named),
    /// Take no newer revision; what is in force goes on
    Suspend(Named),
    /// Take newer revisions again, also one that failed before
    Resume(Named),
}

#[derive(Args, Debug)]
struct Named {
    /// The app; the default app holds what lies in no app's directory
    #[arg(value_name = "APP", default_value = crate::kinds::binding::DEFAULT_APP)]
    app: String,
}

/// Runs the command.
pub(super) async fn run(args: &AppArgs, context: &mut Context) -> Result<(), Failure> {
    let Some(what) = &args.what else {
        let page = status(context).await?.apps_text(None);
        return context.out.page(&page);
    };
    match what {
        What::Show(Named { app }) => {
            let status = status(context).await?;
            find(&status, app)?;
            context.out.page(&status.apps_text(Some(app)))?;
        }
        What::Suspend(Named { app }) => {
            ask(app, true, context).await?;
            talk(
                "hint: this holds until somebody resumes it; to say so in Git, set suspend: true in \
                 windlass.yaml\n",
            );
        }
        What::Resume(Named { app }) => ask(app, false, context).await?,
    }
    Ok(())
}

async fn status(context: &Context) -> Result<Status, Failure> {
    let status = context.client.json("/windlass/v1/status", client::JSON).await?;
    serde_json::from_value(status)
        .map_err(|error| Failure::plain(format!("the agent's status can't be read: {error}")))
}

/// An app; an error if there is none of that name.
fn find<'s>(status: &'s Status, name: &str) -> Result<&'s App, Failure> {
    status.apps.iter().find(|app| app.name == name).ok_or_else(|| {
        let names: Vec<&str> = status.apps.iter().map(|app| app.name.as_str()).collect();
        Failure::hinted(format!("there is no app {name}"), format!("there is {}", names.join(", ")))
    })
}

/// Whether somebody has suspended the app.
async fn is_suspended(name: &str, context: &Context) -> Result<bool, Failure> {
    Ok(find(&status(context).await?, name)?.suspended_by.is_some())
}

async fn ask(name: &str, wanted: bool, context: &mut Context) -> Result<(), Failure> {
    let (verb, word) = if wanted { ("suspend", "suspended") } else { ("resume", "resumed") };
    if is_suspended(name, context).await? == wanted && wanted {
        context.out.text(&format!("app/{name} already {word}\n"))?;
        return Ok(());
    }
    let path = with_query("/windlass/v1/app", &[("name", name), ("do", verb)]);
    context.client.post(&path, client::JSON).await?;
    let until = clock::now().elapsed.since_boot() + ANSWER_MAX;
    while is_suspended(name, context).await? != wanted {
        if clock::now().elapsed.since_boot() >= until {
            return Err(Failure::hinted(
                format!("nothing has come of it within {} s", ANSWER_MAX.as_secs()),
                "it will be done as soon as somebody coordinates; windlass status says who does",
            ));
        }
        tokio::time::sleep(STEP).await;
    }
    context.out.text(&format!("app/{name} {word}\n"))
}
