//! Standard output, which is data, and standard error, which is talk.

use std::io::{ErrorKind, Write as _};

use clap::ValueEnum;
use serde_json::{Map, Value};

use super::fault::Failure;

/// Standard output.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Whether a YAML document has been printed, so that the next one is set off from it.
    has_document: bool,
}

/// JSON or YAML, for what has no columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Data {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

impl Out {
    /// Prints text as it is, at once.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes as they are, at once.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| written(&error))
    }

    /// Prints a page or a table. What came out of containers and commits must not steer the terminal:
    /// as kubectl does it, escapes are shown and not sent.
    pub(super) fn page(&mut self, text: &str) -> Result<(), Failure> {
        self.text(&text.replace('\x1b', "^[").replace('\r', "\\r"))
    }

    /// Prints a value; several in YAML become documents.
    pub(super) fn data(&mut self, form: Data, value: &Value) -> Result<(), Failure> {
        let text = render(form, value)?;
        if form == Data::Yaml && std::mem::replace(&mut self.has_document, true) {
            self.text("---\n")?;
        }
        self.text(&text)
    }
}

/// What a failed write to standard output means.
pub(super) fn written(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::plain(format!("standard output can't be written: {error}")),
    }
}

/// A value as text. Keys are in alphabetical order, as kubectl prints them.
fn render(form: Data, value: &Value) -> Result<String, Failure> {
    let value = sorted(value);
    match form {
        Data::Json => {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut bytes = Vec::new();
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            serde::Serialize::serialize(&value, &mut serializer).map_err(Failure::plain)?;
            bytes.push(b'\n');
            String::from_utf8(bytes).map_err(Failure::plain)
        }
        Data::Yaml => Ok(super::yaml::write(&value)),
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members = members.into_iter().map(|(name, value)| (name.clone(), sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// Says something to the person. If nobody listens, that is no reason to fail.
pub(super) fn talk(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_sorted_and_indented_as_kubectl_does_it() {
        let text = render(Data::Json, &json!({"b": [1], "a": {}})).expect("renders");
        assert_eq!(text, "{\n    \"a\": {},\n    \"b\": [\n        1\n    ]\n}\n");
    }

    #[test]
    fn yaml_means_the_same_to_a_reader_of_yaml_1_1() {
        let value =
            json!({"a": "yes", "b": "0644", "c": "on", "d": "1e3", "e": "x\ny\n", "f": "~"});
        let text = render(Data::Yaml, &value).expect("renders");
        assert_eq!(
            text,
            "a: \"yes\"\nb: \"0644\"\nc: \"on\"\nd: \"1e3\"\ne: |\n  x\n  y\nf: '~'\n"
        );
    }
}
