//! What templates may ask beside their values: a chart's other files, and what the fleet can do.

use std::collections::BTreeMap;
use std::rc::Rc;

use regex::Regex;

use super::archive::File;
use super::functions::to_yaml;
use super::value::{Host, Value};
use crate::desired::base64;
use crate::kinds::registry::{KINDS, KUBERNETES};

/// `.Files`: those of a chart that are neither templates, values nor charts.
#[derive(Debug)]
pub(super) struct Files(BTreeMap<Rc<str>, Rc<[u8]>>);

/// `.Files.Lines` gives at most so many.
const LINES_MAX: usize = 100_000;

impl Files {
    pub(super) fn of(files: &[File]) -> Self {
        Self(files.iter().map(|f| (f.path.as_str().into(), f.bytes.as_slice().into())).collect())
    }

    fn text(&self, name: &str) -> Result<String, String> {
        match self.0.get(name).map(|bytes| std::str::from_utf8(bytes)) {
            None => Ok(String::new()),
            Some(Ok(text)) => Ok(text.to_owned()),
            Some(Err(_)) => {
                Err(format!("{name} is not UTF-8: AsSecrets takes such files as they are"))
            }
        }
    }

    /// As in Helm `*` stops at a slash, `**` does not, and `{a,b}` is either.
    fn glob(&self, pattern: &str) -> Result<Self, String> {
        let regex = Regex::new(&glob(pattern))
            .map_err(|_| format!("{pattern:?} is not a pattern of file names"))?;
        let found = self.0.iter().filter(|(name, _)| regex.is_match(name));
        Ok(Self(found.map(|(name, bytes)| (Rc::clone(name), Rc::clone(bytes))).collect()))
    }

    /// As the entries of a map in YAML, by the files' own names.
    fn entries(
        &self,
        write: impl Fn(&str, &[u8]) -> Result<Value, String>,
    ) -> Result<Value, String> {
        let mut entries = BTreeMap::new();
        for (path, bytes) in &self.0 {
            entries.insert(super::load::base(path).into(), write(path, bytes)?);
        }
        if entries.is_empty() {
            return Ok(Value::text(""));
        }
        to_yaml(&[Value::map(entries)])
    }
}

/// The regular expression that a pattern of file names stands for.
fn glob(pattern: &str) -> String {
    let mut out = String::from("^");
    let mut depth = 0_u32;
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '*' if letters.next_if_eq(&'*').is_some() => out.push_str(".*"),
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '[' => {
                out.push('[');
                if letters.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
            }
            ']' | '-' => out.push(letter),
            '\\' => out.push_str(&regex::escape(&letters.next().unwrap_or('\\').to_string())),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    out
}

fn name<'v>(method: &str, args: &'v [Value]) -> Result<&'v str, String> {
    match args {
        [Value::Text(name)] => Ok(name),
        [other] => Err(format!("wrong type for value; expected string; got {}", other.kind())),
        _ => Err(format!("wrong number of args for {method}: want 1 got {}", args.len())),
    }
}

impl Host for Files {
    fn name(&self) -> &'static str {
        "engine.files"
    }

    fn get(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let named = || name(method, args);
        Some(match method {
            "Get" | "GetBytes" => named().and_then(|name| Ok(Value::text(self.text(name)?))),
            "Lines" => named().and_then(|name| {
                let text = self.text(name)?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                if text.matches('\n').count() >= LINES_MAX {
                    return Err(format!("{name} has more than {LINES_MAX} lines"));
                }
                let lines = text.split('\n').filter(|_| !text.is_empty()).map(Value::text);
                Ok(Value::list(lines.collect()))
            }),
            "Glob" => named().and_then(|name| Ok(Value::Host(Rc::new(self.glob(name)?)))),
            "AsConfig" => self.entries(|name, _| Ok(Value::text(self.text(name)?))),
            "AsSecrets" => self.entries(|_, bytes| Ok(Value::text(base64::encode(bytes)))),
            _ => return None,
        })
    }

    fn is_true(&self) -> bool {
        !self.0.is_empty()
    }

    fn kind(&self) -> &'static str {
        "map"
    }

    fn items(&self) -> Option<Value> {
        let entries = self
            .0
            .iter()
            .map(|(name, bytes)| (Rc::clone(name), Value::text(String::from_utf8_lossy(bytes))));
        Some(Value::map(entries.collect()))
    }
}

/// The groups of Kubernetes' API that are in all clusters, as `helm template` takes them for granted; of
/// some of them only objects of others are made, which are passed over or refused.
const GROUPS: [&str; 21] = [
    "v1",
    "admissionregistration.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "apiregistration.k8s.io/v1",
    "apps/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates.k8s.io/v1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1",
    "networking.k8s.io/v1",
    "node.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1",
];

/// `.Capabilities.APIVersions`: those groups, and our kinds: `apps/v1/Deployment`.
#[derive(Debug)]
struct ApiVersions;

impl ApiVersions {
    fn all() -> impl Iterator<Item = String> {
        let kinds = KINDS.iter().map(|info| format!("{}/{}", info.kind.api_version(), info.name));
        GROUPS.iter().map(|group| (*group).to_owned()).chain(kinds)
    }
}

impl Host for ApiVersions {
    fn name(&self) -> &'static str {
        "chartutil.VersionSet"
    }

    fn get(&self, method: &str, args: &[Value]) -> Option<Result<Value, String>> {
        (method == "Has").then(|| {
            let asked = name(method, args)?;
            Ok(Value::Bool(Self::all().any(|version| version == asked)))
        })
    }

    fn kind(&self) -> &'static str {
        "slice"
    }

    fn items(&self) -> Option<Value> {
        let all: std::collections::BTreeSet<String> = Self::all().collect();
        Some(Value::list(all.iter().map(Value::text).collect()))
    }
}

/// `.Capabilities.KubeVersion`.
#[derive(Debug)]
struct KubeVersion;

/// The version of Kubernetes whose API is served, as `v1.34.0`.
pub(super) fn kube_version() -> String {
    let (major, minor) = KUBERNETES;
    format!("v{major}.{minor}.0")
}

impl Host for KubeVersion {
    fn name(&self) -> &'static str {
        "chartutil.KubeVersion"
    }

    fn get(&self, field: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let (major, minor) = KUBERNETES;
        Some(Ok(Value::text(match field {
            "Version" | "GitVersion" | "String" => kube_version(),
            "Major" => major.to_owned(),
            "Minor" => minor.to_owned(),
            _ => return None,
        })))
    }

    fn text(&self) -> Option<String> {
        Some(kube_version())
    }
}

/// The Helm whose templates are rendered the same.
const HELM: &str = "v3.19.0";

/// `.Capabilities`.
pub(super) fn capabilities() -> Value {
    let helm = [
        ("Version".into(), Value::text(HELM)),
        ("GitCommit".into(), Value::text("")),
        ("GoVersion".into(), Value::text("")),
    ];
    Value::map(
        [
            ("APIVersions".into(), Value::Host(Rc::new(ApiVersions))),
            ("HelmVersion".into(), Value::map(helm.into())),
            ("KubeVersion".into(), Value::Host(Rc::new(KubeVersion))),
        ]
        .into(),
    )
}
