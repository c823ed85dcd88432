//! Whole charts, rendered: what no part of the room can show by itself.

use super::{Rendering, Wrong, archive, render};

fn rendered(files: &[(&str, &str)]) -> Result<Rendering, Wrong> {
    let files = files.iter().map(|(path, text)| (*path, text.as_bytes()));
    render("demo", &archive::pack(files))
}

/// The text of all pages, without the ends of lines at its ends.
fn text(files: &[(&str, &str)]) -> String {
    let rendering = rendered(files).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let texts: Vec<&str> = rendering.pages.iter().map(|page| page.text.trim()).collect();
    texts.join("|")
}

const ABOUT: &str = "{apiVersion: v2, name: demo, version: 1.0.0}";

#[test]
fn of_two_definitions_that_lie_side_by_side_the_first_counts() {
    let said = text(&[
        ("Chart.yaml", ABOUT),
        ("templates/_a.tpl", "{{ define \"n\" }}from a{{ end }}"),
        ("templates/_b.tpl", "{{ define \"n\" }}from b{{ end }}"),
        ("templates/x.yaml", "{{ include \"n\" . }}"),
    ]);
    assert_eq!(said, "from a");
}

#[test]
fn a_null_in_a_file_of_values_takes_away_what_is_further_in() {
    let about =
        "{apiVersion: v2, name: demo, version: 1.0.0, annotations: {windlass.dev/values: v.yaml}}";
    let said = text(&[
        ("Chart.yaml", about),
        ("values.yaml", "sub: {a: from the parent, b: {c: 1}}"),
        ("v.yaml", "sub: {a: null, b: {c: null}}"),
        ("charts/sub/Chart.yaml", "{apiVersion: v2, name: sub, version: 1.0.0}"),
        ("charts/sub/values.yaml", "{a: default, b: {c: 2, d: 3}}"),
        ("charts/sub/templates/x.yaml", "{{ toJson .Values }}"),
    ]);
    assert_eq!(said, r#"{"b":{"d":3},"global":{}}"#);
}

#[test]
fn tags_are_those_of_the_outermost_values() {
    let said = text(&[
        ("Chart.yaml", ABOUT),
        ("values.yaml", "tags: {extra: false}"),
        (
            "charts/sub/Chart.yaml",
            "{apiVersion: v2, name: sub, version: 1.0.0, dependencies: [{name: in, tags: [extra]}]}",
        ),
        ("charts/sub/templates/x.yaml", "sub"),
        ("charts/sub/charts/in/Chart.yaml", "{apiVersion: v2, name: in, version: 1.0.0}"),
        ("charts/sub/charts/in/templates/x.yaml", "within"),
    ]);
    assert_eq!(said, "sub");
}

#[test]
fn charts_that_multiply_have_an_end() {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut place = String::new();
    for depth in 0..8 {
        let below: Vec<String> =
            (0..8).map(|alias| format!("{{name: c{}, alias: a{alias}}}", depth + 1)).collect();
        let about = format!(
            "{{apiVersion: v2, name: c{depth}, version: 1.0.0, dependencies: [{}]}}",
            below.join(", ")
        );
        files.push((format!("{place}Chart.yaml"), about));
        place = format!("{place}charts/c{}/", depth + 1);
    }
    files.push((format!("{place}Chart.yaml"), "{apiVersion: v2, name: c8, version: 1.0.0}".into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let wrong = rendered(&files).expect_err("too many");
    assert!(wrong.message.contains("or more than 10000 files"), "{wrong:?}");
}

/// As deep as a loop can nest, on a stack as long as a thread of ours has: values that functions did not
/// return themselves, but within others.
#[test]
fn what_is_nested_by_a_loop_is_let_go_of_without_recursion() {
    let template = "{{ $z := dict }}{{ $x := list 1 }}{{ range until 90000 }}{{ $x = list $x }}{{ end }}\
                    {{ $_ := set $z \"h\" (chunk 1 (list $x)) }}done";
    let render = move || text(&[("Chart.yaml", ABOUT), ("templates/x.yaml", template)]);
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(render).expect("a thread");
    assert_eq!(thread.join().expect("no overflow"), "done");
}
