//! A table of the API as text, to the column as kubectl prints it.

use serde_json::Value;

use super::cells::labels;
use crate::view::json::{at, items, number, text};

/// kubectl's tab stops: three spaces between columns, none narrower than six.
const PADDING: usize = 3;
const LEAST: usize = 6;

/// What is shown beside what the table has.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Columns of priority 1, too.
    pub wide: bool,
    /// Without heads.
    pub no_headers: bool,
    /// A column with the namespace.
    pub with_namespace: bool,
    /// A column with all labels.
    pub show_labels: bool,
    /// A column for each of these labels.
    pub label_columns: Vec<String>,
    /// Put before names, with a slash.
    pub prefix: Option<String>,
}

/// Prints tables one after the other under one head: a watch goes on where its list ended.
#[derive(Clone, Debug, Default)]
pub struct Printer {
    options: Options,
    widths: Vec<usize>,
    has_head: bool,
}

impl Printer {
    /// A printer that has printed nothing.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// A table's lines.
    pub fn print(&mut self, table: &Value) -> String {
        let columns = items(table, "columnDefinitions");
        let mut lines = Vec::new();
        if !self.has_head && !self.options.no_headers {
            lines.push(self.head(columns));
        }
        self.has_head = true;
        for row in items(table, "rows") {
            lines.push(self.row(columns, row));
        }
        // Columns never narrow again, or a watch would jump.
        for line in &lines {
            self.widths.resize(self.widths.len().max(line.len()), LEAST);
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count() + PADDING);
            }
        }
        let mut out = String::new();
        for line in lines {
            let last = line.len().saturating_sub(1);
            for (at, cell) in line.iter().enumerate() {
                out.push_str(cell);
                if at < last {
                    let gap = self.widths[at].saturating_sub(cell.chars().count());
                    out.extend(std::iter::repeat_n(' ', gap));
                }
            }
            out.push('\n');
        }
        out
    }

    fn is_shown(&self, column: &Value) -> bool {
        self.options.wide || number(column, "priority") == 0
    }

    fn head(&self, columns: &[Value]) -> Vec<String> {
        let mut line = Vec::new();
        if self.options.with_namespace {
            line.push("NAMESPACE".to_owned());
        }
        let shown = columns.iter().filter(|column| self.is_shown(column));
        line.extend(shown.map(|column| text(column, "name").to_uppercase()));
        let label_head = |label: &String| {
            let name = label.rsplit('/').next().unwrap_or(label);
            name.to_uppercase()
        };
        line.extend(self.options.label_columns.iter().map(label_head));
        if self.options.show_labels {
            line.push("LABELS".to_owned());
        }
        line
    }

    fn row(&self, columns: &[Value], row: &Value) -> Vec<String> {
        let mut line = Vec::new();
        if self.options.with_namespace {
            line.push(text(row, "object.metadata.namespace").to_owned());
        }
        for (column, cell) in columns.iter().zip(items(row, "cells")) {
            if !self.is_shown(column) {
                continue;
            }
            let cell = cell_text(cell);
            let prefix = self.options.prefix.as_ref();
            match prefix.filter(|_| text(column, "format") == "name") {
                Some(prefix) => line.push(format!("{prefix}/{cell}")),
                None => line.push(cell),
            }
        }
        let own = at(row, "object.metadata.labels");
        let value = |label: &String| {
            let value = own.and_then(|own| own.get(label)).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        line.extend(self.options.label_columns.iter().map(value));
        if self.options.show_labels {
            line.push(labels(row, "object.metadata.labels"));
        }
        line
    }
}

/// A cell is one line: what follows a line end is cut off, and said to be.
fn cell_text(cell: &Value) -> String {
    match cell {
        Value::String(text) => match text.find(['\n', '\r', '\u{c}']) {
            Some(end) => format!("{}...", &text[..end]),
            None => text.clone(),
        },
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(rows: &[(&str, &str)]) -> Value {
        let rows = rows.iter().map(|(name, message)| {
            json!({
                "cells": [name, 3, message],
                "object": {"metadata": {"namespace": "shop", "labels": {"app": "web"}}},
            })
        });
        json!({
            "columnDefinitions": [
                {"name": "Name", "format": "name", "priority": 0},
                {"name": "Count", "priority": 1},
                {"name": "Message", "priority": 0},
            ],
            "rows": rows.collect::<Vec<_>>(),
        })
    }

    #[test]
    fn a_table_looks_as_kubectl_prints_it() {
        let mut printer = Printer::default();
        assert_eq!(
            printer.print(&table(&[("a", "x"), ("a-long-name", "y\nz")])),
            "NAME          MESSAGE\na             x\na-long-name   y...\n"
        );
        assert_eq!(
            printer.print(&table(&[("b", "z")])),
            "b             z\n",
            "a watch goes on in the same columns"
        );
    }

    #[test]
    fn columns_are_added_as_asked() {
        let mut printer = Printer::new(Options {
            wide: true,
            with_namespace: true,
            show_labels: true,
            label_columns: vec!["example.com/app".into()],
            prefix: Some("pod".into()),
            ..Options::default()
        });
        assert_eq!(
            printer.print(&table(&[("a", "x")])),
            "NAMESPACE   NAME    COUNT   MESSAGE   APP   LABELS\n\
             shop        pod/a   3       x               app=web\n"
        );
    }
}
