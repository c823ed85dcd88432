//! Paths with slashes, and addresses: Go's `path` and `net/url`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use super::super::value::Value;
use super::args::{done, exactly, map, text};

type Answer = Result<Value, String>;

fn one<'a>(name: &str, args: &'a [Value]) -> Result<&'a str, String> {
    let [value] = exactly(name, args)?;
    text(value)
}

pub(super) fn base(args: &[Value]) -> Answer {
    let path = one("base", args)?;
    let trimmed = path.trim_end_matches('/');
    done(match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        (_, trimmed) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    })
}

/// `path.Clean`.
fn cleaned(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => _ = parts.pop(),
                _ if is_rooted => {}
                _ => parts.push(part),
            },
            other => parts.push(other),
        }
    }
    match (is_rooted, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

pub(super) fn clean(args: &[Value]) -> Answer {
    done(cleaned(one("clean", args)?))
}

pub(super) fn dir(args: &[Value]) -> Answer {
    let path = one("dir", args)?;
    let end = path.rfind('/').map_or(0, |slash| slash + 1);
    done(cleaned(path.get(..end).unwrap_or_default()))
}

pub(super) fn ext(args: &[Value]) -> Answer {
    let path = one("ext", args)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    done(name.rfind('.').and_then(|dot| name.get(dot..)).unwrap_or_default())
}

pub(super) fn is_abs(args: &[Value]) -> Answer {
    Ok(Value::Bool(one("isAbs", args)?.starts_with('/')))
}

/// Undoes `%41`.
fn unescaped(whole: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(whole.len());
    let mut bytes = whole.bytes();
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        match (bytes.next().and_then(digit), bytes.next().and_then(digit)) {
            (Some(high), Some(low)) => out.push(high << 4 | low),
            _ => return Err(format!("invalid URL escape in {whole:?}")),
        }
    }
    String::from_utf8(out).map_err(|_| format!("{whole:?} escapes bytes that are not text"))
}

/// Escapes all but letters, digits, `-_.~` and `plain`.
fn escaped(whole: &str, plain: &str) -> String {
    let mut out = String::with_capacity(whole.len());
    for byte in whole.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || c.is_ascii() && ("-_.~".contains(c) || plain.contains(c)) {
            out.push(c);
        } else {
            // Writing to a String cannot fail.
            _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What a path leaves as it is.
const PATH: &str = "$&+,/:;=@";
/// What a user's name leaves as it is.
const USER: &str = "$&+,;=";
/// What a fragment leaves as it is, and Go's host.
const FRAGMENT: &str = "$&+,/:;=?@!()*";

/// The scheme before `:`, in small letters.
fn scheme(whole: &str) -> Result<(String, &str), String> {
    for (at, b) in whole.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => {
                let (scheme, rest) = whole.split_once(':').unwrap_or(("", whole));
                return Ok((scheme.to_ascii_lowercase(), rest));
            }
            _ => break,
        }
    }
    Ok((String::new(), whole))
}

fn userinfo(user: &str) -> Result<String, String> {
    Ok(match user.split_once(':') {
        Some((name, password)) => {
            format!("{}:{}", escaped(&unescaped(name)?, USER), escaped(&unescaped(password)?, USER))
        }
        None => escaped(&unescaped(user)?, USER),
    })
}

fn parsed(whole: &str) -> Result<BTreeMap<&'static str, String>, String> {
    if whole.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let mut parts = BTreeMap::new();
    let (rest, fragment) = whole.split_once('#').unwrap_or((whole, ""));
    parts.insert("fragment", unescaped(fragment)?);
    let (scheme, rest) = scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    parts.insert("query", query.to_owned());
    let has_scheme = !scheme.is_empty();
    parts.insert("scheme", scheme);
    if has_scheme && !rest.starts_with('/') {
        parts.insert("opaque", rest.to_owned());
        return Ok(parts);
    }
    if !has_scheme && rest.split('/').next().is_some_and(|first| first.contains(':')) {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    let Some(authority) = rest.strip_prefix("//") else {
        parts.insert("path", unescaped(rest)?);
        return Ok(parts);
    };
    let (authority, path) = authority
        .split_at_checked(authority.find('/').unwrap_or(authority.len()))
        .unwrap_or_default();
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            parts.insert("userinfo", userinfo(user)?);
            host
        }
        None => authority,
    };
    let port_at = host.rfind(':').filter(|at| !host.get(*at..).unwrap_or_default().contains(']'));
    let (name, port) = port_at.and_then(|at| host.split_at_checked(at)).unwrap_or((host, ""));
    if !port.bytes().skip(1).all(|b| b.is_ascii_digit()) {
        return Err(format!("invalid port {port:?} after host"));
    }
    if host.contains(' ') {
        return Err("invalid character \" \" in host name".to_owned());
    }
    parts.insert("host", unescaped(host)?);
    parts.insert("hostname", unescaped(name.trim_start_matches('[').trim_end_matches(']'))?);
    parts.insert("path", unescaped(path)?);
    Ok(parts)
}

pub(super) fn url_parse(args: &[Value]) -> Answer {
    let whole = one("urlParse", args)?;
    let mut parts = parsed(whole)
        .map_err(|problem| format!("unable to parse url: parse {whole:?}: {problem}"))?;
    let names = ["scheme", "host", "hostname", "path", "query", "opaque", "fragment", "userinfo"];
    let entry = |name| (Rc::from(name), Value::text(parts.remove(name).unwrap_or_default()));
    Ok(Value::map(names.map(entry).into_iter().collect()))
}

pub(super) fn url_join(args: &[Value]) -> Answer {
    let [of] = exactly("urlJoin", args)?;
    let of = map(of)?;
    let of = of.borrow();
    let part = |name: &str| match of.get(name) {
        None => Ok(String::new()),
        Some(Value::Text(text)) => Ok(text.to_string()),
        Some(other) => Err(format!(
            "unable to parse {name} key, must be of type string, but {} found",
            other.kind()
        )),
    };
    let (scheme, host, path, opaque) =
        (part("scheme")?, part("host")?, part("path")?, part("opaque")?);
    let (query, fragment, user) = (part("query")?, part("fragment")?, part("userinfo")?);
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(&scheme);
        out.push(':');
    }
    if opaque.is_empty() {
        if !(scheme.is_empty() && host.is_empty() && user.is_empty()) {
            if !host.is_empty() || !path.is_empty() || !user.is_empty() {
                out.push_str("//");
            }
            if !user.is_empty() {
                out.push_str(&userinfo(&user)?);
                out.push('@');
            }
            out.push_str(&escaped(&host, "!$&'()*+,;=:[]<>\""));
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        let first = path.split('/').next().unwrap_or_default();
        if out.is_empty() && first.contains(':') {
            out.push_str("./");
        }
        out.push_str(&escaped(&path, PATH));
    } else {
        out.push_str(&opaque);
    }
    for (sign, tail) in [('?', query), ('#', escaped(&fragment, FRAGMENT))] {
        if !tail.is_empty() {
            out.push(sign);
            out.push_str(&tail);
        }
    }
    done(out)
}

#[cfg(test)]
mod tests {
    use super::super::args::strval;
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        type Row = (fn(&[Value]) -> Answer, &'static str, &'static str);
        let table: &[Row] = &[
            (base, "a/b/c.txt", "c.txt"),
            (base, "/", "/"),
            (base, "", "."),
            (base, "a/", "a"),
            (dir, "a/b/c", "a/b"),
            (dir, "c", "."),
            (dir, "/c", "/"),
            (clean, "a//b/../c/.", "a/c"),
            (clean, "/../a", "/a"),
            (clean, "../../a", "../../a"),
            (clean, "", "."),
            (ext, "a.b/c.tar.gz", ".gz"),
            (ext, "a.b/c", ""),
        ];
        for (function, path, expected) in table {
            let Ok(value) = function(&[Value::text(path)]) else { panic!("{path}") };
            assert_eq!(strval(&value), *expected, "{path}");
        }
    }

    #[test]
    fn addresses_are_taken_apart_and_joined() {
        let whole = "https://admin:secret@server.com:8080/api%20x?list=false#anchor";
        let parts = url_parse(&[Value::text(whole)]).expect("an address");
        for (name, expected) in [
            ("scheme", "https"),
            ("host", "server.com:8080"),
            ("hostname", "server.com"),
            ("path", "/api x"),
            ("query", "list=false"),
            ("fragment", "anchor"),
            ("userinfo", "admin:secret"),
            ("opaque", ""),
        ] {
            assert_eq!(strval(&parts.get(name)), expected, "{name}");
        }
        let joined = url_join(&[parts]).expect("an address");
        assert_eq!(strval(&joined), whole);
        for wrong in ["http://a b/", "%zz", ":x", "http://h:port/"] {
            assert!(url_parse(&[Value::text(wrong)]).is_err(), "{wrong}");
        }
    }
}
