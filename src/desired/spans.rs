//! Where things stand in a manifest's text, byte by byte: what [`super::edit`] needs and a finding
//! does not. Anchors and merge keys are not followed here; an alias is a place like any other.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser};

use super::yaml::DEPTH_MAX;

/// A value's place: from its first byte to the end of its last scalar or bracket.
#[derive(Debug)]
pub(super) struct Spot<'t> {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) form: Form<'t>,
}

/// What stands there.
#[derive(Debug)]
pub(super) enum Form<'t> {
    /// A scalar; empty where only a key was written.
    Text(Cow<'t, str>),
    /// The items of a list.
    List(Vec<Spot<'t>>),
    /// The entries of a map whose keys are scalars.
    Map(Vec<Pair<'t>>),
    /// `*name`.
    Alias,
}

/// An entry of a map.
#[derive(Debug)]
pub(super) struct Pair<'t> {
    pub(super) key: Spot<'t>,
    pub(super) value: Spot<'t>,
}

impl<'t> Spot<'t> {
    /// The entry of `key`, if this is a map that has it written out.
    pub(super) fn pair(&self, key: &str) -> Option<&Pair<'t>> {
        match &self.form {
            Form::Map(pairs) => pairs.iter().find(|pair| pair.key.text() == Some(key)),
            _ => None,
        }
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.pair(key).map(|pair| &pair.value)
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.form {
            Form::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The documents of a text; none if it can't be read.
pub(super) fn read(text: &str) -> Option<Vec<Spot<'_>>> {
    let bytes: Vec<usize> =
        text.char_indices().map(|(at, _)| at).chain(std::iter::once(text.len())).collect();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let mut documents = Vec::new();
    let mut open: Vec<(usize, bool, Vec<Spot<'_>>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let (from, to) = (at(span.start.index()), at(span.end.index()));
        let spot = match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() == DEPTH_MAX {
                    return None;
                }
                open.push((from, matches!(event, Event::MappingStart(..)), Vec::new()));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (from, is_map, parts) = open.pop()?;
                close(text, from, to, is_map, parts)?
            }
            Event::Scalar(content, ..) => Spot { from, to, form: Form::Text(content) },
            Event::Alias(_) => Spot { from, to, form: Form::Alias },
            _ => continue,
        };
        match open.last_mut() {
            Some((_, _, parts)) => parts.push(spot),
            None => documents.push(spot),
        }
    }
    Some(documents)
}

/// A collection in brackets ends with its bracket; one in lines with its last part, because the parser
/// tells its end only where the next thing begins.
fn close<'t>(
    text: &str,
    from: usize,
    to: usize,
    is_map: bool,
    parts: Vec<Spot<'t>>,
) -> Option<Spot<'t>> {
    let is_flow = text[from..].starts_with(['{', '[']);
    let to = if is_flow { to } else { parts.iter().map(|part| part.to).max().unwrap_or(from) };
    if !is_map {
        return Some(Spot { from, to, form: Form::List(parts) });
    }
    let mut pairs = Vec::with_capacity(parts.len() / 2);
    let mut parts = parts.into_iter();
    while let Some(key) = parts.next() {
        pairs.push(Pair { key, value: parts.next()? });
    }
    Some(Spot { from, to, form: Form::Map(pairs) })
}
