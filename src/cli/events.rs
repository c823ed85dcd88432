//! `windlass events`: what happened, oldest first.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::get::Screen;
use super::out::talk;
use super::select::Choice;
use super::target;
use super::watch::Watch;
use crate::kinds::registry::Kind;
use crate::view::table::print::Options;

/// Arguments of `windlass events`.
#[derive(Args, Debug)]
pub(super) struct Events {
    #[command(flatten)]
    choice: Choice,
    /// Only what happened to this object
    #[arg(long = "for", value_name = "KIND/NAME")]
    about: Option<String>,
    /// Only events of these types
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Go on, and print what happens
    #[arg(short, long)]
    watch: bool,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
    /// Form of the answer; `get events` has others
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Form>,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// More columns
    Wide,
}

pub(super) async fn run(args: &Events, context: &mut Context) -> Result<(), Failure> {
    let path = path(args, context)?;
    let mut screen = Screen::table(Options {
        wide: args.output == Some(Form::Wide),
        no_headers: args.no_headers,
        with_namespace: args.choice.all_namespaces,
        ..Options::default()
    });
    loop {
        let mut table = context.client.json(&path, client::TABLE).await?;
        let since = table.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let since = since.unwrap_or_default().to_owned();
        keep(&mut table, &args.types);
        if let Some(rows) = table.get_mut("rows").and_then(Value::as_array_mut) {
            rows.sort_by_key(|row| moment(row).to_owned());
            if rows.is_empty() && !args.watch {
                say_nothing_found(args, context);
                return Ok(());
            }
        }
        screen.show(table, context, false)?;
        if !args.watch {
            return Ok(());
        }
        let client = context.client.clone();
        let mut watch = Watch::new(&client, path.clone(), client::TABLE, &since);
        while let Some(mut event) = watch.next().await? {
            // Events are forgotten by themselves; that is no news.
            if event.change != "DELETED" {
                keep(&mut event.object, &args.types);
                screen.show(event.object, context, false)?;
            }
        }
    }
}

fn path(args: &Events, context: &Context) -> Result<String, Failure> {
    let choice = &args.choice;
    let mut fields: Vec<String> = Vec::new();
    if let Some(about) = &args.about {
        let (kind, name) = target::parse_one(std::slice::from_ref(about), None)?;
        fields.push(format!("involvedObject.kind={kind},involvedObject.name={name}"));
    }
    fields.extend((!choice.field_selector.is_empty()).then(|| choice.field_selector.clone()));
    let path = target::collection(Kind::Event, choice.namespace(&context.namespace));
    let parameters = [
        ("labelSelector", &*choice.selector),
        ("fieldSelector", &fields.join(",")),
        ("includeObject", "Object"),
    ];
    Ok(with_query(&path, &parameters))
}

fn say_nothing_found(args: &Events, context: &Context) {
    if args.choice.all_namespaces {
        talk("No events found\n");
    } else {
        talk(&format!("No events found in {} namespace.\n", context.namespace));
    }
}

/// Leaves only rows of events of these types.
fn keep(table: &mut Value, types: &[String]) {
    let wanted = |row: &Value| {
        let own = row.pointer("/object/type").and_then(Value::as_str).unwrap_or_default();
        types.is_empty() || types.iter().any(|wanted| wanted.eq_ignore_ascii_case(own))
    };
    if let Some(rows) = table.get_mut("rows").and_then(Value::as_array_mut) {
        rows.retain(wanted);
    }
}

/// When an event happened last. RFC 3339 in one zone sorts as text.
fn moment(row: &Value) -> &str {
    let text = |path| row.pointer(path).and_then(Value::as_str);
    text("/object/lastTimestamp")
        .or_else(|| text("/object/eventTime"))
        .or_else(|| text("/object/metadata/creationTimestamp"))
        .unwrap_or_default()
}
