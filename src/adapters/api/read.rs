//! Objects: one of them, or a list, page by page, in the form that was asked for.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::ask::{self, Form, Parameters};
use super::reply::{self, Answer, No};
use super::serve::Api;
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;
use crate::view::cache::Item;
use crate::view::objects;
use crate::view::select::Bookmark;
use crate::view::table;

/// What stands beside a table's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    Nothing,
    Metadata,
    Object,
}

/// How objects are written out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) kind: Kind,
    pub(super) form: Form,
    pub(super) include: Include,
}

impl Style {
    pub(super) fn of(kind: Kind, asked: &Parameters, headers: &HeaderMap) -> Result<Self, No> {
        let form = match ask::form(headers)? {
            Form::Text => return Err(No::not_acceptable()),
            form => form,
        };
        let include = match asked.get("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(No::bad(format!(
                    "includeObject: '{other}' is none of None, Metadata, Object"
                )));
            }
        };
        Ok(Self { kind, form, include })
    }

    /// One object, as an answer or an event holds it.
    pub(super) fn text(self, item: &Item, now: Wall) -> Cow<'_, str> {
        match self.form {
            Form::Plain | Form::Text => Cow::Borrowed(&item.json),
            Form::Table | Form::Metadata => self.one(item.value(), now).to_string().into(),
        }
    }

    /// The same, of an object that is not as it is kept.
    pub(super) fn one(self, object: Value, now: Wall) -> Value {
        match self.form {
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                self.table(&metadata, &[self.row(object, now)])
            }
            Form::Metadata => partial(object),
            Form::Plain | Form::Text => object,
        }
    }

    /// A table of rows.
    pub(super) fn table(self, metadata: &Value, rows: &[Value]) -> Value {
        let mut table = self.table_head(metadata);
        table["rows"] = rows.into();
        table
    }

    fn table_head(self, metadata: &Value) -> Value {
        let columns = table::columns(self.kind).iter().map(table::column_json);
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": columns.collect::<Vec<_>>(),
        })
    }

    fn row(self, object: Value, now: Wall) -> Value {
        let mut row = json!({"cells": table::cells(self.kind, &object, now)});
        match self.include {
            Include::Nothing => {}
            Include::Metadata => row["object"] = partial(object),
            Include::Object => row["object"] = object,
        }
        row
    }

    /// All of them: each is read, drawn and written before the next, since a fleet has many.
    fn list(self, metadata: &Value, items: &[Item], now: Wall) -> String {
        if self.form == Form::Table {
            let rows = items.iter().map(|item| self.row(item.value(), now).to_string().into());
            return with_list(&self.table_head(metadata), "rows", rows);
        }
        let (api_version, kind) = match self.form {
            Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
            _ => (self.kind.api_version(), format!("{}List", self.kind.name())),
        };
        let head = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        with_list(&head, "items", items.iter().map(|item| self.text(item, now)))
    }
}

/// An object of JSON with one more member, a list of what is written out already.
fn with_list<'i>(head: &Value, name: &str, items: impl Iterator<Item = Cow<'i, str>>) -> String {
    let mut text = head.to_string();
    text.pop();
    text.push_str(&format!(",\"{name}\":["));
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&item);
    }
    text.push_str("]}");
    text
}

/// An object's metadata and nothing else.
fn partial(mut object: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"].take(),
    })
}

/// One object.
pub(super) async fn object(
    api: &Arc<Api>,
    key: Key,
    asked: &Parameters,
    headers: &HeaderMap,
) -> Result<Answer, No> {
    let style = Style::of(key.kind, asked, headers)?;
    let drawn = api.draw(move |cache| {
        let item = cache.find(&key).ok_or_else(|| No::object(&key))?;
        let picture = cache.picture();
        let mut answer = style.one(item.value(), picture.now.wall);
        if style.form == Form::Plain {
            // Asked for by name: the only way in which a Secret's values are given away.
            objects::reveal(picture, &key, &mut answer);
        }
        Ok(answer.to_string())
    });
    drawn.await?.map(reply::json_text)
}

/// A list of objects.
pub(super) async fn list(
    api: &Arc<Api>,
    kind: Kind,
    namespace: Option<Name>,
    asked: &Parameters,
    headers: &HeaderMap,
) -> Result<Answer, No> {
    let style = Style::of(kind, asked, headers)?;
    let query = asked.query(kind, namespace)?;
    let limit = asked.number::<usize>("limit")?.filter(|limit| *limit > 0);
    let bookmark = asked.bookmark()?;
    let is_selecting = asked.get("labelSelector").or(asked.get("fieldSelector")).is_some();
    let drawn = api.draw(move |cache| {
        let listing = cache.list(kind);
        let wanted = listing.items.into_iter().filter(|item| {
            let is_after = bookmark.as_ref().is_none_or(|bookmark| bookmark.is_before(&item.key));
            is_after && query.wants(item)
        });
        let mut items: Vec<Item> = wanted.collect();
        let mut metadata = json!({"resourceVersion": listing.version.to_string()});
        if let Some(limit) = limit.filter(|limit| *limit < items.len()) {
            let remaining = items.len() - limit;
            items.truncate(limit);
            let last = items.last().map(|item| Bookmark::after(&item.key).token());
            metadata["continue"] = last.into();
            if !is_selecting {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        style.list(&metadata, &items, cache.picture().now.wall)
    });
    drawn.await.map(reply::json_text)
}

/// `scale`: how many there are, how many should be.
pub(super) async fn scale(api: &Arc<Api>, key: Key) -> Result<Answer, No> {
    let is_scaled = matches!(
        key.kind,
        Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController | Kind::StatefulSet
    );
    if !is_scaled {
        return Err(No::path());
    }
    let drawn = api.draw(move |cache| cache.find(&key).ok_or_else(|| No::object(&key)));
    let item = drawn.await??;
    let object = item.value();
    let metadata = &object["metadata"];
    let labels = object["spec"]["selector"].as_object().map(|selector| {
        let labels = selector.get("matchLabels").and_then(Value::as_object).unwrap_or(selector);
        let pairs = labels.iter().filter_map(|(key, value)| Some((key, value.as_str()?)));
        pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    });
    Ok(reply::json(&json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {
            "replicas": object["status"].get("replicas").cloned().unwrap_or_else(|| 0.into()),
            "selector": labels,
        },
    })))
}
