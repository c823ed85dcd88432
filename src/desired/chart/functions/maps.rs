//! Functions of maps, and how maps are merged: as mergo does it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::value::{Map, Value};
use super::args::{
    DEPTH_MAX, ITEMS_MAX, VISITS_MAX, at_least, entries, exactly, listed, map, shown, text, texts,
};

type Answer = Result<Value, String>;

/// Sets a key. A map can't grow beyond what a list may hold.
fn put(map: &Map, key: Rc<str>, value: Value) -> Result<(), String> {
    let mut all = map.borrow_mut();
    if all.len() >= ITEMS_MAX && !all.contains_key(&key) {
        return Err(format!("the map would have more than {ITEMS_MAX} keys"));
    }
    // What was there is dropped after the borrow: it may hold this map's last other owner.
    let old = all.insert(key, value);
    drop(all);
    drop(old);
    Ok(())
}

pub(super) fn dict(args: &[Value]) -> Answer {
    let mut all = BTreeMap::new();
    for pair in args.chunks(2) {
        if let Some((key, rest)) = pair.split_first() {
            let value = rest.first().cloned().unwrap_or_else(|| Value::text(""));
            all.insert(Rc::from(shown(key)?), value);
        }
    }
    Ok(Value::map(all))
}

pub(super) fn get(args: &[Value]) -> Answer {
    let [of, key] = exactly("get", args)?;
    let key = text(key)?;
    Ok(map(of)?.borrow().get(key).cloned().unwrap_or_else(|| Value::text("")))
}

pub(super) fn set(args: &[Value]) -> Answer {
    let [of, key, value] = exactly("set", args)?;
    if matches!(of, Value::Null) {
        return Err("assignment to entry in nil map".to_owned());
    }
    put(&map(of)?, Rc::from(text(key)?), value.clone())?;
    Ok(of.clone())
}

pub(super) fn unset(args: &[Value]) -> Answer {
    let [of, key] = exactly("unset", args)?;
    let old = map(of)?.borrow_mut().remove(text(key)?);
    drop(old);
    Ok(of.clone())
}

pub(super) fn has_key(args: &[Value]) -> Answer {
    let [of, key] = exactly("hasKey", args)?;
    Ok(Value::Bool(map(of)?.borrow().contains_key(text(key)?)))
}

pub(super) fn pluck(args: &[Value]) -> Answer {
    let ([key], maps) = at_least("pluck", args)?;
    let key = text(key)?;
    let mut found = Vec::new();
    for of in maps {
        found.extend(map(of)?.borrow().get(key).cloned());
    }
    listed(found)
}

pub(super) fn keys(args: &[Value]) -> Answer {
    let mut all = Vec::new();
    for of in args {
        all.extend(map(of)?.borrow().keys().map(Rc::clone));
    }
    texts(all)
}

pub(super) fn values(args: &[Value]) -> Answer {
    let [of] = exactly("values", args)?;
    listed(map(of)?.borrow().values().cloned().collect())
}

fn wanted(keys: &[Value]) -> Result<Vec<&str>, String> {
    keys.iter().map(text).collect()
}

pub(super) fn pick(args: &[Value]) -> Answer {
    let ([of], keys) = at_least("pick", args)?;
    let (all, mut picked) = (map(of)?, BTreeMap::new());
    let all = all.borrow();
    for key in wanted(keys)? {
        picked.extend(all.get(key).map(|value| (Rc::from(key), value.clone())));
    }
    Ok(Value::map(picked))
}

pub(super) fn omit(args: &[Value]) -> Answer {
    let ([of], keys) = at_least("omit", args)?;
    let mut all = entries(&map(of)?);
    for key in wanted(keys)? {
        all.remove(key);
    }
    Ok(Value::map(all))
}

/// Merges `source` into `target`. Maps in both are merged; what else both have stays, unless it is
/// empty or is to be overwritten. What is taken over is shared with the source, as in Go.
fn merge_into(
    target: &Map,
    source: &Map,
    overwrite: bool,
    depth: usize,
    visits: &mut usize,
) -> Result<(), String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("maps nest deeper than {DEPTH_MAX} levels"));
    };
    if Rc::ptr_eq(target, source) {
        return Ok(());
    }
    for (key, value) in entries(source) {
        *visits = visits.checked_sub(1).ok_or("there is too much to merge")?;
        let present = target.borrow().get(&key).cloned();
        match (&value, present) {
            (Value::Null, _) if !overwrite => {}
            (Value::Map(from), Some(Value::Map(into))) => {
                merge_into(&into, from, overwrite, depth, visits)?;
            }
            (_, Some(present)) if !overwrite && present.is_true() => {}
            _ => put(target, key, value)?,
        }
    }
    Ok(())
}

fn merged(name: &str, args: &[Value], overwrite: bool) -> Answer {
    let ([target], sources) = at_least(name, args)?;
    let into = map(target)?;
    for source in sources {
        let mut visits = VISITS_MAX;
        merge_into(&into, &map(source)?, overwrite, DEPTH_MAX, &mut visits)?;
    }
    Ok(Value::Map(into))
}

pub(super) fn merge(args: &[Value]) -> Answer {
    merged("merge", args, false)
}

pub(super) fn merge_overwrite(args: &[Value]) -> Answer {
    merged("mergeOverwrite", args, true)
}

fn copied(value: &Value, depth: usize, visits: &mut usize) -> Answer {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("values nest deeper than {DEPTH_MAX} levels"));
    };
    *visits = visits.checked_sub(1).ok_or("there is too much to copy")?;
    Ok(match value {
        Value::List(items) => {
            let items: Result<_, _> =
                items.iter().map(|item| copied(item, depth, visits)).collect();
            Value::list(items?)
        }
        Value::Map(map) => {
            let mut all = BTreeMap::new();
            for (key, item) in entries(map) {
                all.insert(key, copied(&item, depth, visits)?);
            }
            Value::map(all)
        }
        other => other.clone(),
    })
}

pub(super) fn deep_copy(args: &[Value]) -> Answer {
    let [value] = exactly("deepCopy", args)?;
    copied(value, DEPTH_MAX, &mut VISITS_MAX.clone())
}

pub(super) fn dig(args: &[Value]) -> Answer {
    let [keys @ .., absent, of] = args else {
        return Err("dig needs at least three arguments".to_owned());
    };
    if keys.is_empty() {
        return Err("dig needs at least three arguments".to_owned());
    }
    let mut at = of.clone();
    for key in keys {
        let Value::Map(map) = &at else {
            return Err(format!(
                "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                super::args::type_name(&at).trim_matches(['<', '>'])
            ));
        };
        let next = map.borrow().get(text(key)?).cloned();
        match next {
            Some(value) => at = value,
            None => return Ok(absent.clone()),
        }
    }
    Ok(at)
}

#[cfg(test)]
#[path = "maps_tests.rs"]
mod tests;
