//! Nodes are executed, by the rules of Go's `text/template/exec.go` and of Helm's `include` and `tpl`.

use std::rc::Rc;

use super::super::value::Value;
use super::ast::{At, Body, Branch, Callee, Command, Node, Operand, Pipe, Term};
use super::budget::{self, ITEMS_A_STEP, TEXT_A_STEP};
use super::format::{TEXT_MAX, try_print, type_name};
use super::items::Items;
use super::keep::Keep;
use super::output::{NO_VALUE, Output, Source};
use super::{Fault, Function, Rendered, Set};

/// How deep `include`, `template` and `tpl` may call each other. Charts stay below ten; a template that
/// includes itself without an end is found out.
const CALLS_MAX: usize = 60;
/// How deep all that recurses may nest, over all templates that call each other. A level takes up to
/// 5 KiB of the stack in a build without optimization; of a thread's 2 MiB a third must be left to
/// functions and to whoever renders.
const DEPTH_MAX: usize = 256;
/// How many bytes one rendering may write, those of included templates as well.
const OUTPUT_MAX: usize = 8 << 20;
/// How many items a list may have that a function returns.
const ITEMS_MAX: usize = 100_000;

/// Renders a template of the set.
pub(super) fn render(set: &Set, name: &str, dot: &Value) -> Result<Rendered, Fault> {
    let name: Rc<str> = Rc::from(name);
    let Some(body) = set.bodies.get(&name) else {
        let at = At { line: 1, column: 1 };
        return Err(Fault::new(&name, at, format!("template \"{name}\" not defined")));
    };
    let mut machine = Machine::default();
    let mut output = Output::default();
    let mut frame = Frame::new(set, body, dot, None);
    machine.list(&mut frame, dot, &body.nodes, &mut output)?;
    Ok(output.into_rendered())
}

/// What one rendering has used up.
#[derive(Default)]
struct Machine {
    written: usize,
    calls: usize,
    depth: usize,
    keep: Keep,
}

/// One template in execution.
struct Frame<'s> {
    set: &'s Set,
    file: Rc<str>,
    /// See [`Body`].
    place: Option<At>,
    /// The line of the outermost template's action that all this is written for; none in it itself.
    line: Option<u32>,
    variables: Vec<(Rc<str>, Value)>,
    /// Whether dot, where it's nothing, is an item of a list or a map: Go lets nobody ask such a one for
    /// fields, while any other nothing may be asked.
    item: bool,
}

impl<'s> Frame<'s> {
    fn new(set: &'s Set, body: &Body, dot: &Value, line: Option<u32>) -> Self {
        let variables = vec![(Rc::from("$"), dot.clone())];
        Self { set, file: Rc::clone(&body.file), place: body.place, line, variables, item: false }
    }

    fn fault(&self, at: At, message: String) -> Fault {
        match self.place {
            None => Fault::new(&self.file, at, message),
            Some(place) => {
                let message = format!("in line {} of the text given to tpl: {message}", at.line);
                Fault::new(&self.file, place, message)
            }
        }
    }

    fn set_variable(&mut self, at: At, name: &str, value: Value) -> Result<(), Fault> {
        match self.variables.iter_mut().rev().find(|(known, _)| &**known == name) {
            Some((_, present)) => {
                *present = value;
                Ok(())
            }
            None => Err(self.fault(at, format!("undefined variable: {name}"))),
        }
    }

    fn variable(&self, at: At, name: &str) -> Result<Value, Fault> {
        let found = self.variables.iter().rev().find(|(known, _)| &**known == name);
        match found {
            Some((_, value)) => Ok(value.clone()),
            None => Err(self.fault(at, format!("undefined variable: {name}"))),
        }
    }

    /// Overwrites the last variable but `n`.
    fn set_last(&mut self, n: usize, value: Value) {
        if let Some((_, present)) = self.variables.iter_mut().rev().nth(n) {
            *present = value;
        }
    }
}

/// How execution goes on after a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Machine {
    fn step(&mut self, frame: &Frame<'_>, at: At, steps: usize) -> Result<(), Fault> {
        frame.set.budget.spend(steps).map_err(|wrong| frame.fault(at, wrong))
    }

    /// One level deeper. Who fails leaves no level: a fault ends the rendering.
    fn enter(&mut self, frame: &Frame<'_>, at: At) -> Result<(), Fault> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err(frame.fault(at, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn write(
        &mut self,
        frame: &Frame<'_>,
        at: At,
        text: &str,
        source: Source,
        output: &mut Output,
    ) -> Result<(), Fault> {
        self.written = self.written.saturating_add(text.len());
        if self.written > OUTPUT_MAX {
            return Err(frame.fault(at, format!("this writes more than {OUTPUT_MAX} bytes")));
        }
        output.write(text, frame.line.map_or(source, Source::Action));
        Ok(())
    }

    fn list(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        nodes: &[Node],
        output: &mut Output,
    ) -> Result<Flow, Fault> {
        for node in nodes {
            let flow = self.node(frame, dot, node, output)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        node: &Node,
        output: &mut Output,
    ) -> Result<Flow, Fault> {
        match node {
            Node::Text { at, text } => {
                self.step(frame, *at, 1)?;
                self.write(frame, *at, text, Source::Text(at.line), output)?;
                Ok(Flow::On)
            }
            Node::Action { at, pipe } => {
                self.action(frame, dot, *at, pipe, output)?;
                Ok(Flow::On)
            }
            Node::If(branch) => self.branch(frame, dot, branch, false, output),
            Node::With(branch) => self.branch(frame, dot, branch, true, output),
            Node::Range(branch) => self.range(frame, dot, branch, output),
            Node::Template { at, name, pipe } => {
                self.template(frame, dot, *at, name, pipe.as_ref(), output)?;
                Ok(Flow::On)
            }
            Node::Break => Ok(Flow::Break),
            Node::Continue => Ok(Flow::Continue),
        }
    }

    /// Prints a pipeline's value, unless it goes into a variable. Nothing is printed as nothing: Go
    /// prints `<no value>`, which Helm removes.
    fn action(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        at: At,
        pipe: &Pipe,
        output: &mut Output,
    ) -> Result<(), Fault> {
        let value = self.pipeline(frame, dot, pipe)?;
        if !pipe.variables.is_empty() {
            return Ok(());
        }
        match &value {
            Value::Null => self.write(frame, at, NO_VALUE, Source::Action(at.line), output),
            Value::Text(text) => self.write(frame, at, text, Source::Action(at.line), output),
            _ => {
                let text = try_print(&value).map_err(|wrong| frame.fault(at, wrong))?;
                self.write(frame, at, &text, Source::Action(at.line), output)
            }
        }
    }

    fn branch(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        branch: &Branch,
        with: bool,
        output: &mut Output,
    ) -> Result<Flow, Fault> {
        self.enter(frame, branch.at)?;
        let variables = frame.variables.len();
        let value = self.pipeline(frame, dot, &branch.pipe)?;
        let flow = if !value.is_true() {
            self.list(frame, dot, &branch.otherwise, output)?
        } else if with {
            self.list(frame, &value, &branch.then, output)?
        } else {
            self.list(frame, dot, &branch.then, output)?
        };
        frame.variables.truncate(variables);
        self.leave();
        Ok(flow)
    }

    fn range(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        branch: &Branch,
        output: &mut Output,
    ) -> Result<Flow, Fault> {
        self.enter(frame, branch.at)?;
        let variables = frame.variables.len();
        let value = self.pipeline(frame, dot, &branch.pipe)?;
        let items = Items::of(&value).map_err(|wrong| frame.fault(branch.pipe.at, wrong))?;
        let mut flow = Flow::On;
        if items.length == 0 {
            flow = self.list(frame, dot, &branch.otherwise, output)?;
        } else {
            self.iterate(frame, branch, &items, output)?;
        }
        frame.variables.truncate(variables);
        self.leave();
        Ok(flow)
    }

    fn iterate(
        &mut self,
        frame: &mut Frame<'_>,
        branch: &Branch,
        items: &Items,
        output: &mut Output,
    ) -> Result<(), Fault> {
        let variables = frame.variables.len();
        for i in 0..items.length {
            self.step(frame, branch.at, 1)?;
            let (key, item) = items.at(i);
            let at = branch.pipe.at;
            match (branch.pipe.variables.as_slice(), branch.pipe.assigns) {
                ([], _) => {}
                ([one], true) => frame.set_variable(at, one, item.clone())?,
                ([one, two, ..], true) => {
                    frame.set_variable(at, one, key)?;
                    frame.set_variable(at, two, item.clone())?;
                }
                ([_], false) => frame.set_last(0, item.clone()),
                ([_, _, ..], false) => {
                    frame.set_last(0, item.clone());
                    frame.set_last(1, key);
                }
            }
            let around = std::mem::replace(&mut frame.item, true);
            let flow = self.list(frame, &item, &branch.then, output)?;
            frame.item = around;
            frame.variables.truncate(variables);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// The action `template`: what it names writes straight into the output.
    fn template(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        at: At,
        name: &Rc<str>,
        pipe: Option<&Pipe>,
        output: &mut Output,
    ) -> Result<(), Fault> {
        self.step(frame, at, 1)?;
        let set = frame.set;
        let Some(body) = set.bodies.get(name) else {
            return Err(frame.fault(at, format!("template \"{name}\" not defined")));
        };
        let dot = match pipe {
            Some(pipe) => self.pipeline(frame, dot, pipe)?,
            None => Value::Null,
        };
        let line = frame.line.or(Some(at.line));
        self.body(frame, at, Frame::new(set, body, &dot, line), body, &dot, output)
    }

    /// Executes a body in a frame of its own, that was called at a place in another.
    fn body(
        &mut self,
        caller: &Frame<'_>,
        at: At,
        mut frame: Frame<'_>,
        body: &Body,
        dot: &Value,
        output: &mut Output,
    ) -> Result<(), Fault> {
        if self.calls >= CALLS_MAX {
            let message = format!("templates call each other deeper than {CALLS_MAX} levels");
            return Err(caller.fault(at, message));
        }
        self.enter(caller, at)?;
        self.calls = self.calls.saturating_add(1);
        self.list(&mut frame, dot, &body.nodes, output)?;
        self.calls = self.calls.saturating_sub(1);
        self.leave();
        Ok(())
    }

    /// The value of a pipeline, which goes into its variables too.
    fn pipeline(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        pipe: &Pipe,
    ) -> Result<Value, Fault> {
        self.enter(frame, pipe.at)?;
        let mut last = None;
        for command in &pipe.commands {
            self.step(frame, command.word.at, 1)?;
            last = Some(self.command(frame, dot, command, last)?);
        }
        let value = last.unwrap_or_default();
        for name in &pipe.variables {
            if pipe.assigns {
                frame.set_variable(pipe.at, name, value.clone())?;
            } else {
                frame.variables.push((Rc::clone(name), value.clone()));
            }
        }
        self.leave();
        Ok(value)
    }

    fn command(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        command: &Command,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let at = command.word.at;
        let arguments = &command.arguments;
        let takes_none = match &command.word.term {
            Term::Field(_) | Term::Chain(..) | Term::Function(..) => false,
            Term::Variable(_, names) => names.is_empty(),
            Term::Dot | Term::Nil | Term::Literal(_) | Term::Pipe(_) => true,
        };
        if takes_none && (!arguments.is_empty() || last.is_some()) {
            return Err(frame.fault(at, "can't give argument to non-function".to_owned()));
        }
        match &command.word.term {
            Term::Nil => Err(frame.fault(at, "nil is not a command".to_owned())),
            Term::Function(name, callee) => {
                self.function(frame, dot, &Call { at, name, arguments }, *callee, last)
            }
            Term::Field(names) => self.own_fields(frame, dot, at, names, arguments, last),
            Term::Variable(name, names) => {
                let value = frame.variable(at, name)?;
                self.fields(frame, dot, at, value, names, arguments, last)
            }
            Term::Chain(inner, names) => {
                let value = self.operand(frame, dot, inner)?;
                self.fields(frame, dot, at, value, names, arguments, last)
            }
            Term::Dot | Term::Literal(_) | Term::Pipe(_) => self.operand(frame, dot, &command.word),
        }
    }

    /// The value of an operand without arguments.
    fn operand(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        operand: &Operand,
    ) -> Result<Value, Fault> {
        let at = operand.at;
        match &operand.term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Value::Null),
            Term::Literal(value) => Ok(value.clone()),
            Term::Field(names) => self.own_fields(frame, dot, at, names, &[], None),
            Term::Variable(name, names) => {
                let value = frame.variable(at, name)?;
                self.fields(frame, dot, at, value, names, &[], None)
            }
            Term::Chain(inner, names) => {
                let value = self.operand(frame, dot, inner)?;
                self.fields(frame, dot, at, value, names, &[], None)
            }
            Term::Function(name, callee) => {
                self.function(frame, dot, &Call { at, name, arguments: &[] }, *callee, None)
            }
            Term::Pipe(pipe) => self.pipeline(frame, dot, pipe),
        }
    }

    /// Arguments' values, with that of the command before as the last.
    fn arguments(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        arguments: &[Operand],
        last: Option<Value>,
    ) -> Result<Vec<Value>, Fault> {
        let mut values = Vec::with_capacity(arguments.len().saturating_add(1));
        for argument in arguments {
            values.push(self.operand(frame, dot, argument)?);
        }
        values.extend(last);
        Ok(values)
    }

    /// Fields of dot.
    fn own_fields(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        at: At,
        names: &[Rc<str>],
        arguments: &[Operand],
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        match (dot, names) {
            (Value::Null, [name, ..]) if frame.item => Err(frame.fault(at, no_nil(name, name))),
            _ => self.fields(frame, dot, at, dot.clone(), names, arguments, last),
        }
    }

    /// Fields of fields. As in Go, a field of nothing is nothing where the nothing is the value of a
    /// variable, of dot or of a pipeline, and an error where it's a field that is missing:
    /// `(.a).b` may be asked for where `.a.b` may not.
    fn fields(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        at: At,
        mut value: Value,
        names: &[Rc<str>],
        arguments: &[Operand],
        mut last: Option<Value>,
    ) -> Result<Value, Fault> {
        let mut missing = false;
        for (i, name) in names.iter().enumerate() {
            let is_last = i.saturating_add(1) == names.len();
            value = match &value {
                Value::Null if !missing => {
                    continue;
                }
                Value::Host(host) => {
                    let arguments = if is_last { arguments } else { &[] };
                    let given = if is_last { last.take() } else { None };
                    let values = self.arguments(frame, dot, arguments, given)?;
                    match host.get(name, &values) {
                        Some(got) => {
                            let got = got.map_err(|wrong| {
                                frame.fault(at, format!("error calling {name}: {wrong}"))
                            })?;
                            frame.set.budget.make(&got).map_err(|wrong| frame.fault(at, wrong))?;
                            got
                        }
                        None => return Err(frame.fault(at, no_field(name, &value))),
                    }
                }
                Value::Map(_) if is_last && (!arguments.is_empty() || last.is_some()) => {
                    let message = format!("{name} is not a method but has arguments");
                    return Err(frame.fault(at, message));
                }
                Value::Map(_) => value.get(name),
                Value::Null => {
                    let path = names.get(..=i).unwrap_or_default().join(".");
                    return Err(frame.fault(at, no_nil(name, &path)));
                }
                _ => return Err(frame.fault(at, no_field(name, &value))),
            };
            missing = true;
        }
        Ok(value)
    }

    fn function(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        call: &Call<'_>,
        callee: Callee,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        match callee {
            Callee::And => self.logic(frame, dot, call, false, last),
            Callee::Or => self.logic(frame, dot, call, true, last),
            Callee::Include => {
                let values = self.arguments(frame, dot, call.arguments, last)?;
                self.include(frame, call, &values)
            }
            Callee::Tpl => {
                let values = self.arguments(frame, dot, call.arguments, last)?;
                self.tpl(frame, call, &values)
            }
            Callee::Plain(function) => {
                let values = self.arguments(frame, dot, call.arguments, last)?;
                self.plain(frame, call, function, &values)
            }
        }
    }

    /// `and` and `or`: the first value that decides, or the last; what comes after it isn't evaluated.
    fn logic(
        &mut self,
        frame: &mut Frame<'_>,
        dot: &Value,
        call: &Call<'_>,
        decides: bool,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let mut value = None;
        for argument in call.arguments {
            let present = self.operand(frame, dot, argument)?;
            if present.is_true() == decides {
                return Ok(present);
            }
            value = Some(present);
        }
        last.or(value).ok_or_else(|| call.wrong_number(frame, "at least 1", 0))
    }

    fn plain(
        &mut self,
        frame: &Frame<'_>,
        call: &Call<'_>,
        function: Function,
        values: &[Value],
    ) -> Result<Value, Fault> {
        self.step(frame, call.at, budget::cost(call.name, values))?;
        let value = function(values).map_err(|wrong| call.fault(frame, &wrong))?;
        frame.set.budget.make(&value).map_err(|wrong| call.fault(frame, &wrong))?;
        let (size, most) = match &value {
            Value::Text(text) => (text.len() / TEXT_A_STEP, text.len() > TEXT_MAX),
            Value::List(items) => (items.len() / ITEMS_A_STEP, items.len() > ITEMS_MAX),
            Value::Map(entries) => {
                let length = entries.borrow().len();
                (length / ITEMS_A_STEP, length > ITEMS_MAX)
            }
            _ => (0, false),
        };
        self.keep.add(&value);
        if most {
            return Err(call.fault(frame, "what it returns is too large"));
        }
        self.step(frame, call.at, size)?;
        Ok(value)
    }

    /// Helm's `include`: a template's text as a value.
    fn include(
        &mut self,
        frame: &Frame<'_>,
        call: &Call<'_>,
        values: &[Value],
    ) -> Result<Value, Fault> {
        let (name, dot) = call.text_and_dot(frame, values)?;
        let Some(body) = frame.set.bodies.get(name) else {
            return Err(call.fault(frame, &format!("template \"{name}\" not defined")));
        };
        let mut output = Output::default();
        let inner = Frame::new(frame.set, body, dot, None);
        self.body(frame, call.at, inner, body, dot, &mut output)?;
        call.output(frame, output)
    }

    /// Helm's `tpl`: a text is read as a template and rendered. What it defines nobody else sees.
    fn tpl(
        &mut self,
        frame: &Frame<'_>,
        call: &Call<'_>,
        values: &[Value],
    ) -> Result<Value, Fault> {
        let (text, dot) = call.text_and_dot(frame, values)?;
        if !text.contains("{{") {
            return Ok(Value::Text(Rc::clone(text)));
        }
        // The set is copied for it.
        let size = text.len() / 16 + frame.set.bodies.len() / 4;
        self.step(frame, call.at, size)?;
        let mut set = frame.set.clone();
        let place = frame.place.unwrap_or(call.at);
        let body = set.define(&frame.file, Some(place), text).map_err(|(at, wrong)| {
            call.fault(frame, &format!("in line {} of its text: {wrong}", at.line))
        })?;
        let mut output = Output::default();
        let inner = Frame::new(&set, &body, dot, None);
        self.body(frame, call.at, inner, &body, dot, &mut output)?;
        call.output(frame, output.without_gaps())
    }
}

fn no_field(name: &str, value: &Value) -> String {
    format!("can't evaluate field {name} in type {}", type_name(value))
}

fn no_nil(name: &str, path: &str) -> String {
    format!("nil pointer evaluating interface {{}}.{name} in \".{path}\"")
}

/// A function's name with its arguments, for calling it and for what is wrong with it.
struct Call<'a> {
    at: At,
    name: &'a str,
    arguments: &'a [Operand],
}

impl Call<'_> {
    /// What `fail` and `required` say are the chart's own words. A wrong number of arguments Go finds
    /// before it calls.
    fn fault(&self, frame: &Frame<'_>, wrong: &str) -> Fault {
        let message = match self.name {
            "fail" | "required" => wrong.to_owned(),
            _ if wrong.starts_with("wrong number of args for ") => wrong.to_owned(),
            name => format!("error calling {name}: {wrong}"),
        };
        frame.fault(self.at, message)
    }

    fn wrong_number(&self, frame: &Frame<'_>, want: &str, got: usize) -> Fault {
        let name = self.name;
        self.fault(frame, &format!("wrong number of args for {name}: want {want} got {got}"))
    }

    /// The arguments of `include` and `tpl`.
    fn text_and_dot<'v>(
        &self,
        frame: &Frame<'_>,
        values: &'v [Value],
    ) -> Result<(&'v Rc<str>, &'v Value), Fault> {
        match values {
            [Value::Text(text), dot] => Ok((text, dot)),
            [other, _] => {
                let got = type_name(other);
                let wrong = format!("wrong type for value; expected string; got {got}");
                Err(self.fault(frame, &wrong))
            }
            _ => Err(self.wrong_number(frame, "2", values.len())),
        }
    }

    fn output(&self, frame: &Frame<'_>, output: Output) -> Result<Value, Fault> {
        let text = output.into_text();
        if text.len() > TEXT_MAX {
            return Err(self.fault(frame, "what it returns is too large"));
        }
        Ok(Value::text(text))
    }
}
