//! An annotated tag as it was signed: the bytes of the object. What is signed is all of it that stands
//! before the signature (`parse_signature` in Git's gpg-interface.c). As with commits, whatever could be
//! read in two ways is refused.

use super::commit::{find, id, split, time};
use super::{openpgp, sshsig};
use crate::kinds::binding::Oid;
use crate::kinds::time::Wall;

/// A tag object.
#[derive(Debug)]
pub(super) struct Tag {
    /// The commit that it is on.
    pub(super) commit: Oid,
    /// Its name, as it was signed; what ref it was found by says nothing.
    pub(super) name: String,
    /// The tagger's date.
    pub(super) time: Wall,
    /// The armoured signature, if there is one.
    pub(super) signature: Option<String>,
    /// What was signed.
    pub(super) payload: Vec<u8>,
}

/// How signatures begin for Git, those included that are not read here.
const BEGINS: [&str; 4] = [
    sshsig::BEGIN,
    openpgp::BEGIN,
    "-----BEGIN PGP MESSAGE-----\n",
    "-----BEGIN SIGNED MESSAGE-----\n",
];

/// Takes a tag object apart; says what is odd about it if it can't.
pub(super) fn read(raw: &[u8]) -> Result<Tag, String> {
    let end = find(raw, b"\n\n").ok_or("it has no end of its header")?;
    let header = &raw[..end];
    if header.contains(&0) {
        return Err("its header has a NUL byte".into());
    }
    let lines: Vec<(&[u8], &[u8])> = header.split(|byte| *byte == b'\n').map(split).collect();
    let [(b"object", object), (b"type", kind), (b"tag", name), (b"tagger", tagger)] = lines[..]
    else {
        return Err("its header is not as Git writes it".into());
    };
    if kind != b"commit" {
        return Err("it is on something that is no commit".into());
    }
    let name = std::str::from_utf8(name).map_err(|_| "its name is no text")?.to_owned();
    let begins = BEGINS.iter().flat_map(|begin| lines_that_begin(raw, begin.as_bytes()));
    let begins: Vec<usize> = begins.collect();
    let (payload, signature) = match begins[..] {
        [] => (raw, None),
        [at] if at > end => {
            let text = std::str::from_utf8(&raw[at..]).map_err(|_| "its signature is no text")?;
            (&raw[..at], Some(text.to_owned()))
        }
        _ => return Err("it has more than one signature".into()),
    };
    Ok(Tag {
        commit: id(object)?,
        name,
        time: time(tagger).ok_or("its tagger has no date")?,
        signature,
        payload: payload.to_vec(),
    })
}

/// Where lines are that begin with this.
fn lines_that_begin<'a>(raw: &'a [u8], begin: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let starts = raw.windows(begin.len()).enumerate();
    starts
        .filter(move |(at, window)| *window == begin && (*at == 0 || raw[at - 1] == b'\n'))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "object aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\ntype commit\ntag v1\n\
                        tagger A <a@x> 1700000000 +0100\n";
    const SEAL: &str = "-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----\n";

    #[test]
    fn what_was_signed_stands_before_the_signature() {
        let tag = read(format!("{HEAD}\nfirst\n{SEAL}").as_bytes()).expect("is one");
        assert_eq!((tag.name.as_str(), tag.signature.as_deref()), ("v1", Some(SEAL)));
        assert_eq!(tag.payload, format!("{HEAD}\nfirst\n").into_bytes());
        assert_eq!(tag.commit, Oid::new(&"a".repeat(40)));
        assert_eq!(tag.time, Wall::from_seconds(1_700_000_000));
        let plain = read(format!("{HEAD}\nfirst, not -----BEGIN SSH SIGNATURE-----\n").as_bytes());
        assert_eq!(plain.expect("is one").signature, None);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let pgp = SEAL.replace("SSH", "PGP");
        let message = "-----BEGIN PGP MESSAGE-----\nx\n";
        for (raw, why) in [
            (HEAD.to_owned(), "no end"),
            (format!("{HEAD}gpgsig-sha256 x\n\nx"), "not as Git writes it"),
            (format!("{HEAD}tag v2\n\nx"), "not as Git writes it"),
            (format!("{}\nx", HEAD.replace("tag v1\n", "")), "not as Git writes it"),
            (format!("{}\nx", HEAD.replace("type commit", "type tree")), "no commit"),
            (format!("{}\nx", HEAD.replace("aaaa", "AAAA")), "id"),
            (format!("{}\nx", HEAD.replace(" 1700000000 +0100", "")), "date"),
            (format!("{}\nx", HEAD.replace("v1", "v\0")), "NUL"),
            (format!("{HEAD}\n{SEAL}{SEAL}"), "more than one"),
            (format!("{HEAD}\n{pgp}{SEAL}"), "more than one"),
            (format!("{HEAD}\n{SEAL}{message}"), "more than one"),
        ] {
            let found = read(raw.as_bytes()).expect_err(&raw);
            assert!(found.contains(why), "{raw:?}: {found}");
        }
    }
}
