//! `metadata`: what every object has.

use super::super::path::Path;
use super::super::tree::{Node, Value};
use super::Check;
use crate::kinds::labels::{Labels, label_key_complaint};
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::WAVE_ANNOTATIONS;
use crate::kinds::registry::Kind;

/// All annotations of an object together: `TotalAnnotationSizeLimitB`, 256 KiB.
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

/// What an object is called, and what is written on it.
#[derive(Clone, Debug)]
pub(in super::super) struct Meta {
    pub(in super::super) name: Name,
    pub(in super::super) namespace: Option<Name>,
    pub(in super::super) labels: Labels,
    pub(in super::super) annotations: Labels,
}

/// Reads an object's `metadata` (`ValidateObjectMeta`).
pub(in super::super) fn meta(kind: Kind, root: &Node<'_>, check: &mut Check<'_, '_>) -> Meta {
    let path = Path::Root.field("metadata");
    let info = kind.info();
    let metadata = root.get("metadata");
    let text = |field: &str| metadata.and_then(|node| node.get_text(field));
    // A name that is generated is refused by its own field.
    let name_path = path.field("name");
    let name = match text("name") {
        None if check.report.is_echo(&path.field("generateName")) => Name::trusted(""),
        name => check.name(&name_path, name.unwrap_or_default(), info.names),
    };
    let namespace_path = path.field("namespace");
    let namespace = text("namespace").map(|namespace| {
        let namespace = check.name(&namespace_path, namespace, NameRule::Label);
        if namespace != "default" {
            check.mention(Kind::Namespace, &namespace, &namespace_path);
        }
        namespace
    });
    let labels = metadata.map(|node| strings(node, "labels")).unwrap_or_default();
    check.labels(&path.field("labels"), &labels);
    let annotations = metadata.map(|node| strings(node, "annotations")).unwrap_or_default();
    check_annotations(&path.field("annotations"), &annotations, check);
    check_waves(&path.field("annotations"), &annotations, check);
    Meta { name, namespace, labels, annotations }
}

/// A wave that can't be read would be another than was meant.
fn check_waves(path: &Path<'_>, annotations: &Labels, check: &mut Check<'_, '_>) {
    let waves = WAVE_ANNOTATIONS.iter().filter_map(|key| Some((*key, annotations.get(*key)?)));
    for (key, wave) in waves.filter(|(_, wave)| wave.parse::<i32>().is_err()) {
        check.error(
            &path.key(key),
            format!("{wave:?} is no wave: write a whole number, as in \"-1\""),
        );
    }
}

/// `ValidateAnnotations`: keys as labels have them, in any case; values free, but not without end.
pub(super) fn check_annotations(path: &Path<'_>, annotations: &Labels, check: &mut Check<'_, '_>) {
    for key in annotations.keys() {
        let complaint = label_key_complaint(&key.to_ascii_lowercase());
        check.complain(&path.key(key), key, complaint);
    }
    let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > ANNOTATION_BYTES_MAX {
        let message = format!("{bytes} bytes of annotations are more than {ANNOTATION_BYTES_MAX}");
        check.error(path, message);
    }
}

fn strings(node: &Node<'_>, field: &str) -> Labels {
    let entries = node.get(field).and_then(Node::as_map).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| match &entry.node.value {
            Value::Text(text) => Some((entry.key.to_string(), text.to_string())),
            _ => None,
        })
        .collect()
}
