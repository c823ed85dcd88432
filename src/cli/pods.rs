//! Which pod, and which container of it, a person means when he wants to read a log or to go in.

use serde_json::Value;

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::talk;
use super::target::{self, Target};
use crate::kinds::registry::Kind;

/// The container that kubectl takes where several could be meant.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A pod's name.
pub(super) fn name(pod: &Value) -> &str {
    pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The object that a word means: a pod where it names no kind.
pub(super) async fn named(word: &str, context: &Context) -> Result<(Kind, Value), Failure> {
    let words = [word.to_owned()];
    let (kind, name) = target::parse_one(&words, Some(Kind::Pod))?;
    let target = Target { kind, name: Some(name) };
    let path = target.path(Some(&context.namespace));
    Ok((kind, context.client.json(&path, client::JSON).await?))
}

/// The pods a word means: a pod, or those of `deploy/web`, the likeliest first.
pub(super) async fn of(word: &str, context: &Context) -> Result<Vec<Value>, Failure> {
    let (kind, object) = named(word, context).await?;
    behind(kind, object, context).await
}

/// The pods of an object, at least one, the likeliest first; a pod's is itself.
pub(super) async fn behind(
    kind: Kind,
    object: Value,
    context: &Context,
) -> Result<Vec<Value>, Failure> {
    if kind == Kind::Pod {
        return Ok(vec![object]);
    }
    let name = self::name(&object);
    let Some(selector) = object.pointer("/spec/selector").and_then(selector) else {
        return Err(Failure::usage(format!("a {kind} has no pods; name a pod, or deploy/NAME")));
    };
    let mut pods = selected(&selector, context).await?;
    if pods.is_empty() {
        return Err(Failure::hinted(
            format!("{} has no pods now", resource(kind, name)),
            format!("windlass why {}", resource(kind, name)),
        ));
    }
    pods.sort_by_key(|pod| (!is_ready(pod), !is_running(pod), self::name(pod).to_owned()));
    Ok(pods)
}

fn resource(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.info().singular)
}

/// The first of the pods a word means. If there are others, it is said which one was taken.
pub(super) async fn one_of(word: &str, context: &Context) -> Result<Value, Failure> {
    Ok(likeliest(of(word, context).await?))
}

/// The first of these pods, of which there is one. If there are others, it is said which one was taken.
pub(super) fn likeliest(mut pods: Vec<Value>) -> Value {
    if pods.len() > 1 {
        talk(&format!("Found {} pods, using pod/{}\n", pods.len(), name(&pods[0])));
    }
    pods.swap_remove(0)
}

/// The pods that a selector chooses.
pub(super) async fn selected(selector: &str, context: &Context) -> Result<Vec<Value>, Failure> {
    let path = target::collection(Kind::Pod, Some(&context.namespace));
    let path = with_query(&path, &[("labelSelector", selector)]);
    let mut list = context.client.json(&path, client::JSON).await?;
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(pods)) => Ok(pods),
        _ => Ok(Vec::new()),
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn is_running(pod: &Value) -> bool {
    pod.pointer("/status/phase").is_some_and(|phase| phase == "Running")
}

/// An object's selector as `-l` writes it; none if it chooses nothing.
fn selector(selector: &Value) -> Option<String> {
    let selector = selector.as_object()?;
    let is_full = selector.contains_key("matchLabels") || selector.contains_key("matchExpressions");
    let labels = if is_full { selector.get("matchLabels")?.as_object() } else { Some(selector) };
    let labels = labels.into_iter().flatten();
    let mut parts: Vec<String> =
        labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = expression.get("key")?.as_str()?;
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match expression.get("operator")?.as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// The names of a pod's containers, those that run first first.
pub(super) fn containers(pod: &Value) -> Vec<String> {
    ["/spec/initContainers", "/spec/containers"]
        .into_iter()
        .flat_map(|path| names(pod, path))
        .collect()
}

fn names(pod: &Value, path: &str) -> Vec<String> {
    let containers = pod.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let names = containers.filter_map(|container| container.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

/// The container that is meant if none is named. If there are others, it is said which one was taken.
pub(super) fn default_container(pod: &Value) -> String {
    let names = names(pod, "/spec/containers");
    let annotations = pod.pointer("/metadata/annotations");
    let chosen = annotations.and_then(|all| all.get(DEFAULT_CONTAINER)).and_then(Value::as_str);
    let chosen = chosen.filter(|chosen| names.iter().any(|name| name == chosen));
    let taken = chosen.or(names.first().map(String::as_str)).unwrap_or_default().to_owned();
    let all = containers(pod);
    if chosen.is_none() && all.len() > 1 {
        let listed: Vec<String> = all
            .iter()
            .map(|name| if names.contains(name) { name.clone() } else { format!("{name} (init)") })
            .collect();
        talk(&format!("Defaulted container \"{taken}\" out of: {}\n", listed.join(", ")));
    }
    taken
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_written_as_they_are_typed() {
        let table = [
            (json!({"matchLabels": {"app": "web"}}), Some("app=web")),
            (json!({"app": "web", "tier": "front"}), Some("app=web,tier=front")),
            (
                json!({"matchLabels": {"a": "b"}, "matchExpressions": [
                    {"key": "c", "operator": "In", "values": ["d", "e"]},
                    {"key": "f", "operator": "DoesNotExist"},
                ]}),
                Some("a=b,c in (d,e),!f"),
            ),
            (json!({}), None),
            (json!(null), None),
        ];
        for (json, text) in table {
            assert_eq!(selector(&json).as_deref(), text, "{json}");
        }
    }
}
