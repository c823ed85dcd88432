//! Values are dropped without recursion.
//!
//! A loop can nest lists and maps as deep as it likes, and dropping the outermost would drop the others
//! one within the other until the stack ends. So whatever functions return is held until the rendering
//! is over, and let go of from the outside in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::value::{Map, Value};

/// Lists and maps that are held, by address.
#[derive(Default)]
pub(super) struct Keep {
    held: BTreeMap<usize, Value>,
}

impl Keep {
    /// Holds a list or a map.
    pub(super) fn add(&mut self, value: &Value) {
        if let Some(address) = address(value) {
            self.held.entry(address).or_insert_with(|| value.clone());
        }
    }
}

impl Drop for Keep {
    /// Lets go of what nobody else holds, then of what that held. What somebody outside holds stays with
    /// them; a map that holds itself stays for ever, unless it's dissolved.
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held).into_values().collect();
        take_apart(held, |map| Rc::try_unwrap(map).map(RefCell::into_inner).unwrap_or_default());
    }
}

/// Takes a value apart, with all that it holds: maps that hold each other as well, which otherwise would
/// stay for ever. For what templates could change, once they're all rendered: maps that others hold too
/// are empty afterwards.
pub(in crate::desired::chart) fn dissolve(value: Value) {
    take_apart(vec![value], |map| map.take());
}

/// Takes values apart, one after the other: lists that nobody else holds, and of maps what `open` gives.
fn take_apart(mut work: Vec<Value>, open: impl Fn(Map) -> BTreeMap<Rc<str>, Value>) {
    while let Some(value) = work.pop() {
        match value {
            Value::Map(map) => work.extend(open(map).into_values()),
            Value::List(items) => {
                if let Ok(items) = Rc::try_unwrap(items) {
                    work.extend(items);
                }
            }
            _ => {}
        }
    }
}

fn address(value: &Value) -> Option<usize> {
    match value {
        Value::List(items) => Some(Rc::as_ptr(items).addr()),
        Value::Map(entries) => Some(Rc::as_ptr(entries).addr()),
        _ => None,
    }
}
