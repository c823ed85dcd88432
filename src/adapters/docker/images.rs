//! Having an image on this node: look, and fetch what is missing.
//!
//! Two pods that ask for the same image with the same credentials share one pull. It goes on when
//! whoever asked has stopped waiting, so the next to ask finds it further on. A pull that makes no
//! progress is given up; one that does may take as long as the line is slow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use hyper::header::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;

use super::progress::{Layers, Line};
use super::{Docker, fault};
use crate::kinds::image::{DEFAULT_DOMAIN, ImageName, LEGACY_DOMAIN, Reference, Version};
use crate::ports::credentials::fitting;
use crate::ports::runtime::{
    Credentials, ImageSeen, ImageWish, Pull, PullProgress, Pulls, REASON_IMAGE_NAME,
    REASON_NEVER_PULL, REASON_PULL,
};
use crate::ports::{Fault, FaultKind};

/// A pull without a sign of progress for so long is given up. kubelet on Docker waited one minute;
/// unpacking a large layer onto a slow disk can take that.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// Pulls under way at once; Docker itself fetches three layers of each.
const PULLS_AT_ONCE_MAX: usize = 4;
/// How often it is shown how far a pull has come: Docker tells ten times a second, of each layer.
const SHOWN_EVERY: Duration = Duration::from_millis(250);
/// How often a pull's progress is told in the log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Pulls under way.
pub(super) struct Flights {
    flights: Mutex<Vec<Flight>>,
    at_once: tokio::sync::Semaphore,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            flights: Mutex::new(Vec::new()),
            at_once: tokio::sync::Semaphore::new(PULLS_AT_ONCE_MAX),
        }
    }
}

struct Flight {
    image: Reference,
    credentials: Vec<Credentials>,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<ImageSeen, Fault>;

impl Flights {
    fn all(&self) -> MutexGuard<'_, Vec<Flight>> {
        // Every change leaves the list whole, so a panic elsewhere spoils nothing.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Docker {
    /// Pulls under way, and how far they have come.
    pub fn pulls(&self) -> watch::Receiver<Pulls> {
        self.inner.progress.subscribe()
    }

    /// Has an image on this node.
    pub(crate) async fn ensure_image(&self, wish: ImageWish) -> Outcome {
        let name = ImageName::parse(&wish.image).map_err(|why| {
            Fault::stalled(format!("{REASON_IMAGE_NAME}: image {:?}: {why}", wish.image))
        })?;
        let reference = match (&name, wish.pull) {
            (ImageName::Reference(reference), Pull::Always) => reference,
            (ImageName::Id(_), Pull::Always) | (_, Pull::Missing | Pull::Never) => {
                if let Some(seen) = self.find_image(&name).await? {
                    return Ok(seen);
                }
                match (&name, wish.pull) {
                    (ImageName::Reference(reference), Pull::Missing) => reference,
                    (ImageName::Id(_), Pull::Missing | Pull::Always) => {
                        return Err(Fault::not_found(format!(
                            "{REASON_PULL}: image {name} is not on this node, and no registry can \
                             be asked for an id"
                        )));
                    }
                    _ => {
                        return Err(Fault::not_found(format!(
                            "{REASON_NEVER_PULL}: image {:?} is not on this node, and its pull \
                             policy is Never",
                            wish.image
                        )));
                    }
                }
            }
        };
        self.share_pull(reference, &wish.credentials).await
    }

    /// An image that is here already.
    pub(crate) async fn find_image(&self, name: &ImageName) -> Result<Option<ImageSeen>, Fault> {
        let (text, reference) = match name {
            ImageName::Id(id) => (id.clone(), None),
            ImageName::Reference(reference) => (reference.to_string(), Some(reference)),
        };
        if let Some(found) = self.inspect_image(&text).await? {
            return Ok(Some(seen(found, reference)));
        }
        let Some(Version::Digest(digest)) = reference.map(|reference| &reference.version) else {
            return Ok(None);
        };
        let Some(id) = self.mapped(digest).await else {
            return Ok(None);
        };
        let found = self.inspect_image(&id).await?;
        Ok(found.map(|found| ImageSeen { digest: text, ..seen(found, None) }))
    }

    pub(super) async fn inspect_image(&self, name: &str) -> Result<Option<ImageInspect>, Fault> {
        let client = self.client().await?;
        match client.inspect_image(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if fault::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.fault(&error).while_doing("looking for an image")),
        }
    }

    /// The id that our own map has for a digest.
    async fn mapped(&self, digest: &str) -> Option<String> {
        let path = self.inner.options.digest_map.as_deref()?;
        let map = read_json::<BTreeMap<String, String>>(path).await?;
        map.get(digest).cloned()
    }

    async fn share_pull(&self, image: &Reference, credentials: &[Credentials]) -> Outcome {
        let mut outcome = self.board_flight(image, credentials);
        let landed = outcome.wait_for(Option::is_some).await;
        match landed.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => {
                Err(Fault::transient(format!("{REASON_PULL}: the pull of {image} was broken off")))
            }
        }
    }

    /// The pull of that image under way, or a new one.
    fn board_flight(
        &self,
        image: &Reference,
        credentials: &[Credentials],
    ) -> watch::Receiver<Option<Outcome>> {
        let mut flights = self.inner.flights.all();
        flights.retain(|flight| flight.outcome.has_changed().is_ok());
        let same = |flight: &&Flight| flight.image == *image && flight.credentials == credentials;
        if let Some(flight) = flights.iter().find(same) {
            return flight.outcome.clone();
        }
        let (landing, outcome) = watch::channel(None);
        let (docker, image, credentials) = (self.clone(), image.clone(), credentials.to_vec());
        flights.push(Flight {
            image: image.clone(),
            credentials: credentials.clone(),
            outcome: outcome.clone(),
        });
        tokio::spawn(async move {
            let outcome = docker.pull(&image, &credentials).await;
            docker
                .inner
                .flights
                .all()
                .retain(|flight| flight.image != image || flight.credentials != credentials);
            landing.send_replace(Some(outcome));
        });
        outcome
    }

    async fn pull(&self, image: &Reference, credentials: &[Credentials]) -> Outcome {
        let line = self.inner.progress.line(&image.to_string());
        let Ok(_turn) = self.inner.flights.at_once.acquire().await else {
            return Err(Fault::transient("Docker is being left"));
        };
        let began = Instant::now();
        tracing::info!(%image, "pulling");
        let mut all = credentials.to_vec();
        all.extend(self.node_credentials().await);
        let mut tries: Vec<Option<&Credentials>> =
            fitting(&all, image).into_iter().map(Some).collect();
        if tries.is_empty() {
            tries.push(None);
        }
        let mut last = Err(Fault::transient("nothing was tried"));
        for credentials in tries {
            last = self.pull_with(image, credentials, &line).await;
            // Other credentials help only against a refusal.
            if !matches!(&last, Err(fault) if fault.kind == FaultKind::Stalled) {
                break;
            }
        }
        if let Err(fault) = last {
            tracing::warn!(%image, %fault, "pull failed");
            return Err(Fault {
                kind: fault.kind,
                message: format!("{REASON_PULL}: {}", fault.message),
            });
        }
        let found = self.inspect_image(&image.to_string()).await?;
        let Some(found) = found else {
            return Err(Fault::transient(format!(
                "{REASON_PULL}: {image} was pulled and is not there"
            )));
        };
        let took = began.elapsed();
        tracing::info!(%image, took_ms = took.as_millis(), "pulled");
        Ok(ImageSeen { pulled: Some(took), ..seen(found, Some(image)) })
    }

    /// The node's own `config.json`, read at each pull: an operator may have logged in since.
    async fn node_credentials(&self) -> Vec<Credentials> {
        let Some(path) = self.inner.options.registry_config.as_deref() else {
            return Vec::new();
        };
        let Ok(json) = tokio::fs::read(path).await else {
            return Vec::new();
        };
        Credentials::from_docker_config(&json).unwrap_or_else(|why| {
            tracing::warn!(path = %path.display(), why, "the node's registry credentials can't be read");
            Vec::new()
        })
    }

    async fn pull_with(
        &self,
        image: &Reference,
        credentials: Option<&Credentials>,
        line: &Line,
    ) -> Result<(), Fault> {
        let client = self.client().await?;
        let options = CreateImageOptions {
            from_image: Some(image.repository()),
            tag: Some(image.version_text().to_owned()),
            ..CreateImageOptions::default()
        };
        let credentials = credentials.map(|one| DockerCredentials {
            username: Some(one.username.clone()),
            password: Some(one.password.clone()),
            serveraddress: Some(server_address(image)),
            ..DockerCredentials::default()
        });
        let mut messages = std::pin::pin!(client.create_image(Some(options), None, credentials));
        line.write(PullProgress::default());
        let mut layers = Layers::default();
        let mut told = Instant::now();
        let mut shown = told;
        loop {
            let message = match tokio::time::timeout(SILENCE_MAX, messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(_) => {
                    return Err(Fault::transient(format!(
                        "the registry has sent nothing for {} s",
                        SILENCE_MAX.as_secs()
                    )));
                }
            };
            layers.take(&message.map_err(|error| self.pull_fault(&error))?);
            let progress = layers.sum();
            if shown.elapsed() >= SHOWN_EVERY {
                shown = Instant::now();
                line.write(progress);
            }
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                tracing::info!(
                    %image,
                    percent = progress.percent(),
                    bytes_done = progress.bytes_done,
                    bytes_total = progress.bytes_total,
                    "pulling"
                );
            }
        }
    }

    fn pull_fault(&self, error: &bollard::errors::Error) -> Fault {
        let text = match error {
            bollard::errors::Error::DockerResponseServerError { message, .. } => message,
            bollard::errors::Error::DockerStreamError { error } => error,
            _ => return self.fault(error),
        };
        Fault { kind: pull_fault_kind(text), message: fault::plain(text).to_owned() }
    }
}

/// Docker tells why a pull failed in words only.
fn pull_fault_kind(text: &str) -> FaultKind {
    const STALLED: [&str; 12] = [
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "access denied",
        "denied:",
        "forbidden",
        "invalid reference",
        "no matching manifest",
        "no space left",
        "server gave HTTP response to HTTPS client",
        "x509:",
        "incorrect username or password",
    ];
    const NOT_FOUND: [&str; 4] =
        ["manifest unknown", "name unknown", "repository name not known", "not found"];
    let text = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(&word.to_lowercase()));
    if says(&STALLED) {
        FaultKind::Stalled
    } else if says(&NOT_FOUND) {
        FaultKind::NotFound
    } else {
        FaultKind::Transient
    }
}

/// What Docker calls the registry in credentials.
fn server_address(image: &Reference) -> String {
    if image.domain == DEFAULT_DOMAIN {
        format!("https://{LEGACY_DOMAIN}/v1/")
    } else {
        image.domain.clone()
    }
}

/// bollard writes credentials in the wrong base64 alphabet (`+/` where Docker reads `-_`), and
/// Docker takes what it can't read for no credentials at all: a password with the wrong letters
/// would be refused without a word why.
pub(super) fn spell_credentials<B>(mut request: hyper::Request<B>) -> hyper::Request<B> {
    const HEADER: &str = "X-Registry-Auth";
    let spelled = request.headers().get(HEADER).and_then(|value| {
        let text = value.to_str().ok()?.replace('+', "-").replace('/', "_");
        HeaderValue::from_str(&text).ok()
    });
    if let Some(mut value) = spelled {
        value.set_sensitive(true);
        request.headers_mut().insert(HEADER, value);
    }
    request
}

pub(super) fn seen(found: ImageInspect, asked: Option<&Reference>) -> ImageSeen {
    let digests = found.repo_digests.unwrap_or_default();
    let of_repository = asked.and_then(|reference| {
        let prefix = format!("{}@", reference.familiar_repository());
        let wanted = match &reference.version {
            Version::Digest(digest) => format!("{prefix}{digest}"),
            Version::Tag(_) => prefix,
        };
        digests.iter().find(|digest| digest.starts_with(&wanted))
    });
    let digest = of_repository.or(digests.first()).cloned();
    let config = found.config.unwrap_or_default();
    let is_given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    ImageSeen {
        id: found.id.unwrap_or_default(),
        digest: digest.unwrap_or_default(),
        has_command: is_given(&config.entrypoint) || is_given(&config.cmd),
        user: config.user.unwrap_or_default(),
        pulled: None,
        bytes: found.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
    }
}

/// A JSON file that may be absent; one that can't be read is said in the log.
async fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = tokio::fs::read(path).await.ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "can't be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pull_faults_are_sorted_by_who_must_act() {
        use FaultKind::{NotFound, Stalled, Transient};
        let table = [
            ("manifest for r:5000/x:no not found: manifest unknown: manifest unknown", NotFound),
            ("name unknown: repository name not known to registry", NotFound),
            (
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Stalled,
            ),
            ("unauthorized: authentication required", Stalled),
            ("Get \"https://r/v2/\": unauthorized: incorrect username or password", Stalled),
            ("Get \"https://r:5000/v2/x/manifests/1\": no basic auth credentials", Stalled),
            (
                "Get \"https://r:5000/v2/\": http: server gave HTTP response to HTTPS client",
                Stalled,
            ),
            ("no matching manifest for linux/amd64 in the manifest list entries", Stalled),
            ("write /var/lib/docker/tmp/x: no space left on device", Stalled),
            (
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                Transient,
            ),
            ("Get \"https://r/v2/\": dial tcp: lookup r: no such host", Transient),
            ("net/http: TLS handshake timeout", Transient),
            ("received unexpected HTTP status: 503 Service Unavailable", Transient),
            ("toomanyrequests: You have reached your pull rate limit", Transient),
        ];
        for (text, kind) in table {
            assert_eq!(pull_fault_kind(text), kind, "{text}");
        }
    }

    #[test]
    fn credentials_are_spelled_as_docker_reads_them() {
        let request = hyper::Request::get("/")
            .header("X-Registry-Auth", "a+b/c=")
            .body(())
            .expect("a request");
        let spelled = spell_credentials(request);
        assert_eq!(spelled.headers()["X-Registry-Auth"], "a-b_c=");
    }

    #[test]
    fn an_image_is_seen_with_the_digest_of_the_repository_asked() {
        let found = || -> ImageInspect {
            serde_json::from_value(json!({
                "Id": "sha256:1", "Size": 7,
                "RepoDigests": ["other@sha256:2", "r.example/app@sha256:3", "busybox@sha256:4"],
                "Config": {"User": "1000", "Cmd": ["sh"]},
            }))
            .expect("is Docker's")
        };
        for (asked, digest) in [
            ("r.example/app:1", "r.example/app@sha256:3"),
            ("busybox", "busybox@sha256:4"),
            ("nowhere", "other@sha256:2"),
        ] {
            let asked = Reference::parse(asked).expect(asked);
            let image = seen(found(), Some(&asked));
            assert_eq!(image.digest, digest);
            assert_eq!((&*image.user, image.has_command, image.bytes), ("1000", true, 7));
        }
    }
}
