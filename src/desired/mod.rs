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
