//! Whose values hold: a chart's defaults, those of the charts above it, those of the files that are
//! named.
//!
//! As Helm's `chartutil` does it (<https://helm.sh/docs/chart_template_guide/values_files/>): who stands
//! above decides, `null` takes a default away, `global` reaches down to all.

use std::rc::Rc;

use super::load::Chart;
use super::value::{Map, Value, copy_of};

/// Values nest at most this deep; what is deeper is left out.
pub(super) const DEPTH_MAX: usize = 100;

/// What a `null` does where there is a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    /// It takes the default away.
    Decide,
    /// It stays, to decide later.
    Stay,
}

/// The values that a chart's templates see: `given` before its own defaults, and those of the charts
/// in it below their names. Says which chart's values are no map, if one's are not.
pub(super) fn coalesce(chart: &Chart, given: &Map, nulls: Nulls) -> Result<(), String> {
    if let Value::Map(defaults) = &chart.values {
        fill(given, defaults, nulls, DEPTH_MAX, &|key| {
            chart.charts.iter().any(|inner| inner.metadata.name == key)
        });
    }
    for inner in &chart.charts {
        let name = inner.metadata.name.as_str();
        let found = given.borrow().get(name).cloned();
        let below = match found {
            Some(Value::Map(below)) => below,
            None | Some(Value::Null) => {
                let below = Map::default();
                given.borrow_mut().insert(name.into(), Value::Map(Rc::clone(&below)));
                below
            }
            Some(other) => {
                let kind = other.kind();
                return Err(format!("the values of chart {name} are to be a map, not a {kind}"));
            }
        };
        hand_down(&below, given);
        coalesce(inner, &below, nulls)?;
    }
    Ok(())
}

/// Adds to `target` what it lacks of `defaults`. Below a key that `is_chart` knows, a `null` stays: it is
/// that chart's defaults that it is meant for.
fn fill(target: &Map, defaults: &Map, nulls: Nulls, depth: usize, is_chart: &dyn Fn(&str) -> bool) {
    let Some(depth) = depth.checked_sub(1).filter(|_| !Rc::ptr_eq(target, defaults)) else {
        return;
    };
    for (key, default) in &*defaults.borrow() {
        let own = target.borrow().get(key).cloned();
        match (own, default) {
            (None, _) => {
                target.borrow_mut().insert(Rc::clone(key), default.deep_copy(depth));
            }
            (Some(Value::Null), _) if nulls == Nulls::Decide => {
                target.borrow_mut().remove(key);
            }
            (Some(Value::Map(own)), Value::Map(default)) => {
                let nulls = if is_chart(key) { Nulls::Stay } else { nulls };
                fill(&own, default, nulls, depth, &|_| false);
            }
            _ => {}
        }
    }
}

/// Puts the values of `later` over those of `earlier`.
pub(super) fn lay_over(earlier: &Map, later: &Map, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for (key, value) in &*later.borrow() {
        let own = earlier.borrow().get(key).cloned();
        match (own, value) {
            (Some(Value::Map(own)), Value::Map(value)) => lay_over(&own, value, depth),
            _ => {
                earlier.borrow_mut().insert(Rc::clone(key), value.deep_copy(depth));
            }
        }
    }
}

/// Gives the global values of a chart to one in it.
fn hand_down(below: &Map, above: &Map) {
    let globals = |map: &Map| match map.borrow().get("global") {
        None | Some(Value::Null) => Some(Map::default()),
        Some(Value::Map(globals)) => Some(Rc::clone(globals)),
        Some(_) => None,
    };
    let (Some(own), Some(theirs)) = (globals(below), globals(above)) else {
        return;
    };
    for (key, value) in &*theirs.borrow() {
        let has = own.borrow().get(key).cloned();
        let taken = match (has, value) {
            (None, _) => value.deep_copy(DEPTH_MAX),
            (Some(Value::Map(has)), Value::Map(theirs)) => {
                let copy = copy_of(theirs, DEPTH_MAX);
                fill(&copy, &has, Nulls::Decide, DEPTH_MAX, &|_| false);
                Value::Map(copy)
            }
            // A map and something else don't go together; each keeps its own.
            (Some(Value::Map(_)), _) | (Some(_), Value::Map(_)) => continue,
            (Some(_), _) => value.clone(),
        };
        own.borrow_mut().insert(Rc::clone(key), taken);
    }
    below.borrow_mut().insert("global".into(), Value::Map(own));
}

/// The value at a path of names with dots between; nothing if there is none.
pub(super) fn at_path(values: &Map, path: &str) -> Option<Value> {
    let mut found = Value::Map(Rc::clone(values));
    for name in path.split('.') {
        let Value::Map(map) = &found else {
            return None;
        };
        let next = map.borrow().get(name).cloned()?;
        found = next;
    }
    Some(found)
}

/// A map that holds `value` at a path.
fn below_path(path: &str, value: Value) -> Value {
    if path.is_empty() {
        return value;
    }
    path.rsplit('.').fold(value, |value, name| Value::map([(name.into(), value)].into()))
}

/// Takes the charts out that nobody wants, all the way down, as conditions say, and the `tags` of the
/// outermost chart's values.
pub(super) fn choose(chart: &mut Chart, given: &Map) -> Result<(), String> {
    coalesce(chart, given, Nulls::Decide)?;
    let tags = at_path(given, "tags");
    choose_within(chart, given, tags.as_ref())
}

fn choose_within(chart: &mut Chart, given: &Map, tags: Option<&Value>) -> Result<(), String> {
    let is_wanted = |inner: &Chart| {
        let mut listed = chart.metadata.dependencies.iter();
        let Some(dependency) = listed.find(|its| its.known_as() == inner.metadata.name) else {
            return true;
        };
        let mut conditions = dependency.condition.split(',').map(str::trim);
        let decided = conditions.find_map(|path| match at_path(given, path) {
            Some(Value::Bool(is_wanted)) => Some(is_wanted),
            _ => None,
        });
        decided.unwrap_or_else(|| {
            let said = |tag: &String| match tags?.get(tag) {
                Value::Bool(is_wanted) => Some(is_wanted),
                _ => None,
            };
            let said: Vec<bool> = dependency.tags.iter().filter_map(said).collect();
            said.is_empty() || said.contains(&true)
        })
    };
    let all = std::mem::take(&mut chart.charts);
    let kept: Vec<Chart> = all.into_iter().filter(|inner| is_wanted(inner)).collect();
    chart.charts = kept;
    for inner in &mut chart.charts {
        if let Some(Value::Map(below)) = at_path(given, &inner.metadata.name) {
            choose_within(inner, &below, tags)?;
        }
    }
    Ok(())
}

/// Makes the values that a chart takes over from those in it defaults of its own, from the bottom up.
pub(super) fn import(chart: &mut Chart) -> Result<(), String> {
    for inner in &mut chart.charts {
        import(inner)?;
    }
    if chart.metadata.dependencies.iter().all(|dependency| dependency.imports.is_empty()) {
        return Ok(());
    }
    let all = Map::default();
    coalesce(chart, &all, Nulls::Stay)?;
    let taken = Map::default();
    for dependency in &chart.metadata.dependencies {
        for import in &dependency.imports {
            let path = format!("{}.{}", dependency.known_as(), import.child);
            let Some(value @ Value::Map(_)) = at_path(&all, &path) else {
                continue;
            };
            if let Value::Map(value) = below_path(&import.parent, value) {
                fill(&taken, &value, Nulls::Stay, DEPTH_MAX, &|_| false);
            }
        }
    }
    // Its own values go before those that it takes over.
    fill(&all, &taken, Nulls::Stay, DEPTH_MAX, &|_| false);
    chart.values = Value::Map(all);
    Ok(())
}
