//! Which key is a node's, by the word of the desired repository.
//!
//! A register of seals at the harbour office: who shows another seal than the one that is entered
//! for his ship is not let in, and since there is a register, neither is who stands in it not at all.
//!
//! Any key will do while the repository certifies none. With the first that it certifies, on
//! `kind: Node` by [`ANNOTATION_NODE_KEY`], no other key counts, of any node: whoever may write the
//! state store can then enter no key of his own. Two commits are asked, and both must agree: what is
//! in force says whom to trust, and the newest commit, which the agent fetched itself, keeps a store
//! that names an older one from saying otherwise. So a commit that is not in force can withdraw
//! trust, and never give any.
//!
//! The limit: an agent that has not reached the desired repository since it began knows only what
//! the store says is in force.

use std::collections::BTreeMap;
use std::fmt;

use super::name::NodeName;

/// The annotation of `kind: Node` by which the desired repository certifies a node's public key.
pub const ANNOTATION_NODE_KEY: &str = "windlass.dev/node-key";

/// How many hexadecimal digits a public Ed25519 key has.
const DIGITS: usize = 64;

/// The keys that a commit certifies, by node.
pub type Keys = BTreeMap<NodeName, String>;

/// Which keys count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certified {
    in_force: Keys,
    newest: Keys,
    /// Something is in force that has not been read.
    is_unread: bool,
}

/// Why a node's key does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// What is in force has not been read.
    Unread,
    /// Keys of other nodes are certified, and none of this one.
    Missing,
    /// Another key of this node is certified.
    Other,
}

impl Certified {
    /// What is in force certifies these keys, as far as it has been read, and the newest commit those.
    pub fn new(in_force: Keys, newest: Keys, is_unread: bool) -> Self {
        Self { in_force, newest, is_unread }
    }

    /// Whether something is in force that has not been read.
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Why this key does not count as the node's; nothing if it does.
    pub fn doubt(&self, node: &NodeName, key: &str) -> Option<Doubt> {
        let doubt_of = |keys: &Keys| match keys.get(node) {
            _ if keys.is_empty() => None,
            None => Some(Doubt::Missing),
            Some(certified) => (certified != key).then_some(Doubt::Other),
        };
        let unread = self.is_unread.then_some(Doubt::Unread);
        unread.or_else(|| doubt_of(&self.in_force)).or_else(|| doubt_of(&self.newest))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread => {
                f.write_str("the commit in force, which may certify it, is not read yet")
            }
            Self::Missing => write!(
                f,
                "the desired repository certifies nodes' keys, and none of this one \
                 ({ANNOTATION_NODE_KEY} of its kind: Node)"
            ),
            Self::Other => write!(
                f,
                "the desired repository certifies another key of this node \
                 ({ANNOTATION_NODE_KEY} of its kind: Node)"
            ),
        }
    }
}

/// What is wrong with a key as it is written; nothing if it can be one.
pub fn key_complaint(text: &str) -> Option<String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_key = text.len() == DIGITS && text.bytes().all(is_digit);
    (!is_key).then(|| {
        format!(
            "a node's key has {DIGITS} digits, 0 to 9 and a to f; `windlass init --print-key` on \
             that node prints it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_first_certified_key_no_other_counts() {
        let keys = |text: &str| -> Keys {
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.map(|(node, key)| (NodeName::trusted(node), key.to_owned())).collect()
        };
        let (missing, other) = (Some(Doubt::Missing), Some(Doubt::Other));
        for (in_force, newest, node, key, doubt) in [
            ("", "", "a", "1", None),
            ("a=1", "a=1", "a", "1", None),
            ("a=1", "a=1", "a", "2", other),
            ("a=1", "a=1", "b", "2", missing),
            // A store that says that an older commit is in force.
            ("", "a=1", "a", "2", other),
            ("", "a=1", "b", "2", missing),
            ("a=2", "a=1", "a", "2", other),
            // A commit that is not in force gives no trust.
            ("a=1", "a=1 b=2", "b", "2", missing),
            ("a=1", "a=2", "a", "2", other),
            // … and withdraws it.
            ("a=1 b=2", "a=1", "b", "2", missing),
            // One that certifies nothing says nothing.
            ("a=1", "", "a", "1", None),
            ("a=1", "", "a", "2", other),
        ] {
            let certified = Certified::new(keys(in_force), keys(newest), false);
            let seen = certified.doubt(&NodeName::trusted(node), key);
            assert_eq!(seen, doubt, "{in_force:?} and {newest:?}: {node}={key}");
        }
        let unread = Certified::new(keys("a=1"), Keys::new(), true);
        assert_eq!(unread.doubt(&NodeName::trusted("a"), "1"), Some(Doubt::Unread));
    }

    #[test]
    fn a_key_is_written_in_one_way() {
        let key = "4f".repeat(32);
        assert_eq!(key_complaint(&key), None);
        for wrong in ["", "4f", &key.to_uppercase(), &format!("{key} "), &"g".repeat(64)] {
            assert!(key_complaint(wrong).is_some(), "{wrong:?}");
        }
    }
}
