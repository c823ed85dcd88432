//! `windlass describe`: objects, told.

use clap::Args;
use serde_json::Value;

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::talk;
use super::select::Choice;
use super::target::{self, Target};
use crate::kinds::registry::Kind;

/// More objects are not told at once: nobody reads them, and each is a question of its own.
const OBJECTS_MAX: usize = 1000;

/// Arguments of `windlass describe`.
#[derive(Args, Debug)]
pub(super) struct Describe {
    /// KIND, KIND NAME..., or KIND/NAME...; the beginning of a name is enough
    #[arg(value_name = "WORDS")]
    words: Vec<String>,
    #[command(flatten)]
    choice: Choice,
}

pub(super) async fn run(args: &Describe, context: &mut Context) -> Result<(), Failure> {
    let targets = target::parse(&args.words)?;
    let mut has_printed = false;
    let mut is_missing = false;
    for target in &targets {
        let keys = match &target.name {
            Some(name) => vec![(context.namespace.clone(), name.clone())],
            None => list(args, target, context).await?,
        };
        for (namespace, name) in keys {
            match page(target.kind, &namespace, &name, context).await {
                Ok(page) => print(&page, &mut has_printed, context)?,
                Err(failure) if failure.is_not_found() && target.name.is_some() => {
                    if !begun(target.kind, &name, &mut has_printed, context).await? {
                        failure.say();
                        is_missing = true;
                    }
                }
                // It went between the list and the question.
                Err(failure) if failure.is_not_found() => {}
                Err(failure) => return Err(failure),
            }
        }
    }
    if is_missing {
        return Err(Failure::Code(1));
    }
    if !has_printed {
        if args.choice.all_namespaces || !targets.iter().any(|target| target.kind.info().namespaced)
        {
            talk("No resources found\n");
        } else {
            talk(&format!("No resources found in {} namespace.\n", context.namespace));
        }
    }
    Ok(())
}

/// What the agent tells of an object.
pub(super) async fn page(
    kind: Kind,
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<String, Failure> {
    let namespace = if kind.info().namespaced { namespace } else { "" };
    let parameters = [("kind", kind.name()), ("namespace", namespace), ("name", name)];
    context.client.text(&with_query("/windlass/v1/describe", &parameters)).await
}

fn print(page: &str, has_printed: &mut bool, context: &mut Context) -> Result<(), Failure> {
    if std::mem::replace(has_printed, true) {
        context.out.text("\n\n")?;
    }
    context.out.page(page)
}

/// Tells the objects whose names begin so. Whether there are any is the answer.
async fn begun(
    kind: Kind,
    start: &str,
    has_printed: &mut bool,
    context: &mut Context,
) -> Result<bool, Failure> {
    let path = target::collection(kind, Some(&context.namespace));
    let list = context.client.json(&path, client::JSON).await?;
    let mut keys = keys(&list);
    keys.retain(|(_, name)| name.starts_with(start));
    for (namespace, name) in &keys {
        let page = page(kind, namespace, name, context).await?;
        print(&page, has_printed, context)?;
    }
    Ok(!keys.is_empty())
}

async fn list(
    args: &Describe,
    target: &Target,
    context: &Context,
) -> Result<Vec<(String, String)>, Failure> {
    let choice = &args.choice;
    let path = target.path(choice.namespace(&context.namespace));
    let parameters =
        [("labelSelector", &*choice.selector), ("fieldSelector", &*choice.field_selector)];
    let list = context.client.json(&with_query(&path, &parameters), client::JSON).await?;
    let keys = keys(&list);
    if keys.len() > OBJECTS_MAX {
        return Err(Failure::hinted(
            format!("{} objects are too many to describe", keys.len()),
            "choose some with -l, or use windlass get",
        ));
    }
    Ok(keys)
}

/// Namespaces and names of a list's items.
fn keys(list: &Value) -> Vec<(String, String)> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    let text = |item: &Value, path: &str| {
        item.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    items.map(|item| (text(item, "/metadata/namespace"), text(item, "/metadata/name"))).collect()
}
