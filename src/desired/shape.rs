//! The shapes of Kubernetes' types: which fields there are, what each holds, which must be given.
//!
//! They are compiled once from the JSON schemas that come with k8s-openapi (`src/build/shapes.rs` writes
//! them down when the program is built), so they are as right
//! as Kubernetes' own, and joined there with what we know of each field: whether it is carried out
//! ([`super::support`]) and what stands in it by default ([`super::defaults`]).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::ZlibDecoder;
use serde_json::Value as Json;

use super::defaults::{self, FILLS, Fill, Finish, ZERO_IS_ABSENT};
use super::meaning;
use super::support::{self, FieldSupport};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Bool,
    Int32,
    Int64,
    Float,
    Text,
    /// Base64.
    Bytes,
    /// RFC 3339.
    Time,
    Quantity,
    IntOrText,
    Structure(u16),
    List(u16),
    Map(u16),
}

/// A type with fields.
#[derive(Debug)]
pub(super) struct Structure {
    /// As in `core.v1.PodSpec`.
    pub(super) name: String,
    /// In order of name.
    pub(super) fields: Vec<Field>,
    /// Whether an empty one says the same as none.
    pub(super) is_void_when_empty: bool,
    /// Fills in what depends on several fields.
    pub(super) finish: Option<Finish>,
}

/// A field of a [`Structure`].
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) holds: Type,
    pub(super) is_required: bool,
    /// Whether zero and false say the same as nothing.
    pub(super) zero_is_absent: bool,
    pub(super) fill: Option<Fill>,
    /// What is done with it; absent where nobody has decided.
    pub(super) support: Option<FieldSupport>,
}

impl Structure {
    /// The field of that name and its index.
    pub(super) fn field(&self, name: &str) -> Option<(usize, &Field)> {
        let index = self.fields.binary_search_by(|field| field.name.as_str().cmp(name)).ok()?;
        Some((index, &self.fields[index]))
    }
}

/// All shapes.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    structures: Vec<Structure>,
    /// What lists and maps hold.
    inner: Vec<Type>,
    roots: BTreeMap<(&'static str, &'static str), u16>,
}

/// The shapes, compiled at first use: some milliseconds.
pub(super) static SHAPES: LazyLock<Shapes> = LazyLock::new(compile);

impl Shapes {
    /// The type of objects of a kind in an API version, as in `("apps/v1", "Deployment")`.
    pub(super) fn root(&self, api_version: &str, kind: &str) -> Option<Type> {
        self.roots.get(&(api_version, kind)).map(|index| Type::Structure(*index))
    }

    pub(super) fn structure(&self, index: u16) -> &Structure {
        &self.structures[usize::from(index)]
    }

    /// What a list or map of this index holds.
    pub(super) fn inner(&self, index: u16) -> Type {
        self.inner[usize::from(index)]
    }

    /// The type of the field `name` of a value of type `holder`.
    pub(super) fn child(&self, holder: Type, name: &str) -> Type {
        match holder {
            Type::Structure(index) => {
                self.structure(index).field(name).map_or(Type::Any, |(_, field)| field.holds)
            }
            Type::Map(index) | Type::List(index) => self.inner(index),
            _ => Type::Any,
        }
    }
}

/// Every schema by its name.
pub type Schemas = serde_json::Map<String, Json>;

/// API version, kind, and the name of its schema, of every kind that a manifest may hold.
pub const ROOTS: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/roots.rs"));

/// The schemas without descriptions, compressed (`src/build/shapes.rs`).
const BARE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shapes.zz"));
/// The schemas as they are, compressed.
const WHOLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.zz"));

/// The schemas themselves, as OpenAPI has them: for those who show shapes to people.
pub(super) fn schemas() -> Schemas {
    unpack(WHOLE)
}

/// Nothing if what the build has put there can't be read, which a test would see.
fn unpack(packed: &[u8]) -> Schemas {
    let mut text = String::new();
    match ZlibDecoder::new(packed).read_to_string(&mut text) {
        Ok(_) => serde_json::from_str(&text).unwrap_or_default(),
        Err(_) => Schemas::default(),
    }
}

/// `io.k8s.api.core.v1.PodSpec` is called `core.v1.PodSpec` here.
fn short(name: &str) -> &str {
    let name = name.strip_prefix("io.k8s.").unwrap_or(name);
    ["apimachinery.pkg.apis.", "apimachinery.pkg.", "api."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name)
}

fn compile() -> Shapes {
    let schemas = unpack(BARE);
    let mut compiler = Compiler {
        types: BTreeMap::new(),
        shapes: Shapes::default(),
        support: support::fields().map(|row| ((row.definition, row.field), row)).collect(),
    };
    let structures: Vec<(&String, &Json)> =
        schemas.iter().filter(|(_, schema)| schema.get("properties").is_some()).collect();
    for (name, schema) in &schemas {
        let scalar = match short(name) {
            "api.resource.Quantity" => Type::Quantity,
            "util.intstr.IntOrString" => Type::IntOrText,
            _ if schema.get("type").is_some_and(|t| t != "object") => compiler.scalar(schema),
            _ => Type::Any,
        };
        compiler.types.insert(name, scalar);
    }
    for (index, (name, _)) in (0_u16..).zip(&structures) {
        compiler.types.insert(name, Type::Structure(index));
    }
    for (name, schema) in &structures {
        let structure = compiler.structure(short(name), schema);
        compiler.shapes.structures.push(structure);
    }
    for (api_version, kind, name) in ROOTS {
        if let Some(Type::Structure(index)) = compiler.types.get(*name) {
            compiler.shapes.roots.insert((api_version, kind), *index);
        }
    }
    compiler.shapes
}

struct Compiler<'s> {
    types: BTreeMap<&'s str, Type>,
    shapes: Shapes,
    support: BTreeMap<(&'static str, &'static str), FieldSupport>,
}

impl Compiler<'_> {
    fn structure(&mut self, name: &str, schema: &Json) -> Structure {
        let required = |field: &str| {
            schema
                .get("required")
                .and_then(Json::as_array)
                .is_some_and(|list| list.iter().any(|name| name == field))
        };
        let has_zeroes = |field: &str| {
            ZERO_IS_ABSENT
                .iter()
                .any(|(of, fields)| *of == name && fields.split(' ').any(|f| f == field))
        };
        let mut fields: Vec<Field> = schema
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
            .map(|(field, schema)| Field {
                name: field.clone(),
                holds: self.holds(schema),
                is_required: required(field),
                zero_is_absent: has_zeroes(field),
                fill: FILLS
                    .iter()
                    .find(|(of, filled, _)| *of == name && filled == field)
                    .map(|(_, _, fill)| *fill),
                support: self.support.get(&(name, field.as_str())).copied(),
            })
            .collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Structure {
            name: name.to_owned(),
            fields,
            is_void_when_empty: meaning::is_void_when_empty(name),
            finish: defaults::finish(name),
        }
    }

    fn holds(&mut self, schema: &Json) -> Type {
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            let name = reference.strip_prefix("#/components/schemas/").unwrap_or(reference);
            return self.types.get(name).copied().unwrap_or(Type::Any);
        }
        if let Some(items) = schema.get("items") {
            let inner = self.holds(items);
            return Type::List(self.inner(inner));
        }
        if let Some(values) = schema.get("additionalProperties") {
            let inner = self.holds(values);
            return Type::Map(self.inner(inner));
        }
        self.scalar(schema)
    }

    #[allow(clippy::unused_self, reason = "one of the compiler's three readers of a schema")]
    fn scalar(&self, schema: &Json) -> Type {
        let format = schema.get("format").and_then(Json::as_str);
        match (schema.get("type").and_then(Json::as_str), format) {
            (Some("string"), Some("byte")) => Type::Bytes,
            (Some("string"), Some("date-time")) => Type::Time,
            (Some("string"), _) => Type::Text,
            (Some("boolean"), _) => Type::Bool,
            (Some("integer"), Some("int32")) => Type::Int32,
            (Some("integer"), _) => Type::Int64,
            (Some("number"), _) => Type::Float,
            _ => Type::Any,
        }
    }

    fn inner(&mut self, inner: Type) -> u16 {
        let known = self.shapes.inner.iter().position(|known| *known == inner);
        let index = known.unwrap_or_else(|| {
            self.shapes.inner.push(inner);
            self.shapes.inner.len() - 1
        });
        // There are some 300 types.
        u16::try_from(index).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::support::Verdict;
    use super::*;
    use crate::kinds::registry::{KINDS, Support};

    #[test]
    fn every_kind_that_a_manifest_may_hold_has_a_shape() {
        for info in KINDS {
            let shape = SHAPES.root(&info.kind.api_version(), info.name);
            assert_eq!(shape.is_some(), info.support != Support::Made, "{}", info.name);
        }
    }

    /// The structures that manifests of running kinds reach through fields that count.
    fn reachable() -> BTreeSet<u16> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Type> = KINDS
            .iter()
            .filter(|info| info.support == Support::Runs)
            .filter_map(|info| SHAPES.root(&info.kind.api_version(), info.name))
            .collect();
        while let Some(holds) = open.pop() {
            match holds {
                Type::List(inner) | Type::Map(inner) => open.push(SHAPES.inner(inner)),
                Type::Structure(index) if seen.insert(index) => {
                    let fields = &SHAPES.structure(index).fields;
                    open.extend(fields.iter().filter(|f| followed(f)).map(|f| f.holds));
                }
                _ => {}
            }
        }
        seen
    }

    fn followed(field: &Field) -> bool {
        field.name != "status"
            && field.support.is_some_and(|support| {
                let is_followed = matches!(support.verdict, Verdict::Runs | Verdict::Shown);
                is_followed || !support.except.is_empty()
            })
    }

    #[test]
    fn somebody_has_decided_about_every_field() {
        let undecided: Vec<String> = reachable()
            .into_iter()
            .map(|index| SHAPES.structure(index))
            .flat_map(|structure| {
                let missing = |f: &&Field| f.support.is_none() && f.name != "status";
                structure
                    .fields
                    .iter()
                    .filter(missing)
                    .map(|field| format!("{} {}", structure.name, field.name))
            })
            .collect();
        assert_eq!(undecided, Vec::<String>::new());
    }

    #[test]
    fn the_tables_name_fields_that_exist_and_each_once() {
        let exists = |definition: &str, field: &str| {
            SHAPES.structures.iter().any(|s| s.name == definition && s.field(field).is_some())
        };
        let mut seen = BTreeSet::new();
        for row in support::fields() {
            let name = (row.definition, row.field);
            assert!(exists(row.definition, row.field), "{name:?}");
            assert!(seen.insert(name), "twice: {name:?}");
        }
        for (definition, field, _) in FILLS {
            assert!(exists(definition, field), "{definition} {field}");
        }
        for (definition, fields) in ZERO_IS_ABSENT {
            for field in fields.split(' ') {
                assert!(exists(definition, field), "{definition} {field}");
            }
        }
    }

    #[test]
    fn shapes_are_kubernetes_own() {
        let pod = SHAPES.root("v1", "Pod").expect("known");
        let spec = SHAPES.child(pod, "spec");
        assert_eq!(SHAPES.child(spec, "hostNetwork"), Type::Bool);
        let containers = SHAPES.child(spec, "containers");
        let container = SHAPES.child(containers, "");
        let resources = SHAPES.child(container, "resources");
        let limits = SHAPES.child(resources, "limits");
        assert_eq!(SHAPES.child(limits, "cpu"), Type::Quantity);
        let Type::Structure(index) = container else { panic!("{container:?}") };
        let (_, name) = SHAPES.structure(index).field("name").expect("known");
        assert!(name.is_required && name.holds == Type::Text);
        assert!(SHAPES.structures.iter().all(|s| s.fields.len() <= 128));
    }
}
