//! Questions about rights, as `kubectl auth can-i` and `whoami` ask them.
//!
//! The notice at the counter that says what is done here: whoever gets to the counter is served with
//! all of it, so the answer to "may I?" is the answer to "is it done here?". One table answers both
//! the single question and the list; a test holds it against the doors themselves.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::reply::{self, Answer, No};
use super::route::{self, Review};
use super::serve::Caller;
use super::{proto, write};
use crate::kinds::registry::KINDS;

/// Groups, resources and the verbs on them, as in a Role.
type Rule = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// All that can be done.
const RULES: [Rule; 7] = [
    (&["*"], &["*"], &READING),
    (&[""], &["pods"], &["delete"]),
    (&[""], &["pods/eviction"], &["create"]),
    (&[""], &["pods/attach", "pods/exec", "pods/portforward"], &["create", "get"]),
    (&[""], &["nodes"], &["delete", "patch"]),
    (&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
    (
        &["authorization.k8s.io"],
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        &["create"],
    ),
];

const READING: [&str; 3] = ["get", "list", "watch"];

/// Answers a question.
pub(super) async fn answer(caller: Caller, review: Review, body: &Bytes) -> Result<Answer, No> {
    let asked = match proto::is_one(body) {
        true => proto::review(body).ok_or_else(|| No::bad("the body is damaged".to_owned()))?,
        false => write::read_json(body)?,
    };
    let spec = &asked["spec"];
    let (group, kind, status) = match review {
        Review::Access => {
            let (allowed, reason) = match (
                &spec["resourceAttributes"],
                &spec["nonResourceAttributes"],
            ) {
                (Value::Object(of), _) => may(of),
                (_, Value::Object(of)) => may_path(of),
                _ => {
                    let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                    return Err(No::bad(message.to_owned()));
                }
            };
            let status = json!({"allowed": allowed, "reason": reason});
            ("authorization.k8s.io/v1", "SelfSubjectAccessReview", status)
        }
        Review::Rules => ("authorization.k8s.io/v1", "SelfSubjectRulesReview", rules()),
        Review::Subject => {
            let name = tokio::task::spawn_blocking(move || caller.name());
            let name = name.await.map_err(|_| No::defect())?;
            let status = json!({"userInfo": {"username": name}});
            ("authentication.k8s.io/v1", "SelfSubjectReview", status)
        }
    };
    let mut answer =
        json!({"kind": kind, "apiVersion": group, "metadata": {"creationTimestamp": null}});
    if !spec.is_null() {
        answer["spec"] = spec.clone();
    }
    answer["status"] = status;
    Ok(reply::json_with(hyper::StatusCode::CREATED, &answer))
}

fn rules() -> Value {
    let rule = |(groups, resources, verbs): &Rule| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    json!({
        "resourceRules": RULES.iter().map(rule).collect::<Vec<_>>(),
        "nonResourceRules": [{"nonResourceURLs": ["*"], "verbs": ["get"]}],
        "incomplete": false,
    })
}

/// Whether something can be done, and why not.
fn may(attributes: &Map<String, Value>) -> (bool, String) {
    let text = |name: &str| attributes.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, verb, part) = (text("group"), text("verb"), text("subresource"));
    let mut resource = text("resource").to_owned();
    if !is_served(group, &resource) {
        let dot = if group.is_empty() { "" } else { "." };
        return (false, format!("there are no {resource}{dot}{group} here"));
    }
    if !part.is_empty() {
        let _ = write!(resource, "/{part}");
    }
    let is_in = |words: &[&str], word: &str| words.iter().any(|one| *one == "*" || *one == word);
    let allows = |(groups, resources, verbs): &Rule| {
        is_in(groups, group) && is_in(resources, &resource) && is_in(verbs, verb)
    };
    match RULES.iter().any(allows) {
        true => (true, String::new()),
        false => (false, "what should run is written in the desired repository".to_owned()),
    }
}

/// Whether there are objects, or questions, of this name; `*` is all of them.
fn is_served(group: &str, resource: &str) -> bool {
    let is = |own: &str, asked: &str| asked == "*" || own == asked;
    let mut kinds = KINDS.iter();
    resource == "*"
        || kinds.any(|info| is(info.group, group) && info.plural == resource)
        || route::REVIEW_GROUPS
            .iter()
            .any(|own| is(own.name, group) && resource.starts_with("selfsubject"))
}

fn may_path(attributes: &Map<String, Value>) -> (bool, String) {
    let is_get = attributes.get("verb").and_then(Value::as_str) == Some("get");
    (is_get, if is_get { String::new() } else { "paths are read only".to_owned() })
}
