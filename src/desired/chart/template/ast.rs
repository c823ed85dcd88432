//! What a template's text is, once it is read.

use std::rc::Rc;

use super::super::value::Value;
use super::Function;

/// A place in a file, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A named template.
#[derive(Debug)]
pub(super) struct Body {
    /// The file that its text stands in.
    pub(super) file: Rc<str>,
    /// Where `tpl` was called in that file, if it was given the text: its own places are in no file.
    pub(super) place: Option<At>,
    pub(super) nodes: Vec<Node>,
}

impl Body {
    /// Whether there is nothing but blanks in it: such a one replaces none that has content.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| matches!(node, Node::Text { text, .. } if text.trim().is_empty()))
    }
}

#[derive(Debug)]
pub(super) enum Node {
    Text { at: At, text: Rc<str> },
    Action { at: At, pipe: Pipe },
    If(Box<Branch>),
    With(Box<Branch>),
    Range(Box<Branch>),
    Template { at: At, name: Rc<str>, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// `if`, `with` or `range`.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) at: At,
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each of which gets what the one before it returned as its last argument.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: At,
    /// The variables that get the value: with `:=`, or with `=` if `assigns`.
    pub(super) variables: Vec<Rc<str>>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A word and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) word: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: At,
    pub(super) term: Term,
}

#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Nil,
    /// A number, a text, true or false.
    Literal(Value),
    /// `.a.b`.
    Field(Vec<Rc<str>>),
    /// `$x.a.b`.
    Variable(Rc<str>, Vec<Rc<str>>),
    /// `(…).a.b`.
    Chain(Box<Operand>, Vec<Rc<str>>),
    /// The name of a function.
    Function(Rc<str>, Callee),
    /// `(…)`.
    Pipe(Box<Pipe>),
}

/// A function, or what only the executor can do.
#[derive(Clone, Copy)]
pub(super) enum Callee {
    And,
    Or,
    Include,
    Tpl,
    Plain(Function),
}

impl std::fmt::Debug for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::And => "And",
            Self::Or => "Or",
            Self::Include => "Include",
            Self::Tpl => "Tpl",
            Self::Plain(_) => "Plain",
        })
    }
}
