//! Charts among the files of a repository: which directories are charts, and how one of them is
//! handed over as one file.
//!
//! Whoever lists a repository folds its charts; whoever reads one packs it. Then a chart goes the way of
//! any other file: it is parsed once, and remembered for as long as its directory stays as it is.

use std::collections::BTreeSet;

use super::chart;

pub use super::chart::archive::{UNPACKED_BYTES_MAX as BYTES_MAX, is_packed, pack, texts_of_tgz};

use crate::kinds::binding::Oid;
use crate::kinds::finding::Finding;
use crate::ports::source::{FileEntry, FileKind};

/// What makes its directory a chart.
pub const CHART_FILE: &str = "Chart.yaml";

/// A template of a chart with what it became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What Helm calls the template: `web/charts/cache/templates/service.yaml`, by the names of charts.
    pub name: String,
    /// Where it lies.
    pub path: String,
    /// The manifests.
    pub text: String,
}

/// What a chart becomes, template by template: the chart that lies in `directory`, as [`pack`] made one
/// file of it.
pub fn render(directory: &str, packed: &[u8]) -> Result<Vec<Rendered>, Box<Finding>> {
    let rendering = chart::render(directory, packed).map_err(|wrong| Box::new(wrong.finding()))?;
    let page = |page: chart::Page| Rendered { name: page.name, path: page.path, text: page.text };
    Ok(rendering.pages.into_iter().map(page).collect())
}

/// The directory whose chart lies at `path`, if it is that of a chart. The root of a repository is
/// none: `windlass.yaml` and `trust.yaml` lie there.
pub fn directory(path: &str) -> Option<&str> {
    path.strip_suffix(CHART_FILE)?.strip_suffix('/')
}

/// A listing in which each chart is one entry, with all that lies below it; `id` says the id of a
/// directory. What lies side by side in the listing must lie side by side in the tree.
pub fn fold(listing: Vec<FileEntry>, id: impl Fn(&str) -> Option<Oid>) -> Vec<FileEntry> {
    let is_file =
        |entry: &&FileEntry| entry.kind == FileKind::File && !super::is_hidden(&entry.path);
    let found = listing.iter().filter(is_file).filter_map(|entry| directory(&entry.path));
    let charts: BTreeSet<String> = found.map(str::to_owned).collect();
    if charts.is_empty() {
        return listing;
    }
    let mut folded: Vec<FileEntry> = Vec::with_capacity(listing.len());
    let mut open: Option<String> = None;
    for entry in listing {
        if open.as_ref().is_none_or(|chart| below(&entry.path, chart).is_none()) {
            open = around(&entry.path, |directory| charts.contains(directory)).map(str::to_owned);
            if let Some(chart) = &open {
                folded.push(FileEntry {
                    path: format!("{chart}/{CHART_FILE}").into(),
                    blob: id(chart).unwrap_or_else(|| entry.blob.clone()),
                    kind: FileKind::Chart,
                    bytes: 0,
                });
            }
        }
        match folded.last_mut().filter(|_| open.is_some()) {
            Some(chart) => chart.bytes = chart.bytes.saturating_add(entry.bytes),
            None => folded.push(entry),
        }
    }
    folded
}

/// The outermost directory above `path` that is a chart; the root is none.
pub fn around(path: &str, is_chart: impl Fn(&str) -> bool) -> Option<&str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).find(|directory| is_chart(directory))
}

/// A path from a directory, if it lies below that.
pub fn below<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    path.strip_prefix(directory)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: FileKind) -> FileEntry {
        FileEntry { path: path.into(), blob: Oid::new("f"), kind, bytes: 10 }
    }

    #[test]
    fn a_chart_is_one_entry_and_its_neighbours_stay() {
        let listing = [
            "Chart.yaml",
            ".github/x/Chart.yaml",
            "a/web.yaml",
            "a/web/Chart.yaml",
            "a/web/charts/redis/Chart.yaml",
            "a/web/templates/x.yaml",
            "a/website/x.yaml",
            "b/charts/redis/templates/x.yaml",
            "b/charts/redis/Chart.yaml",
            "b/x.yaml",
        ];
        let listing = listing.iter().map(|path| entry(path, FileKind::File)).collect();
        let folded = fold(listing, |directory| Some(Oid::new(directory)));
        let said: Vec<String> = folded
            .iter()
            .map(|e| format!("{} {:?} {} {}", e.path, e.kind, e.blob.as_str(), e.bytes))
            .collect();
        assert_eq!(
            said,
            [
                "Chart.yaml File f 10",
                ".github/x/Chart.yaml File f 10",
                "a/web.yaml File f 10",
                "a/web/Chart.yaml Chart a/web 30",
                "a/website/x.yaml File f 10",
                "b/charts/redis/Chart.yaml Chart b/charts/redis 20",
                "b/x.yaml File f 10",
            ]
        );
    }

    #[test]
    fn a_link_makes_no_chart() {
        let listing =
            vec![entry("a/Chart.yaml", FileKind::Symlink), entry("a/x.yaml", FileKind::File)];
        assert_eq!(fold(listing.clone(), |_| None), listing);
    }
}
