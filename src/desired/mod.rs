//! (placeholder of the room; replaced by the real one)
use crate::kinds::object::{Key, Object};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the digests of meaning.
pub const MEANING_VERSION: u32 = 1;

/// What a revision asks for.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Every object.
    pub objects: BTreeMap<Key, Arc<Object>>,
}

use crate::kinds::binding::Oid;
use crate::kinds::finding::Finding;
use crate::kinds::pod::PodTemplate;
use crate::ports::source::{FileContent, FileEntry};
#[derive(Clone, Debug)]
pub struct ParsedFile {
    pub path: Arc<str>,
    pub blob: Oid,
    pub objects: Vec<Arc<Object>>,
}
#[derive(Clone, Debug)]
pub struct Change;
pub fn wanted(_files: &[FileEntry]) -> Vec<FileEntry> {
    vec![]
}
pub fn parse(_f: &FileContent) -> ParsedFile {
    ParsedFile {
        path: "".into(),
        blob: Oid::new(""),
        objects: vec![],
    }
}
pub fn template(_p: &ParsedFile, _o: &Key) -> Option<Arc<PodTemplate>> {
    None
}
pub fn changes(_a: &Desired, _b: &Desired) -> Vec<Change> {
    vec![]
}
pub fn assemble(
    _files: &[FileEntry],
    _of: impl Fn(&FileEntry) -> Option<Arc<ParsedFile>>,
) -> (Desired, Vec<Finding>) {
    (Desired::default(), vec![])
}
