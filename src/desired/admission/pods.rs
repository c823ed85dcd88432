//! A pod template's JSON, as the rules look at it.

use serde_json::Value;

/// A pod template.
pub(super) struct Pod<'v> {
    metadata: &'v Value,
    spec: &'v Value,
}

/// A container, init containers included.
#[derive(Clone, Copy)]
pub(super) struct Container<'v> {
    pub(super) name: &'v str,
    pub(super) value: &'v Value,
}

impl<'v> Container<'v> {
    /// A field of its security context.
    pub(super) fn security(&self, field: &str) -> &'v Value {
        &self.value["securityContext"][field]
    }
}

impl<'v> Pod<'v> {
    pub(super) fn of(template: &'v Value) -> Self {
        Self { metadata: &template["metadata"], spec: &template["spec"] }
    }

    pub(super) fn field(&self, field: &str) -> &'v Value {
        &self.spec[field]
    }

    /// A field of the pod's security context.
    pub(super) fn security(&self, field: &str) -> &'v Value {
        &self.spec["securityContext"][field]
    }

    pub(super) fn annotations(&self) -> impl Iterator<Item = (&'v str, &'v str)> {
        let map = self.metadata["annotations"].as_object();
        map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// In the order in which Kubernetes looks at them.
    pub(super) fn containers(&self) -> impl Iterator<Item = Container<'v>> {
        let lists = ["initContainers", "containers"].map(|list| items(&self.spec[list]));
        lists
            .into_iter()
            .flatten()
            .map(|value| Container { name: value["name"].as_str().unwrap_or_default(), value })
    }
}

/// The items of a list; nothing if it is none.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text that is neither absent nor empty.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}
