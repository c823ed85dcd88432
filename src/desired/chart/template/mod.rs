//! Go's `text/template`, as Helm uses it: a set of named templates that is rendered with a value.
//!
//! The rule: the same set and value give the same text, or the same fault at the same place. The limits,
//! each a constant of its own, keep a template from taking the host down: how deep, how long, how much.
//!
//! Read in this order: `lex`, `literal` and `ast`, `parse`, `exec` with `items`, `budget`, `keep` and `output`; `format`, `printf` and
//! `builtin`.

mod ast;
mod budget;
mod builtin;
mod exec;
pub(in crate::desired::chart) mod format;
mod items;
pub(in crate::desired::chart) mod keep;
mod lex;
mod literal;
mod output;
mod parse;
pub(in crate::desired::chart) mod printf;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::value::Value;
use ast::{At, Body, Callee, Node};
use budget::Budget;

/// A function of templates.
pub(in crate::desired::chart) type Function = fn(&[Value]) -> Result<Value, String>;

/// What is wrong, at the innermost place that is known. Lines and columns count from 1, columns in
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::desired::chart) struct Fault {
    pub(in crate::desired::chart) file: Rc<str>,
    pub(in crate::desired::chart) line: u32,
    pub(in crate::desired::chart) column: u32,
    pub(in crate::desired::chart) message: String,
}

impl Fault {
    fn new(file: &Rc<str>, at: At, message: String) -> Self {
        Self { file: Rc::clone(file), line: at.line, column: at.column, message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// A template's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::desired::chart) struct Rendered {
    pub(in crate::desired::chart) text: String,
    /// Of each line of the text, the line of the template's file that wrote the first visible character
    /// onto it; for a line without any, the line that ended it. There is one for what follows the last
    /// line's end, too.
    pub(in crate::desired::chart) lines: Vec<u32>,
}

/// Templates by name: those of files, and those that they define.
#[derive(Clone)]
pub(in crate::desired::chart) struct Set {
    bodies: BTreeMap<Rc<str>, Rc<Body>>,
    functions: fn(&str) -> Option<Function>,
    budget: Rc<Budget>,
}

impl Set {
    /// An empty set, whose templates may call what `functions` finds, and Go's own functions. Where both
    /// know a name, `functions` prevails.
    pub(in crate::desired::chart) fn new(functions: fn(&str) -> Option<Function>) -> Self {
        Self { bodies: BTreeMap::new(), functions, budget: Rc::default() }
    }

    /// Reads a file's text. What it defines goes into the set as well; a later definition replaces an
    /// earlier one, but an empty one never replaces one with content.
    pub(in crate::desired::chart) fn add(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        let file: Rc<str> = Rc::from(name);
        let root =
            self.define(&file, None, text).map_err(|(at, said)| Fault::new(&file, at, said))?;
        self.put(file, root);
        Ok(())
    }

    /// Reads a text that stands in `file`, or that was given to `tpl` at `place` there; what it defines
    /// goes into the set, what it is itself is returned.
    fn define(
        &mut self,
        file: &Rc<str>,
        place: Option<At>,
        text: &str,
    ) -> Result<Rc<Body>, parse::Wrong> {
        let parsed = parse::parse(text, &|name| self.callee(name))?;
        let body = |nodes| Rc::new(Body { file: Rc::clone(file), place, nodes });
        let mut fresh: BTreeMap<Rc<str>, Rc<Body>> = BTreeMap::new();
        for (name, nodes) in parsed.defined {
            let at = first_place(&nodes);
            let body = body(nodes);
            let earlier = fresh.get(&name);
            if earlier.is_none_or(|earlier| earlier.is_empty()) {
                fresh.insert(name, body);
            } else if !body.is_empty() {
                return Err((at, format!("multiple definition of template \"{name}\"")));
            }
        }
        for (name, body) in fresh {
            self.put(name, body);
        }
        Ok(body(parsed.nodes))
    }

    fn put(&mut self, name: Rc<str>, body: Rc<Body>) {
        if body.is_empty() && self.bodies.contains_key(&name) {
            return;
        }
        self.bodies.insert(name, body);
    }

    fn callee(&self, name: &str) -> Option<Callee> {
        match name {
            "and" => Some(Callee::And),
            "or" => Some(Callee::Or),
            "include" => Some(Callee::Include),
            "tpl" => Some(Callee::Tpl),
            _ => (self.functions)(name).or_else(|| builtin::find(name)).map(Callee::Plain),
        }
    }

    /// Renders a template.
    pub(in crate::desired::chart) fn render(
        &self,
        name: &str,
        dot: &Value,
    ) -> Result<Rendered, Fault> {
        exec::render(self, name, dot)
    }
}

/// Where nodes begin, as well as they know.
fn first_place(nodes: &[Node]) -> At {
    let place = |node: &Node| match node {
        Node::Text { at, .. } | Node::Action { at, .. } | Node::Template { at, .. } => Some(*at),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => Some(branch.at),
        Node::Break | Node::Continue => None,
    };
    nodes.iter().find_map(place).unwrap_or(At { line: 1, column: 1 })
}

#[cfg(test)]
mod tests;
