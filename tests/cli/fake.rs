//! An agent to talk to: a socket that answers from the simulation's picture. It keeps to the paths and
//! forms of the agent's API and decides nothing; what it can't know (logs, exec, diff) is made up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use windlass::kinds::labels::Selector;
use windlass::kinds::name::Name;
use windlass::kinds::object::Key;
use windlass::kinds::registry::Kind;
use windlass::sim::World;
use windlass::view::cache::{Cache, Item};
use windlass::view::select::{FieldSelector, Query};
use windlass::view::{describe, objects, status, table, why};

use crate::support::fleet;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Response<Body>;

/// One simulated second of a watch.
const TICK: Duration = Duration::from_millis(15);

/// A socket that is answered until this is dropped.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    /// Begins to answer. `prepare` makes the world, on the thread that answers.
    pub(crate) fn start(prepare: fn() -> World) -> Self {
        let dir = crate::support::scratch("wdl-cli-");
        let socket = dir.path().join("agent.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let desk = Rc::new(RefCell::new(Desk::new(prepare())));
                let listener = tokio::net::UnixListener::bind(&socket).expect("binds");
                ready.send(()).expect("is awaited");
                tokio::select! {
                    () = serve(listener, desk) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the fake agent answers");
        Self { dir, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Desk {
    world: World,
    cache: Cache,
    /// Pods that were deleted, and how often they will still be seen.
    dying: BTreeMap<String, u32>,
}

impl Desk {
    fn new(world: World) -> Self {
        let cache = Cache::new(fleet::picture(&world), 100);
        Self { world, cache, dying: BTreeMap::new() }
    }

    fn tick(&mut self) {
        let until = self.world.time.as_secs() + 1;
        fleet::run(&mut self.world, until);
        self.cache.take(fleet::picture(&self.world));
    }
}

type Shared = Rc<RefCell<Desk>>;

async fn serve(listener: tokio::net::UnixListener, desk: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let desk = Rc::clone(&desk);
        let service = service_fn(move |request| {
            let desk = Rc::clone(&desk);
            async move { Ok::<_, Infallible>(answer(request, &desk)) }
        });
        tokio::task::spawn_local(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A client that hangs up has had enough.
            let _ = connection.with_upgrades().await;
        });
    }
}

/// A request, taken apart.
struct Asked {
    parameters: Vec<(String, String)>,
    accept: String,
}

impl Asked {
    fn get(&self, name: &str) -> &str {
        let mut found = self.parameters.iter().filter(|(key, _)| key == name);
        found.next().map_or("", |(_, value)| value.as_str())
    }

    fn is(&self, name: &str) -> bool {
        self.get(name) == "true"
    }

    fn wants_text(&self) -> bool {
        self.accept.starts_with("text/plain")
    }

    fn wants_table(&self) -> bool {
        self.accept.contains("as=Table")
    }
}

fn full(code: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *answer.status_mut() = code;
    answer
}

#[allow(clippy::needless_pass_by_value)] // It reads better where it is called.
fn ok(body: impl ToString) -> Answer {
    full(StatusCode::OK, body.to_string())
}

fn no(code: StatusCode, reason: &str, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16(),
    });
    full(code, status.to_string())
}

fn missing(kind: Kind, name: &str) -> Answer {
    let info = kind.info();
    let group = if info.group.is_empty() { String::new() } else { format!(".{}", info.group) };
    let message = format!("{}{group} \"{name}\" not found", info.plural);
    no(StatusCode::NOT_FOUND, "NotFound", &message)
}

fn answer(mut request: Request<Incoming>, desk: &Shared) -> Answer {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let accept = request.headers().get("accept").and_then(|value| value.to_str().ok());
    let asked = Asked {
        parameters: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        accept: accept.unwrap_or_default().to_owned(),
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => ok(json!({"gitVersion": "v0.0.0-windlass"})),
        ["windlass", "v1", own] => own_door(own, request.method(), &asked, &mut desk.borrow_mut()),
        ["api", "v1", rest @ ..] => objects_door(&mut request, "", rest, &asked, desk),
        ["apis", group, _, rest @ ..] => objects_door(&mut request, group, rest, &asked, desk),
        _ => no(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        ),
    }
}

fn own_door(own: &str, method: &Method, asked: &Asked, desk: &mut Desk) -> Answer {
    let picture = fleet::picture(&desk.world);
    let either = |text: String, json: Value| if asked.wants_text() { ok(text) } else { ok(json) };
    match own {
        "status" => {
            let status = status::status(&picture);
            either(status.text(), serde_json::to_value(&status).expect("prints"))
        }
        "sync" if method == Method::POST => {
            either("1a2b3c4 is in force\n".into(), json!({"message": "1a2b3c4 is in force"}))
        }
        "diff" => {
            let commit = asked.get("commit");
            if commit == "nothing" {
                return no(StatusCode::NOT_FOUND, "NotFound", "no commit is called nothing");
            }
            either(
                format!("{commit} would change 1 object\n~ Deployment shop/web\n"),
                json!({"commit": commit, "changes": [{"key": "Deployment shop/web"}], "findings": []}),
            )
        }
        "images" => {
            let machine = &desk.world.machines[&Name::trusted(fleet::NODE)];
            let images = machine.agent().expect("the agent runs").images().expect("has looked");
            either(images.text(asked.is("wide")), serde_json::to_value(&images).expect("prints"))
        }
        "history" => either(
            format!("the last {} decisions\n", asked.get("limit")),
            json!([{"id": "1a2b3c4", "message": "shop: the beginning"}]),
        ),
        "describe" | "why" => {
            let kinds = windlass::kinds::registry::KINDS.iter();
            let found = kinds.into_iter().find(|info| info.name == asked.get("kind"));
            let kind = found.expect("a kind").kind;
            let namespace = Some(asked.get("namespace")).filter(|name| !name.is_empty());
            let key = Key {
                kind,
                namespace: namespace.map(Name::trusted),
                name: Name::trusted(asked.get("name")),
            };
            if own == "describe" {
                return describe::describe(&picture, &key)
                    .map_or_else(|| missing(kind, asked.get("name")), ok);
            }
            why::why(&picture, &key).map_or_else(
                || missing(kind, asked.get("name")),
                |why| either(why.text(), serde_json::to_value(&why).expect("prints")),
            )
        }
        _ => no(StatusCode::NOT_FOUND, "NotFound", "no such page"),
    }
}

fn objects_door(
    request: &mut Request<Incoming>,
    group: &str,
    rest: &[&str],
    asked: &Asked,
    desk: &Shared,
) -> Answer {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let Some(kind) = rest.first().and_then(|plural| Kind::from_plural(group, plural)) else {
        return no(StatusCode::NOT_FOUND, "NotFound", "no such resource");
    };
    match rest {
        [_] if asked.is("watch") => watch(kind, namespace, asked, desk),
        [_] => list(kind, namespace, asked, &mut desk.borrow_mut()),
        [_, name, part @ ..] => {
            let key =
                Key { kind, namespace: namespace.map(Name::trusted), name: Name::trusted(name) };
            match part {
                [] if request.method() == Method::DELETE => delete(&key, &mut desk.borrow_mut()),
                [] => object(&key, asked, &mut desk.borrow_mut()),
                ["log"] => log(name, asked),
                ["exec"] => exec(request, asked),
                _ => missing(kind, name),
            }
        }
        [] => missing(kind, ""),
    }
}

fn query(kind: Kind, namespace: Option<&str>, asked: &Asked) -> Result<Query, String> {
    Ok(Query {
        namespace: namespace.map(Name::trusted),
        labels: Selector::parse(asked.get("labelSelector"))?,
        fields: FieldSelector::parse(kind, asked.get("fieldSelector"))?,
    })
}

fn as_table(kind: Kind, objects: &[Value], version: &str, asked: &Asked, desk: &Desk) -> Value {
    let now = desk.cache.picture().now.wall;
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let shown = if asked.get("includeObject") == "Object" {
                object.clone()
            } else {
                json!({"kind": "PartialObjectMetadata", "metadata": object["metadata"]})
            };
            json!({"cells": table::cells(kind, object, now), "object": shown})
        })
        .collect();
    let columns: Vec<Value> = table::columns(kind).iter().map(table::column_json).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn list(kind: Kind, namespace: Option<&str>, asked: &Asked, desk: &mut Desk) -> Answer {
    let query = match query(kind, namespace, asked) {
        Ok(query) => query,
        Err(complaint) => return no(StatusCode::BAD_REQUEST, "BadRequest", &complaint),
    };
    let listing = desk.cache.list(kind);
    let version = listing.version.to_string();
    let wanted = listing.items.iter().filter(|item| query.wants(item));
    let items: Vec<Value> = wanted.map(Item::value).collect();
    if asked.wants_table() {
        return ok(as_table(kind, &items, &version, asked, desk));
    }
    ok(json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": items}))
}

fn object(key: &Key, asked: &Asked, desk: &mut Desk) -> Answer {
    let Some(item) = desk.cache.find(key) else {
        return missing(key.kind, key.name.as_str());
    };
    let mut json = item.value();
    let uid = json.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    if let Some(left) = desk.dying.get_mut(uid) {
        if *left == 0 {
            return missing(key.kind, key.name.as_str());
        }
        *left -= 1;
    }
    if asked.wants_table() {
        return ok(as_table(key.kind, &[json], &item.version.to_string(), asked, desk));
    }
    objects::reveal(desk.cache.picture(), key, &mut json);
    ok(json)
}

fn delete(key: &Key, desk: &mut Desk) -> Answer {
    if key.kind != Kind::Pod {
        let message = format!("{key} is written in the repository; delete it there");
        return no(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let Some(item) = desk.cache.find(key) else {
        return missing(key.kind, key.name.as_str());
    };
    let value = item.value();
    let uid = value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    desk.dying.insert(uid.to_owned(), 2);
    ok(json!({"kind": "Status", "status": "Success", "details": {"uid": uid}}))
}

/// An answer that goes on, and the way to go on with it.
fn stream() -> (mpsc::Sender<String>, Answer) {
    let (sender, receiver) = mpsc::channel::<String>(10);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let text = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from(text))), receiver))
    });
    (sender, Response::new(StreamBody::new(frames).boxed_unsync()))
}

/// Every tick a simulated second passes.
fn watch(kind: Kind, namespace: Option<&str>, asked: &Asked, desk: &Shared) -> Answer {
    let Ok(query) = query(kind, namespace, asked) else {
        return no(StatusCode::BAD_REQUEST, "BadRequest", "no such selector");
    };
    let (sender, answer) = stream();
    let (desk, mut since) = (Rc::clone(desk), asked.get("resourceVersion").parse().unwrap_or(0));
    let asked = Asked { parameters: asked.parameters.clone(), accept: asked.accept.clone() };
    tokio::task::spawn_local(async move {
        loop {
            let (lines, is_over) = news(kind, &query, &asked, &mut since, &mut desk.borrow_mut());
            for line in lines {
                // In two pieces, as a network may have it.
                let (head, tail) = line.split_at(line.len() / 2);
                for piece in [head, tail] {
                    if sender.send(piece.to_owned()).await.is_err() {
                        return;
                    }
                }
            }
            if is_over || sender.is_closed() {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    });
    answer
}

/// A second passes; what has changed in it, as lines of a watch, and whether too much was missed.
fn news(
    kind: Kind,
    query: &Query,
    asked: &Asked,
    since: &mut u64,
    desk: &mut Desk,
) -> (Vec<String>, bool) {
    desk.tick();
    let Ok(changes) = desk.cache.since(kind, *since) else {
        let gone = json!({"kind": "Status", "code": 410, "reason": "Expired"});
        return (vec![format!("{}\n", json!({"type": "ERROR", "object": gone}))], true);
    };
    let mut lines = Vec::new();
    for change in changes {
        *since = change.version;
        let word = match (&change.before, &change.after) {
            (None, _) => "ADDED",
            (_, Some(_)) => "MODIFIED",
            (_, None) => "DELETED",
        };
        let Some(item) = change.after.or(change.before) else { continue };
        if !query.wants(&item) {
            continue;
        }
        let mut object = item.value();
        if asked.wants_table() {
            object = as_table(kind, &[object], "", asked, desk);
            object["columnDefinitions"] = Value::Null;
        }
        lines.push(format!("{}\n", json!({"type": word, "object": object})));
    }
    (lines, false)
}

fn log(pod: &str, asked: &Asked) -> Answer {
    let container = asked.get("container");
    if container == "nobody" {
        let message = format!("container nobody is not valid for pod {pod}");
        return no(StatusCode::BAD_REQUEST, "BadRequest", &message);
    }
    let life = if asked.is("previous") { "before" } else { "now" };
    let mut lines: Vec<String> =
        (1..=12).map(|line| format!("{pod}/{container} {life} {line}\n")).collect();
    if !asked.get("sinceSeconds").is_empty() {
        lines.push(format!("since {} s\n", asked.get("sinceSeconds")));
    }
    if asked.is("timestamps") {
        lines.iter_mut().for_each(|line| line.insert_str(0, "2026-01-01T00:00:00Z "));
    }
    let tail: usize = asked.get("tailLines").parse().unwrap_or(lines.len());
    let lines = lines.split_off(lines.len().saturating_sub(tail));
    if !asked.is("follow") {
        return ok(lines.concat());
    }
    let (sender, answer) = stream();
    tokio::task::spawn_local(async move {
        for line in lines {
            let _ = sender.send(line).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The last line of a container may lack its end.
        let _ = sender.send("the end".to_owned()).await;
    });
    answer
}

/// `cat` gives back what it is given, `exit N` fails, everything else is said back.
fn exec(request: &mut Request<Incoming>, asked: &Asked) -> Answer {
    if asked.get("container") == "nobody" {
        return no(StatusCode::BAD_REQUEST, "BadRequest", "container nobody is not valid for pod");
    }
    let key = request.headers().get("Sec-WebSocket-Key").expect("a WebSocket");
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(request);
    let words: Vec<String> = asked
        .parameters
        .iter()
        .filter(|(name, _)| name == "command")
        .map(|(_, word)| word.clone())
        .collect();
    let (container, is_tty) = (asked.get("container").to_owned(), asked.is("tty"));
    tokio::task::spawn_local(async move {
        let stream = TokioIo::new(upgrade.await.expect("upgrades"));
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        let mut status = json!({"status": "Success"});
        match words[0].as_str() {
            "cat" => {
                while let Some(Ok(message)) = socket.next().await {
                    let bytes = message.into_data();
                    match bytes.first() {
                        Some(0) => {
                            let echo = [&[1], &bytes[1..]].concat();
                            let _ = socket.send(Message::Binary(echo.into())).await;
                        }
                        Some(255) => break,
                        _ => {}
                    }
                }
            }
            "size" => {
                while let Some(Ok(message)) = socket.next().await {
                    let bytes = message.into_data();
                    if bytes.first() == Some(&4) {
                        let size = [b"\x01", &bytes[1..], b"\r\n"].concat();
                        let _ = socket.send(Message::Binary(size.into())).await;
                        break;
                    }
                }
            }
            "exit" => {
                status = json!({
                    "status": "Failure", "reason": "NonZeroExitCode",
                    "details": {"causes": [{"reason": "ExitCode", "message": words[1]}]},
                });
                let _ = socket.send(Message::Binary(b"\x02it went wrong\n".to_vec().into())).await;
            }
            _ => {
                let text = format!("\x01in {container}, tty {is_tty}: {}\n", words.join(" "));
                let _ = socket.send(Message::Binary(text.into_bytes().into())).await;
            }
        }
        let end = [&[3], status.to_string().as_bytes()].concat();
        let _ = socket.send(Message::Binary(end.into())).await;
        let _ = socket.close(None).await;
    });
    let mut answer = ok("");
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    for (name, value) in [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Accept", accept.as_str()),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
    ] {
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).expect("a header");
        headers.insert(name, value.parse().expect("a value"));
    }
    answer
}
