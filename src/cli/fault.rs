//! How a command ends: what is said to the person, and with which code.

use std::fmt;
use std::process::ExitCode;

use serde_json::Value;

/// The command made no sense.
pub(super) const USAGE: u8 = 2;
/// The command made sense and failed.
const FAILED: u8 = 1;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command made no sense.
    Usage(String),
    /// It failed, and perhaps what to do about it.
    Failed {
        /// What is the matter.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// The agent said no.
    Refused(Refusal),
    /// Nobody reads any further (`| head`): that is no fault of anybody.
    Closed,
    /// Everything has been said; only the code is left.
    Code(u8),
}

/// What an API server says when it says no: a `Status` object.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) code: u16,
    /// In one word, `NotFound`.
    pub(super) reason: String,
    /// In a sentence.
    pub(super) message: String,
}

impl Refusal {
    /// Reads what came with an HTTP status that is no success.
    pub(super) fn parse(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or_default();
        let message = match text("message") {
            "" if body.is_empty() => format!("the agent answered with HTTP status {code}"),
            "" => String::from_utf8_lossy(body).trim().to_owned(),
            message => message.to_owned(),
        };
        Self { code, reason: text("reason").to_owned(), message }
    }
}

/// As kubectl says it, because scripts look for it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.as_str() {
            "" => write!(f, "Error from server: {}", self.message),
            reason => write!(f, "Error from server ({reason}): {}", self.message),
        }
    }
}

impl Failure {
    /// A failure without a hint.
    pub(super) fn plain(message: impl fmt::Display) -> Self {
        Self::Failed { message: message.to_string(), hint: None }
    }

    /// A failure with a word on what to do next.
    pub(super) fn hinted(message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self::Failed { message: message.to_string(), hint: Some(hint.to_string()) }
    }

    /// A command that makes no sense.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// Whether the agent knows no such object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == 404)
    }

    /// What is said of it.
    fn text(&self) -> String {
        match self {
            Self::Usage(message) | Self::Failed { message, hint: None } => {
                format!("error: {message}\n")
            }
            Self::Failed { message, hint: Some(hint) } => {
                format!("error: {message}\nhint: {hint}\n")
            }
            Self::Refused(refusal) => format!("{refusal}\n"),
            Self::Closed | Self::Code(_) => String::new(),
        }
    }

    /// Says it, to a person.
    pub(super) fn say(&self) {
        super::out::talk(&self.text());
    }
}

/// Says what there is to say, and gives the program's code.
pub(super) fn conclude(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    failure.say();
    match failure {
        Failure::Usage(_) => ExitCode::from(USAGE),
        Failure::Failed { .. } | Failure::Refused(_) => ExitCode::from(FAILED),
        Failure::Closed => ExitCode::SUCCESS,
        Failure::Code(code) => ExitCode::from(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_kubectl_prints_it() {
        let body = br#"{"kind":"Status","reason":"NotFound","message":"pods \"web\" not found"}"#;
        let table: [(&[u8], &str); 4] = [
            (body, "Error from server (NotFound): pods \"web\" not found"),
            (b"", "Error from server: the agent answered with HTTP status 404"),
            (b"no such page\n", "Error from server: no such page"),
            (b"[]", "Error from server: []"),
        ];
        for (body, text) in table {
            assert_eq!(Refusal::parse(404, body).to_string(), text);
        }
    }
}
