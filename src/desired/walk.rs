//! Holds a manifest against the shape of its kind.
//!
//! One walk does three things, so that each value is looked at once: it says what does not fit,
//! brings what fits into the one form that Kubernetes' API shows (`1.0` where an integer belongs
//! becomes `1`, nulls and zeroes that say nothing go, amounts become canonical, keys are sorted),
//! and fills in defaults. What does not fit is taken out, so that the rest can still be looked at.

use std::borrow::Cow;

use super::base64;
use super::defaults::Fill;
use super::near::nearest;
use super::path::Path;
use super::report::Report;
use super::shape::{Field, SHAPES, Shapes, Structure, Type};
use super::support::{FieldSupport, UNDECIDED, Verdict};
use super::tree::{At, Described, Entry, Node, Value, as_whole, quoted};
use crate::kinds::finding::Severity;
use crate::kinds::quantity::Quantity;
use crate::kinds::time::Wall;

/// Checks and completes `root`, an object whose shape is `holds`. With `judges` fields that are
/// not carried out are judged; otherwise nothing acts on the object, and only its shape counts.
pub(super) fn check(root: &mut Node<'_>, holds: Type, judges: bool, report: &mut Report) {
    let mut walk = Walk {
        shapes: &SHAPES,
        judges,
        report,
    };
    let at = root.at;
    walk.value(root, at, holds, &Path::Root);
}

struct Walk<'r> {
    shapes: &'static Shapes,
    judges: bool,
    report: &'r mut Report,
}

impl Walk<'_> {
    /// Checks and completes a value. Says whether it can stay.
    fn value(&mut self, node: &mut Node<'_>, at: At, holds: Type, path: &Path<'_>) -> bool {
        match holds {
            Type::Structure(index) => {
                let structure = self.shapes.structure(index);
                let above = node.at;
                if let Value::Map(entries) = &mut node.value {
                    self.structure(entries, at, above, structure, path);
                    return true;
                }
            }
            Type::List(inner) => {
                let inner = self.shapes.inner(inner);
                if let Value::List(items) = &mut node.value {
                    self.list(items, inner, path);
                    return true;
                }
            }
            Type::Map(inner) => {
                let inner = self.shapes.inner(inner);
                if let Value::Map(entries) = &mut node.value {
                    self.map(entries, inner, path);
                    return true;
                }
            }
            Type::Any => {
                sort_keys(node);
                return true;
            }
            _ => match scalar(node, holds) {
                Ok(()) => return true,
                Err(Misfit::Type) => {}
                Err(Misfit::Value(message)) => {
                    let message = if self.report.quiet {
                        "this value is not valid here".to_owned()
                    } else {
                        message
                    };
                    self.report.broken(at, path, message, None);
                    return false;
                }
                Err(Misfit::NotBase64) => {
                    self.report.broken(at, path, "this is not base64", None);
                    return false;
                }
            },
        }
        self.misfit(node, at, holds, path);
        false
    }

    fn misfit(&mut self, node: &Node<'_>, at: At, holds: Type, path: &Path<'_>) {
        let found = Described(&node.value, self.report.quiet);
        let message = format!("expected {}, found {found}", expected(holds));
        let hint = (!self.report.quiet)
            .then(|| hint(&node.value, holds))
            .flatten();
        self.report.broken(at, path, message, hint);
    }

    fn list(&mut self, items: &mut [Node<'_>], inner: Type, path: &Path<'_>) {
        for (index, item) in items.iter_mut().enumerate() {
            if item.value == Value::Null {
                // As Go's decoder has it: null in a list is the type's zero value.
                item.value = zero(inner);
            }
            let at = item.at;
            if !self.value(item, at, inner, &path.index(index)) {
                // Items keep their places, or later findings would name the wrong ones.
                item.value = zero(inner);
            }
        }
    }

    fn map<'a>(&mut self, entries: &mut Vec<Entry<'a>>, inner: Type, path: &Path<'_>) {
        entries.retain_mut(|entry| {
            let at = entry.shown_at();
            if entry.node.value == Value::Null {
                entry.node.value = zero(inner);
            }
            let Entry { key, node, .. } = entry;
            self.value(node, at, inner, &path.key(key))
        });
        entries.sort_by(|a, b| a.key.cmp(&b.key));
    }

    fn structure<'a>(
        &mut self,
        entries: &mut Vec<Entry<'a>>,
        at: At,
        above: At,
        structure: &'static Structure,
        path: &Path<'_>,
    ) {
        open_structures(entries, above, structure);
        let mut given: u128 = 0;
        entries.retain_mut(|entry| {
            let Some((index, field)) = structure.field(&entry.key) else {
                self.unknown(entry, structure, path);
                return false;
            };
            if entry.node.value == Value::Null {
                return false;
            }
            given |= 1 << index;
            self.field(entry, field, structure, &path.field(&field.name))
        });
        for (index, field) in structure.fields.iter().enumerate() {
            if given & (1 << index) != 0 {
                continue;
            }
            if field.is_required {
                let message = "is required";
                self.report
                    .broken(at, &path.field(&field.name), message, None);
            }
        }
        fill(entries, above, structure);
        if let Some(finish) = structure.finish {
            finish(entries, above);
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
    }

    /// Checks a field that was given. Says whether it stays.
    fn field(
        &mut self,
        entry: &mut Entry<'_>,
        field: &'static Field,
        structure: &'static Structure,
        path: &Path<'_>,
    ) -> bool {
        let at = entry.shown_at();
        if is_unset(&entry.node.value, field) {
            return false;
        }
        let is_judged = self.judges || structure.name == "meta.v1.ObjectMeta";
        let verdict = if is_judged {
            self.judge(&entry.node, at, field, path)
        } else {
            Verdict::Shown
        };
        if matches!(verdict, Verdict::Refused | Verdict::Dropped) {
            return false;
        }
        // What has no effect is shown whole, whatever is in it.
        let judges = self.judges;
        self.judges &= verdict != Verdict::Warned;
        let fits = self.value(&mut entry.node, at, field.holds, path);
        self.judges = judges;
        if !fits {
            return false;
        }
        // What is empty after its own nulls went; a required one is kept for its own check.
        let is_collection = matches!(field.holds, Type::List(_) | Type::Map(_));
        !(is_collection && entry.node.is_empty() && !field.is_required)
    }

    /// Says what is to be said of a field that is not simply carried out.
    fn judge(
        &mut self,
        node: &Node<'_>,
        at: At,
        field: &'static Field,
        path: &Path<'_>,
    ) -> Verdict {
        let Some(support) = &field.support else {
            // `status` is taken out before, everything else must be decided about.
            self.report.broken(at, path, UNDECIDED, None);
            return Verdict::Refused;
        };
        let (verdict, sentence) = (support.verdict, support.sentence);
        match verdict {
            Verdict::Runs | Verdict::Shown | Verdict::Dropped => return verdict,
            Verdict::Warned | Verdict::Refused if is_excepted(node, support) => {
                return Verdict::Shown;
            }
            Verdict::Warned => self.report.add(Severity::Warning, at, path, sentence, None),
            Verdict::Refused => self.report.broken(at, path, sentence, None),
        }
        verdict
    }

    fn unknown(&mut self, entry: &Entry<'_>, structure: &'static Structure, path: &Path<'_>) {
        let names = structure.fields.iter().map(|field| field.name.as_str());
        let hint = match nearest(&entry.key, names) {
            Some(name) => Some(format!("did you mean {name:?}?")),
            None => self.misplaced(&entry.key, structure),
        };
        let message = format!("unknown field {}", quoted(&entry.key));
        self.report.broken(entry.at, path, message, hint);
    }

    /// Where a field of that name would belong: a level deeper, which is where indentation slips
    /// mostly lead from.
    fn misplaced(&self, name: &str, structure: &Structure) -> Option<String> {
        structure.fields.iter().find_map(|field| {
            let (holds, dash) = match field.holds {
                Type::List(inner) => (self.shapes.inner(inner), "an item of "),
                holds => (holds, ""),
            };
            let Type::Structure(inner) = holds else {
                return None;
            };
            if field.name == "status" || field.name == "metadata" {
                return None;
            }
            self.shapes.structure(inner).field(name)?;
            Some(format!("it belongs in {dash}{:?}", field.name))
        })
    }
}

/// Puts in the structures that Kubernetes puts in, before their own fields are looked at.
fn open_structures(entries: &mut Vec<Entry<'_>>, above: At, structure: &'static Structure) {
    for field in &structure.fields {
        if field.fill != Some(Fill::Structure) {
            continue;
        }
        let empty = Value::Map(Vec::new());
        match entries.iter_mut().find(|entry| entry.key == field.name) {
            Some(entry) if entry.node.value == Value::Null => entry.node.value = empty,
            Some(_) => {}
            None => entries.push(Entry {
                key: Cow::Borrowed(&field.name),
                at: above,
                node: Node::new(above, empty),
            }),
        }
    }
}

/// Puts simple defaults into fields that hold nothing.
fn fill(entries: &mut Vec<Entry<'_>>, above: At, structure: &'static Structure) {
    for field in &structure.fields {
        let value = match field.fill {
            Some(Fill::Text(text)) => Value::Text(Cow::Borrowed(text)),
            Some(Fill::Int(value)) => Value::Int(value, Cow::Borrowed("")),
            Some(Fill::Structure) | None => continue,
        };
        if entries.iter().all(|entry| entry.key != field.name) {
            entries.push(Entry {
                key: Cow::Borrowed(&field.name),
                at: above,
                node: Node::new(above, value),
            });
        }
    }
}

/// Whether a value says the same as none at all.
fn is_unset(value: &Value<'_>, field: &Field) -> bool {
    match value {
        Value::Text(text) => text.is_empty() && field.holds == Type::Text && !field.is_required,
        Value::Int(0, _) | Value::Bool(false, _) => field.zero_is_absent,
        _ => false,
    }
}

fn is_excepted(node: &Node<'_>, support: &FieldSupport) -> bool {
    let is_listed = |text: &str| support.except.contains(&text);
    match &node.value {
        Value::Text(text) => is_listed(text),
        Value::Bool(value, _) => is_listed(if *value { "true" } else { "false" }),
        Value::List(items) => items
            .iter()
            .all(|item| item.as_text().is_some_and(is_listed)),
        _ => false,
    }
}

/// Why a scalar does not fit.
enum Misfit {
    /// It is of another type.
    Type,
    /// It is of the type, but not valid.
    Value(String),
    /// As before; nothing of it is said, because what holds bytes may be a Secret.
    NotBase64,
}

/// Brings a scalar into the form of its type, if it fits.
fn scalar(node: &mut Node<'_>, holds: Type) -> Result<(), Misfit> {
    if let (Value::Float(value, raw), Type::Int32 | Type::Int64 | Type::IntOrText) =
        (&node.value, holds)
    {
        let whole = as_whole(*value).ok_or(Misfit::Type)?;
        node.value = Value::Int(whole, raw.clone());
    }
    match (&node.value, holds) {
        (Value::Bool(..), Type::Bool)
        | (Value::Text(_), Type::Text | Type::IntOrText)
        | (Value::Int(..), Type::Int64)
        | (Value::Int(..) | Value::Float(..), Type::Float) => Ok(()),
        (Value::Int(value, _), Type::Int32 | Type::IntOrText) => match i32::try_from(*value) {
            Ok(_) => Ok(()),
            Err(_) => Err(Misfit::Value(format!("{value} is out of range"))),
        },
        (Value::Text(text), Type::Time) => match Wall::parse(text) {
            Some(_) => Ok(()),
            None => Err(Misfit::Value(format!(
                "{} is not a time: write it as in 2026-01-31T09:00:00Z",
                quoted(text)
            ))),
        },
        (Value::Text(text), Type::Bytes) => match base64::decode(text) {
            Some(bytes) => {
                let one_line = base64::encode(&bytes);
                if *text != one_line {
                    node.value = Value::Text(Cow::Owned(one_line));
                }
                Ok(())
            }
            None => Err(Misfit::NotBase64),
        },
        (Value::Text(text), Type::Quantity) => {
            let canonical = quantity(text.trim())?;
            if *text != canonical {
                node.value = Value::Text(Cow::Owned(canonical));
            }
            Ok(())
        }
        (Value::Int(value, _), Type::Quantity) => {
            node.value = Value::Text(Cow::Owned(quantity(&value.to_string())?));
            Ok(())
        }
        (Value::Float(value, _), Type::Quantity) => {
            node.value = Value::Text(Cow::Owned(quantity(&value.to_string())?));
            Ok(())
        }
        _ => Err(Misfit::Type),
    }
}

fn quantity(text: &str) -> Result<String, Misfit> {
    match Quantity::parse(text) {
        Ok(quantity) => Ok(quantity.to_string()),
        Err(message) => Err(Misfit::Value(message)),
    }
}

fn zero<'a>(holds: Type) -> Value<'a> {
    match holds {
        Type::Structure(_) | Type::Map(_) => Value::Map(Vec::new()),
        Type::List(_) => Value::List(Vec::new()),
        Type::Bool => Value::Bool(false, Cow::Borrowed("")),
        Type::Int32 | Type::Int64 | Type::Float => Value::Int(0, Cow::Borrowed("")),
        Type::Quantity => Value::Text(Cow::Borrowed("0")),
        Type::Text | Type::Bytes | Type::Time | Type::IntOrText => Value::Text(Cow::Borrowed("")),
        Type::Any => Value::Null,
    }
}

fn sort_keys(node: &mut Node<'_>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(sort_keys),
        Value::Map(entries) => {
            entries
                .iter_mut()
                .for_each(|entry| sort_keys(&mut entry.node));
            entries.sort_by(|a, b| a.key.cmp(&b.key));
        }
        _ => {}
    }
}

fn expected(holds: Type) -> &'static str {
    match holds {
        Type::Bool => "true or false",
        Type::Int32 | Type::Int64 => "an integer",
        Type::Float => "a number",
        Type::Text => "text",
        Type::Bytes => "base64 text",
        Type::Time => "a time",
        Type::Quantity => "an amount",
        Type::IntOrText => "an integer or text",
        Type::List(_) => "a list",
        Type::Structure(_) | Type::Map(_) => "a map",
        Type::Any => "anything",
    }
}

/// What the author may want to write instead.
fn hint(found: &Value<'_>, holds: Type) -> Option<String> {
    match (holds, found) {
        (
            Type::Text | Type::Time | Type::Bytes,
            Value::Bool(_, raw) | Value::Int(_, raw) | Value::Float(_, raw),
        ) => Some(format!("write it in quotes: \"{raw}\"")),
        (Type::Int32 | Type::Int64 | Type::Float, Value::Text(text)) => {
            let is_number = text.parse::<f64>().is_ok();
            is_number.then(|| format!("write it without quotes: {text}"))
        }
        (Type::Bool, Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => Some(format!("write it without quotes: {word}")),
            _ => None,
        },
        (Type::List(_), Value::Map(_)) => Some("begin each item with '- '".to_owned()),
        (Type::Structure(_) | Type::Map(_), Value::List(_)) => {
            Some("leave out the '- '".to_owned())
        }
        _ => None,
    }
}
