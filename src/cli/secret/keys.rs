//! `windlass secret keys`: for whom files are encrypted, and which nodes of the fleet can open them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::Context;
use crate::cli::client::JSON;
use crate::cli::config::AGE_KEYS;
use crate::cli::fault::Failure;
use crate::cli::out::{Data, talk};
use crate::cli::validate;
use crate::desired::sealed;
use crate::kinds::age::{Identity, KEY_BYTES};
use crate::view::objects::ANNOTATION_RECIPIENTS;

/// Arguments of `windlass secret keys`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Keys {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// Directory with manifests
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key of age, and print for whom to encrypt that it opens it
    Generate(Generate),
}

/// Arguments of `windlass secret keys generate`.
#[derive(Args, Debug)]
pub(super) struct Generate {
    /// File for the key; one that is there stays
    #[arg(value_name = "FILE", default_value = AGE_KEYS)]
    file: PathBuf,
}

pub(super) fn generate(args: &Generate, context: &mut Context) -> Result<(), Failure> {
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *secret)
        .map_err(|error| Failure::plain(format!("the kernel gives no random bytes: {error}")))?;
    let identity = Identity::of(secret)
        .map_err(|error| Failure::plain(format!("no key can be made: {error}")))?;
    let recipient = identity.recipient();
    let text =
        Zeroizing::new(format!("# public key: {recipient}\n{}\n", *identity.to_secret_text()));
    let fault = |error: std::io::Error| Failure::plain(format!("{}: {error}", args.file.display()));
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(&args.file).map_err(fault)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
    context.out.text(&format!("{recipient}\n"))
}

/// A file and for whom it is encrypted.
struct Row {
    file: String,
    recipients: Vec<String>,
}

pub(super) async fn show(args: &Keys, context: &mut Context) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (file, text) in validate::texts(&args.directory)? {
        // What is no file of SOPS may be as odd as it likes.
        if let Ok(Some(recipients)) = sealed::recipients(&file, &text) {
            rows.push(Row { file, recipients });
        }
    }
    let nodes = match context.client.json("/api/v1/nodes", JSON).await {
        Ok(list) => Some(by_recipient(&list)),
        Err(_) => {
            talk("no agent answers here: which nodes can open them is not known\n");
            None
        }
    };
    let of = |recipient: &String| nodes.as_ref().and_then(|nodes| nodes.get(recipient));
    if let Some(form) = args.output {
        let row = |row: &Row| {
            let opened = row.recipients.iter().map(|recipient| {
                json!({"recipient": recipient, "nodes": of(recipient).cloned().unwrap_or_default()})
            });
            json!({"file": row.file, "recipients": opened.collect::<Vec<_>>()})
        };
        return context.out.data(form, &json!(rows.iter().map(row).collect::<Vec<_>>()));
    }
    let mut text = String::new();
    for row in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", row.file);
        for recipient in &row.recipients {
            let nodes = match (of(recipient), &nodes) {
                (Some(nodes), _) => format!("  {}", nodes.join(", ")),
                (None, Some(_)) => "  no node".to_owned(),
                (None, None) => String::new(),
            };
            let _ = writeln!(text, "  {recipient}{nodes}");
        }
    }
    if rows.is_empty() {
        talk("no file here is encrypted\n");
    }
    context.out.text(&text)
}

/// Which nodes say that they open what is encrypted for whom.
fn by_recipient(list: &Value) -> BTreeMap<String, Vec<String>> {
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list["items"].as_array().into_iter().flatten() {
        let metadata = &node["metadata"];
        let said = metadata["annotations"][ANNOTATION_RECIPIENTS].as_str();
        let name = metadata["name"].as_str().unwrap_or_default();
        for recipient in said.into_iter().flat_map(|said| said.split(',')) {
            nodes.entry(recipient.to_owned()).or_default().push(name.to_owned());
        }
    }
    nodes
}
