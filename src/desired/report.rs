//! Findings of one file while they are collected.

use std::fmt;
use std::sync::Arc;

use super::path::Path;
use super::tree::At;
use crate::kinds::finding::{Finding, Place, Severity};

/// Collects what is wrong with one document.
pub(super) struct Report {
    file: Arc<str>,
    /// The object being looked at, as findings name it.
    pub(super) object: Option<String>,
    /// Say nothing of any value: the object is, or may be, a Secret.
    pub(super) quiet: bool,
    findings: Vec<Finding>,
    /// Fields whose shape is wrong already: what follows from that is not said again.
    broken: Vec<String>,
}

impl Report {
    pub(super) fn new(file: &Arc<str>) -> Self {
        Self {
            file: Arc::clone(file),
            object: None,
            quiet: false,
            findings: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// The place in this report's file.
    pub(super) fn place(&self, at: At) -> Place {
        Place {
            path: Arc::clone(&self.file),
            line: at.line,
            column: at.column,
        }
    }

    /// Adds a finding about the field at `path`.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        at: At,
        path: &Path<'_>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let field = path.to_string();
        self.findings.push(Finding {
            place: self.place(at),
            severity,
            object: self.object.clone(),
            field: (!field.is_empty()).then_some(field),
            message: message.into(),
            hint,
        });
    }

    /// Adds an error about the shape of the field at `path`: whoever looks at its value later
    /// finds nothing sensible, and must not complain of that.
    pub(super) fn broken(
        &mut self,
        at: At,
        path: &Path<'_>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.broken.push(path.to_string());
        self.add(Severity::Error, at, path, message, hint);
    }

    /// Whether what is said of `path` may only be an echo of a shape that is wrong.
    pub(super) fn is_echo(&self, path: &Path<'_>) -> bool {
        if self.broken.is_empty() {
            return false;
        }
        let path = path.to_string();
        self.broken
            .iter()
            .any(|broken| is_within(&path, broken) || is_within(broken, &path))
    }

    /// Whether the field at `path`, or one within it, was found wrong already.
    pub(super) fn has_error_within(&self, path: &Path<'_>) -> bool {
        let path = path.to_string();
        let fields = self.findings.iter().filter(|finding| finding.is_error());
        fields
            .filter_map(|finding| finding.field.as_deref())
            .any(|field| is_within(field, &path))
    }

    /// Whether anything refuses the object.
    pub(super) fn has_errors(&self) -> bool {
        self.findings.iter().any(Finding::is_error)
    }

    /// What was found.
    pub(super) fn finish(self) -> Vec<Finding> {
        self.findings
    }
}

/// Whether the field `inner` is `outer` or lies within it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A list of words for a sentence: `a, b or c`.
pub(super) struct Alternatives<'a, T>(pub(super) &'a [T]);

impl<T: fmt::Display> fmt::Display for Alternatives<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.0.iter().enumerate() {
            match at {
                0 => {}
                _ if at + 1 == self.0.len() => f.write_str(" or ")?,
                _ => f.write_str(", ")?,
            }
            write!(f, "{word}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_above_or_below_what_is_broken() {
        let mut report = Report::new(&"a.yaml".into());
        let spec = Path::Root.field("spec");
        let selector = spec.field("selector");
        report.broken(At::default(), &selector, "x", None);
        assert!(report.is_echo(&selector.field("matchLabels")));
        assert!(report.is_echo(&spec));
        assert!(!report.is_echo(&spec.field("selectors")));
        assert!(!report.is_echo(&spec.field("replicas")));
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(Alternatives(&["a"]).to_string(), "a");
        assert_eq!(Alternatives(&["a", "b", "c"]).to_string(), "a, b or c");
    }
}
