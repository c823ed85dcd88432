//! What pods read, rooms for names, and every other kind, told.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Page;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::view::json::{is_true, items, members, pairs, sorted, text};
use crate::view::objects::{Shown, list};
use crate::view::picture::Picture;

pub(super) fn config_map(page: &mut Page, map: &Value) {
    page.head(map);
    page.source(map);
    page.labels("Labels", map, "metadata.labels");
    page.annotations(map);
    page.line(0, "");
    page.line(0, "Data");
    page.line(0, "====");
    let mut data: Vec<(&String, &Value)> = members(map, "data").collect();
    data.sort_by_key(|(key, _)| key.as_str());
    for (key, value) in data {
        page.line(0, format!("{key}:"));
        page.line(0, "----");
        for line in value.as_str().unwrap_or_default().split('\n') {
            // A tab in a value is text, not a column.
            page.line(0, line.replace('\t', "        "));
        }
        page.line(0, "");
    }
    page.line(0, "");
    page.line(0, "BinaryData");
    page.line(0, "====");
    let mut binary: Vec<(&String, &Value)> = members(map, "binaryData").collect();
    binary.sort_by_key(|(key, _)| key.as_str());
    for (key, value) in binary {
        // Four characters of base64 are three bytes; what pads the end is none.
        let text = value.as_str().unwrap_or_default().trim_end_matches('=');
        page.line(0, format!("{key}: {} bytes", text.len() * 3 / 4));
    }
    if is_true(map, "immutable") {
        page.field(0, "Immutable", "true");
    }
    page.line(0, "");
}

/// Keys and sizes, never values.
pub(super) fn secret(page: &mut Page, picture: &Picture, key: &Key, secret: &Value) {
    page.head(secret);
    page.source(secret);
    page.labels("Labels", secret, "metadata.labels");
    page.annotations(secret);
    page.line(0, "");
    page.field(0, "Type", text(secret, "type"));
    page.line(0, "");
    page.line(0, "Data");
    page.line(0, "====");
    if let Some(Body::Secret(body)) = picture.object(key).map(|found| &found.object.body) {
        for (name, value) in &body.data {
            page.field(0, name, format!("{} bytes", value.len()));
        }
        if let Some(sealed) = &body.sealed {
            for name in &sealed.keys {
                page.field(0, name, "encrypted");
            }
            if !sealed.recipients.is_empty() {
                page.line(0, "");
                page.field(0, "Encrypted for", sealed.recipients.join(", "));
            }
        }
    }
}

pub(super) fn namespace(page: &mut Page, picture: &Picture, key: &Key, namespace: &Value) {
    page.field(0, "Name", text(namespace, "metadata.name"));
    page.source(namespace);
    page.labels("Labels", namespace, "metadata.labels");
    page.annotations(namespace);
    page.field(0, "Status", text(namespace, "status.phase"));
    page.line(0, "");
    let quotas = list(picture, Kind::ResourceQuota);
    let is_here = |shown: &&Shown| shown.key.namespace.as_ref() == Some(&key.name);
    let quotas: Vec<&Shown> = quotas.iter().filter(is_here).collect();
    page.line(0, if quotas.is_empty() { "No resource quota." } else { "Resource Quotas" });
    for quota in quotas {
        page.field(1, "Name", quota.key.name.as_str());
        limits(page, 1, &quota.json);
    }
    page.line(0, "");
    let ranges = list(picture, Kind::LimitRange);
    let ranges: Vec<&Shown> = ranges.iter().filter(is_here).collect();
    if ranges.is_empty() {
        page.line(0, "No LimitRange resource.");
        return;
    }
    page.line(0, "Resource Limits");
    bounds(page, " ", ranges.into_iter().map(|range| &range.json));
}

pub(super) fn limit_range(page: &mut Page, range: &Value) {
    page.head(range);
    page.source(range);
    bounds(page, "", std::iter::once(range));
}

/// What containers, pods and claims may have, and what they are given (`describeLimitRangeSpec`).
fn bounds<'v>(page: &mut Page, margin: &str, ranges: impl Iterator<Item = &'v Value>) {
    const COLUMNS: [(&str, &str); 5] = [
        ("Min", "min"),
        ("Max", "max"),
        ("Default Request", "defaultRequest"),
        ("Default Limit", "default"),
        ("Max Limit/Request Ratio", "maxLimitRequestRatio"),
    ];
    let heads = || ["Type", "Resource"].into_iter().chain(COLUMNS.map(|(head, _)| head));
    let rules: Vec<String> = heads().map(|head| "-".repeat(head.len())).collect();
    page.line(0, format!("{margin}{}", heads().collect::<Vec<_>>().join("\t")));
    page.line(0, format!("{margin}{}", rules.join("\t")));
    for limit in ranges.flat_map(|range| items(range, "spec.limits")) {
        let named = COLUMNS.iter().flat_map(|(_, field)| members(limit, field));
        let resources: BTreeSet<&String> = named.map(|(resource, _)| resource).collect();
        for resource in resources {
            let amount = |field: &str| limit.get(field)?.get(resource).map(plain);
            let amounts = COLUMNS.map(|(_, field)| amount(field).unwrap_or_else(|| "-".to_owned()));
            let kind = text(limit, "type");
            page.line(0, format!("{margin}{kind}\t{resource}\t{}", amounts.join("\t")));
        }
    }
}

pub(super) fn quota(page: &mut Page, quota: &Value) {
    page.head(quota);
    page.source(quota);
    let scopes: Vec<&str> = items(quota, "spec.scopes").iter().filter_map(Value::as_str).collect();
    page.field_if(0, "Scopes", &scopes.join(", "));
    limits(page, 0, quota);
}

/// What is used of what is allowed.
fn limits(page: &mut Page, indent: usize, quota: &Value) {
    page.line(indent, "Resource\tUsed\tHard");
    page.line(indent, "--------\t----\t----");
    for (name, hard) in pairs(quota, "status.hard") {
        let used = quota.pointer("/status/used").and_then(|used| used.get(name));
        page.line(
            indent,
            format!("{name}\t{}\t{hard}", used.and_then(Value::as_str).unwrap_or("0")),
        );
    }
}

/// Everything the object says, in kubectl's way of telling what it does not know.
pub(super) fn other(page: &mut Page, object: &Value) {
    page.head(object);
    page.source(object);
    page.labels("Labels", object, "metadata.labels");
    page.annotations(object);
    page.field(0, "API Version", text(object, "apiVersion"));
    page.field(0, "Kind", text(object, "kind"));
    let sorted = sorted(object);
    for (name, value) in sorted.as_object().into_iter().flatten() {
        if !["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            tell(page, 0, &title(name), value);
        }
    }
}

fn tell(page: &mut Page, indent: usize, name: &str, value: &Value) {
    match value {
        Value::Object(members) => {
            page.line(indent, format!("{name}:"));
            for (name, value) in members {
                tell(page, indent + 1, &title(name), value);
            }
        }
        Value::Array(items) => {
            page.line(indent, format!("{name}:"));
            for item in items {
                match item {
                    Value::Object(members) => {
                        for (name, value) in members {
                            tell(page, indent + 1, &title(name), value);
                        }
                    }
                    other => page.line(indent + 1, plain(other)),
                }
            }
        }
        other => page.field(indent, name, plain(other)),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `ingressClassName` → `Ingress Class Name`.
fn title(name: &str) -> String {
    let mut title = String::new();
    for (at, character) in name.chars().enumerate() {
        if at == 0 {
            title.extend(character.to_uppercase());
        } else {
            if character.is_ascii_uppercase() {
                title.push(' ');
            }
            title.push(character);
        }
    }
    title
}
