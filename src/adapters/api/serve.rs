//! One request: which door it leads to, and who answers behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as channel};

use super::ask::Parameters;
use super::backend::Backend;
use super::reply::{self, Answer, No};
use super::route::{self, Part, Route};
use super::{
    container, discovery, forward, log, metrics, openapi, own, read, requests, review, talk,
    tunnel, watch, write,
};
use crate::adapters::clock;
use crate::kinds::object::Key;
use crate::kinds::registry::{KUBERNETES, Kind};
use crate::view::cache::{Cache, Version};
use crate::view::picture::Picture;

/// The longest body of a request: nothing that is handed in here is long.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take to send it.
const BODY_WAIT_MAX: Duration = Duration::from_secs(30);
/// So often what nobody asks for any more is sought.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// How much is served at once, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections; a dozen people with k9s need a hundred.
    pub connections: usize,
    /// Of these, watches, logs that are followed, and sessions. The rest is kept for short
    /// questions, so that somebody can still ask what is going on.
    pub streams: usize,
    /// How long a client may take nothing of what is sent to it. People read logs through pagers,
    /// so it is minutes; nothing is buffered for them meanwhile.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, streams: 192, stall: Duration::from_secs(600) }
    }
}

/// Who is at the other end: a user of this machine, where that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(pub(super) Option<u32>);

impl Caller {
    /// The user's name.
    pub(super) fn name(self) -> String {
        let Some(uid) = self.0 else {
            return "somebody".to_owned();
        };
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
        user.ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
    }
}

/// Everything that answers are made from.
pub struct Api {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) pictures: channel::Receiver<Arc<Picture>>,
    /// As people are told it: `/srv/shop.git, branch main`.
    pub(super) repository: String,
    pub(super) limits: Limits,
    cache: Mutex<Cache>,
    streams: Arc<Semaphore>,
}

impl Api {
    /// An API that shows `pictures`. `repository` names the desired repository to people, without
    /// what opens it. `first` must be higher than any version an earlier life may have given.
    pub fn new(
        backend: Arc<dyn Backend>,
        pictures: channel::Receiver<Arc<Picture>>,
        repository: &str,
        first: Version,
        limits: Limits,
    ) -> Arc<Self> {
        let picture = pictures.borrow().clone();
        Arc::new(Self {
            backend,
            pictures,
            repository: repository.to_owned(),
            limits,
            cache: Mutex::new(Cache::new(picture, first)),
            streams: Arc::new(Semaphore::new(limits.streams)),
        })
    }

    /// The newest picture.
    pub(super) fn picture(&self) -> Arc<Picture> {
        self.pictures.borrow().clone()
    }

    /// Draws something from the newest picture: on a thread of its own, since a fleet's pods take
    /// tens of milliseconds.
    pub(super) async fn draw<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut Cache) -> T + Send + 'static,
    ) -> Result<T, No> {
        let api = self.clone();
        let drawn = tokio::task::spawn_blocking(move || look(&mut api.cache()));
        drawn.await.map_err(|_| No::defect())
    }

    /// Gives back, every now and then, the memory of what nobody asks for any more. Never ends.
    pub(super) async fn keep_small(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let tidied = self.draw(|cache| cache.tidy(clock::now().elapsed));
            // Nothing hangs on it.
            let _ = tidied.await;
        }
    }

    /// A panic loses the kind that was being drawn; the next who asks for it has it made anew.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = self.picture();
        if !Arc::ptr_eq(cache.picture(), &picture) {
            cache.take(picture);
        }
        cache
    }

    /// A place among those who stay.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, No> {
        self.streams
            .clone()
            .try_acquire_owned()
            .map_err(|_| No::busy("too many watches, logs and sessions at once; try again later"))
    }
}

/// Answers a request, one way or another.
pub(super) async fn answer(api: Arc<Api>, caller: Caller, request: Request<Incoming>) -> Answer {
    dispatch(&api, caller, request).await.unwrap_or_else(Into::into)
}

async fn dispatch(
    api: &Arc<Api>,
    caller: Caller,
    mut request: Request<Incoming>,
) -> Result<Answer, No> {
    // Before anything is answered, whatever that is: a client that is still sending when the line
    // closes does not hear why. What has no body, a line to be upgraded too, does not wait here.
    let body = body(request.body_mut()).await?;
    let route = route::parse(request.uri().path()).ok_or_else(No::path)?;
    let asked = Parameters::parse(request.uri().query());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    // To answer as if nobody had asked for it would be to answer for somebody else.
    if request.headers().contains_key("impersonate-user") {
        return Err(No::forbidden("impersonation (--as) is not done here".to_owned()));
    }
    match route {
        Route::Own(door) => {
            own::answer(api, caller, door, &asked, request.method(), request.headers()).await
        }
        Route::Object { key, part: part @ (Part::Exec | Part::Attach | Part::PortForward) }
            if key.kind == Kind::Pod =>
        {
            // kubectl says the same by GET and, on a refusal, once more by POST.
            match container::elsewhere(&api.picture(), &key) {
                Some(node) => forward::session(api, caller, &node, request).await,
                None if part == Part::PortForward => {
                    tunnel::tunnel(api, &key, &asked, request).await
                }
                None => talk::talk(api, &key, part, &asked, request).await,
            }
        }
        Route::Object { key, part: Part::Log } if key.kind == Kind::Pod && is_read => {
            match container::elsewhere(&api.picture(), &key) {
                Some(node) => forward::log(api, caller, &node, &asked, &request).await,
                None => log::log(api, &key, &asked).await,
            }
        }
        _ if !is_read => handed_in(api, caller, route, &asked, request.method(), &body).await,
        Route::Collection { kind, namespace } if asked.is_true("watch") => {
            watch::watch(api, kind, namespace, &asked, request.headers()).await
        }
        Route::Collection { kind, namespace } => {
            read::list(api, kind, namespace, &asked, request.headers()).await
        }
        Route::Object { key, part } => object(api, key, part, &asked, request.headers()).await,
        Route::Review(_) => Err(No::method()),
        Route::Metrics => metrics::metrics(api).await,
        Route::Version => Ok(version(api)),
        Route::Health { ready } => health(api, ready),
        Route::CoreVersions => discovery::core(request.headers()),
        Route::Groups => discovery::groups(request.headers()),
        Route::Group(name) => Ok(discovery::group(name)),
        Route::Resources(group) => Ok(discovery::resources(group)),
        Route::OpenApiIndex => Ok(openapi::index(&api.picture().version)),
        Route::OpenApi(group) => openapi(group).await,
        Route::OpenApiV2 => Err(No::path()),
    }
}

async fn openapi(group: route::Group) -> Result<Answer, No> {
    let made = tokio::task::spawn_blocking(move || openapi::group(group));
    made.await.map_err(|_| No::defect())
}

async fn object(
    api: &Arc<Api>,
    key: Key,
    part: Part,
    asked: &Parameters,
    headers: &HeaderMap,
) -> Result<Answer, No> {
    match part {
        Part::Whole | Part::Status => read::object(api, key, asked, headers).await,
        Part::Scale => read::scale(api, key).await,
        _ => Err(No::path()),
    }
}

/// What is not read: a pod's end, a question with a body, and all that is not done this way.
async fn handed_in(
    api: &Arc<Api>,
    caller: Caller,
    route: Route,
    asked: &Parameters,
    method: &Method,
    body: &Bytes,
) -> Result<Answer, No> {
    match route {
        Route::Object { key, part: Part::Whole }
            if key.kind == Kind::Pod && *method == Method::DELETE =>
        {
            write::delete_pod(api, caller, key, asked, body).await
        }
        Route::Object { key, part: Part::Whole }
            if requests::is_node(&key) && *method == Method::PATCH =>
        {
            requests::patch_node(api, caller, key, asked, body).await
        }
        Route::Object { key, part: Part::Whole }
            if requests::is_node(&key) && *method == Method::DELETE =>
        {
            requests::delete_node(api, caller, key, asked, body).await
        }
        Route::Object { key, part: Part::Eviction }
            if key.kind == Kind::Pod && *method == Method::POST =>
        {
            requests::evict(api, caller, key, asked, body).await
        }
        Route::Review(review) if *method == Method::POST => {
            review::answer(caller, review, body).await
        }
        Route::Object { key, .. } => Err(write::refuse(api, method, &key)),
        Route::Collection { kind, .. } if *method == Method::POST => {
            Err(write::refuse_kind(api, kind))
        }
        _ => Err(No::method()),
    }
}

/// The whole body, which must be short and come soon.
async fn body(sent: &mut Incoming) -> Result<Bytes, No> {
    let limited = Limited::new(sent, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_WAIT_MAX, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(No::too_large(BODY_BYTES_MAX))
        }
        Ok(Err(error)) => Err(No::bad(format!("the body can't be read: {error}"))),
        Err(_) => Err(No::timeout("the body did not come in time")),
    }
}

fn version(api: &Api) -> Answer {
    let (major, minor) = KUBERNETES;
    let own = &api.picture().version;
    reply::json(&json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0+windlass-{own}"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", arch()),
    }))
}

/// As Go names it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Alive is who answers; ready is who has read the state store.
fn health(api: &Api, ready: bool) -> Result<Answer, No> {
    if ready && !api.picture().is_known {
        return Err(No::not_ready("the state store has not been read yet"));
    }
    Ok(reply::text("ok"))
}
