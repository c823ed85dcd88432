//! Bad manifests, each with the line that its findings must name.
//!
//! A case begins with `=== what it shows`. Findings stand after `#!` on the line where they belong;
//! there must be no others. `+++ path` begins another file of the same case.

use super::{announced, differences, read};

const TABLES: &[(&str, &str)] = &[
    ("yaml", include_str!("bad/yaml.txt")),
    ("envelope", include_str!("bad/envelope.txt")),
    ("charts", include_str!("bad/charts.txt")),
    ("shape", include_str!("bad/shape.txt")),
    ("metadata", include_str!("bad/metadata.txt")),
    ("pods", include_str!("bad/pods.txt")),
    ("volumes", include_str!("bad/volumes.txt")),
    ("storage", include_str!("bad/storage.txt")),
    ("placement", include_str!("bad/placement.txt")),
    ("workloads", include_str!("bad/workloads.txt")),
    ("jobs", include_str!("bad/jobs.txt")),
    ("services", include_str!("bad/services.txt")),
    ("config", include_str!("bad/config.txt")),
    ("limits", include_str!("bad/limits.txt")),
    ("cross", include_str!("bad/cross.txt")),
];

/// A case's name and its files.
type Case<'t> = (&'t str, Vec<(&'t str, &'t str)>);

fn cases(table: &str) -> Vec<Case<'_>> {
    let cases = table.split("=== ").skip(1);
    cases
        .map(|case| {
            let (name, body) = case.split_once('\n').expect("a name and a body");
            let mut files = body.split("+++ ").filter(|part| !part.trim().is_empty());
            let files = if body.starts_with("+++ ") {
                files.map(|file| file.split_once('\n').expect("a path and a text")).collect()
            } else {
                vec![("a.yaml", files.next().expect("a body"))]
            };
            (name, files)
        })
        .collect()
}

#[test]
fn bad_manifests_are_refused_at_the_right_line() {
    let mut failures = Vec::new();
    let mut count = 0;
    for (table, text) in TABLES {
        for (name, files) in cases(text) {
            count += 1;
            let (_, findings) = read(&files);
            let expected: Vec<_> =
                files.iter().flat_map(|(path, text)| announced(path, text)).collect();
            assert!(!expected.is_empty(), "{table}: {name}: announces nothing");
            for difference in differences(&findings, &expected) {
                failures.push(format!("{table}: {name}: {difference}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    assert!(count >= 60, "{count} cases");
}
