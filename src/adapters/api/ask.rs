//! What a request asks for beside its path: parameters, and the form of the answer.

use hyper::HeaderMap;
use hyper::header::ACCEPT;

use super::reply::No;
use crate::kinds::labels::Selector;
use crate::kinds::name::Name;
use crate::kinds::registry::Kind;
use crate::view::select::{Bookmark, FieldSelector, Query};

/// The parameters of a URL.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads what stands behind the `?`.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// A parameter's first value, if it is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub(super) fn all<'p>(&'p self, name: &str) -> impl Iterator<Item = &'p str> {
        let pairs = self.0.iter();
        let name = name.to_owned();
        pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter says yes, as Go reads it.
    pub(super) fn is_true(&self, name: &str) -> bool {
        let value = self.all(name).next();
        value.is_some_and(|value| !matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }

    /// A parameter that is a number.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, No> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| No::bad(format!("{name}: '{text}' is not a number")))
    }

    /// Which objects of a kind are asked for.
    pub(super) fn query(&self, kind: Kind, namespace: Option<Name>) -> Result<Query, No> {
        let labels = self.get("labelSelector").unwrap_or_default();
        let fields = self.get("fieldSelector").unwrap_or_default();
        Ok(Query {
            namespace,
            labels: Selector::parse(labels).map_err(No::bad)?,
            fields: FieldSelector::parse(kind, fields).map_err(No::bad)?,
        })
    }

    /// Where the page begins.
    pub(super) fn bookmark(&self) -> Result<Option<Bookmark>, No> {
        let Some(token) = self.get("continue") else {
            return Ok(None);
        };
        Bookmark::parse(token).map(Some).ok_or_else(|| No::bad("continue key is not valid"))
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The objects themselves.
    Plain,
    /// A `Table`, by the server's own columns.
    Table,
    /// Nothing but their metadata.
    Metadata,
    /// Text for people; our own paths only.
    Text,
}

/// The first form in the `Accept` header that there is.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, No> {
    let accept = accept(headers);
    if accept.is_empty() {
        return Ok(Form::Plain);
    }
    let mut forms = accept.split(',').filter_map(|part| {
        let mut words = part.split(';').map(str::trim);
        let media = words.next()?;
        let has = |words: &[&str], text| words.contains(&text);
        let words: Vec<&str> = words.collect();
        match media {
            "text/plain" => return Some(Form::Text),
            "application/json" | "application/*" | "*/*" => {}
            _ => return None,
        }
        let of_meta = has(&words, "g=meta.k8s.io");
        let is = |name: &str| words.iter().any(|word| word.strip_prefix("as=") == Some(name));
        if of_meta && is("Table") && (has(&words, "v=v1") || has(&words, "v=v1beta1")) {
            return Some(Form::Table);
        }
        if of_meta && (is("PartialObjectMetadataList") || is("PartialObjectMetadata")) {
            return Some(Form::Metadata);
        }
        let is_other = words.iter().any(|word| word.starts_with("as="));
        (!is_other).then_some(Form::Plain)
    });
    forms.next().ok_or_else(No::not_acceptable)
}

/// The whole `Accept` header.
pub(super) fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(ACCEPT).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_first_form_that_there_is_is_taken() {
        let table = [
            ("", Ok(Form::Plain)),
            ("application/json", Ok(Form::Plain)),
            ("*/*", Ok(Form::Plain)),
            ("text/plain", Ok(Form::Text)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Ok(Form::Table),
            ),
            ("application/vnd.kubernetes.protobuf,application/json", Ok(Form::Plain)),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Ok(Form::Metadata),
            ),
            ("application/json;as=Dance;v=v1;g=meta.k8s.io,application/json", Ok(Form::Plain)),
            ("application/vnd.kubernetes.protobuf", Err(No::not_acceptable())),
        ];
        for (accept, form) in table {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(super::form(&headers), form, "{accept}");
        }
    }

    #[test]
    fn parameters_are_read_as_go_reads_them() {
        let asked = Parameters::parse(Some("watch=true&limit=5&command=a&command=b%20c&x=&f=0"));
        assert!(asked.is_true("watch") && asked.is_true("x") && !asked.is_true("f"));
        assert_eq!(asked.number::<usize>("limit"), Ok(Some(5)));
        assert_eq!(asked.all("command").collect::<Vec<_>>(), ["a", "b c"]);
        assert!(asked.number::<usize>("command").is_err());
        assert_eq!(asked.get("x"), None);
    }
}
