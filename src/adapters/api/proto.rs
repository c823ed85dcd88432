//! Questions in Kubernetes' protobuf: kubectl asks `auth can-i` in no other form, and does not ask again
//! in JSON. Only what these questions are made of is read: messages of texts, some deep.
//!
//! ```text
//!   "k8s\0" Unknown{ 2: raw }     k8s.io/apimachinery/pkg/runtime/generated.proto
//!   raw = Review{ 2: spec }       k8s.io/api/authorization/v1/generated.proto
//! ```

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::adapters::protobuf;

const MAGIC: &[u8] = b"k8s\0";

/// Whether a body is such a question.
pub(super) fn is_one(body: &Bytes) -> bool {
    body.starts_with(MAGIC)
}

/// Fields of `ResourceAttributes` and of `NonResourceAttributes`, by their numbers from 1.
const OF_RESOURCES: [&str; 7] =
    ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
const OF_PATHS: [&str; 2] = ["path", "verb"];

/// A review as JSON would have it; nothing if it is damaged. What it has in field 1 of its `spec` is
/// a text where it asks for rules, and a message where it asks for one right.
pub(super) fn review(body: &Bytes) -> Option<Value> {
    let unknown = fields(body.strip_prefix(MAGIC)?)?;
    let type_meta = fields(last(&unknown, 1).unwrap_or_default())?;
    let kind = std::str::from_utf8(last(&type_meta, 2).unwrap_or_default()).ok()?;
    let raw = fields(last(&unknown, 2).unwrap_or_default())?;
    let spec = fields(last(&raw, 2).unwrap_or_default())?;
    Some(match kind {
        "SelfSubjectAccessReview" => {
            let mut asked = Map::new();
            for (number, name, texts) in [
                (1, "resourceAttributes", &OF_RESOURCES[..]),
                (2, "nonResourceAttributes", &OF_PATHS),
            ] {
                if let Some(message) = last(&spec, number) {
                    asked.insert(name.to_owned(), attributes(message, texts)?);
                }
            }
            json!({"spec": asked})
        }
        "SelfSubjectRulesReview" => {
            let namespace = std::str::from_utf8(last(&spec, 1).unwrap_or_default()).ok()?;
            json!({"spec": {"namespace": namespace}})
        }
        _ => Value::Null,
    })
}

fn attributes(message: &[u8], names: &[&str]) -> Option<Value> {
    let mut found = Map::new();
    for (number, value) in fields(message)? {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        if let Some(name) = names.get(at) {
            let text = std::str::from_utf8(value).ok()?;
            if !text.is_empty() {
                found.insert((*name).to_owned(), text.into());
            }
        }
    }
    Some(found.into())
}

fn last<'a>(fields: &[(u64, &'a [u8])], number: u64) -> Option<&'a [u8]> {
    fields.iter().rev().find(|(own, _)| *own == number).map(|(_, value)| *value)
}

/// A message's fields that have a length; numbers are passed over.
fn fields(message: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    for field in protobuf::fields(message) {
        let (number, value) = field?;
        found.extend(value.bytes().map(|bytes| (number, bytes)));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).expect("short");
        [&[number << 3 | 2, length], value].concat()
    }

    fn question(kind: &str, spec: &[u8]) -> Bytes {
        let meta = [field(1, b"authorization.k8s.io/v1"), field(2, kind.as_bytes())].concat();
        let raw = [field(1, &[]), field(2, spec), field(3, &[8, 0])].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, &raw), field(3, &[]), field(4, &[])]
            .concat()
            .into()
    }

    #[test]
    fn a_question_is_read_as_json_would_have_it() {
        let of = [field(1, b"shop"), field(2, b"create"), field(5, b"pods"), field(6, b"exec")];
        let asked = review(&question("SelfSubjectAccessReview", &field(1, &of.concat())));
        let want = json!({"namespace": "shop", "verb": "create", "resource": "pods", "subresource": "exec"});
        assert_eq!(asked, Some(json!({"spec": {"resourceAttributes": want}})));
        let of = [field(1, b"/healthz"), field(2, b"get")].concat();
        let asked = review(&question("SelfSubjectAccessReview", &field(2, &of)));
        let want = json!({"path": "/healthz", "verb": "get"});
        assert_eq!(asked, Some(json!({"spec": {"nonResourceAttributes": want}})));
        let asked = review(&question("SelfSubjectRulesReview", &field(1, b"shop")));
        assert_eq!(asked, Some(json!({"spec": {"namespace": "shop"}})));
    }

    #[test]
    fn no_cut_and_no_flipped_bit_brings_the_reader_down() {
        let of = [field(1, b"shop"), field(2, b"create"), field(5, b"pods")].concat();
        let whole = question("SelfSubjectAccessReview", &field(1, &of));
        for at in MAGIC.len()..whole.len() {
            let _ = review(&whole.slice(..at));
            for bit in 0..8 {
                let mut changed = whole.to_vec();
                changed[at] ^= 1 << bit;
                let _ = review(&changed.into());
            }
        }
        assert_eq!(
            review(&Bytes::from_static(b"k8s\0\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01")),
            None
        );
    }
}
