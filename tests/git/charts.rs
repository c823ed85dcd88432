//! Charts in a repository: one file each, whoever asks.

use windlass::ports::source::{Answer, Call, FileKind};

use super::source::{Shelf, fetch, paths, read, survey};

#[tokio::test]
async fn a_chart_is_one_file_by_its_directory() {
    let shelf = Shelf::new();
    let about = "{apiVersion: v2, name: web, version: 1.0.0}";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    for (path, text) in [
        ("a/web-2.yaml", "kind: Deployment\n"),
        ("a/web/Chart.yaml", about),
        ("a/web/charts/db/Chart.yaml", about),
        ("a/web/templates/_x.tpl", ""),
        ("a/web/templates/x.yaml", config),
        ("a/web.yaml", "kind: Deployment\n"),
        ("z.yaml", "kind: Service\n"),
    ] {
        shelf.write(path, text);
    }
    let tip = shelf.push("a chart");
    let source = shelf.open();
    fetch(&source).await.expect("fetched");
    let listing = survey(&source, &tip, None).await.expect("surveyed");
    assert_eq!(paths(&listing), ["a/web-2.yaml", "a/web.yaml", "a/web/Chart.yaml", "z.yaml"]);
    let chart = listing.files.iter().find(|file| file.kind == FileKind::Chart).expect("a chart");
    assert_eq!(chart.blob.as_str(), shelf.git(&["rev-parse", "HEAD:a/web"]));
    assert_eq!(chart.bytes, (2 * about.len() + config.len()) as u64);
    let read = read(&source, std::slice::from_ref(chart)).await.expect("read");
    let rendered = windlass::desired::charts::render("a/web", &read[0].bytes).expect("renders");
    assert_eq!(rendered[0].path, "a/web/templates/x.yaml");
    // A template by itself says nothing: whoever asks for one is given all of it.
    let asked = Call::Show { commit: tip.clone(), path: "a/web/templates/x.yaml".into() };
    let Ok(Answer::Contents(shown)) = source.perform(asked).await else { panic!("not shown") };
    assert_eq!((&shown[0].path, &shown[0].bytes), (&read[0].path, &read[0].bytes));

    // Another commit, in which the chart is the same, lists it without looking.
    shelf.write("z.yaml", "kind: Pod\n");
    let next = shelf.push("something else");
    fetch(&source).await.expect("fetched");
    let again = survey(&source, &next, Some(&tip)).await.expect("surveyed");
    assert!(again.files.contains(chart));
}
