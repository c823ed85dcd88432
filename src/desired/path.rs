//! The way from an object's root to one of its fields, as a chain on the stack: it costs nothing
//! until a finding has to be written.

use std::fmt;

use super::tree::{At, Node};

/// A field's path: `spec.template.spec.containers[0].image`, `metadata.labels[app]`.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Field(&'a Self, &'a str),
    Index(&'a Self, usize),
    Key(&'a Self, &'a str),
}

impl<'a> Path<'a> {
    /// A field of a known name.
    pub(super) fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// An item of a list.
    pub(super) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// A key of a map whose keys the author chooses.
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    /// Where a finding about this field points in `root`: at the field, or at the nearest thing
    /// above it that was written.
    pub(super) fn locate(&self, root: &Node<'_>) -> At {
        self.step(root).1
    }

    fn step<'n, 't>(&self, root: &'n Node<'t>) -> (Option<&'n Node<'t>>, At) {
        match self {
            Self::Root => (Some(root), root.at),
            Self::Field(parent, name) | Self::Key(parent, name) => {
                let (node, above) = parent.step(root);
                match node.and_then(|node| node.entry(name)) {
                    Some(entry) => (Some(&entry.node), entry.shown_at()),
                    None => (None, above),
                }
            }
            Self::Index(parent, index) => {
                let (node, above) = parent.step(root);
                match node.and_then(Node::as_list).and_then(|l| l.get(*index)) {
                    Some(item) => (Some(item), item.at),
                    None => (None, above),
                }
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}
