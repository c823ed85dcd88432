//! What no commit can say: random texts, keys, certificates. All are made of marks.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::value::Value;
use super::args::{at_least, count, exactly, int, mark, some_mark, text};

type Answer = Result<Value, String>;

/// `randAlphaNum` and its kin: as long as asked for.
pub(super) fn rand_text(args: &[Value]) -> Answer {
    let [length] = exactly("randAlphaNum", args)?;
    mark(count(length)?)
}

/// `randBytes`, whose text is base64.
pub(super) fn rand_bytes(args: &[Value]) -> Answer {
    let [length] = exactly("randBytes", args)?;
    mark(count(length)?.div_ceil(3).saturating_mul(4))
}

pub(super) fn rand_int(args: &[Value]) -> Answer {
    let [least, most] = exactly("randInt", args)?;
    if int(least)? >= int(most)? {
        return Err("invalid argument to Intn".to_owned());
    }
    Ok(some_mark())
}

/// Shuffled characters: as many.
pub(super) fn shuffle(args: &[Value]) -> Answer {
    let [whole] = exactly("shuffle", args)?;
    let whole = text(whole)?;
    let mut chars = whole.chars();
    // Where all are the same nothing is random.
    match chars.next() {
        Some(first) if chars.any(|c| c != first) => mark(whole.chars().count()),
        _ => super::args::done(whole),
    }
}

/// A text of 36 characters.
pub(super) fn uuid(args: &[Value]) -> Answer {
    let [] = exactly("uuidv4", args)?;
    mark(36)
}

/// A text of any length, whatever the arguments: `bcrypt`, `genPrivateKey`.
#[allow(clippy::unnecessary_wraps, reason = "a Function")]
pub(super) fn any(_: &[Value]) -> Answer {
    Ok(some_mark())
}

pub(super) fn htpasswd(args: &[Value]) -> Answer {
    let ([name, _], _) = at_least("htpasswd", args)?;
    let name = text(name)?;
    if name.contains(':') {
        return super::args::done(format!("invalid username: {name}"));
    }
    let hash = super::args::strval(&some_mark());
    super::args::done(format!("{name}:{hash}"))
}

/// A certificate and its key.
#[allow(clippy::unnecessary_wraps, reason = "a Function")]
pub(super) fn certificate(_: &[Value]) -> Answer {
    let part = |name| (Rc::from(name), some_mark());
    Ok(Value::map(BTreeMap::from([part("Cert"), part("Key")])))
}

/// `buildCustomCert`: what it is given, decoded.
pub(super) fn custom_certificate(args: &[Value]) -> Answer {
    let [certificate, key] = exactly("buildCustomCert", args)?;
    let part = |name, value: &Value| {
        let decoded = super::encode::b64dec(std::slice::from_ref(value))?;
        Ok::<_, String>((Rc::from(name), decoded))
    };
    Ok(Value::map(BTreeMap::from([part("Cert", certificate)?, part("Key", key)?])))
}

pub(super) fn decrypt(args: &[Value]) -> Answer {
    let [_, _] = exactly("decryptAES", args)?;
    Err("decryptAES isn't supported here".to_owned())
}
