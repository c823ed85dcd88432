//! Templates and what they render to, and what can't be rendered.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::value::{Host, Value};
use super::*;

/// Something with methods, as `.Files` is.
#[derive(Debug)]
struct Files;

impl Host for Files {
    fn name(&self) -> &'static str {
        "engine.files"
    }

    fn get(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        match (name, args) {
            ("Get", [Value::Text(path)]) => Some(Ok(Value::text(format!("<{path}>")))),
            ("Get", _) => Some(Err("one path is wanted".to_owned())),
            ("Name", []) => Some(Ok(map(&[("a", Value::Int(1))]))),
            _ => None,
        }
    }

    fn items(&self) -> Option<Value> {
        Some(map(&[("a.txt", Value::text("A")), ("b.txt", Value::text("B"))]))
    }
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::map(entries.iter().map(|(key, value)| (Rc::from(*key), value.clone())).collect())
}

fn functions(name: &str) -> Option<Function> {
    Some(match name {
        "list" => |values| Ok(Value::list(values.to_vec())),
        "dict" => |values| {
            let mut entries = BTreeMap::new();
            for pair in values.chunks(2) {
                if let [Value::Text(key), value] = pair {
                    entries.insert(Rc::clone(key), value.clone());
                }
            }
            Ok(Value::map(entries))
        },
        "set" => |values| match values {
            [Value::Map(entries), Value::Text(key), value] => {
                entries.borrow_mut().insert(Rc::clone(key), value.clone());
                Ok(Value::Map(Rc::clone(entries)))
            }
            _ => Err("wrong".to_owned()),
        },
        "upper" => |values| match values {
            [Value::Text(text)] => Ok(Value::text(text.to_uppercase())),
            _ => Err("wrong type for value; expected string".to_owned()),
        },
        "default" => |values| match values {
            [default, value] => Ok(if value.is_true() { value.clone() } else { default.clone() }),
            _ => Err("wrong".to_owned()),
        },
        "fail" => |values| Err(format::print(values.first().unwrap_or(&Value::Null))),
        "nothing" => |_| Ok(Value::Null),
        "int64" => |values| Ok(values.first().cloned().unwrap_or_default()),
        _ => return None,
    })
}

fn dot() -> Value {
    let item = |name: &str| map(&[("name", Value::text(name))]);
    map(&[
        ("a", map(&[("b", map(&[("c", Value::text("deep"))]))])),
        ("n", Value::Int(3)),
        ("f", Value::Float(1.5)),
        ("t", Value::text("text")),
        ("yes", Value::Bool(true)),
        ("empty", Value::list(vec![])),
        ("items", Value::list(vec![item("x"), item("y")])),
        ("map", map(&[("z", Value::Int(1)), ("k", Value::Int(2))])),
        ("Files", Value::Host(Rc::new(Files))),
        ("null", Value::Null),
    ])
}

const HELPERS: &str = r#"{{/* helpers */}}
{{ define "name" }}<{{ .t }}>{{ end }}
{{ define "lines" }}one
two{{ end }}
{{ define "root" }}{{ $.t }}{{ end }}
{{ define "loop" }}{{ include "loop" . }}{{ end }}
{{ define "bad" }}
  {{ .t.x }}{{ end }}
"#;

fn render(text: &str) -> Result<Rendered, Fault> {
    let mut set = Set::new(functions);
    set.add("c/templates/_helpers.tpl", HELPERS)?;
    set.add("c/templates/x.yaml", text)?;
    set.render("c/templates/x.yaml", &dot())
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let rendered = render(text).map(|rendered| rendered.text);
        assert_eq!(rendered.as_deref().map_err(ToString::to_string), Ok(*expected), "{text}");
    }
}

#[test]
fn values_are_printed() {
    check(&[
        ("a{{ .t }}b", "atextb"),
        ("{{ .a.b.c }}", "deep"),
        ("{{ .n }} {{ .f }} {{ .yes }} {{ .map }}", "3 1.5 true map[k:2 z:1]"),
        ("[{{ .missing }}{{ .null }}{{ nothing }}]", "[]"),
        ("{{ list 1 nil \"x\" }}", "[1 <nil> x]"),
        ("{{ 'a' }} {{ 0x10 }} {{ 1e6 }} {{ `r\"` }} {{ true }}", "97 16 1000000 r\" true"),
        ("a  {{- .t -}}  b", "atextb"),
        ("a\n{{- /* c */ -}}\nb", "ab"),
        ("{{ \"a\" | upper | printf \"%s-%s\" \"x\" }}", "x-A"),
        ("{{ (upper \"a\") }}{{ (dict \"k\" \"v\").k }}", "Av"),
        ("{{ (.a).b.c }}{{ ((.a).b).c }}", "deepdeep"),
        ("{{ .Files.Get \"x\" }}{{ \"y\" | .Files.Get }}{{ .Files.Name.a }}", "<x><y>1"),
        ("{{ ($.Files.Get \"x\") }}{{ (.Files).Get \"z\" }}", "<x><z>"),
        ("{{ printf \"%d-%v\" .n .null }}", "3-<nil>"),
        ("{{ if eq .n 3 }}y{{ end }}{{ len .items }}{{ index .map \"z\" }}", "y21"),
        ("{{\n  .t\n}}", "text"),
        ("{{ .t | upper | }}{{ int64 0x1p4 }}", "TEXT16"),
        ("{{ print 1 2 \"a\" }}{{ println }}", "1 2a\n"),
    ]);
}

#[test]
fn a_field_of_nothing_is_nothing_if_asked_for_carefully() {
    check(&[
        ("[{{ (.missing).x }}]", "[]"),
        ("[{{ (.missing).x.y }}]", "[]"),
        ("[{{ ((.missing).x).y }}]", "[]"),
        ("[{{ $m := .missing }}{{ $m.x.y }}]", "[]"),
        ("[{{ with .missing }}x{{ else }}{{ .t }}{{ end }}]", "[text]"),
        ("[{{ .a.x }}]", "[]"),
    ]);
}

#[test]
fn conditions_choose() {
    check(&[
        ("{{ if .yes }}a{{ else }}b{{ end }}", "a"),
        ("{{ if .empty }}a{{ else if .n }}b{{ else }}c{{ end }}", "b"),
        ("{{ if .empty }}a{{ else if .null }}b{{ else }}c{{ end }}", "c"),
        ("{{ if not .yes }}a{{ end }}", ""),
        ("{{ with .a.b }}{{ .c }}{{ $.t }}{{ end }}", "deeptext"),
        ("{{ with .empty }}a{{ else with .t }}{{ . }}{{ end }}", "text"),
        ("{{ with $x := .n }}{{ $x }}{{ . }}{{ end }}", "33"),
        ("{{ if $x := .n }}{{ $x }}{{ .t }}{{ end }}", "3text"),
        ("{{ and .yes .n }}{{ or .empty .t }}{{ and .null (fail \"x\") }}", "3text"),
        ("{{ or .yes (fail \"x\") }}{{ .t | and .yes }}{{ .t | or .n }}", "truetext3"),
        ("{{ if and .yes (or .empty .n) }}y{{ end }}", "y"),
    ]);
}

#[test]
fn ranges_go_through_lists_maps_and_numbers() {
    check(&[
        ("{{ range .items }}{{ .name }},{{ end }}", "x,y,"),
        ("{{ range $i, $x := .items }}{{ $i }}{{ $x.name }}{{ $.n }} {{ end }}", "0x3 1y3 "),
        ("{{ range $k, $v := .map }}{{ $k }}={{ $v }};{{ end }}", "k=2;z=1;"),
        ("{{ range $v := .map }}{{ $v }}{{ . }}{{ end }}", "2211"),
        ("{{ range 3 }}{{ . }}{{ end }}{{ range $i := .n }}{{ $i }}{{ end }}", "012012"),
        ("{{ range .empty }}a{{ else }}none{{ end }}", "none"),
        ("{{ range .missing }}a{{ else }}none{{ end }}{{ range 0 }}{{ else }}0{{ end }}", "none0"),
        (
            "{{ range 9 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 4 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "023",
        ),
        (
            "{{ range 2 }}{{ range 5 }}{{ if . }}{{ break }}{{ end }}{{ . }}{{ end }}|{{ end }}",
            "0|0|",
        ),
        ("{{ range $p, $t := .Files }}{{ $p }}={{ $t }} {{ end }}", "a.txt=A b.txt=B "),
        (
            "{{ $i := 0 }}{{ $x := 0 }}{{ range $i, $x = .items }}{{ end }}{{ $i }}{{ $x.name }}",
            "1y",
        ),
        ("{{ $x := 0 }}{{ range $x = .items }}{{ end }}{{ $x.name }}", "y"),
        (
            "{{ $m := dict \"a\" 1 }}{{ range $k, $v := $m }}{{ $_ := set $m \"b\" 2 }}{{ $k }}{{ end }}{{ $m }}",
            "amap[a:1 b:2]",
        ),
    ]);
}

#[test]
fn variables_have_gos_scope() {
    check(&[
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x }}{{ end }}{{ $x }}", "22"),
        ("{{ $x := 0 }}{{ range .items }}{{ $x = .name }}{{ end }}{{ $x }}", "y"),
        ("{{ $x := 1 }}{{ range 2 }}{{ $x := . }}{{ end }}{{ $x }}", "1"),
        ("{{ $x := .a }}{{ $x.b.c }}", "deep"),
        ("{{ $x := 1 }}{{ $x = (list $x) }}{{ $x }}", "[1]"),
    ]);
}

#[test]
fn templates_call_each_other() {
    check(&[
        ("{{ template \"name\" . }}{{ include \"name\" . | upper }}", "<text><TEXT>"),
        ("{{ include \"root\" (dict \"t\" \"other\") }}", "other"),
        ("[{{ template \"name\" }}]", "[<>]"),
        ("{{ define \"l\" }}local{{ end }}{{ template \"l\" }}", "local"),
        ("{{ block \"b\" .a }}{{ .b.c }}{{ end }}", "deep"),
        ("{{ tpl \"{{ .t }}-{{ include \\\"name\\\" . }}\" . }}", "text-<text>"),
        ("{{ tpl \"plain\" . }}", "plain"),
        ("{{ tpl \"{{ define \\\"q\\\" }}Q{{ end }}{{ template \\\"q\\\" }}\" . }}", "Q"),
        ("[{{ tpl \"{{ define \\\"q\\\" }}Q{{ end }}\" . }}]", "[]"),
        ("{{ tpl (printf \"%s\" \"{{ tpl .t . }}\") . }}", "text"),
        ("{{ (include \"name\" .) | printf \"%q\" }}", "\"<text>\""),
    ]);
}

#[test]
fn a_later_definition_replaces_an_earlier_one() {
    let mut set = Set::new(functions);
    for (name, text) in [
        ("a", "{{ define \"x\" }}1{{ end }}"),
        ("b", "{{ define \"x\" }}2{{ end }}"),
        ("c", "{{ define \"x\" }} {{/* nothing */}} {{ end }}"),
        ("d", "{{ template \"x\" }}"),
    ] {
        set.add(name, text).unwrap();
    }
    assert_eq!(set.render("d", &Value::Null).unwrap().text, "2");
    let twice = "{{ define \"x\" }}1{{ end }}\n{{ define \"x\" }}2{{ end }}";
    let fault = set.add("e", twice).unwrap_err();
    assert_eq!(fault.to_string(), "e:2:17: multiple definition of template \"x\"");
}

#[test]
fn faults_have_a_place_and_gos_words() {
    for (text, expected) in [
        ("\n  {{ .a.x.y }}", "x.yaml:2:6: nil pointer evaluating interface {}.y in \".a.x.y\""),
        (
            "{{ (.a.x).y.z }}{{ (.a).x.y }}",
            "x.yaml:1:20: nil pointer evaluating interface {}.y in \".x.y\"",
        ),
        (
            "{{ range list nil }}{{ .x }}{{ end }}",
            "x.yaml:1:24: nil pointer evaluating interface {}.x in \".x\"",
        ),
        ("{{ .t.x }}", "x.yaml:1:4: can't evaluate field x in type string"),
        ("{{ .items.x }}", "x.yaml:1:4: can't evaluate field x in type []interface {}"),
        ("{{ .Files.Nope }}", "x.yaml:1:4: can't evaluate field Nope in type engine.files"),
        ("{{ .Files.Get 1 }}", "x.yaml:1:4: error calling Get: one path is wanted"),
        ("{{ .a.b \"x\" }}", "x.yaml:1:4: b is not a method but has arguments"),
        ("{{ \"x\" | .a.b }}", "x.yaml:1:10: b is not a method but has arguments"),
        (
            "{{ .t | upper 1 }}",
            "x.yaml:1:9: error calling upper: wrong type for value; expected string",
        ),
        ("{{ fail \"my words\" }}", "x.yaml:1:4: my words"),
        (
            "{{ include \"no\" . }}",
            "x.yaml:1:4: error calling include: template \"no\" not defined",
        ),
        ("{{ template \"no\" . }}", "x.yaml:1:1: template \"no\" not defined"),
        (
            "{{ include 1 . }}",
            "x.yaml:1:4: error calling include: wrong type for value; expected string; got int",
        ),
        ("{{ include \"name\" }}", "x.yaml:1:4: wrong number of args for include: want 2 got 1"),
        ("{{ include \"bad\" . }}", "_helpers.tpl:8:6: can't evaluate field x in type string"),
        ("{{ template \"bad\" . }}", "_helpers.tpl:8:6: can't evaluate field x in type string"),
        (
            "{{ include \"loop\" . }}",
            "_helpers.tpl:6:23: templates call each other deeper than 60 levels",
        ),
        (
            "\n{{ tpl \"{{ .t.x }}\" . }}",
            "x.yaml:2:4: in line 1 of the text given to tpl: can't evaluate field x in type string",
        ),
        (
            "\n{{ tpl \"\\n{{ nope }}\" . }}",
            "x.yaml:2:4: error calling tpl: in line 2 of its text: function \"nope\" not defined",
        ),
        ("{{ nil }}", "x.yaml:1:4: nil is not a command"),
        ("{{ .t 1 }}", "x.yaml:1:4: t is not a method but has arguments"),
        ("{{ \"a\" 1 }}", "x.yaml:1:4: can't give argument to non-function"),
        ("{{ range .t }}{{ end }}", "x.yaml:1:10: range can't iterate over text"),
        ("{{ range 1.5 }}{{ end }}", "x.yaml:1:10: range can't iterate over 1.5"),
        ("{{ eq \"1\" 1 }}", "x.yaml:1:4: error calling eq: incompatible types for comparison"),
        ("{{ and }}", "x.yaml:1:4: wrong number of args for and: want at least 1 got 0"),
        ("{{ nope }}", "x.yaml:1:4: function \"nope\" not defined"),
        ("a\n{{ if }}", "x.yaml:2:7: missing value for if"),
    ] {
        let fault = render(text).unwrap_err().to_string();
        assert_eq!(fault.strip_prefix("c/templates/"), Some(expected), "{text}");
    }
    let fault = Set::new(functions).render("no", &Value::Null).unwrap_err();
    assert_eq!(fault.to_string(), "no:1:1: template \"no\" not defined");
}

#[test]
fn each_line_knows_where_it_comes_from() {
    for (text, expected) in [
        ("a\nb\nc", vec![1, 2, 3]),
        ("a\n{{ include \"lines\" . }}\nb\n", vec![1, 2, 2, 3, 4]),
        ("a\n{{ template \"lines\" . }}\nb", vec![1, 2, 2, 3]),
        ("{{- if .yes }}\na: {{ .t }}\n{{- end }}\nb", vec![1, 2, 4]),
        ("{{- range .items }}\n- {{ .name }}\n{{- end }}", vec![1, 2, 2]),
        ("a:\n  {{- include \"lines\" . | printf \"\\n%s\" }}\nb", vec![1, 2, 2, 3]),
        ("x: {{ .t }}\n\n{{/* c */}}\ny", vec![1, 2, 3, 4]),
    ] {
        let rendered = render(text).unwrap();
        assert_eq!(rendered.lines, expected, "{text:?} gives {:?}", rendered.text);
        assert_eq!(rendered.lines.len(), rendered.text.split('\n').count(), "{text:?}");
    }
}

#[test]
fn endless_templates_end() {
    for (text, expected) in [
        ("{{ range 100000000000 }}{{ end }}", "steps"),
        ("{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}", "steps"),
        ("{{ range 10000 }}{{ printf \"%60000d\" 1 }}{{ end }}", "bytes"),
        ("{{ define \"me\" }}{{ template \"me\" . }}{{ end }}{{ template \"me\" . }}", "60 levels"),
        ("{{ $_ := set . \"me\" \"{{ tpl .me . }}\" }}{{ tpl .me . }}", "60 levels"),
        ("{{ $m := dict }}{{ $_ := set $m \"m\" $m }}{{ $m }}", "100 levels"),
    ] {
        let message = render(text).unwrap_err().message;
        assert!(message.contains(expected), "{text}: {message}");
    }
}

/// What nests as deep as it may takes two thirds of the stack that threads have, 2 MiB, at most.
#[test]
fn the_deepest_template_fits_into_a_threads_stack() {
    let deep = |levels: usize| {
        let parens = |inner: &str, n: usize| format!("{}{inner}{}", "(".repeat(n), ")".repeat(n));
        [
            format!(
                "{{{{ define \"me\" }}}}{{{{ {} }}}}{{{{ end }}}}{{{{ include \"me\" . }}}}",
                parens("include \"me\" .", levels)
            ),
            format!(
                "{{{{ define \"me\" }}}}{{{{ {} }}}}{{{{ end }}}}{{{{ include \"me\" . }}}}",
                parens("and true (.a).b (or false (include \"me\" .))", levels / 2)
            ),
            format!(
                "{{{{ define \"me\" }}}}{}{{{{ include \"me\" . }}}}{}{{{{ end }}}}{{{{ include \"me\" . }}}}",
                "{{ range 1 }}".repeat(levels),
                "{{ end }}".repeat(levels)
            ),
            format!(
                "{{{{ define \"me\" }}}}{}{{{{ template \"me\" . }}}}{}{{{{ end }}}}{{{{ include \"me\" . }}}}",
                "{{ with true }}".repeat(levels),
                "{{ end }}".repeat(levels)
            ),
            "{{ $_ := set . \"me\" \"{{ with $ }}{{ (tpl .me .) }}{{ end }}\" }}{{ tpl .me . }}"
                .to_owned(),
        ]
    };
    let run = move || {
        for levels in [1, 2, 5, 50, 90] {
            for text in deep(levels) {
                let message = render(&text).unwrap_err().message;
                assert!(message.contains("levels"), "{message}");
            }
        }
    };
    std::thread::Builder::new().stack_size(1300 << 10).spawn(run).unwrap().join().unwrap();
}

/// Values nest as deep as a loop makes them, and are dropped without recursion.
#[test]
fn deep_values_are_dropped_safely() {
    let run = || {
        for text in [
            "{{ $x := list }}{{ range 30000 }}{{ $x = list $x }}{{ end }}{{ $x = 1 }}ok",
            "{{ $x := dict }}{{ range 30000 }}{{ $x = dict \"a\" (list $x) }}{{ end }}ok",
            "{{ $x := dict }}{{ $y := $x }}{{ range 30000 }}{{ $n := dict }}{{ $_ := set $y \"a\" $n }}{{ $y = $n }}{{ end }}ok",
            "{{ $x := dict }}{{ $_ := set $x \"x\" (list $x) }}ok",
        ] {
            assert_eq!(render(text).unwrap().text, "ok", "{text}");
        }
        let dot = dot();
        let mut set = Set::new(functions);
        set.add("x", "{{ $y := $ }}{{ range 30000 }}{{ $n := dict }}{{ $_ := set $y \"q\" $n }}{{ $y = $n }}{{ end }}").unwrap();
        set.render("x", &dot).unwrap();
        keep::dissolve(dot);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

/// As many templates as may call each other do so with the nesting that charts have.
#[test]
fn charts_nest_as_deep_as_they_do() {
    let text = "{{ define \"me\" }}{{ if .n }}{{ with . }}{{ include \"me\" (dict \"n\" (index .n 0)) }}{{ end }}{{ else }}end{{ end }}{{ end }}{{ include \"me\" . }}";
    let mut set = Set::new(functions);
    set.add("x", text).unwrap();
    let mut n = Value::list(vec![Value::Null]);
    for _ in 0..40 {
        n = Value::list(vec![n]);
    }
    assert_eq!(set.render("x", &map(&[("n", n)])).unwrap().text, "end");
}

#[test]
fn maps_are_shared() {
    let dot = Value::Map(Rc::new(RefCell::new(BTreeMap::new())));
    let mut set = Set::new(functions);
    set.add("x", "{{ $_ := set $ \"a\" 1 }}{{ .a }}").unwrap();
    assert_eq!(set.render("x", &dot).unwrap().text, "1");
    assert_eq!(format::print(&dot.get("a")), "1");
}

/// Texts that are templates now and then.
fn texts() -> impl Strategy<Value = String> {
    let pieces = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "if",
        "else",
        "end",
        "range",
        "with",
        "define",
        "template",
        "block",
        "break",
        "continue",
        ".a",
        ".t",
        ".items",
        ".n",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        "|",
        "(",
        ")",
        "\"name\"",
        "\"{{ .t }}\"",
        "`r`",
        "'c'",
        "1",
        "0x",
        "1e5",
        "-",
        "nil",
        "true",
        "include",
        "tpl",
        "printf",
        "index",
        "slice",
        "len",
        "eq",
        "and",
        "or",
        "list",
        "dict",
        "set",
        "\n",
        "text",
        "é",
        "/*",
        "*/",
        ".",
        "\"%5.2f%q%[2]*d\"",
    ];
    let piece = prop_oneof![
        20 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        6 => Just(" ".to_owned()),
        1 => any::<char>().prop_map(String::from),
    ];
    let action = proptest::collection::vec(
        prop_oneof![
            proptest::sample::select(pieces[13..].to_vec()).prop_map(|piece| format!(" {piece}")),
            Just(")".to_owned()),
        ],
        1..6,
    )
    .prop_map(|words| format!("{{{{{} }}}}", words.concat()));
    proptest::collection::vec(prop_oneof![3 => piece, 2 => action], 0..30)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_is_too_much(text in texts()) {
        if let Ok(rendered) = render(&text) {
            prop_assert_eq!(rendered.lines.len(), rendered.text.split('\n').count());
            prop_assert_eq!(render(&text).unwrap(), rendered);
        }
    }

    #[test]
    fn text_without_actions_stays(text in "[^{]{0,40}") {
        prop_assert_eq!(render(&text).unwrap().text, text);
    }

    #[test]
    fn no_format_is_too_much(format in "[%a-zA-Z0-9.*\\[\\]+# -]{0,12}", number: i64, float: f64) {
        let values = [Value::Int(number), Value::Float(float), Value::text("é\0"), Value::Null];
        let _ = printf::sprintf(&format, &values);
    }

    #[test]
    fn floats_are_what_they_print(float: f64) {
        let text = format::float(float);
        let parsed: f64 = text.trim_start_matches('+').parse().unwrap();
        prop_assert!(parsed == float || float.is_nan());
    }
}
