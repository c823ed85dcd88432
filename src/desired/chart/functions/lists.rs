//! Functions of lists. None changes the list that it is given.

use super::super::value::Value;
use super::args::{ITEMS_MAX, at_least, exactly, int, items, listed};
use super::kinds::equal;
use super::numbers::to_int;

type Answer = Result<Value, String>;

pub(super) fn list(args: &[Value]) -> Answer {
    listed(args.to_vec())
}

pub(super) fn first(args: &[Value]) -> Answer {
    let [value] = exactly("first", args)?;
    Ok(items("find first", value)?.first().cloned().unwrap_or_default())
}

pub(super) fn last(args: &[Value]) -> Answer {
    let [value] = exactly("last", args)?;
    Ok(items("find last", value)?.last().cloned().unwrap_or_default())
}

pub(super) fn rest(args: &[Value]) -> Answer {
    let [value] = exactly("rest", args)?;
    let tail = items("find rest", value)?.split_first().map(|(_, tail)| tail.to_vec());
    listed(tail.unwrap_or_default())
}

pub(super) fn initial(args: &[Value]) -> Answer {
    let [value] = exactly("initial", args)?;
    let head = items("find initial", value)?.split_last().map(|(_, head)| head.to_vec());
    listed(head.unwrap_or_default())
}

pub(super) fn append(args: &[Value]) -> Answer {
    let [value, item] = exactly("append", args)?;
    let mut all = items("push", value)?.to_vec();
    all.push(item.clone());
    listed(all)
}

pub(super) fn prepend(args: &[Value]) -> Answer {
    let [value, item] = exactly("prepend", args)?;
    let mut all = vec![item.clone()];
    all.extend_from_slice(&items("prepend", value)?);
    listed(all)
}

pub(super) fn concat(args: &[Value]) -> Answer {
    let mut all = Vec::new();
    for value in args {
        let more = items("concat", value)
            .map_err(|problem| problem.replace("Cannot concat on type", "Cannot concat type"))?;
        if all.len().saturating_add(more.len()) > ITEMS_MAX {
            return Err(format!("the list would have more than {ITEMS_MAX} items"));
        }
        all.extend_from_slice(&more);
    }
    listed(all)
}

pub(super) fn reverse(args: &[Value]) -> Answer {
    let [value] = exactly("reverse", args)?;
    listed(items("find reverse", value)?.iter().rev().cloned().collect())
}

/// Comparing each with each of so many values, or nearly, is too much.
const COMPARED_MAX: usize = 20_000_000;

fn comparable(a: usize, b: usize) -> Result<(), String> {
    if a.saturating_mul(b) > COMPARED_MAX {
        return Err("the lists are too long to be compared value by value".to_owned());
    }
    Ok(())
}

fn holds(all: &[Value], item: &Value) -> bool {
    all.iter().any(|other| equal(other, item))
}

pub(super) fn uniq(args: &[Value]) -> Answer {
    let [value] = exactly("uniq", args)?;
    let all = items("find uniq", value)?;
    let mut different: Vec<Value> = Vec::new();
    for item in all.iter() {
        comparable(all.len(), different.len())?;
        if !holds(&different, item) {
            different.push(item.clone());
        }
    }
    listed(different)
}

pub(super) fn without(args: &[Value]) -> Answer {
    let ([value], left_out) = at_least("without", args)?;
    let all = items("find without", value)?;
    comparable(all.len(), left_out.len())?;
    listed(all.iter().filter(|item| !holds(left_out, item)).cloned().collect())
}

pub(super) fn has(args: &[Value]) -> Answer {
    let [needle, value] = exactly("has", args)?;
    if matches!(value, Value::Null) {
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(holds(&items("find has", value)?, needle)))
}

pub(super) fn slice(args: &[Value]) -> Answer {
    let ([value], bounds) = at_least("slice", args)?;
    let Value::List(all) = value else {
        return Err(format!("list should be type of slice or array but {}", value.kind()));
    };
    if all.is_empty() {
        return Ok(Value::Null);
    }
    let bound = |at: usize, absent: usize| match bounds.get(at) {
        None => Some(absent),
        Some(value) => usize::try_from(to_int(value)).ok(),
    };
    let part = match (bound(0, 0), bound(1, all.len())) {
        (Some(start), Some(end)) => all.get(start..end),
        _ => None,
    };
    part.map_or_else(
        || Err("error calling slice: slice index out of bounds".to_owned()),
        |part| listed(part.to_vec()),
    )
}

pub(super) fn chunk(args: &[Value]) -> Answer {
    let [size, value] = exactly("chunk", args)?;
    let size = usize::try_from(int(size)?).ok().filter(|size| *size > 0);
    let Some(size) = size else {
        return Err("error calling chunk: the size must be above 0".to_owned());
    };
    let Value::List(all) = value else {
        return Err(format!("Cannot chunk type {}", value.kind()));
    };
    listed(all.chunks(size).map(|part| Value::list(part.to_vec())).collect())
}

pub(super) fn compact(args: &[Value]) -> Answer {
    let [value] = exactly("compact", args)?;
    listed(items("compact", value)?.iter().filter(|item| item.is_true()).cloned().collect())
}
