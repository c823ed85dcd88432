//! A chart's files sorted out: what it says of itself, its values, its templates, the charts in it.
//!
//! <https://helm.sh/docs/topics/charts/#the-chart-file-structure>

use std::collections::BTreeMap;

use super::Wrong;
use super::archive::{self, Budget, File};
use super::functions;
use super::metadata::{self, Dependency, Metadata};
use super::value::Value;
use crate::desired::ignore::Ignore;

/// Charts nest at most this deep.
const DEPTH_MAX: usize = 10;

/// A chart.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    /// Where it lies in the repository.
    pub(super) place: String,
    /// What it says of itself.
    pub(super) metadata: Metadata,
    /// Its defaults.
    pub(super) values: Value,
    /// Below `templates/`.
    pub(super) templates: Vec<File>,
    /// Below `crds/`.
    pub(super) crds: Vec<File>,
    /// All other files, which templates may read.
    pub(super) files: Vec<File>,
    /// The charts in it.
    pub(super) charts: Vec<Self>,
}

impl Chart {
    /// Counts what a copy of it takes.
    fn spend(&self, budget: &mut Budget) -> Result<(), String> {
        for file in self.templates.iter().chain(&self.crds).chain(&self.files) {
            budget.spend(file.bytes.len())?;
        }
        // One without files is not for nothing either.
        budget.spend(0)?;
        self.charts.iter().try_for_each(|inner| inner.spend(budget))
    }
}

/// Sorts out the files of the chart that lies at `place`.
pub(super) fn load(
    place: &str,
    files: Vec<File>,
    depth: usize,
    budget: &mut Budget,
) -> Result<Chart, Wrong> {
    let within = |path: &str| format!("{place}/{path}");
    if depth == DEPTH_MAX {
        return Err(Wrong::at(
            &within("Chart.yaml"),
            0,
            format!("charts nest at most {DEPTH_MAX} deep"),
        ));
    }
    // Helm reads that of the chart that it is given, not those of the charts in it.
    let ignore = if depth == 0 { helmignore(&files) } else { Ignore::default() };
    let mut sorted = Sorted::default();
    for file in files {
        // As Helm, which always leaves these out.
        let is_hidden = file.path.starts_with("templates/.") || file.path == ".helmignore";
        let is_about = file.path == "Chart.yaml";
        if is_about || (!is_hidden && !ignore.is_ignored(&file.path)) {
            sorted.take(file);
        }
    }
    let text = |file: &File| match std::str::from_utf8(&file.bytes) {
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        Err(_) => Err(Wrong::at(&within(&file.path), 0, "this file is not UTF-8")),
    };
    let Some(about) = &sorted.about else {
        return Err(Wrong::at(&within("Chart.yaml"), 0, "there is no Chart.yaml in this chart"));
    };
    let requirements = sorted.requirements.as_ref().map(text).transpose()?;
    let metadata = metadata::read(&within(&about.path), &text(about)?, requirements.as_deref())?;
    let values = match &sorted.values {
        Some(file) => metadata::read_map(&within(&file.path), &text(file)?)?,
        None => Value::empty_map(),
    };
    if metadata.is_library {
        // Of a library only what others include counts.
        sorted.templates.retain(|file| base(&file.path).starts_with('_'));
    }
    let mut charts = Vec::new();
    for (name, files) in sorted.charts {
        charts.push(load(&within(&format!("charts/{name}")), files, depth + 1, budget)?);
    }
    for file in &sorted.archives {
        let place = within(&file.path);
        let files = archive::unpack_tgz(&file.bytes, budget).map_err(|why| {
            Wrong::at(&place, 0, format!("this is no chart as `helm package` makes one: {why}"))
        })?;
        charts.push(load(&place, files, depth + 1, budget)?);
    }
    let charts = arrange(place, &metadata, &charts, budget)?;
    let Sorted { templates, crds, files, .. } = sorted;
    Ok(Chart { place: place.to_owned(), metadata, values, templates, crds, files, charts })
}

/// What a chart's `.helmignore` leaves out.
pub(super) fn helmignore(files: &[File]) -> Ignore {
    let file = files.iter().find(|file| file.path == ".helmignore");
    file.map(|file| Ignore::parse(&String::from_utf8_lossy(&file.bytes))).unwrap_or_default()
}

/// A path's last part.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A chart's files by what they are for.
#[derive(Default)]
struct Sorted {
    about: Option<File>,
    requirements: Option<File>,
    values: Option<File>,
    templates: Vec<File>,
    crds: Vec<File>,
    files: Vec<File>,
    archives: Vec<File>,
    charts: BTreeMap<String, Vec<File>>,
}

impl Sorted {
    fn take(&mut self, file: File) {
        match file.path.as_str() {
            "Chart.yaml" => self.about = Some(file),
            "requirements.yaml" => self.requirements = Some(file),
            "values.yaml" => self.values = Some(file),
            "Chart.lock" | "values.schema.json" | "requirements.lock" => {}
            path if path.starts_with("templates/") => self.templates.push(file),
            path if path.starts_with("charts/") => self.chart(file),
            path => {
                let is_crd = path.starts_with("crds/")
                    && [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end));
                if is_crd {
                    self.crds.push(file.clone());
                }
                self.files.push(file);
            }
        }
    }

    fn chart(&mut self, file: File) {
        let path = file.path.strip_prefix("charts/").unwrap_or_default();
        match path.split_once('/') {
            None if path.ends_with(".tgz") => self.archives.push(file),
            // Notes to the reader.
            None => {}
            Some((name, _)) if name.starts_with(['_', '.']) => {}
            Some((name, rest)) => {
                let (name, path) = (name.to_owned(), rest.to_owned());
                let files = self.charts.entry(name).or_default();
                files.push(File { path, bytes: file.bytes });
            }
        }
    }
}

/// Gives charts the names that their parent calls them by; says which one is wanted and not here.
fn arrange(
    place: &str,
    metadata: &Metadata,
    charts: &[Chart],
    budget: &mut Budget,
) -> Result<Vec<Chart>, Wrong> {
    let listed = &metadata.dependencies;
    let is_listed = |chart: &Chart| listed.iter().any(|wanted| does(chart, wanted));
    let mut arranged: Vec<Chart> =
        charts.iter().filter(|chart| !is_listed(chart)).cloned().collect();
    let mut missing = Vec::new();
    for dependency in listed {
        let Some(found) = charts.iter().find(|chart| does(chart, dependency)) else {
            // One of another version is there all the same, as in Helm, by its own name.
            if !charts.iter().any(|chart| chart.metadata.name == dependency.name) {
                missing.push(dependency.name.as_str());
            }
            continue;
        };
        if arranged.iter().any(|chart| chart.place == found.place) {
            // The same once more takes as much room again.
            let spent = found.spend(budget);
            spent.map_err(|why| Wrong::at(&format!("{place}/Chart.yaml"), 0, why))?;
        }
        let mut chart = found.clone();
        if let Some(alias) = &dependency.alias {
            chart.metadata.name.clone_from(alias);
            chart.metadata.shown = chart.metadata.shown.deep_copy(super::values::DEPTH_MAX);
            chart.metadata.shown.put("Name", Value::text(alias));
        }
        arranged.push(chart);
    }
    if missing.is_empty() {
        return Ok(arranged);
    }
    let message =
        format!("found in Chart.yaml, but missing in charts/ directory: {}", missing.join(", "));
    let wrong = Wrong::at(&format!("{place}/Chart.yaml"), 0, message);
    Err(wrong.hint("nothing is fetched: run `helm dependency build` and commit charts/"))
}

/// Whether a chart is the one that is wanted, of a version that will do.
fn does(chart: &Chart, dependency: &Dependency) -> bool {
    if chart.metadata.name != dependency.name {
        return false;
    }
    if dependency.version.is_empty() {
        return true;
    }
    // A version that can't be compared is compared as it is written.
    functions::satisfies(&dependency.version, &chart.metadata.version)
        .unwrap_or(dependency.version == chart.metadata.version)
}
