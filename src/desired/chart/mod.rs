//! A Helm chart becomes manifests, as `helm template` makes them.
//!
//! ```text
//!   files of a directory ─▶ archive ─▶ load ─▶ values, charts in it ─▶ template, functions ─▶ pages
//! ```
//! Everything comes from the commit: nothing is fetched (charts that a chart depends on lie in its
//! `charts/`), no cluster is asked (`lookup` finds nothing), and there is no chance and no clock: what
//! would be random is marked, and refused where it gets into a manifest. So the same commit gives the
//! same manifests on every node, today and in ten years.
//!
//! A directory with a `Chart.yaml` is a release. Its name is the directory's, and its values are those
//! of `values.yaml`; the chart's annotations say otherwise ([`metadata::Wishes`]). A chart of others is
//! used as Helm's users do it: a chart of one's own that depends on it.
//!
//! The limits: `values.schema.json` is not looked at, and hooks are objects like others, brought in waves.

pub(in crate::desired) mod archive;
mod functions;
mod hosts;
mod load;
mod metadata;
mod settle;
mod template;
#[cfg(test)]
mod tests;
mod value;
mod values;

use std::collections::BTreeMap;
use std::rc::Rc;

pub(super) use settle::settle;

use crate::kinds::finding::{Finding, Place};
use crate::kinds::name::{Name, NameRule};
use archive::File;
use load::Chart;
use metadata::Wishes;
use template::{Fault, Set, keep};
use value::{MARK, Map, Value, copy_of};

/// What is wrong with a chart, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    path: String,
    line: u32,
    message: String,
    hint: Option<String>,
}

impl Wrong {
    fn at(path: &str, line: u32, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As it is told to people.
    pub(super) fn finding(self) -> Finding {
        let place = Place { path: self.path.into(), line: self.line, column: 0 };
        Finding { hint: self.hint, ..Finding::error(place, self.message) }
    }
}

/// What a chart becomes.
#[derive(Debug)]
pub(super) struct Rendering {
    /// The namespace of objects that say none themselves.
    pub(super) namespace: String,
    /// What its templates became.
    pub(super) pages: Vec<Page>,
}

/// What a template became.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// What Helm calls it.
    pub(super) name: String,
    /// Where the template lies in the repository.
    pub(super) path: String,
    /// The manifests.
    pub(super) text: String,
    /// For each line of them, that of the template.
    pub(super) lines: Vec<u32>,
}

/// Renders the chart that lies in `directory`, from its files as [`archive::pack`] put them together.
pub(super) fn render(directory: &str, packed: &[u8]) -> Result<Rendering, Wrong> {
    let about = format!("{directory}/Chart.yaml");
    let mut budget = archive::Budget::default();
    let files = archive::unpack(packed, &mut budget).map_err(|why| Wrong::at(&about, 0, why))?;
    check_files(directory, &files)?;
    let named: Vec<_> = files.iter().filter(|file| !file.path.contains('/')).cloned().collect();
    let mut chart = load::load(directory, files, 0, &mut budget)?;
    if chart.metadata.is_library {
        let wrong = Wrong::at(&about, 0, "a library renders nothing: it can't be a release");
        return Err(
            wrong.hint(format!("list {directory}/ in .windlassignore if it is for other charts"))
        );
    }
    check_version(&chart, &about)?;
    let wishes = Wishes::of(&chart.metadata).map_err(|why| Wrong::at(&about, 0, why))?;
    let given = Map::default();
    for name in &wishes.values {
        let Some(file) = named.iter().find(|file| file.path == *name) else {
            let message = format!("there is no file {name} beside this chart's Chart.yaml");
            return Err(Wrong::at(&about, 0, message).hint(metadata::ANNOTATION_VALUES));
        };
        let path = format!("{directory}/{name}");
        let text = String::from_utf8_lossy(&file.bytes);
        if let Value::Map(map) = metadata::read_map(&path, &text)? {
            values::lay_over(&given, &map, values::DEPTH_MAX);
        }
    }
    let release = wishes.release.unwrap_or_else(|| load::base(directory).to_owned());
    let namespace = wishes.namespace.unwrap_or_else(|| "default".to_owned());
    check_release(&release, &about)?;
    if Name::parse(&namespace, NameRule::Label).is_err() {
        let message = format!("{namespace:?} can't be the name of a namespace");
        return Err(Wrong::at(&about, 0, message).hint(metadata::ANNOTATION_NAMESPACE));
    }
    let wrong = |why: String| Wrong::at(&format!("{directory}/values.yaml"), 0, why);
    // What is chosen by is not what is given: the defaults may be others afterwards.
    values::choose(&mut chart, &copy_of(&given, values::DEPTH_MAX)).map_err(wrong)?;
    values::import(&mut chart).map_err(wrong)?;
    values::coalesce(&chart, &given, values::Nulls::Decide).map_err(wrong)?;
    let mut press = Press {
        release: Value::map(
            [
                ("IsInstall".into(), Value::Bool(true)),
                ("IsUpgrade".into(), Value::Bool(false)),
                ("Name".into(), Value::text(&release)),
                ("Namespace".into(), Value::text(&namespace)),
                ("Revision".into(), Value::Int(1)),
                ("Service".into(), Value::text("Helm")),
            ]
            .into(),
        ),
        capabilities: hosts::capabilities(),
        sheets: Vec::new(),
        crds: Vec::new(),
    };
    press.gather(&chart, &chart.metadata.name, &Value::Map(given), true);
    let pages = press.print();
    // What templates have hung into each other goes as well.
    let scopes = press.sheets.into_iter().map(|sheet| sheet.dot);
    scopes.chain([press.capabilities, press.release]).for_each(keep::dissolve);
    Ok(Rendering { namespace, pages: pages? })
}

/// In a directory that becomes a chart lay manifests before, perhaps: what is a manifest and no template, or
/// a chart and none of this one's, would be passed over without a word, and what it made be deleted.
fn check_files(directory: &str, files: &[File]) -> Result<(), Wrong> {
    let ignore = load::helmignore(files);
    let reads_files = files.iter().any(|file| {
        let text = String::from_utf8_lossy(&file.bytes);
        file.path.starts_with("templates/") && text.contains(".Files")
    });
    for file in files {
        let is_part =
            ["templates/", "crds/", "charts/"].iter().any(|own| file.path.starts_with(own));
        // What Helm itself reads, and other files of values.
        let is_known = file.path == "Chart.yaml" || file.path.starts_with("values");
        if is_part || is_known || ignore.is_ignored(&file.path) {
            continue;
        }
        let is_inner = file.path.ends_with("/Chart.yaml");
        // What templates read may be anything.
        let is_manifest = (!reads_files || !file.path.contains('/')) && is_manifest(file);
        if is_inner || is_manifest {
            let what = if is_inner { "this chart" } else { "this manifest" };
            let message = format!(
                "{what} lies within the chart {directory}/ and is none of its templates: it would not be read"
            );
            let wrong = Wrong::at(&format!("{directory}/{}", file.path), 0, message);
            return Err(
                wrong.hint("move it out of the chart, or list it in the chart's .helmignore")
            );
        }
    }
    Ok(())
}

/// Whether a file looks like a manifest of Kubernetes.
fn is_manifest(file: &File) -> bool {
    let is_json = file.path.ends_with(".json");
    if !is_json && !file.path.ends_with(".yaml") && !file.path.ends_with(".yml") {
        return false;
    }
    let text = String::from_utf8_lossy(&file.bytes);
    let has = |key: &str| {
        text.lines().any(|line| {
            let line =
                line.trim_start_matches(|c: char| c == '{' || (is_json && c.is_whitespace()));
            let line = line.trim_start_matches(['"', '\'']);
            line.strip_prefix(key).is_some_and(|rest| rest.starts_with([':', '"', '\'']))
        })
    };
    let is_flow = text.trim_start().starts_with('{');
    (has("apiVersion") && has("kind"))
        || (is_flow && text.contains("apiVersion") && text.contains("kind"))
}

/// Helm's rule for the name of a release (`ValidateReleaseName`).
fn check_release(name: &str, about: &str) -> Result<(), Wrong> {
    const NAME_MAX: usize = 53;
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if name.len() <= NAME_MAX && name.split('.').all(is_part) {
        return Ok(());
    }
    let message = format!(
        "{name:?} can't be the name of a release: small letters, digits and dashes, at most {NAME_MAX}"
    );
    let hint = format!("annotations: {{{}: NAME}}", metadata::ANNOTATION_RELEASE);
    Err(Wrong::at(about, 0, message).hint(hint))
}

/// Whether the chart, and those in it, are made for our version of Kubernetes.
fn check_version(chart: &Chart, about: &str) -> Result<(), Wrong> {
    if let Some(asked) = &chart.metadata.kube_version {
        let own = hosts::kube_version();
        if !functions::satisfies(asked, &own).unwrap_or(false) {
            let message = format!(
                "chart {} requires kubeVersion: {asked} which is incompatible with Kubernetes {own}",
                chart.metadata.name
            );
            return Err(Wrong::at(about, 0, message));
        }
    }
    chart.charts.iter().try_for_each(|inner| check_version(inner, about))
}

/// A template with what it sees.
struct Sheet {
    /// Its name, as Helm forms it: `web/templates/deployment.yaml`.
    name: String,
    /// Where it lies in the repository.
    place: String,
    text: String,
    dot: Value,
}

/// All templates of a chart and of those in it.
struct Press {
    release: Value,
    capabilities: Value,
    sheets: Vec<Sheet>,
    crds: Vec<Page>,
}

impl Press {
    /// Collects the templates of a chart; returns what `.Subcharts` of the one above it shows of it.
    fn gather(&mut self, chart: &Chart, name: &str, values: &Value, is_root: bool) -> Value {
        let shown = chart.metadata.shown.deep_copy(values::DEPTH_MAX);
        shown.put("IsRoot", Value::Bool(is_root));
        let below = Value::empty_map();
        let scope: BTreeMap<Rc<str>, Value> = [
            ("Capabilities".into(), self.capabilities.clone()),
            ("Chart".into(), shown),
            ("Files".into(), Value::Host(Rc::new(hosts::Files::of(&chart.files)))),
            ("Release".into(), self.release.clone()),
            ("Subcharts".into(), below.clone()),
            ("Values".into(), values.clone()),
        ]
        .into();
        for inner in &chart.charts {
            let inner_name = inner.metadata.name.as_str();
            let seen = self.gather(
                inner,
                &format!("{name}/charts/{inner_name}"),
                &values.get(inner_name),
                false,
            );
            below.put(inner_name, seen);
        }
        for file in &chart.crds {
            let text = String::from_utf8_lossy(&file.bytes).into_owned();
            let lines = (1..).take(text.lines().count()).collect();
            let path = format!("{}/{}", chart.place, file.path);
            let name = format!("{name}/{}", file.path);
            self.crds.push(Page { name, path, text, lines });
        }
        for file in &chart.templates {
            let own = format!("{name}/{}", file.path);
            let template = [
                ("BasePath".into(), Value::text(format!("{name}/templates"))),
                ("Name".into(), Value::text(&own)),
            ];
            let dot = Value::map(scope.clone());
            dot.put("Template", Value::map(template.into()));
            self.sheets.push(Sheet {
                name: own,
                place: format!("{}/{}", chart.place, file.path),
                text: String::from_utf8_lossy(&file.bytes).into_owned(),
                dot,
            });
        }
        Value::map(scope)
    }

    /// Renders them all.
    fn print(&mut self) -> Result<Vec<Page>, Wrong> {
        // As Helm: the deepest first, and of those the last, so that what a chart defines goes before what
        // those in it define.
        self.sheets.sort_by(|a, b| {
            let depth = |sheet: &Sheet| sheet.name.matches('/').count();
            depth(b).cmp(&depth(a)).then_with(|| b.name.cmp(&a.name))
        });
        let mut set = Set::new(functions::find);
        for sheet in &self.sheets {
            set.add(&sheet.name, &sheet.text).map_err(|fault| self.wrong(&fault))?;
        }
        let mut pages = Vec::new();
        for sheet in &self.sheets {
            let base = load::base(&sheet.name);
            if base.starts_with('_') || base == "NOTES.txt" {
                continue;
            }
            let rendered = set.render(&sheet.name, &sheet.dot);
            let rendered = rendered.map_err(|fault| self.wrong(&fault))?;
            if let Some(at) = rendered.text.split('\n').position(|line| line.contains(MARK)) {
                let line = rendered.lines.get(at).copied().unwrap_or_default();
                let message = "a random value, or the time, gets into a manifest here: a commit \
                               must mean the same on every node and every day";
                let wrong = Wrong::at(&sheet.place, line, message);
                return Err(wrong.hint("set the value in values.yaml, or name an existing Secret"));
            }
            if !rendered.text.trim().is_empty() {
                let (name, path) = (sheet.name.clone(), sheet.place.clone());
                pages.push(Page { name, path, text: rendered.text, lines: rendered.lines });
            }
        }
        pages.append(&mut self.crds);
        pages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pages)
    }

    fn wrong(&self, fault: &Fault) -> Wrong {
        let sheet = self.sheets.iter().find(|sheet| sheet.name == *fault.file);
        let place = sheet.map_or(&*fault.file, |sheet| sheet.place.as_str());
        Wrong::at(place, fault.line, fault.message.clone())
    }
}
