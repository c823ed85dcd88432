//! Answers: JSON, text, streams, and Kubernetes' way to say no.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::ports::{Fault, FaultKind};

/// The body of an answer. A stream that fails ends the connection, which is how HTTP says it.
pub(super) type Body = UnsyncBoxBody<Bytes, Fault>;

/// An answer.
pub(super) type Answer = Response<Body>;

/// Pieces of a streamed answer.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of these bytes.
pub(super) fn bytes(status: StatusCode, kind: HeaderValue, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// An answer of JSON.
pub(super) fn json(value: &Value) -> Answer {
    bytes(StatusCode::OK, JSON, value.to_string())
}

/// An answer of JSON that is text already.
pub(super) fn json_text(text: impl Into<Bytes>) -> Answer {
    bytes(StatusCode::OK, JSON, text)
}

/// An answer of JSON with a status of its own.
pub(super) fn json_with(status: StatusCode, value: &Value) -> Answer {
    bytes(status, JSON, value.to_string())
}

/// An answer of JSON under another content type.
pub(super) fn typed(kind: &'static str, value: &Value) -> Answer {
    bytes(StatusCode::OK, HeaderValue::from_static(kind), value.to_string())
}

/// An answer of text.
pub(super) fn text(text: impl Into<Bytes>) -> Answer {
    bytes(StatusCode::OK, TEXT, text)
}

/// An answer that goes on.
pub(super) fn stream(kind: &'static str, pieces: Pieces) -> Answer {
    use futures_util::StreamExt as _;
    let frames = pieces.map(|piece| piece.map(Frame::data));
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Kubernetes' way to say no: a `Status` object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct No {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Value,
}

impl No {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    /// There is no such path.
    pub(super) fn path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// There is no such object.
    pub(super) fn object(key: &Key) -> Self {
        let resource = resource(key.kind);
        let message = format!("{resource} \"{}\" not found", key.name);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(key)
    }

    /// The request makes no sense.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// It is not done this way here.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// This can't be done to that.
    pub(super) fn method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// It stands in the way of something.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    /// The client wants a form of answer that there is not.
    pub(super) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// The body is in a form that can't be read here.
    pub(super) fn media_type() -> Self {
        let message = "the body of the request was in an unknown format - accepted media types include: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// What the client knows is too old to go on from.
    pub(super) fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The body is too long.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("limit is {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// Too much is going on.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// We have made a mistake.
    pub(super) fn defect() -> Self {
        let message = "a defect in Windlass: please report the panic in the agent's log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// It can't be answered now.
    pub(super) fn not_ready(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// It takes too long.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    /// Something else failed.
    pub(super) fn fault(fault: &Fault) -> Self {
        let message = fault.message.clone();
        match fault.kind {
            FaultKind::NotFound => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            FaultKind::Deadline => Self::timeout(message),
            FaultKind::Transient => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            }
            FaultKind::Stalled => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }

    /// Names the object concerned.
    #[must_use]
    pub(super) fn about(mut self, key: &Key) -> Self {
        let info = key.kind.info();
        self.details = json!({"name": key.name.as_str(), "kind": info.plural});
        if !info.group.is_empty() {
            self.details["group"] = info.group.into();
        }
        self
    }

    /// In a sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The object, as it is also sent in a watch.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

impl From<No> for Answer {
    fn from(no: No) -> Self {
        json_with(no.code, &no.status())
    }
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self::fault(&fault)
    }
}

/// As errors name a kind: `deployments.apps`, `pods`.
pub(super) fn resource(kind: Kind) -> String {
    let info = kind.info();
    match info.group {
        "" => info.plural.to_owned(),
        group => format!("{}.{group}", info.plural),
    }
}

/// Yes, done.
pub(super) fn success(key: &Key, uid: &str) -> Value {
    let info = key.kind.info();
    let mut details = json!({"name": key.name.as_str(), "kind": info.plural});
    if !info.group.is_empty() {
        details["group"] = info.group.into();
    }
    if !uid.is_empty() {
        details["uid"] = uid.into();
    }
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    })
}
