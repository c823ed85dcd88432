//! What values are, whether they are there, and whether they are the same.

use std::rc::Rc;

use super::super::value::Value;
use super::args::{DEPTH_MAX, VISITS_MAX, at_least, done, exactly, text, truth, type_name};

type Answer = Result<Value, String>;

/// What Go calls whole numbers: `int` where a template writes one, `int64` where a function makes it.
const NUMBERS: [&str; 2] = ["int", "int64"];

fn is_named(value: &Value, own: &str, name: &str) -> bool {
    match value {
        Value::Int(_) => NUMBERS.contains(&name),
        _ => own == name,
    }
}

pub(super) fn kind_of(args: &[Value]) -> Answer {
    let [value] = exactly("kindOf", args)?;
    done(value.kind())
}

pub(super) fn kind_is(args: &[Value]) -> Answer {
    let [name, value] = exactly("kindIs", args)?;
    Ok(Value::Bool(is_named(value, value.kind(), text(name)?)))
}

pub(super) fn type_of(args: &[Value]) -> Answer {
    let [value] = exactly("typeOf", args)?;
    done(type_name(value))
}

pub(super) fn type_is(args: &[Value]) -> Answer {
    let [name, value] = exactly("typeIs", args)?;
    Ok(Value::Bool(is_named(value, &type_name(value), text(name)?)))
}

pub(super) fn type_is_like(args: &[Value]) -> Answer {
    let [name, value] = exactly("typeIsLike", args)?;
    let (name, own) = (text(name)?, type_name(value));
    let is_like = is_named(value, &own, name) || own.strip_prefix('*') == Some(name);
    Ok(Value::Bool(is_like))
}

pub(super) fn default(args: &[Value]) -> Answer {
    let ([absent], given) = at_least("default", args)?;
    Ok(given.first().filter(|value| value.is_true()).unwrap_or(absent).clone())
}

pub(super) fn empty(args: &[Value]) -> Answer {
    let [value] = exactly("empty", args)?;
    Ok(Value::Bool(!value.is_true()))
}

#[allow(clippy::unnecessary_wraps, reason = "a Function")]
pub(super) fn coalesce(args: &[Value]) -> Answer {
    Ok(args.iter().find(|value| value.is_true()).cloned().unwrap_or_default())
}

#[allow(clippy::unnecessary_wraps, reason = "a Function")]
pub(super) fn all(args: &[Value]) -> Answer {
    Ok(Value::Bool(args.iter().all(Value::is_true)))
}

#[allow(clippy::unnecessary_wraps, reason = "a Function")]
pub(super) fn any(args: &[Value]) -> Answer {
    Ok(Value::Bool(args.iter().any(Value::is_true)))
}

pub(super) fn ternary(args: &[Value]) -> Answer {
    let [yes, no, which] = exactly("ternary", args)?;
    Ok(if truth(which)? { yes } else { no }.clone())
}

pub(super) fn required(args: &[Value]) -> Answer {
    let [message, value] = exactly("required", args)?;
    let message = text(message)?;
    match value {
        Value::Null => Err(message.to_owned()),
        Value::Text(text) if text.is_empty() => Err(message.to_owned()),
        other => Ok(other.clone()),
    }
}

pub(super) fn fail(args: &[Value]) -> Answer {
    let [message] = exactly("fail", args)?;
    Err(text(message)?.to_owned())
}

pub(super) fn lookup(args: &[Value]) -> Answer {
    let all: [&Value; 4] = exactly::<4>("lookup", args)?.each_ref();
    for value in all {
        text(value)?;
    }
    Ok(Value::empty_map())
}

pub(super) fn deep_equal(args: &[Value]) -> Answer {
    let [a, b] = exactly("deepEqual", args)?;
    Ok(Value::Bool(equal(a, b)))
}

/// `reflect.DeepEqual`; whole numbers are the same whatever they were written as.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    same(a, b, DEPTH_MAX, &mut VISITS_MAX.clone())
}

fn same(a: &Value, b: &Value, depth: usize, visits: &mut usize) -> bool {
    let (Some(depth), Some(left)) = (depth.checked_sub(1), visits.checked_sub(1)) else {
        return false;
    };
    *visits = left;
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        #[allow(clippy::float_cmp, reason = "Go's ==")]
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            Rc::ptr_eq(a, b)
                || a.len() == b.len()
                    && a.iter().zip(b.iter()).all(|(a, b)| same(a, b, depth, visits))
        }
        (Value::Map(a), Value::Map(b)) => {
            if Rc::ptr_eq(a, b) {
                return true;
            }
            let (a, b) = (a.borrow(), b.borrow());
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|((key_a, a), (key_b, b))| key_a == key_b && same(a, b, depth, visits))
        }
        (Value::Host(a), Value::Host(b)) => {
            Rc::ptr_eq(a, b) || a.name() == b.name() && a.text().is_some() && a.text() == b.text()
        }
        _ => false,
    }
}
