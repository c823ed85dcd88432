//! A key as its owner gives it away (RFC 9580 §10.1): the key, who he says he is, further keys, and what
//! the key has signed about all of them.

use super::key::Key;
use super::packet::{self, Packet, kind};
use super::signature::{Signature, purpose};
use crate::kinds::time::Wall;

/// A key and its subkeys; those that may sign, and why others may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Cert {
    /// The key itself comes first.
    members: Vec<Member>,
}

/// A key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Member {
    key: Key,
    standing: Standing,
    /// Until when it is good.
    until: Option<Wall>,
}

/// How a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Standing {
    /// It may sign.
    Signs,
    /// It, or the key that it belongs to, was revoked.
    Revoked,
    /// It can't sign, and why.
    Unfit(String),
}

/// A flag of a key: for signing data (§5.2.3.29).
const SIGNS: u8 = 0x02;

impl Member {
    /// From when it is good.
    pub(in super::super) fn from(&self) -> Wall {
        self.key.created
    }

    /// Until when.
    pub(in super::super) fn until(&self) -> Option<Wall> {
        self.until
    }

    /// How it stands.
    pub(in super::super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Its fingerprint.
    pub(in super::super) fn fingerprint(&self) -> &str {
        &self.key.fingerprint
    }

    /// Whether a signature is its own, of this message.
    pub(in super::super) fn signed(&self, signature: &Signature, message: &[u8]) -> bool {
        signature.is_by(&self.key, &[message])
    }
}

impl Cert {
    /// Reads what `gpg --armor --export` writes, of one key.
    pub(in super::super) fn read(armour: &str) -> Result<Self, String> {
        if armour.trim_start().starts_with("-----BEGIN PGP PRIVATE KEY") {
            return Err(SECRET.into());
        }
        let bytes = packet::bare(armour.trim_start(), "PUBLIC KEY BLOCK")?;
        let packets = packet::split(&bytes).ok_or("the key is damaged")?;
        let parts = parts(&packets)?;
        judge(&parts).map_err(|why| match parts.first() {
            Some(Part { what: What::Key(key), .. }) => {
                format!("the key {}: {why}", key.fingerprint)
            }
            _ => why,
        })
    }

    /// All its keys, itself first.
    pub(in super::super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The key's own fingerprint.
    pub(in super::super) fn fingerprint(&self) -> &str {
        self.members.first().map_or("", Member::fingerprint)
    }
}

const SECRET: &str = "this is a SECRET key, and must never be in Git: export it with gpg --armor \
     --export, and revoke it if this was pushed";

/// Something that signatures are about.
struct Part<'a> {
    what: What<'a>,
    signatures: Vec<Signature>,
}

enum What<'a> {
    /// The first is the key itself, all others are subkeys.
    Key(Key),
    Name(&'a [u8]),
    /// A picture.
    Other,
}

const UNCHECKED: &str = "it has a revocation that can't be checked; to revoke a key whoever says so, \
     list its fingerprint under revoked";

impl Part<'_> {
    /// Whether something may be taken back here of which it can't be told what.
    fn has_odd_revocation(&self, main: &Key) -> bool {
        self.signatures.iter().any(|signature| match (&self.what, signature.purpose) {
            (What::Key(key), purpose::REVOKES_KEY) => key != main,
            (What::Key(key), purpose::REVOKES_SUBKEY) => key == main,
            (_, purpose::REVOKES_KEY | purpose::REVOKES_SUBKEY)
            | (What::Key(_), purpose::REVOKES_CERTIFICATION) => true,
            (What::Name(name), purpose::REVOKES_CERTIFICATION) => {
                signature.claims(main) && !signature.is_by(main, &[&main.framed, &framed(name)])
            }
            _ => false,
        })
    }
}

fn parts<'a>(packets: &[Packet<'a>]) -> Result<Vec<Part<'a>>, String> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let what = match packet.kind {
            kind::SECRET_KEY | kind::SECRET_SUBKEY => return Err(SECRET.into()),
            kind::PUBLIC_KEY if number == 0 => What::Key(Key::read(packet.body)?),
            kind::PUBLIC_KEY => {
                return Err("there is more than one key: give each its own entry".into());
            }
            _ if number == 0 => return Err("it does not begin with a key".into()),
            kind::PUBLIC_SUBKEY => What::Key(Key::read(packet.body)?),
            kind::USER_ID => What::Name(packet.body),
            kind::USER_ATTRIBUTE => What::Other,
            kind::SIGNATURE => {
                let signature = Signature::unpack(packet.body).map_err(|why| {
                    format!("{why}; gpg --export-options export-minimal leaves out those of others")
                })?;
                if let Some(part) = parts.last_mut() {
                    part.signatures.push(signature);
                }
                continue;
            }
            kind::MARKER | kind::PADDING => continue,
            kind => return Err(format!("a packet of kind {kind} is no part of a key")),
        };
        parts.push(Part { what, signatures: Vec::new() });
    }
    Ok(parts)
}

/// Seconds after a time.
pub(super) fn after(time: Wall, seconds: u32) -> Wall {
    Wall::from_seconds(time.seconds() + i64::from(seconds))
}

fn judge(parts: &[Part<'_>]) -> Result<Cert, String> {
    let Some((Part { what: What::Key(main), signatures }, rest)) = parts.split_first() else {
        return Err("it does not begin with a key".into());
    };
    if let Err(why) = &main.shape {
        return Err(format!("it {why}"));
    }
    if parts.iter().any(|part| part.has_odd_revocation(main)) {
        return Err(UNCHECKED.into());
    }
    let is_revoked = revokes(signatures, purpose::REVOKES_KEY, main, &[&main.framed])?;
    let own = newest(self_signatures(main, signatures, rest));
    let own = own.ok_or_else(|| match weakest(main, parts) {
        Some(digest) => {
            format!("what it says of itself is signed with {digest}, which is too weak")
        }
        None => "it says nothing of itself that can be checked".to_owned(),
    })?;
    if parts.iter().flat_map(|part| &part.signatures).any(|s| s.claims(main) && s.said.has_revoker)
    {
        return Err("it names another key that may revoke it, which is not read".into());
    }
    let until = until(main, own);
    let standing = match own.said.flags {
        _ if is_revoked => Standing::Revoked,
        Some(flags) if flags & SIGNS != 0 => Standing::Signs,
        _ => Standing::Unfit("is not for signing".into()),
    };
    let mut members = vec![Member { key: main.clone(), standing, until }];
    for Part { what, signatures } in rest {
        if let What::Key(key) = what {
            let mut member = subkey(main, key, signatures)?;
            if is_revoked {
                member.standing = Standing::Revoked;
            }
            member.until = [member.until, until].into_iter().flatten().min();
            members.push(member);
        }
    }
    Ok(Cert { members })
}

/// What the key has said of itself: directly, or with a name that it did not take back later.
fn self_signatures<'s>(
    main: &Key,
    direct: &'s [Signature],
    rest: &'s [Part<'_>],
) -> Vec<&'s Signature> {
    let is_direct = |s: &&Signature| s.purpose == purpose::DIRECT && s.is_by(main, &[&main.framed]);
    let mut found: Vec<&Signature> = direct.iter().filter(is_direct).collect();
    for Part { what, signatures } in rest {
        let What::Name(name) = what else { continue };
        let name = framed(name);
        let is_own = |s: &&Signature| s.claims(main) && s.is_by(main, &[&main.framed, &name]);
        let taken_back = signatures.iter().filter(|s| s.purpose == purpose::REVOKES_CERTIFICATION);
        let taken_back = taken_back.filter(is_own).filter_map(Signature::created).max();
        let said = signatures.iter().filter(|s| purpose::CERTIFICATIONS.contains(&s.purpose));
        let stands = |s: &&Signature| taken_back.is_none_or(|at| s.created() > Some(at));
        found.extend(said.filter(is_own).filter(stands));
    }
    found
}

/// §5.2.4: a name, as it is signed.
fn framed(name: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    [&[0xB4][..], &length.to_be_bytes(), name].concat()
}

/// The last that was made; of several in one second the last that is written.
fn newest(signatures: Vec<&Signature>) -> Option<&Signature> {
    signatures.into_iter().max_by_key(|signature| signature.created())
}

/// The digest for which nothing that a key says of itself counts.
fn weakest(main: &Key, parts: &[Part<'_>]) -> Option<&'static str> {
    let mut own = parts.iter().flat_map(|part| &part.signatures).filter(|s| s.claims(main));
    own.find_map(Signature::weakness)
}

/// Until when a key is good, by what was said of it.
fn until(key: &Key, said: &Signature) -> Option<Wall> {
    let own = said.said.key_expires.filter(|seconds| *seconds > 0);
    [own.map(|seconds| after(key.created, seconds)), said.until()].into_iter().flatten().min()
}

/// Whether a revocation is there; an error if there is one that can't be checked.
fn revokes(
    signatures: &[Signature],
    purpose: u8,
    main: &Key,
    about: &[&[u8]],
) -> Result<bool, String> {
    let mut found = false;
    for signature in signatures.iter().filter(|signature| signature.purpose == purpose) {
        if !signature.is_by(main, about) {
            return Err(UNCHECKED.into());
        }
        found = true;
    }
    Ok(found)
}

fn subkey(main: &Key, key: &Key, signatures: &[Signature]) -> Result<Member, String> {
    let about: [&[u8]; 2] = [&main.framed, &key.framed];
    let of = |standing, until| Member { key: key.clone(), standing, until };
    if revokes(signatures, purpose::REVOKES_SUBKEY, main, &about)? {
        return Ok(of(Standing::Revoked, None));
    }
    let bindings = signatures.iter().filter(|s| s.purpose == purpose::SUBKEY_BINDING);
    let Some(binding) = newest(bindings.filter(|s| s.is_by(main, &about)).collect()) else {
        return Ok(of(Standing::Unfit("its main key does not vouch for".into()), None));
    };
    let until = until(key, binding);
    let standing = if binding.said.flags.is_none_or(|flags| flags & SIGNS == 0) {
        Standing::Unfit("is not for signing".into())
    } else if let Err(why) = &key.shape {
        Standing::Unfit(why.clone())
    } else if !binding.within.iter().any(|back| is_back(back, key, &about)) {
        // Or somebody could claim another's key as his own, and so what it signed.
        Standing::Unfit("has not agreed to be its main key's".into())
    } else {
        Standing::Signs
    };
    Ok(of(standing, until))
}

fn is_back(bytes: &[u8], key: &Key, about: &[&[u8]]) -> bool {
    let back = Signature::unpack(bytes);
    back.is_ok_and(|back| back.purpose == purpose::BACK && back.is_by(key, about))
}
