//! What of a manifest counts: two that differ in notation only mean the same.
//!
//! Of a value that has been checked and completed this leaves out what says nothing (an empty
//! `securityContext`) and writes amounts as amounts, so `1000m` is `1` and `1Gi` is `1073741824`.
//! Whoever compares templates compares these digests: an upgrade that writes a default out, or a
//! person who reorders a file, restarts nothing.

use super::shape::{SHAPES, Type};
use super::tree::{Node, Value, for_each_sorted, write_json, write_json_text};
use crate::kinds::digest::Digest;
use crate::kinds::quantity::Quantity;

/// Structures of which an empty one says the same as none. Others say something by being there:
/// an empty `emptyDir`, or a `labelSelector` that picks everything.
const VOID_WHEN_EMPTY: &[&str] = &[
    "meta.v1.ObjectMeta",
    "core.v1.Affinity",
    "core.v1.Capabilities",
    "core.v1.Lifecycle",
    "core.v1.NamespaceSpec",
    "core.v1.NodeAffinity",
    "core.v1.NodeSpec",
    "core.v1.PodAffinity",
    "core.v1.PodAntiAffinity",
    "core.v1.PodDNSConfig",
    "core.v1.PodSecurityContext",
    "core.v1.ResourceRequirements",
    "core.v1.SELinuxOptions",
    "core.v1.SecurityContext",
];

/// Whether an empty structure of this name says nothing.
pub(super) fn is_void_when_empty(name: &str) -> bool {
    VOID_WHEN_EMPTY.contains(&name)
}

/// The digest of what a checked and completed value of type `holds` means.
pub(super) fn digest(node: &Node<'_>, holds: Type) -> Digest {
    let mut out = Vec::with_capacity(2048);
    write(&mut out, node, holds);
    Digest::of(&out)
}

/// Writes canonical JSON; says whether anything of meaning was written.
fn write(out: &mut Vec<u8>, node: &Node<'_>, holds: Type) -> bool {
    match (&node.value, holds) {
        (Value::Text(text), Type::Quantity) => {
            match Quantity::parse(text) {
                Ok(quantity) => write_json_text(out, &quantity.in_decimal().to_string()),
                Err(_) => write_json_text(out, text),
            }
            true
        }
        (Value::List(items), Type::List(inner)) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item, SHAPES.inner(inner));
            }
            out.push(b']');
            !items.is_empty()
        }
        (Value::Map(entries), Type::Map(_) | Type::Structure(_)) => {
            out.push(b'{');
            let mut is_empty = true;
            for_each_sorted(entries, |entry| {
                let start = out.len();
                if !is_empty {
                    out.push(b',');
                }
                write_json_text(out, &entry.key);
                out.push(b':');
                if write(out, &entry.node, SHAPES.child(holds, &entry.key)) {
                    is_empty = false;
                } else {
                    out.truncate(start);
                }
            });
            out.push(b'}');
            !(is_empty && says_nothing_when_empty(holds))
        }
        _ => {
            write_json(out, node);
            true
        }
    }
}

fn says_nothing_when_empty(holds: Type) -> bool {
    match holds {
        Type::Structure(index) => SHAPES.structure(index).is_void_when_empty,
        _ => true,
    }
}
