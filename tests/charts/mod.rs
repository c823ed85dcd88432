//! Charts that use what charts use, held against what Helm itself made of them.
//!
//! `rendered.yaml` beside each was printed by Helm's own engine (3.x), with the release's name `demo` and the
//! namespace of the chart's annotation; a file that differs is a difference from Helm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use windlass::desired::charts;

use crate::support::{must_git, scratch};

fn files(root: &Path, directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below").display().to_string();
            found.push((name, fs::read(&path).expect("a file")));
        }
    }
}

/// Documents, by Helm's names of templates.
type Pages = BTreeMap<String, Vec<String>>;

/// What we make of a chart.
fn ours(directory: &Path) -> Pages {
    let mut found = Vec::new();
    files(directory, directory, &mut found);
    let packed = charts::pack(found.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())));
    let rendered = charts::render("demo", &packed);
    let rendered = rendered.unwrap_or_else(|wrong| panic!("{}: {wrong}", directory.display()));
    let documents = |page: charts::Rendered| {
        let documents = format!("\n{}", page.text);
        let documents = documents.split("\n---\n").map(|text| text.trim().to_owned());
        (page.name, documents.filter(|text| !text.is_empty()).collect())
    };
    rendered.into_iter().map(documents).collect()
}

/// What Helm made of it.
fn helms(text: &str) -> Pages {
    let mut found = Pages::new();
    for part in format!("\n{text}").split("\n---\n# Source: ").skip(1) {
        let (source, body) = part.split_once('\n').unwrap_or((part, ""));
        found.entry(source.to_owned()).or_default().push(body.trim().to_owned());
    }
    found
}

#[test]
fn charts_become_what_helm_makes_of_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/charts");
    let cases: Vec<PathBuf> = fs::read_dir(&root)
        .expect("the charts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    assert!(cases.len() >= 4, "charts are missing: {cases:?}");
    for case in cases {
        let ours = ours(&case.join("chart"));
        let text = fs::read_to_string(case.join("rendered.yaml")).expect("what Helm made of it");
        let helms = helms(&text);
        let names = |pages: &Pages| pages.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&helms), "{}", case.display());
        for (name, documents) in &helms {
            assert_eq!(ours[name].len(), documents.len(), "documents of {name}");
            for (theirs, own) in documents.iter().zip(&ours[name]) {
                let different = theirs.lines().zip(own.lines()).find(|(theirs, own)| theirs != own);
                assert_eq!(different, None, "{name}: Helm's line, and ours");
                assert_eq!(own, theirs, "{name}");
            }
        }
    }
}

#[test]
fn a_bundle_brings_the_images_that_a_chart_names() {
    let dir = scratch("wcharts-list-");
    let (web, page) = ("registry.example/web:1.2", "registry.example/init:1");
    for (path, text) in [
        ("namespace.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}".to_owned()),
        ("web/Chart.yaml", "{apiVersion: v2, name: web, version: 1.0.0}".to_owned()),
        ("web/values.yaml", "tag: 1.2".to_owned()),
        (
            "web/templates/web.yaml",
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec:\n  \
                 initContainers: [{{name: i, image: '{page}'}}]\n  containers: [{{name: w, image: \
                 'registry.example/web:{{{{ .Values.tag }}}}'}}]\n"
            ),
        ),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    must_git(dir.path(), &["init", "-q", "-b", "main"]);
    must_git(dir.path(), &["add", "-A"]);
    must_git(dir.path(), &["commit", "-q", "-m", "a chart"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(["bundle", "create", "--list", "--repo"]).arg(dir.path());
    let listed = command.output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), format!("{page}\n{web}\n"));
}

/// Without colours and a terminal, as a pipe has it.
#[test]
fn template_shows_what_charts_become_and_says_what_is_wrong_and_where() {
    let run = |directory: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        let output = command.arg("template").arg(directory).output().expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let dir = scratch("wcharts-template-");
    let (done, _, said) = run(dir.path());
    assert!(!done && said.contains("there is no chart in"), "{said}");
    let chart = dir.path().join("shop/web");
    fs::create_dir_all(chart.join("templates")).expect("made");
    fs::write(chart.join("Chart.yaml"), "{apiVersion: v2, name: web, version: 1.0.0}")
        .expect("written");
    fs::write(chart.join("templates/a.yaml"), "name: {{ .Release.Name }}").expect("written");
    let shown = "---\n# Source: web/templates/a.yaml\nname: web\n";
    for directory in [dir.path(), &chart] {
        assert_eq!(run(directory), (true, shown.to_owned(), String::new()));
    }
    fs::write(chart.join("templates/a.yaml"), "\nname: {{ .Values.a.b }}").expect("written");
    let (done, _, said) = run(dir.path());
    assert!(!done && said.contains("shop/web/templates/a.yaml:2: error: nil pointer"), "{said}");
}
