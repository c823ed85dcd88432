//! `snakecase`, `kebabcase` and `camelcase`: how xstrings parts a text into words.

use super::super::value::Value;
use super::args::{done, exactly, text};
use super::text::{lower_char, upper_char};

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

/// Unicode's punctuation, as far as it is ASCII or common.
fn is_punctuation(c: char) -> bool {
    match c {
        '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' => false,
        '\u{a1}'
        | '\u{a7}'
        | '\u{ab}'
        | '\u{b6}'
        | '\u{b7}'
        | '\u{bb}'
        | '\u{bf}'
        | '\u{2010}'..='\u{2027}'
        | '\u{2030}'..='\u{205e}'
        | '\u{3001}'..='\u{3003}' => true,
        c => c.is_ascii_punctuation(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        if is_connector(c) {
            Self::Connector
        } else if is_punctuation(c) {
            Self::Punctuation
        } else if c.is_uppercase() {
            Self::Upper
        } else if c.is_alphabetic() {
            Self::Letters
        } else if c.is_numeric() {
            Self::Number
        } else {
            Self::Other
        }
    }

    /// Whether it neither begins a word nor ends one with a connector of its own.
    fn needs_no_connector(self) -> bool {
        matches!(self, Self::None | Self::Connector | Self::Punctuation)
    }
}

/// A text's words, one after the other.
struct Words<'a> {
    rest: &'a [char],
    kind: Kind,
    word: &'a [char],
}

impl<'a> Words<'a> {
    fn next(&mut self) {
        let rest = self.rest;
        let Some(first) = rest.first().copied() else {
            (self.kind, self.word) = (Kind::None, &[]);
            return;
        };
        let run = |from: usize, of: &dyn Fn(char) -> bool| {
            from + rest.iter().skip(from).take_while(|c| of(**c)).count()
        };
        let is = |kind: Kind| move |c: char| Kind::of(c) == kind;
        let kind = Kind::of(first);
        let length = match kind {
            Kind::Upper => {
                let capitals = run(0, &is(Kind::Upper));
                let next = rest.get(capitals).copied().map(Kind::of);
                match (capitals, next == Some(Kind::Letters)) {
                    (1, true) => run(1, &is(Kind::Letters)),
                    // The last capital belongs to the word after: `HTTPServer`.
                    (more, true) => more - 1,
                    (more, false) => more,
                }
            }
            other => run(0, &is(other)),
        };
        let (word, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        (self.kind, self.word, self.rest) = (kind, word, rest);
    }

    fn write(&self, out: &mut String, connector: char) {
        write(out, self.kind, self.word, connector);
    }

    fn write_while_letters(&mut self, out: &mut String, connector: char) {
        while matches!(self.kind, Kind::Letters | Kind::Number) {
            self.write(out, connector);
            self.next();
        }
        if !self.kind.needs_no_connector() {
            out.push(connector);
        }
    }
}

fn write(out: &mut String, kind: Kind, word: &[char], connector: char) {
    match kind {
        Kind::Upper => out.extend(word.iter().copied().map(lower_char)),
        Kind::Connector => out.extend(word.iter().map(|_| connector)),
        _ => out.extend(word),
    }
}

/// Lower case, with `connector` between the words: `HTTP2xxServer` is `http_2xx_server`.
fn parted(whole: &str, connector: char) -> String {
    let chars: Vec<char> = whole.chars().collect();
    let mut words = Words { rest: &chars, kind: Kind::None, word: &[] };
    let mut out = String::with_capacity(whole.len());
    words.next();
    while !words.rest.is_empty() {
        if words.kind != Kind::Connector {
            words.write(&mut out, connector);
        }
        let (previous, last) = (words.kind, words.word);
        words.next();
        match previous {
            Kind::Number => words.write_while_letters(&mut out, connector),
            Kind::Connector => write(&mut out, previous, last, connector),
            Kind::Punctuation => {}
            _ if words.kind != Kind::Number => {
                if !words.kind.needs_no_connector() {
                    out.push(connector);
                }
            }
            _ if words.rest.is_empty() => {}
            _ => {
                let number = words.word;
                words.next();
                if words.kind == Kind::Letters {
                    // Small letters after a number belong to it: `http_2xx`.
                    out.push(connector);
                    out.extend(number);
                    words.write_while_letters(&mut out, connector);
                } else {
                    // The number belongs to the word before it: `bld4_floor`.
                    out.extend(number);
                    if !matches!(words.kind, Kind::Connector | Kind::Punctuation) {
                        out.push(connector);
                    }
                }
            }
        }
    }
    words.write(&mut out, connector);
    out
}

pub(super) fn snakecase(args: &[Value]) -> Result<Value, String> {
    let [value] = exactly("snakecase", args)?;
    done(parted(text(value)?, '_'))
}

pub(super) fn kebabcase(args: &[Value]) -> Result<Value, String> {
    let [value] = exactly("kebabcase", args)?;
    done(parted(text(value)?, '-'))
}

pub(super) fn camelcase(args: &[Value]) -> Result<Value, String> {
    let [value] = exactly("camelcase", args)?;
    let mut chars = text(value)?.chars().peekable();
    let mut out = String::new();
    while let Some(connector) = chars.next_if(|c| is_connector(*c)) {
        out.push(connector);
    }
    let Some(mut previous) = chars.next().map(upper_char) else {
        return done(out);
    };
    for c in chars {
        let mut next = c;
        match (is_connector(previous), is_connector(c)) {
            (true, true) | (false, _) => out.push(previous),
            (true, false) => next = upper_char(c),
        }
        previous = next;
    }
    out.push(previous);
    done(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_xstrings_does() {
        let table = [
            ("FirstName", "first_name"),
            ("HTTPServer", "http_server"),
            ("NoHTTPS", "no_https"),
            ("GO_PATH", "go_path"),
            ("GO PATH", "go_path"),
            ("GO-PATH", "go_path"),
            ("http2xx", "http_2xx"),
            ("HTTP20xOK", "http_20x_ok"),
            ("Duration2m3s", "duration_2m3s"),
            ("Bld4Floor3rd", "bld4_floor_3rd"),
            ("_foo_bar", "_foo_bar"),
            ("", ""),
            ("A", "a"),
        ];
        for (from, to) in table {
            assert_eq!(parted(from, '_'), to, "{from}");
        }
    }

    #[test]
    fn camelcase_is_pascal_case() {
        let table = [
            ("some_words", "SomeWords"),
            ("http-server", "HttpServer"),
            ("no__https", "No_Https"),
            ("_a", "_A"),
            ("a", "A"),
            ("ab_", "Ab_"),
        ];
        for (from, to) in table {
            let camel = camelcase(&[Value::text(from)]).expect("text");
            assert_eq!(super::super::args::strval(&camel), to, "{from}");
        }
    }
}
