//! What a fleet has, written down to be carried to where bundles are made.
//!
//! ```text
//!   on board   windlass bundle report ─▶ held.json ── on the stick, back to land ──┐
//!   on land    windlass bundle create --base held.json: what stands there is left out ◀┘
//! ```
//! The rule: nobody has to believe it. A report that is wrong makes a bundle that asks for what is not
//! there, and that one is refused whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Refused;
use super::apply::{Target, set_up, unreached};
use super::index::{INDEX_BYTES_MAX, form_of};
use crate::adapters::git::bundle::Landing;
use crate::adapters::images::store::Store;
use crate::kinds::digest::Digest;

/// The form of a report.
const FORMAT: &str = "windlass-held/1";

/// What a fleet has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Held {
    /// Which form it has.
    pub format: String,
    /// When it was written, by the clock of the node; for people.
    pub created: String,
    /// The branch that agents follow.
    pub branch: String,
    /// Where it stands.
    pub commit: String,
    /// The blobs in the stores of the nodes that could be asked, and their lengths.
    pub blobs: BTreeMap<Digest, u64>,
}

/// Says what is here, and what `others` have: nodes send each other what one of them lacks.
pub fn report(
    target: &Target,
    others: BTreeMap<Digest, u64>,
    created: String,
) -> Result<Held, Refused> {
    let Some(desired) = &target.desired else {
        return Err(Refused::new(
            "there is no desired repository",
            "set desired.url in agent.yaml",
        ));
    };
    let _lock = set_up(&target.workshop)?;
    let reference = format!("refs/heads/{}", desired.branch);
    let quay = target.workshop.join("quay.git");
    let landing = Landing::open(&desired.url, &reference, desired.credentials.clone(), quay);
    let there = landing.and_then(|landing| landing.look()).map_err(|fault| unreached(&fault))?;
    let Some(tip) = there.tip else {
        return Err(Refused::new(
            format!("the desired repository has no branch {}", desired.branch),
            "the first bundle is made without --base",
        ));
    };
    let store = Store::in_images(&target.images);
    let mut blobs = others;
    if store.dir().exists() {
        blobs.extend(store.blobs().map_err(|error| {
            Refused::new(format!("{}: {error}", store.dir().display()), "check that disk")
        })?);
    }
    let format = FORMAT.to_owned();
    Ok(Held { format, created, branch: desired.branch.clone(), commit: tip.to_string(), blobs })
}

/// Reads a report, and its digest; none if the file is something else.
pub(super) fn read(path: &Path) -> Result<Option<(Held, Digest)>, Refused> {
    let wrong = |why: &dyn std::fmt::Display| {
        Refused::new(
            format!("{}: {why}", path.display()),
            "name a bundle, or what `windlass bundle report` has written on a node",
        )
    };
    if !fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
        return Ok(None);
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let mut file = file.take(INDEX_BYTES_MAX + 1);
    // A bundle begins with the name of its first file.
    file.by_ref().take(1).read_to_end(&mut text).map_err(|error| wrong(&error))?;
    if text != b"{" {
        return Ok(None);
    }
    file.read_to_end(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > INDEX_BYTES_MAX {
        return Err(wrong(&"is too long for a report"));
    }
    let form = form_of(&text).map_err(|error| wrong(&error))?;
    if form != FORMAT {
        return Err(wrong(&format!("has the form {form:?}, and this program reads {FORMAT}")));
    }
    let held: Held = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    Ok(Some((held, Digest::of(&text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        let blob = Digest::of(b"layer");
        Held {
            format: FORMAT.to_owned(),
            created: String::new(),
            branch: "main".into(),
            commit: "0".repeat(40),
            blobs: [(blob, 5)].into(),
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("held.json");
        let put = |text: &str| {
            fs::write(&path, text).expect("written");
            read(&path)
        };
        let text = serde_json::to_string_pretty(&held()).expect("JSON");
        let (read, digest) = put(&text).expect("read").expect("is one");
        assert_eq!((read, digest), (held(), Digest::of(text.as_bytes())));
        assert_eq!(put("windlass-bundle.json"), Ok(None), "a bundle");
        assert_eq!(put(""), Ok(None));
        let cut = &text[..text.len() / 2];
        let newer = text.replace(FORMAT, "windlass-held/2");
        let more = text.replacen('{', "{\"more\": 1,", 1);
        for (text, words) in
            [(cut, "EOF"), (&*newer, "windlass-held/2"), (&*more, "more"), ("{}", "format")]
        {
            let refused = put(text).expect_err(text);
            assert!(refused.what.contains(words), "{refused}");
        }
        assert_eq!(super::read(dir.path()), Ok(None), "a directory");
    }
}
