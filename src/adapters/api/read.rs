//! Objects: one of them, or a list, page by page, in the form that was asked for.

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
    pub(super) fn one(self, object: &Value, now: Wall) -> Value {
        match self.form {
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                self.table(&metadata, &[self.row(object, now)])
            }
            Form::Metadata => partial(object),
            Form::Plain | Form::Text => object.clone(),
        }
    }

    /// A table of rows.
    pub(super) fn table(self, metadata: &Value, rows: &[Value]) -> Value {
        let columns = table::columns(self.kind).iter().map(table::column_json);
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": columns.collect::<Vec<_>>(),
            "rows": rows,
        })
    }

    fn row(self, object: &Value, now: Wall) -> Value {
        let mut row = json!({"cells": table::cells(self.kind, object, now)});
        match self.include {
            Include::Nothing => {}
            Include::Metadata => row["object"] = partial(object),
            Include::Object => row["object"] = object.clone(),
        }
        row
    }

    fn list(self, metadata: &Value, items: &[Item], now: Wall) -> Value {
        let (api_version, kind) = match self.form {
            Form::Table => {
                let rows: Vec<Value> = items.iter().map(|item| self.row(&item.json, now)).collect();
                return self.table(metadata, &rows);
            }
            Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
            Form::Plain | Form::Text => {
                (self.kind.api_version(), format!("{}List", self.kind.name()))
            }
        };
        json!({
            "kind": kind,
            "apiVersion": api_version,
            "metadata": metadata,
            "items": items.iter().map(|item| self.one(&item.json, now)).collect::<Vec<_>>(),
        })
    }
}

/// An object's metadata and nothing else.
fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
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
        let mut answer = style.one(&item.json, picture.now.wall);
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
            is_after && query.wants(&item.key, &item.json)
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
        style.list(&metadata, &items, cache.picture().now.wall).to_string()
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
    let object = &*item.json;
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
