//! What a template works with: the values of Go's `text/template`, as far as Helm's charts meet them.
//!
//! Maps are shared, as Go's are: `set` changes the one that everybody holds. Lists and texts are not
//! changed once they are made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Stands for a character that no commit can foresee: a random one, or one of a time.
pub(super) const MARK: char = '\u{F8FF}';

/// A map, shared by all who hold it.
pub(super) type Map = Rc<RefCell<BTreeMap<Rc<str>, Value>>>;

/// A value.
#[derive(Clone, Debug, Default)]
pub(super) enum Value {
    /// Go's `nil`; what is missing.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number that a template writes, or one that a function makes.
    Int(i64),
    /// Any other number, and all of `values.yaml`.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// A list.
    List(Rc<Vec<Self>>),
    /// A map with keys of text.
    Map(Map),
    /// Something of ours, with fields and methods of its own: `.Files`, `.Capabilities`.
    Host(Rc<dyn Host>),
}

/// Something that templates ask and can't take apart.
pub(super) trait Host: fmt::Debug {
    /// What it is called in messages, and by `typeOf`: `engine.files`.
    fn name(&self) -> &'static str;

    /// A field, or a method called with `args`; nothing if it has none of that name. What is wrong with
    /// the arguments is said in words.
    fn get(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>>;

    /// What `range` goes through, as a map by name.
    fn items(&self) -> Option<Value> {
        None
    }

    /// Whether it counts as true.
    fn is_true(&self) -> bool {
        true
    }

    /// Go's kind of it.
    fn kind(&self) -> &'static str {
        "struct"
    }

    /// Its text, where a template prints it.
    fn text(&self) -> Option<String> {
        None
    }
}

impl Value {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(text.as_ref()))
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    pub(super) fn map(entries: BTreeMap<Rc<str>, Self>) -> Self {
        Self::Map(Rc::new(RefCell::new(entries)))
    }

    pub(super) fn empty_map() -> Self {
        Self::map(BTreeMap::new())
    }

    /// Go's truth: not nil, zero, or empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.borrow().is_empty(),
            Self::Host(host) => host.is_true(),
        }
    }

    /// The value of a key; null where this is no map, or has none.
    pub(super) fn get(&self, key: &str) -> Self {
        match self {
            Self::Map(entries) => entries.borrow().get(key).cloned().unwrap_or_default(),
            _ => Self::Null,
        }
    }

    /// Sets an entry, if this is a map.
    pub(super) fn put(&self, key: &str, value: Self) {
        if let Self::Map(entries) = self {
            entries.borrow_mut().insert(key.into(), value);
        }
    }

    /// Go's kind of it, as `kindOf` says.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Host(host) => host.kind(),
        }
    }

    /// How many values are in it, itself included, up to `left`; bytes of texts count by the hundred.
    pub(super) fn weight(&self, left: &mut usize, depth: usize) -> usize {
        let own = match self {
            Self::Text(text) => 1 + text.len() / 100,
            _ => 1,
        };
        let (Some(rest), Some(depth)) = (left.checked_sub(own), depth.checked_sub(1)) else {
            *left = 0;
            return own;
        };
        *left = rest;
        let below: usize = match self {
            Self::List(items) => items.iter().map(|item| item.weight(left, depth)).sum(),
            Self::Map(entries) => {
                entries.borrow().values().map(|value| value.weight(left, depth)).sum()
            }
            _ => 0,
        };
        own.saturating_add(below)
    }

    /// Another value that shares no map with this one. What nests deeper than `depth` is left out.
    pub(super) fn deep_copy(&self, depth: usize) -> Self {
        let Some(depth) = depth.checked_sub(1) else {
            return Self::Null;
        };
        match self {
            Self::List(items) => {
                Self::list(items.iter().map(|item| item.deep_copy(depth)).collect())
            }
            Self::Map(entries) => Self::Map(copy_of(entries, depth)),
            other => other.clone(),
        }
    }
}

/// Another map, whose values share no map with this one's; each is copied as [`Value::deep_copy`] does.
pub(super) fn copy_of(map: &Map, depth: usize) -> Map {
    let entries = map.borrow();
    let copies = entries.iter().map(|(key, value)| (Rc::clone(key), value.deep_copy(depth)));
    Rc::new(RefCell::new(copies.collect()))
}
