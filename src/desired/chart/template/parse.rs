//! Tokens become nodes, by the grammar of Go's `text/template/parse`.

use std::rc::Rc;

use super::ast::{At, Branch, Callee, Command, Node, Operand, Pipe, Term};
use super::lex::{Kind, Token, lex};
use super::literal;

/// So many variables may be in scope: each use of one looks through them.
const VARIABLES_MAX: usize = 1000;

/// How deep control structures and parentheses may nest, taken together: the parser and the executor
/// recurse with them.
const NESTING_MAX: usize = 100;

/// What went wrong, and where.
pub(super) type Wrong = (At, String);

/// What a text has: its own nodes, and what it defines, in order.
pub(super) struct Parsed {
    pub(super) nodes: Vec<Node>,
    pub(super) defined: Vec<(Rc<str>, Vec<Node>)>,
}

/// Reads a template's text. `callee` finds a function by its name.
pub(super) fn parse(text: &str, callee: &dyn Fn(&str) -> Option<Callee>) -> Result<Parsed, Wrong> {
    let mut parser = Parser {
        tokens: lex(text)?,
        next: 0,
        callee,
        variables: vec![Rc::from("$")],
        defined: Vec::new(),
        depth: 0,
        loops: 0,
    };
    let (nodes, stop) = parser.nodes(true)?;
    match stop.what {
        Stopped::End => Err((stop.at, "unexpected {{end}}".to_owned())),
        Stopped::Else => Err((stop.at, "unexpected {{else}}".to_owned())),
        Stopped::Text => Ok(Parsed { nodes, defined: parser.defined }),
    }
}

/// What ended a run of nodes.
#[derive(Clone, Copy)]
enum Stopped {
    Text,
    End,
    Else,
}

struct Stop {
    what: Stopped,
    at: At,
}

/// Whose pipeline it is, for what may stand in it and for messages.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Context {
    name: &'static str,
    end: Kind,
}

const fn clause(name: &'static str) -> Context {
    Context { name, end: Kind::Close }
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    next: usize,
    callee: &'t dyn Fn(&str) -> Option<Callee>,
    /// The variables in scope.
    variables: Vec<Rc<str>>,
    defined: Vec<(Rc<str>, Vec<Node>)>,
    depth: usize,
    /// How many `range` are around.
    loops: usize,
}

impl<'t> Parser<'t> {
    /// The next token; the last one, `End`, again and again.
    fn peek(&self) -> Token<'t> {
        let last = self.tokens.last().copied();
        let end = Token { kind: Kind::End, text: "", at: At { line: 1, column: 1 } };
        self.tokens.get(self.next).copied().or(last).unwrap_or(end)
    }

    fn take(&mut self) -> Token<'t> {
        let token = self.peek();
        self.next = self.next.saturating_add(1);
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.take();
        }
    }

    fn peek_word(&mut self) -> Token<'t> {
        self.skip_space();
        self.peek()
    }

    fn take_word(&mut self) -> Token<'t> {
        self.skip_space();
        self.take()
    }

    fn is_keyword(&mut self, word: &str) -> bool {
        let token = self.peek_word();
        token.kind == Kind::Keyword && token.text == word
    }

    fn close(&mut self, context: &str) -> Result<(), Wrong> {
        let token = self.take_word();
        if token.kind == Kind::Close { Ok(()) } else { unexpected(token, context) }
    }

    fn deeper(&mut self, at: At) -> Result<(), Wrong> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > NESTING_MAX {
            return Err((at, format!("nested deeper than {NESTING_MAX} levels")));
        }
        Ok(())
    }

    /// Nodes up to an `end`, an `else` or the end of the text. `define` may stand at the top only.
    fn nodes(&mut self, top: bool) -> Result<(Vec<Node>, Stop), Wrong> {
        let mut nodes = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::End => {
                    if !top {
                        return Err((token.at, "unexpected EOF".to_owned()));
                    }
                    return Ok((nodes, Stop { what: Stopped::Text, at: token.at }));
                }
                Kind::Text => nodes.push(Node::Text { at: token.at, text: Rc::from(token.text) }),
                Kind::Open => match self.action(token.at, top)? {
                    Action::Node(node) => nodes.push(node),
                    Action::Nothing => {}
                    Action::Stop(what) => return Ok((nodes, Stop { what, at: token.at })),
                },
                _ => return unexpected(token, "input"),
            }
        }
    }

    fn action(&mut self, at: At, top: bool) -> Result<Action, Wrong> {
        let word = self.peek_word();
        if word.kind != Kind::Keyword {
            let pipe = self.pipeline(clause("command"))?;
            return Ok(Action::Node(Node::Action { at, pipe }));
        }
        let start = self.next;
        self.take();
        match word.text {
            "if" => Ok(Action::Node(Node::If(self.branch(at, "if")?))),
            "with" => Ok(Action::Node(Node::With(self.branch(at, "with")?))),
            "range" => Ok(Action::Node(Node::Range(self.branch(at, "range")?))),
            "define" if top => self.define(at).map(|()| Action::Nothing),
            "block" => self.block(at).map(Action::Node),
            "template" => self.template(at).map(Action::Node),
            "else" => Ok(Action::Stop(Stopped::Else)),
            "end" => {
                self.close("end")?;
                Ok(Action::Stop(Stopped::End))
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err((at, format!("{{{{{}}}}} outside {{{{range}}}}", word.text)));
                }
                self.close(word.text)?;
                let node = if word.text == "break" { Node::Break } else { Node::Continue };
                Ok(Action::Node(node))
            }
            _ => {
                self.next = start;
                let pipe = self.pipeline(clause("command"))?;
                Ok(Action::Node(Node::Action { at, pipe }))
            }
        }
    }

    /// `if`, `with` or `range`, up to its `end`. After `else`, another `if` (or `with`) may follow, that
    /// shares the `end`.
    fn branch(&mut self, at: At, word: &'static str) -> Result<Box<Branch>, Wrong> {
        self.deeper(at)?;
        let variables = self.variables.len();
        let pipe = self.pipeline(clause(word))?;
        self.loops = self.loops.saturating_add(usize::from(word == "range"));
        let body = self.nodes(false);
        self.loops = self.loops.saturating_sub(usize::from(word == "range"));
        let (then, stop) = body?;
        let mut otherwise = Vec::new();
        if matches!(stop.what, Stopped::Else) {
            otherwise = self.otherwise(word, stop.at)?;
        }
        self.variables.truncate(variables);
        self.depth = self.depth.saturating_sub(1);
        Ok(Box::new(Branch { at, pipe, then, otherwise }))
    }

    fn otherwise(&mut self, word: &str, at: At) -> Result<Vec<Node>, Wrong> {
        if word != "range" && self.is_keyword(word) {
            self.take();
            let node = if word == "if" {
                Node::If(self.branch(at, "if")?)
            } else {
                Node::With(self.branch(at, "with")?)
            };
            return Ok(vec![node]);
        }
        self.close("else")?;
        let (nodes, stop) = self.nodes(false)?;
        match stop.what {
            Stopped::End => Ok(nodes),
            _ => Err((stop.at, "expected end; found {{else}}".to_owned())),
        }
    }

    /// A quoted name, as `define`, `block` and `template` have one.
    fn name(&mut self, context: &str) -> Result<Rc<str>, Wrong> {
        let token = self.take_word();
        match token.kind {
            Kind::Quoted | Kind::Raw => {
                literal::text(token.text).map(Rc::from).map_err(|wrong| (token.at, wrong))
            }
            _ => unexpected(token, context),
        }
    }

    /// A body of its own, that sees no variable from around it and no loop.
    fn body(&mut self, at: At, context: &str) -> Result<Vec<Node>, Wrong> {
        self.deeper(at)?;
        let around = std::mem::replace(&mut self.variables, vec![Rc::from("$")]);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, stop) = self.nodes(false)?;
        self.variables = around;
        self.loops = loops;
        self.depth = self.depth.saturating_sub(1);
        match stop.what {
            Stopped::End => Ok(nodes),
            _ => Err((stop.at, format!("unexpected {{{{else}}}} in {context}"))),
        }
    }

    fn define(&mut self, at: At) -> Result<(), Wrong> {
        let name = self.name("define clause")?;
        self.close("define clause")?;
        let nodes = self.body(at, "define clause")?;
        self.defined.push((name, nodes));
        Ok(())
    }

    fn block(&mut self, at: At) -> Result<Node, Wrong> {
        let name = self.name("block clause")?;
        let pipe = self.pipeline(clause("block clause"))?;
        let nodes = self.body(at, "block clause")?;
        self.defined.push((Rc::clone(&name), nodes));
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    fn template(&mut self, at: At) -> Result<Node, Wrong> {
        let name = self.name("template clause")?;
        if self.peek_word().kind == Kind::Close {
            self.take();
            return Ok(Node::Template { at, name, pipe: None });
        }
        let pipe = self.pipeline(clause("template clause"))?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    /// A pipeline up to the end that its context has, which is taken as well.
    fn pipeline(&mut self, context: Context) -> Result<Pipe, Wrong> {
        let at = self.peek_word().at;
        let mut pipe = Pipe { at, variables: Vec::new(), assigns: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.peek_word();
            if token.kind == context.end {
                self.take();
                break;
            }
            if !begins_operand(token) {
                return unexpected(token, context.name);
            }
            pipe.commands.push(self.command()?);
            // As in Go, a pipe may be the last thing.
            if self.peek_word().kind == Kind::Pipe {
                self.take();
            }
        }
        if pipe.commands.is_empty() {
            return Err((at, format!("missing value for {}", context.name)));
        }
        for (stage, command) in pipe.commands.iter().enumerate().skip(1) {
            if matches!(command.word.term, Term::Dot | Term::Nil | Term::Literal(_)) {
                let stage = stage.saturating_add(1);
                let message = format!("non executable command in pipeline stage {stage}");
                return Err((command.word.at, message));
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: Context) -> Result<(), Wrong> {
        loop {
            let token = self.peek_word();
            if token.kind != Kind::Variable {
                return Ok(());
            }
            let start = self.next;
            self.take();
            let next = self.peek_word();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    self.take();
                    pipe.assigns = next.kind == Kind::Assign;
                    return self.declare(pipe, token);
                }
                Kind::Comma => {
                    self.take();
                    self.declare(pipe, token)?;
                    if context.name != "range" || pipe.variables.len() > 1 {
                        let message = format!("too many declarations in {}", context.name);
                        return Err((token.at, message));
                    }
                    if self.peek_word().kind != Kind::Variable {
                        let message = "range can only initialize variables".to_owned();
                        return Err((token.at, message));
                    }
                }
                _ if pipe.variables.is_empty() => {
                    self.next = start;
                    return Ok(());
                }
                _ => return unexpected(next, context.name),
            }
        }
    }

    /// A variable comes into scope. One that is assigned to must be in scope already; with `$i, $x =`
    /// the executor finds out, as it does in Go.
    fn declare(&mut self, pipe: &mut Pipe, token: Token<'t>) -> Result<(), Wrong> {
        let name: Rc<str> = Rc::from(token.text);
        if pipe.assigns && !self.variables.contains(&name) {
            return Err((token.at, format!("undefined variable \"{name}\"")));
        }
        if self.variables.len() == VARIABLES_MAX {
            let message = format!("more than {VARIABLES_MAX} variables are in scope");
            return Err((token.at, message));
        }
        self.variables.push(Rc::clone(&name));
        pipe.variables.push(name);
        Ok(())
    }

    /// A word and its arguments, up to a pipe or an end, which are left.
    fn command(&mut self) -> Result<Command, Wrong> {
        let word = self.operand()?;
        let mut arguments = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::Close | Kind::RightParen | Kind::Pipe => {
                    self.next = self.next.saturating_sub(1);
                    return Ok(Command { word, arguments });
                }
                _ => return unexpected(token, "operand"),
            }
            if begins_operand(self.peek_word()) {
                arguments.push(self.operand()?);
            }
        }
    }

    /// A term and the fields after it.
    fn operand(&mut self) -> Result<Operand, Wrong> {
        let operand = self.term()?;
        if self.peek().kind != Kind::Field {
            return Ok(operand);
        }
        let at = operand.at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(field(self.take()));
        }
        let term = match operand.term {
            Term::Field(mut names) => {
                names.append(&mut fields);
                Term::Field(names)
            }
            Term::Variable(name, _) => Term::Variable(name, fields),
            Term::Dot | Term::Nil | Term::Literal(_) => {
                return Err((at, "unexpected . after term".to_owned()));
            }
            other => Term::Chain(Box::new(Operand { at, term: other }), fields),
        };
        Ok(Operand { at, term })
    }

    fn term(&mut self) -> Result<Operand, Wrong> {
        let token = self.take();
        let at = token.at;
        let term = match token.kind {
            Kind::Identifier => {
                let callee = (self.callee)(token.text)
                    .ok_or_else(|| (at, format!("function \"{}\" not defined", token.text)))?;
                Term::Function(Rc::from(token.text), callee)
            }
            Kind::Field => Term::Field(vec![field(token)]),
            Kind::Keyword if token.text == "." => Term::Dot,
            Kind::Keyword if token.text == "nil" => Term::Nil,
            Kind::Variable => {
                if !self.variables.iter().any(|name| &**name == token.text) {
                    return Err((at, format!("undefined variable \"{}\"", token.text)));
                }
                Term::Variable(Rc::from(token.text), Vec::new())
            }
            Kind::LeftParen => {
                self.deeper(at)?;
                let context = Context { name: "parenthesized pipeline", end: Kind::RightParen };
                let pipe = self.pipeline(context)?;
                self.depth = self.depth.saturating_sub(1);
                Term::Pipe(Box::new(pipe))
            }
            _ => Term::Literal(literal::read(&token).map_err(|wrong| (at, wrong))?),
        };
        Ok(Operand { at, term })
    }
}

/// What an action is.
enum Action {
    Node(Node),
    Nothing,
    Stop(Stopped),
}

/// The name in a field's token.
fn field(token: Token<'_>) -> Rc<str> {
    Rc::from(token.text.strip_prefix('.').unwrap_or(token.text))
}

fn begins_operand(token: Token<'_>) -> bool {
    match token.kind {
        Kind::Keyword => matches!(token.text, "." | "nil"),
        Kind::Bool
        | Kind::Char
        | Kind::Field
        | Kind::Identifier
        | Kind::Number
        | Kind::Raw
        | Kind::Quoted
        | Kind::Variable
        | Kind::LeftParen => true,
        _ => false,
    }
}

fn unexpected<T>(token: Token<'_>, context: &str) -> Result<T, Wrong> {
    let shown = match token.kind {
        Kind::End => "EOF".to_owned(),
        Kind::Keyword => format!("<{}>", token.text),
        _ if token.text.chars().count() > 10 => {
            format!("{:?}...", token.text.chars().take(10).collect::<String>())
        }
        _ => format!("{:?}", token.text),
    };
    Err((token.at, format!("unexpected {shown} in {context}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::chart::value::Value;

    fn callee(name: &str) -> Option<Callee> {
        (name == "f").then_some(Callee::Plain(|_| Ok(Value::Null)))
    }

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        for (text, line, column, message) in [
            ("{{ g }}", 1, 4, "function \"g\" not defined"),
            ("{{ $x }}", 1, 4, "undefined variable \"$x\""),
            ("{{ $x = 1 }}", 1, 4, "undefined variable \"$x\""),
            ("{{ if . }}{{ $x := 1 }}{{ end }}{{ $x }}", 1, 36, "undefined variable \"$x\""),
            ("{{ }}", 1, 4, "missing value for command"),
            ("{{ if }}{{ end }}", 1, 7, "missing value for if"),
            ("{{ f ( ) }}", 1, 8, "missing value for parenthesized pipeline"),
            ("{{ | f }}", 1, 4, "unexpected \"|\" in command"),
            ("{{ f | | f }}", 1, 8, "unexpected \"|\" in command"),
            ("a\n{{ if . }}", 2, 11, "unexpected EOF"),
            ("{{ end }}", 1, 1, "unexpected {{end}}"),
            ("{{ else }}", 1, 1, "unexpected {{else}}"),
            ("{{ if . }}{{ else }}{{ else }}{{ end }}", 1, 21, "expected end; found {{else}}"),
            ("{{ f | 3 }}", 1, 8, "non executable command in pipeline stage 2"),
            ("{{ f | . }}", 1, 8, "non executable command in pipeline stage 2"),
            ("{{ nil.a }}", 1, 4, "unexpected . after term"),
            ("{{ \"a\".b }}", 1, 4, "unexpected . after term"),
            ("{{ f \"a\"\"b\" }}", 1, 9, "unexpected \"\\\"b\\\"\" in operand"),
            ("{{ break }}", 1, 1, "{{break}} outside {{range}}"),
            (
                "{{ if . }}{{ define \"x\" }}{{ end }}{{ end }}",
                1,
                14,
                "unexpected <define> in command",
            ),
            ("{{ $x, $y := . }}", 1, 4, "too many declarations in command"),
            ("{{ range $x, $y, $z := . }}{{ end }}", 1, 14, "too many declarations in range"),
            ("{{ template x }}", 1, 13, "unexpected \"x\" in template clause"),
            ("{{ 08 }}", 1, 4, "bad number syntax: \"08\""),
            (
                "{{ range . }}{{ define \"x\" }}{{ break }}{{ end }}{{ end }}",
                1,
                17,
                "unexpected <define> in command",
            ),
        ] {
            let Err((at, said)) = parse(text, &callee) else { panic!("{text} is read") };
            assert_eq!((said.as_str(), at.line, at.column), (message, line, column), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nest = |n: usize| format!("{{{{ {}f{} }}}}", "(".repeat(n), ")".repeat(n));
        assert!(parse(&nest(NESTING_MAX), &callee).is_ok());
        assert!(parse(&nest(NESTING_MAX + 1), &callee).is_err());
        let nest = |n: usize| "{{ if . }}".repeat(n) + &"{{ end }}".repeat(n);
        assert!(parse(&nest(NESTING_MAX), &callee).is_ok());
        assert!(parse(&nest(NESTING_MAX + 1), &callee).is_err());
        let chain = "{{ if . }}".to_owned() + &"{{ else if . }}".repeat(200) + "{{ end }}";
        assert!(parse(&chain, &callee).is_err());
    }
}
