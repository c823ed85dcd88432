//! What other nodes ask of this one's images: which it has, and their blobs.
//!
//! ```text
//!   GET /windlass/v1/images?name=…            it has that image, and these are its blobs; or 404
//!   GET /windlass/v1/images?name=…&prepare=1  the same, made ready first: out of Docker, if need be
//!   GET /windlass/v1/blobs/sha256:…           one of them
//!   GET /windlass/v1/blobs/                   all blobs in its store
//!   GET /windlass/v1/blobs                    on this machine's socket: those in other nodes' stores
//!   POST /windlass/v1/blobs?digest=…&bytes=…  on this machine's socket: fetch it from another node
//! ```

use std::sync::Arc;

use hyper::Uri;
use hyper::header::CONTENT_LENGTH;
use serde_json::json;

use super::ask::Parameters;
use super::reply::{self, Answer, No};
use super::serve::Api;
use crate::adapters::images::Images;
use crate::kinds::digest::Digest;
use crate::kinds::image::Reference;
use crate::kinds::name::NodeName;

/// Where images are asked for.
pub(crate) const IMAGES: &str = "/windlass/v1/images";
/// Where their blobs are.
pub(crate) const BLOBS: &str = "/windlass/v1/blobs/";

/// Answers a question about images; none if it is another.
pub(super) async fn answer(
    api: &Arc<Api>,
    node: &NodeName,
    uri: &Uri,
) -> Option<Result<Answer, No>> {
    let path = uri.path();
    if path != IMAGES && !path.starts_with(BLOBS) {
        return None;
    }
    let Some(images) = api.backend.images() else {
        return Some(Err(No::path()));
    };
    Some(match path.strip_prefix(BLOBS) {
        Some("") => images.blobs().map_err(No::from).and_then(|blobs| text(&blobs)),
        Some(digest) => blob(images, digest).await,
        None => image(images, node, &Parameters::parse(uri.query())).await,
    })
}

/// What the stores of other nodes have: a base for the next bundle.
pub(super) async fn elsewhere(api: &Arc<Api>) -> Result<Answer, No> {
    let Some(images) = api.backend.images() else { return Err(No::path()) };
    text(&images.blobs_elsewhere().await)
}

fn text(value: &impl serde::Serialize) -> Result<Answer, No> {
    serde_json::to_string(value).map(reply::json_text).map_err(|_| No::defect())
}

/// Has a blob brought from another node: a bundle builds on it.
pub(super) async fn gather(api: &Arc<Api>, asked: &Parameters) -> Result<Answer, No> {
    let Some(images) = api.backend.images() else { return Err(No::path()) };
    let digest = asked.get("digest").and_then(Digest::parse);
    let digest = digest.ok_or_else(|| No::bad("digest: is none"))?;
    let bytes: Option<u64> = asked.get("bytes").and_then(|text| text.parse().ok());
    let bytes = bytes.ok_or_else(|| No::bad("bytes: is no number"))?;
    images.gather(digest, bytes).await?;
    Ok(reply::json(&json!({"message": format!("{digest} is here")})))
}

async fn image(images: &Images, node: &NodeName, asked: &Parameters) -> Result<Answer, No> {
    let name = asked.get("name").ok_or_else(|| No::bad("name: is missing"))?;
    let name = Reference::parse(name).map_err(No::bad)?;
    let prepare = asked.is_true("prepare");
    if prepare {
        tracing::info!(%node, image = %name, "another node fetches an image");
    }
    let offer = images.offer(&name, prepare).await?;
    text(&offer)
}

async fn blob(images: &Images, digest: &str) -> Result<Answer, No> {
    let digest = Digest::parse(digest).ok_or_else(|| No::bad("that is no digest"))?;
    let (bytes, pieces) = images.send(&digest).await?;
    let mut answer = reply::stream("application/octet-stream", pieces);
    answer.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    Ok(answer)
}
