//! Our own doors, below `/windlass/v1/`: JSON for programs, text for people.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use hyper::{HeaderMap, Method};
use serde_json::{Value, json};

use super::ask::{self, Form, Parameters};
use super::reply::{self, Answer, No};
use super::route::Own;
use super::serve::{Api, Caller};
use super::{larder, requests};
use crate::agent::event::{Ask, Reply};
use crate::desired::{Change, Difference};
use crate::kinds::finding::Finding;
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::ports::store::Decision;
use crate::view::picture::Picture;
use crate::view::{describe, status, why};

/// How long the agent may take to answer: a fetch may take two minutes, and so may reading what came.
const ANSWER_MAX: Duration = Duration::from_secs(300);
/// Decisions told where nobody says how many, and at most.
const HISTORY_DEFAULT: usize = 50;
const HISTORY_MAX: usize = 1000;
/// The namespace of who names none.
const NAMESPACE: &str = "default";

/// Answers at one of our doors.
pub(super) async fn answer(
    api: &Arc<Api>,
    caller: Caller,
    door: Own,
    asked: &Parameters,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Answer, No> {
    let is_allowed = match door {
        Own::Blobs => matches!(*method, Method::GET | Method::POST),
        Own::Sync | Own::Drain | Own::Fence | Own::Adopt | Own::App => *method == Method::POST,
        _ => matches!(*method, Method::GET | Method::HEAD),
    };
    if !is_allowed {
        return Err(No::method());
    }
    let is_text = ask::form(headers)? == Form::Text;
    match door {
        Own::Status => {
            let status = draw(api, |picture| Ok(status::status(picture))).await?;
            either(is_text, &status, status::Status::text)
        }
        Own::Why => {
            let key = key(asked)?;
            let why =
                draw(api, move |picture| why::why(picture, &key).ok_or_else(|| No::object(&key)));
            either(is_text, &why.await?, why::Why::text)
        }
        Own::Describe => {
            let key = key(asked)?;
            let page = draw(api, move |picture| {
                describe::describe(picture, &key).ok_or_else(|| No::object(&key))
            });
            Ok(reply::text(page.await?))
        }
        Own::Sync => {
            let Reply::Synced(line) = ask(api, Ask::Sync).await? else {
                return Err(No::defect());
            };
            if is_text {
                return Ok(reply::text(format!("{line}\n")));
            }
            Ok(reply::json(&json!({"message": line})))
        }
        Own::Drain => requests::drain(api, caller, asked).await,
        Own::Fence => requests::fence(api, caller, asked).await,
        Own::App => requests::app(api, caller, asked).await,
        Own::Adopt => requests::adopt(api, caller).await,
        Own::Blobs if *method == Method::POST => larder::gather(api, asked).await,
        Own::Blobs => larder::elsewhere(api).await,
        Own::Diff => diff(api, asked, is_text).await,
        Own::History => history(api, asked, is_text).await,
        Own::Images => {
            let Reply::Images(images) = ask(api, Ask::Images).await? else {
                return Err(No::defect());
            };
            either(is_text, &images, |images| images.text(asked.is_true("wide")))
        }
    }
}

/// Draws from the newest picture without the cache: nobody watches these.
async fn draw<T: Send + 'static>(
    api: &Arc<Api>,
    look: impl FnOnce(&Picture) -> Result<T, No> + Send + 'static,
) -> Result<T, No> {
    let picture = api.picture();
    tokio::task::spawn_blocking(move || look(&picture)).await.map_err(|_| No::defect())?
}

fn either<T: serde::Serialize>(
    is_text: bool,
    value: &T,
    text: impl Fn(&T) -> String,
) -> Result<Answer, No> {
    if is_text {
        return Ok(reply::text(text(value)));
    }
    serde_json::to_string(value).map(reply::json_text).map_err(|_| No::defect())
}

/// Which object is meant.
fn key(asked: &Parameters) -> Result<Key, No> {
    let kind = asked.get("kind").ok_or_else(|| No::bad("kind: is missing"))?;
    let kind = Kind::parse_resource(kind)
        .ok_or_else(|| No::bad(format!("kind: there is no kind '{kind}'")))?;
    let name = asked.get("name").ok_or_else(|| No::bad("name: is missing"))?;
    let namespace = asked.get("namespace").unwrap_or(NAMESPACE);
    let namespace = kind.info().namespaced.then(|| Name::trusted(namespace));
    Ok(Key { kind, namespace, name: Name::trusted(name) })
}

/// Puts a question to the agent.
pub(super) async fn ask(api: &Arc<Api>, ask: Ask) -> Result<Reply, No> {
    match tokio::time::timeout(ANSWER_MAX, api.backend.ask(ask)).await {
        Ok(Ok(Reply::Refused(why))) => Err(No::conflict(why)),
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(fault)) => Err(fault.into()),
        Err(_) => Err(No::timeout(format!("the agent has not answered within {ANSWER_MAX:?}"))),
    }
}

async fn diff(api: &Arc<Api>, asked: &Parameters, is_text: bool) -> Result<Answer, No> {
    let commit = asked.get("commit").ok_or_else(|| No::bad("commit: is missing"))?.to_owned();
    let Reply::Diff { commit, changes, findings, signer } = ask(api, Ask::Diff { commit }).await?
    else {
        return Err(No::defect());
    };
    if is_text {
        let signed = signer.map(|signer| format!("Commit {commit} is signed by {signer}.\n\n"));
        let page = diff_text(&commit, &changes, &findings);
        return Ok(reply::text(signed.unwrap_or_default() + &page));
    }
    let signer = signer.map(|signer| signer.to_string());
    Ok(reply::json(
        &json!({"commit": commit, "changes": changes, "findings": findings, "signer": signer}),
    ))
}

/// What would change, for people: `+` comes, `-` goes, `~` becomes another.
fn diff_text(commit: &str, changes: &[Change], findings: &[Finding]) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    for finding in findings {
        let _ = writeln!(page, "{finding}");
    }
    if !findings.is_empty() {
        page.push('\n');
    }
    for change in changes {
        let sign = match &change.difference {
            Difference::Added => '+',
            Difference::Removed => '-',
            Difference::Changed(_) => '~',
        };
        let _ = writeln!(page, "{sign} {}  ({})", change.key, change.place);
        let Difference::Changed(fields) = &change.difference else { continue };
        for field in fields {
            let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            let _ =
                writeln!(page, "    {}: {} -> {}", field.path, said(&field.old), said(&field.new));
        }
    }
    let count = |wanted: fn(&Difference) -> bool| {
        changes.iter().filter(|change| wanted(&change.difference)).count()
    };
    let (added, removed) = (
        count(|difference| matches!(difference, Difference::Added)),
        count(|difference| matches!(difference, Difference::Removed)),
    );
    let changed = changes.len() - added - removed;
    let _ = match changes {
        [] => writeln!(page, "Commit {commit} changes nothing of what is in force."),
        _ => writeln!(
            page,
            "\nCommit {commit} would add {added}, change {changed} and remove {removed}."
        ),
    };
    page
}

async fn history(api: &Arc<Api>, asked: &Parameters, is_text: bool) -> Result<Answer, No> {
    let limit = asked.number::<usize>("limit")?.unwrap_or(HISTORY_DEFAULT).min(HISTORY_MAX);
    let decisions = match tokio::time::timeout(ANSWER_MAX, api.backend.history(limit)).await {
        Ok(decisions) => decisions?,
        Err(_) => return Err(No::timeout("the state store has not answered in time")),
    };
    if is_text {
        return Ok(reply::text(decisions.iter().map(decision_text).collect::<String>()));
    }
    Ok(reply::json(&Value::Array(decisions.iter().map(decision_json).collect())))
}

fn decision_json(decision: &Decision) -> Value {
    json!({
        "id": decision.rev.as_str(),
        "when": decision.time.to_string(),
        "by": decision.by,
        "message": decision.why,
    })
}

/// As `git log` has it.
fn decision_text(decision: &Decision) -> String {
    let mut text = format!(
        "decision {}\nBy:   {}\nDate: {}\n\n",
        decision.rev.as_str(),
        decision.by,
        decision.time
    );
    for line in decision.why.trim_end().lines() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {line}");
    }
    text.push('\n');
    text
}
