//! Tokens of a template, as Go's `text/template/parse/lex.go` makes them: text, delimiters with and
//! without trim markers, and what stands between them. Spaces are tokens, because `a.b` and `a .b` differ.

use super::ast::At;

/// What Go's lexer trims and takes for blank.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Open,
    Close,
    Space,
    LeftParen,
    RightParen,
    Pipe,
    Comma,
    Declare,
    Assign,
    /// `.name`; the token's text has the point.
    Field,
    /// `$name`; the token's text has the sign.
    Variable,
    Identifier,
    /// `if`, `end`, `nil` and so on; the lone point too.
    Keyword,
    Bool,
    Number,
    Char,
    Quoted,
    Raw,
    /// Any other printable character.
    Other,
    End,
}

/// A token and where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    pub(super) at: At,
}

const KEYWORDS: [&str; 12] = [
    ".", "block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template",
    "with",
];

/// All tokens of a text, the last of them `End`.
pub(super) fn lex(text: &str) -> Result<Vec<Token<'_>>, (At, String)> {
    let mut lexer = Lexer { rest: text, at: At { line: 1, column: 1 }, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'t> {
    rest: &'t str,
    at: At,
    tokens: Vec<Token<'t>>,
}

impl<'t> Lexer<'t> {
    fn run(&mut self) -> Result<(), (At, String)> {
        let mut trim = false;
        loop {
            let length = self.rest.find("{{").unwrap_or(self.rest.len());
            let (text, after) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
            self.text(text, trim, opens_trimmed(after));
            if after.is_empty() {
                self.push(Kind::End, 0);
                return Ok(());
            }
            trim = self.delimited(opens_trimmed(after))?;
        }
    }

    /// A run of text, trimmed as the delimiters around it ask for.
    fn text(&mut self, text: &'t str, trim_start: bool, trim_end: bool) {
        let mut left = text.len();
        if trim_start {
            let kept = text.trim_start_matches(BLANK);
            self.skip(text.len().saturating_sub(kept.len()));
            left = kept.len();
        }
        let here = self.rest.get(..left).unwrap_or_default();
        let kept = if trim_end { here.trim_end_matches(BLANK) } else { here };
        if !kept.is_empty() {
            self.push(Kind::Text, kept.len());
        }
        self.skip(left.saturating_sub(kept.len()));
    }

    /// A comment or an action; tells whether the text after it is to be trimmed.
    fn delimited(&mut self, trimmed: bool) -> Result<bool, (At, String)> {
        let marker = if trimmed { "{{-".len() + 1 } else { "{{".len() };
        if self.rest.get(marker..).is_some_and(|rest| rest.starts_with("/*")) {
            return self.comment(marker);
        }
        self.push(Kind::Open, "{{".len());
        // The blank after a marker stays: it's a space like any other.
        self.skip(if trimmed { 1 } else { 0 });
        self.action()
    }

    fn comment(&mut self, marker: usize) -> Result<bool, (At, String)> {
        let start = self.at;
        self.skip(marker.saturating_add("/*".len()));
        let Some(length) = self.rest.find("*/") else {
            return Err((start, "unclosed comment".to_owned()));
        };
        self.skip(length.saturating_add("*/".len()));
        if self.rest.starts_with("}}") {
            self.skip("}}".len());
            return Ok(false);
        }
        if closes_trimmed(self.rest) {
            self.skip(" -}}".len());
            return Ok(true);
        }
        Err((start, "comment ends before closing delimiter".to_owned()))
    }

    /// What stands between the delimiters, and the closing one.
    fn action(&mut self) -> Result<bool, (At, String)> {
        let mut parens = 0_usize;
        loop {
            let trims = closes_trimmed(self.rest);
            if trims || self.rest.starts_with("}}") {
                if parens > 0 {
                    return Err((self.at, "unclosed left paren".to_owned()));
                }
                self.skip(if trims { " -".len() } else { 0 });
                self.push(Kind::Close, "}}".len());
                return Ok(trims);
            }
            let Some(first) = self.rest.chars().next() else {
                return Err((self.at, "unclosed action".to_owned()));
            };
            let second = self.rest.chars().nth(1);
            match first {
                _ if BLANK.contains(&first) => self.space(),
                '(' => {
                    parens = parens.saturating_add(1);
                    self.push(Kind::LeftParen, 1);
                }
                ')' => {
                    let Some(fewer) = parens.checked_sub(1) else {
                        return Err((self.at, "unexpected right paren".to_owned()));
                    };
                    parens = fewer;
                    self.push(Kind::RightParen, 1);
                }
                '=' => self.push(Kind::Assign, 1),
                ':' if second == Some('=') => self.push(Kind::Declare, 2),
                ':' => return Err((self.at, "expected :=".to_owned())),
                '|' => self.push(Kind::Pipe, 1),
                ',' => self.push(Kind::Comma, 1),
                '"' => self.quoted(Kind::Quoted, '"', "unterminated quoted string")?,
                '\'' => self.quoted(Kind::Char, '\'', "unterminated character constant")?,
                '`' => self.raw()?,
                '$' => self.word(Kind::Variable)?,
                '.' if second.is_none_or(|next| !next.is_ascii_digit()) => {
                    self.word(Kind::Field)?;
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                _ if is_alphanumeric(first) => self.word(Kind::Identifier)?,
                _ if first.is_ascii_graphic() => self.push(Kind::Other, 1),
                _ => {
                    return Err((self.at, format!("unrecognized character in action: {first:?}")));
                }
            }
        }
    }

    /// A run of blanks; the last of them is left alone where it belongs to a trimming delimiter.
    fn space(&mut self) {
        let kept = self.rest.trim_start_matches(BLANK);
        let mut length = self.rest.len().saturating_sub(kept.len());
        if kept.starts_with("-}}") {
            length = length.saturating_sub(1);
        }
        self.push(Kind::Space, length);
    }

    fn quoted(&mut self, kind: Kind, quote: char, unterminated: &str) -> Result<(), (At, String)> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == quote => {
                    self.push(kind, at.saturating_add(1));
                    return Ok(());
                }
                _ => {}
            }
        }
        Err((self.at, unterminated.to_owned()))
    }

    fn raw(&mut self) -> Result<(), (At, String)> {
        let Some(length) = self.rest.get(1..).and_then(|rest| rest.find('`')) else {
            return Err((self.at, "unterminated raw quoted string".to_owned()));
        };
        self.push(Kind::Raw, length.saturating_add(2));
        Ok(())
    }

    /// An identifier, a field or a variable. The latter two begin with a sign.
    fn word(&mut self, kind: Kind) -> Result<(), (At, String)> {
        let sign = usize::from(kind != Kind::Identifier);
        let rest = self.rest.get(sign..).unwrap_or_default();
        let length = rest.find(|c| !is_alphanumeric(c)).unwrap_or(rest.len());
        let length = length.saturating_add(sign);
        if let Some(next) = self.rest.get(length..).and_then(|rest| rest.chars().next())
            && !BLANK.contains(&next)
            && !matches!(next, '.' | ',' | '|' | ':' | ')' | '(' | '}' | '=')
        {
            return Err((self.at, format!("bad character {next:?}")));
        }
        let word = self.rest.get(..length).unwrap_or_default();
        let kind = match word {
            "true" | "false" => Kind::Bool,
            _ if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => kind,
        };
        self.push(kind, length);
        Ok(())
    }

    /// A number, roughly; the parser looks at it closely. A sign is part of it at the start and after
    /// an exponent.
    fn number(&mut self) -> Result<(), (At, String)> {
        let body = self.rest.strip_prefix(['+', '-']).unwrap_or(self.rest);
        let hex = body.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        let mut before = ' ';
        let mut length = self.rest.len();
        for (at, c) in body.char_indices() {
            let exponent = if hex { ['p', 'P'] } else { ['e', 'E'] };
            let sign = (c == '+' || c == '-') && exponent.contains(&before);
            if !(is_alphanumeric(c) || c == '.' || sign) {
                length = at.saturating_add(self.rest.len().saturating_sub(body.len()));
                break;
            }
            before = c;
        }
        if length == 0 || !self.rest.get(..length).is_some_and(|n| n.contains(is_alphanumeric)) {
            let shown = self.rest.chars().take(2).collect::<String>();
            return Err((self.at, format!("bad number syntax: {shown:?}")));
        }
        self.push(Kind::Number, length);
        Ok(())
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let text = self.rest.get(..length).unwrap_or_default();
        self.tokens.push(Token { kind, text, at: self.at });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        for c in gone.chars() {
            if c == '\n' {
                self.at.line = self.at.line.saturating_add(1);
                self.at.column = 1;
            } else {
                self.at.column = self.at.column.saturating_add(1);
            }
        }
        self.rest = rest;
    }
}

/// Whether a text begins with `{{-` and a blank.
fn opens_trimmed(text: &str) -> bool {
    text.strip_prefix("{{-").is_some_and(|rest| rest.starts_with(BLANK))
}

/// Whether a text begins with a blank and `-}}`.
fn closes_trimmed(text: &str) -> bool {
    text.strip_prefix(BLANK).is_some_and(|rest| rest.starts_with("-}}"))
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_tokens() {
        for (text, expected) in [
            ("a{{ .b }}c", "Text:a Open:{{ Space:  Field:.b Space:  Close:}} Text:c End:"),
            ("a \n{{- .b -}}\n c", "Text:a Open:{{ Space:  Field:.b Close:}} Text:c End:"),
            ("a {{/* x */}} b", "Text:a  Text: b End:"),
            ("a {{- /* x */ -}} b", "Text:a Text:b End:"),
            ("{{-3}}", "Open:{{ Number:-3 Close:}} End:"),
            ("{{3 -}} x", "Open:{{ Number:3 Close:}} Text:x End:"),
            ("{{$x.y:=`a`}}", "Open:{{ Variable:$x Field:.y Declare::= Raw:`a` Close:}} End:"),
            ("{{1e+3}}", "Open:{{ Number:1e+3 Close:}} End:"),
            (r#"{{"a\"}}"}}"#, r#"Open:{{ Quoted:"a\"}}" Close:}} End:"#),
            ("{{(.a).b}}", "Open:{{ LeftParen:( Field:.a RightParen:) Field:.b Close:}} End:"),
            ("{{. nil}}", "Open:{{ Keyword:. Space:  Keyword:nil Close:}} End:"),
            ("{{\n.a\n}}", "Open:{{ Space:\n Field:.a Space:\n Close:}} End:"),
        ] {
            let tokens = lex(text).unwrap();
            let shown: Vec<String> =
                tokens.iter().map(|token| format!("{:?}:{}", token.kind, token.text)).collect();
            assert_eq!(shown.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_an_error_at_its_place() {
        for (text, line, column, message) in [
            ("{{", 1, 3, "unclosed action"),
            ("a\n{{ .a", 2, 6, "unclosed action"),
            ("{{ (.a }}", 1, 8, "unclosed left paren"),
            ("{{ .a) }}", 1, 6, "unexpected right paren"),
            ("{{ \"a }}", 1, 4, "unterminated quoted string"),
            ("{{ `a }}", 1, 4, "unterminated raw quoted string"),
            ("{{/* a }}", 1, 1, "unclosed comment"),
            ("{{/* a */ }}", 1, 1, "comment ends before closing delimiter"),
            ("{{ $x+2 }}", 1, 4, "bad character '+'"),
            ("{{ : }}", 1, 4, "expected :="),
            ("{{ - }}", 1, 4, "bad number syntax: \"- \""),
        ] {
            let (at, said) = lex(text).unwrap_err();
            assert_eq!((at.line, at.column, said.as_str()), (line, column, message), "{text}");
        }
    }

    #[test]
    fn trimmed_text_keeps_its_line() {
        let tokens = lex("{{ .a -}}\n\n  x").unwrap();
        let text = tokens.iter().find(|token| token.kind == Kind::Text).unwrap();
        assert_eq!((text.text, text.at.line, text.at.column), ("x", 3, 3));
    }
}
