//! `Chart.yaml`: what a chart says of itself.
//!
//! <https://helm.sh/docs/topics/charts/#the-chartyaml-file>. As in Helm, fields that are not known are
//! passed over.

use super::Wrong;
use super::functions::of_node;
use super::value::Value;
use crate::desired::near::nearest;
use crate::desired::yaml::{self, ProblemKind};

/// What is read of it.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// The chart's name, or the alias by which its parent calls it.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    /// It holds only what other charts include.
    pub(super) is_library: bool,
    /// The versions of Kubernetes it is made for.
    pub(super) kube_version: Option<String>,
    /// What it is made of beside itself.
    pub(super) dependencies: Vec<Dependency>,
    /// All that is said, with the names that templates use.
    pub(super) shown: Value,
    /// Its annotations.
    pub(super) annotations: Value,
}

/// A chart that another one wants.
#[derive(Clone, Debug)]
pub(super) struct Dependency {
    /// The chart's name.
    pub(super) name: String,
    /// Which versions will do; empty for any.
    pub(super) version: String,
    /// Another name for it, under which its values stand.
    pub(super) alias: Option<String>,
    /// Paths of values, the first that is there decides whether it is wanted.
    pub(super) condition: String,
    /// Names below `tags` of the values, any of which makes it wanted.
    pub(super) tags: Vec<String>,
    /// What of its values its parent takes over.
    pub(super) imports: Vec<Import>,
}

/// Values that a chart takes over from one it depends on.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// Where they stand in the other.
    pub(super) child: String,
    /// Where they come to stand; empty for the top.
    pub(super) parent: String,
}

impl Dependency {
    /// What it is called among its parent's values.
    pub(super) fn known_as(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}

/// A file of YAML as one value; an empty file is an empty map.
pub(super) fn read_map(path: &str, text: &str) -> Result<Value, Wrong> {
    let mut value = Value::Null;
    for mut document in yaml::read(text) {
        let fatal = document.problems.iter().find(|problem| problem.kind != ProblemKind::Warning);
        if let Some(problem) = fatal {
            return Err(Wrong::at(path, problem.at.line, problem.message.clone()));
        }
        if let Some(root) = document.root.take() {
            value = match (&value, of_node(&root)) {
                (_, Value::Null) => continue,
                (Value::Null, found @ Value::Map(_)) => found,
                (Value::Null, _) => {
                    return Err(Wrong::at(path, root.at.line, "expected a map of values"));
                }
                _ => return Err(Wrong::at(path, root.at.line, "can have one document only")),
            };
        }
    }
    Ok(if matches!(value, Value::Null) { Value::empty_map() } else { value })
}

/// Reads a `Chart.yaml`, with the dependencies of the `requirements.yaml` that charts of before Helm 3 have.
pub(super) fn read(path: &str, text: &str, requirements: Option<&str>) -> Result<Metadata, Wrong> {
    let said = read_map(path, text)?;
    let field = |name: &str| match said.get(name) {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => String::new(),
    };
    let name = field("name");
    if name.is_empty() || name.contains(['/', '\\']) || name == "." || name == ".." {
        return Err(Wrong::at(path, 1, "chart.metadata.name is required, without slashes"));
    }
    let version = field("version");
    if version.is_empty() {
        return Err(Wrong::at(path, 1, "chart.metadata.version is required"));
    }
    let mut listed = said.get("dependencies");
    if let (Value::Null, Some(text)) = (&listed, requirements) {
        listed = read_map(path, text)?.get("dependencies");
    }
    let listed = match &listed {
        Value::List(items) => items.iter().map(dependency).collect(),
        _ => Vec::new(),
    };
    let kube_version = Some(field("kubeVersion")).filter(|text| !text.is_empty());
    let is_library = field("type").eq_ignore_ascii_case("library");
    let annotations = said.get("annotations");
    let shown = Value::map(
        SHOWN.iter().map(|(theirs, ours)| ((*theirs).into(), shown(&said, ours, &field))).collect(),
    );
    Ok(Metadata {
        name,
        version,
        is_library,
        kube_version,
        dependencies: listed,
        shown,
        annotations,
    })
}

/// The fields of `.Chart`, and what they are called in the file.
const SHOWN: [(&str, &str); 15] = [
    ("APIVersion", "apiVersion"),
    ("Annotations", "annotations"),
    ("AppVersion", "appVersion"),
    ("Condition", "condition"),
    ("Dependencies", "dependencies"),
    ("Deprecated", "deprecated"),
    ("Description", "description"),
    ("Home", "home"),
    ("Icon", "icon"),
    ("Keywords", "keywords"),
    ("KubeVersion", "kubeVersion"),
    ("Name", "name"),
    ("Sources", "sources"),
    ("Type", "type"),
    ("Version", "version"),
];

fn shown(said: &Value, name: &str, field: &dyn Fn(&str) -> String) -> Value {
    match said.get(name) {
        value @ (Value::List(_) | Value::Map(_) | Value::Bool(_)) => value,
        _ => Value::text(field(name)),
    }
}

fn dependency(said: &Value) -> Dependency {
    let field = |name: &str| match said.get(name) {
        Value::Text(text) => text.to_string(),
        _ => String::new(),
    };
    let texts = |name: &str| match said.get(name) {
        Value::List(items) => items.to_vec(),
        _ => Vec::new(),
    };
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.to_string()),
        _ => None,
    };
    let import = |value: &Value| match value {
        Value::Text(name) => {
            Some(Import { child: format!("exports.{name}"), parent: String::new() })
        }
        Value::Map(_) => {
            let parent = text(&value.get("parent"))?;
            let parent = if parent == "." { String::new() } else { parent };
            Some(Import { child: text(&value.get("child"))?, parent })
        }
        _ => None,
    };
    Dependency {
        name: field("name"),
        version: field("version"),
        alias: Some(field("alias")).filter(|alias| !alias.is_empty()),
        condition: field("condition"),
        tags: texts("tags").iter().filter_map(text).collect(),
        imports: texts("import-values").iter().filter_map(import).collect(),
    }
}

/// What a chart's author says to Windlass, in the chart's annotations.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    /// The release's name.
    pub(super) release: Option<String>,
    /// The namespace of what says none itself.
    pub(super) namespace: Option<String>,
    /// Files of values beside `values.yaml`, later ones before earlier ones.
    pub(super) values: Vec<String>,
}

/// The name of a release, where it is not to be that of the chart's directory.
pub(super) const ANNOTATION_RELEASE: &str = "windlass.dev/release";
/// The namespace of a release, where it is not to be `default`.
pub(super) const ANNOTATION_NAMESPACE: &str = "windlass.dev/namespace";
/// Files of values, with commas between.
pub(super) const ANNOTATION_VALUES: &str = "windlass.dev/values";

impl Wishes {
    /// Reads the annotations; says which of ours is none, or is not text.
    pub(super) fn of(metadata: &Metadata) -> Result<Self, String> {
        const OURS: &str = "windlass.dev/";
        const KNOWN: [&str; 3] = [ANNOTATION_RELEASE, ANNOTATION_NAMESPACE, ANNOTATION_VALUES];
        let mut wishes = Self::default();
        let Value::Map(annotations) = &metadata.annotations else {
            return Ok(wishes);
        };
        for (key, value) in &*annotations.borrow() {
            if !key.starts_with(OURS) {
                continue;
            }
            if !KNOWN.contains(&&**key) {
                let near = nearest(key, KNOWN).map(|near| format!(", did you mean {near}?"));
                return Err(format!("unknown annotation {key}{}", near.unwrap_or_default()));
            }
            let text = match value {
                Value::Text(text) if !text.trim().is_empty() => text.trim().to_owned(),
                _ => return Err(format!("the annotation {key} must be text")),
            };
            match &**key {
                ANNOTATION_RELEASE => wishes.release = Some(text),
                ANNOTATION_NAMESPACE => wishes.namespace = Some(text),
                _ => {
                    let files = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                    wishes.values = files.map(str::to_owned).collect();
                }
            }
        }
        Ok(wishes)
    }
}
