//! A commit as it was signed: the bytes of the object, taken apart as Git takes them apart.
//!
//! What is signed is the object without the header `gpgsig` (`parse_buffer_signed_by_header` in Git's
//! commit.c). Whatever could be read in two ways is refused: then nobody is shown another commit than
//! was signed.

use crate::kinds::binding::Oid;
use crate::kinds::time::Wall;

/// A commit object.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) parents: Vec<Oid>,
    /// The committer's date.
    pub(super) time: Wall,
    /// The armoured signature, if there is one.
    pub(super) signature: Option<String>,
    /// What was signed.
    pub(super) payload: Vec<u8>,
}

/// The header that holds the signature of a commit in a repository of SHA-1.
const SIGNATURE: &str = "gpgsig";

/// Takes a commit object apart; says what is odd about it if it can't.
pub(super) fn read(raw: &[u8]) -> Result<Commit, String> {
    let body = find(raw, b"\n\n").ok_or("it has no end of its header")?;
    let header = &raw[..=body];
    if header.contains(&0) {
        return Err("its header has a NUL byte".into());
    }
    let mut commit = Commit {
        parents: Vec::new(),
        time: Wall::default(),
        signature: None,
        payload: Vec::with_capacity(raw.len()),
    };
    let mut stage = Stage::Tree;
    let mut in_signature = false;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(more) = bare.strip_prefix(b" ") {
            if stage != Stage::Rest {
                return Err("a line of its header goes on where none may".into());
            }
            match commit.signature.as_mut().filter(|_| in_signature) {
                Some(signature) => push_line(signature, more)?,
                None => commit.payload.extend_from_slice(line),
            }
            continue;
        }
        let (word, value) = split(bare);
        in_signature = word == SIGNATURE.as_bytes();
        if in_signature {
            if stage != Stage::Rest || commit.signature.is_some() {
                return Err("it has more than one signature".into());
            }
            let mut text = String::new();
            push_line(&mut text, value)?;
            commit.signature = Some(text);
            continue;
        }
        if word.starts_with(SIGNATURE.as_bytes()) {
            return Err("it has a signature of another object format".into());
        }
        stage = stage.after(word).ok_or("its header is not in Git's order")?;
        match word {
            b"parent" => commit.parents.push(id(value)?),
            b"tree" => drop(id(value)?),
            b"committer" => commit.time = time(value).ok_or("its committer has no date")?,
            _ => {}
        }
        commit.payload.extend_from_slice(line);
    }
    if stage != Stage::Rest {
        return Err("its header is not whole".into());
    }
    commit.payload.extend_from_slice(&raw[body + 1..]);
    Ok(commit)
}

/// How far the header has been read: `tree`, `parent`s, `author`, `committer`, then anything else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Tree,
    Parents,
    Committer,
    Rest,
}

impl Stage {
    /// What follows once a line of that word was read; none where it can't stand here.
    fn after(self, word: &[u8]) -> Option<Self> {
        match (self, word) {
            (Self::Tree, b"tree") | (Self::Parents, b"parent") => Some(Self::Parents),
            (Self::Parents, b"author") => Some(Self::Committer),
            (Self::Rest, b"tree" | b"parent" | b"author" | b"committer" | b"") => None,
            (Self::Committer, b"committer") | (Self::Rest, _) => Some(Self::Rest),
            _ => None,
        }
    }
}

pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A header's word and what follows it.
pub(super) fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, b""),
    }
}

fn push_line(text: &mut String, line: &[u8]) -> Result<(), String> {
    let line = std::str::from_utf8(line).map_err(|_| "its signature is no text")?;
    text.push_str(line);
    text.push('\n');
    Ok(())
}

pub(super) fn id(value: &[u8]) -> Result<Oid, String> {
    let is_id = value.len() == 40
        && value.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let text = std::str::from_utf8(value).ok().filter(|_| is_id);
    text.map(Oid::new).ok_or_else(|| "an id in its header is none".to_owned())
}

/// The date of `Name <address> 1700000000 +0100`.
pub(super) fn time(value: &[u8]) -> Option<Wall> {
    let from = value.iter().rposition(|byte| *byte == b'>')?;
    let rest = std::str::from_utf8(&value[from + 1..]).ok()?;
    let seconds = rest.split_ascii_whitespace().next()?;
    seconds.parse().ok().map(Wall::from_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
    const WHO: &str = "author A <a@x> 1 +0000\ncommitter A <a@x> 1700000000 +0100\n";

    #[test]
    fn what_was_signed_is_the_object_without_its_signature() {
        let parent = format!("parent {}\n", "a".repeat(40));
        let raw = format!("{TREE}{parent}{WHO}gpgsig one\n two\n \nencoding x\n\ngpgsig\n body\n");
        let commit = read(raw.as_bytes()).expect("is one");
        assert_eq!(commit.signature.as_deref(), Some("one\ntwo\n\n"));
        let payload = format!("{TREE}{parent}{WHO}encoding x\n\ngpgsig\n body\n");
        assert_eq!(String::from_utf8_lossy(&commit.payload), payload);
        assert_eq!(commit.time, Wall::from_seconds(1_700_000_000));
        assert_eq!(commit.parents, [Oid::new(&"a".repeat(40))]);
    }

    #[test]
    fn a_tag_that_was_merged_may_have_a_signature_of_its_own() {
        let raw = format!("{TREE}{WHO}mergetag object x\n gpgsig no\n\nbody\n");
        let commit = read(raw.as_bytes()).expect("is one");
        assert_eq!(commit.signature, None);
        assert_eq!(commit.payload, raw.as_bytes());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let parent = format!("parent {}\n", "a".repeat(40));
        for (raw, why) in [
            (format!("{TREE}{WHO}"), "no end"),
            (format!("{TREE}\nx"), "not whole"),
            (format!("{TREE}{WHO}{parent}\nx"), "order"),
            (format!("{parent}{TREE}{WHO}\nx"), "order"),
            (format!("{TREE}{TREE}{WHO}\nx"), "order"),
            (format!("{TREE}{WHO}{WHO}\nx"), "order"),
            (format!("{TREE}gpgsig x\n{WHO}\nx"), "more than one"),
            (format!("{TREE}{WHO}gpgsig x\ngpgsig y\n\nx"), "more than one"),
            (format!("{TREE}{WHO}gpgsig-sha256 y\n\nx"), "another object format"),
            (format!("{TREE}{WHO}gpgsigx y\n\nx"), "another object format"),
            (format!("{TREE} x\n{WHO}\nx"), "goes on"),
            (format!("{TREE}{WHO}a\0b c\n\nx"), "NUL"),
            (format!("{TREE}parent {}\n{WHO}\nx", "A".repeat(40)), "id"),
            (format!("{TREE}author A <a@x>\ncommitter A <a@x>\n\nx"), "date"),
        ] {
            let found = read(raw.as_bytes()).expect_err(&raw);
            assert!(found.contains(why), "{raw:?}: {found}");
        }
    }
}
