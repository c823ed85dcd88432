use proptest::prelude::*;

use super::super::args::strval;
use super::super::encode;
use super::*;

fn json(text: &str) -> Value {
    encode::must_from_json(&[Value::text(text)]).expect("JSON")
}

fn yaml(value: &Value) -> String {
    strval(&to_yaml(std::slice::from_ref(value)).expect("YAML"))
}

#[test]
fn values_are_written_as_go_yaml_does() {
    let table = [
        ("{}", "{}"),
        ("[]", "[]"),
        ("null", "null"),
        ("\"\"", "\"\""),
        (r#"{"b":1,"a":"x"}"#, "a: x\nb: 1"),
        (r#"{"a":{"b":{"c":[]}}}"#, "a:\n  b:\n    c: []"),
        (r#"{"a":["x",{"b":1,"c":2},["y","z"]]}"#, "a:\n- x\n- b: 1\n  c: 2\n- - \"y\"\n  - z"),
        (r#"{"a":[{"b":["x"]}]}"#, "a:\n- b:\n  - x"),
        (r#"{"a":"x\ny\n"}"#, "a: |\n  x\n  y"),
        (r#"{"a":"x\ny","b":1}"#, "a: |-\n  x\n  y\nb: 1"),
        (r#"{"a":"x\n\n","b":1}"#, "a: |+\n  x\n\nb: 1"),
        (r#"{"a":" x\ny","b":1}"#, "a: |2-\n   x\n  y\nb: 1"),
        (r#"["x\ny"]"#, "- |-\n  x\n  y"),
        (r#"{"a":{"b":["x\ny"]}}"#, "a:\n  b:\n  - |-\n    x\n    y"),
        (r#"{"a":"x\ty\nz"}"#, "a: \"x\\ty\\nz\""),
        (r#"{"a":"x \ny"}"#, "a: \"x \\ny\""),
        (r#"{"a10":1,"a2":1,"b":1,"_":1,"B":1}"#, "_: 1\nB: 1\na2: 1\na10: 1\nb: 1"),
        (r#"{"true":1,"1":2,"x:y":3,"a: b":4}"#, "\"1\": 2\n'a: b': 4\n\"true\": 1\nx:y: 3"),
        (
            r#"[1.5,1e21,1.0,-0.00001,1234567.5,true]"#,
            "- 1.5\n- 1e+21\n- 1\n- -1e-05\n- 1.2345675e+06\n- true",
        ),
    ];
    for (value, expected) in table {
        assert_eq!(yaml(&json(value)), expected, "{value}");
    }
    let pretty = to_yaml_pretty(&[json(r#"{"a":[{"b":["x"]}]}"#)]).expect("YAML");
    assert_eq!(strval(&pretty), "a:\n  - b:\n      - x");
}

#[test]
fn texts_are_quoted_where_they_would_be_something_else() {
    let plain = [
        "a",
        "a b",
        "a:b",
        "a#b",
        "1.2.3",
        "-x",
        "?x",
        ":x",
        "x,y",
        "a[0]",
        "/path",
        "1h30m",
        "500m",
        "10.0.0.0/8",
        "é",
        "nUll",
        "http://x/y?z=1",
        "a'b",
        "a\"b",
        "yes sir",
        "v1",
        "=",
        "a\u{f8ff}",
        "12:61",
        "2001-01-01x",
    ];
    for text in plain {
        assert_eq!(line(text), text);
    }
    let double = [
        "",
        "true",
        "yes",
        "on",
        "y",
        "n",
        "No",
        "Null",
        "~",
        "null",
        "0644",
        "0o14",
        "0x1f",
        "1e3",
        "1_000",
        "12:30:45",
        "2001-01-01",
        "2001-01-01T00:00:00Z",
        ".inf",
        "-.INF",
        ".nan",
        "1",
        "-1.5",
        "+1",
        "1.",
        ".5",
        "<<",
        "0b11",
        "1e999",
    ];
    for text in double {
        assert_eq!(line(text), format!("\"{text}\""));
    }
    let single = [
        "- x", "-", "? x", "?", ": x", "a: b", "a:", "a #b", "!x", "&x", "*x", "|", ">", "%x",
        "@x", "`x", "\"x\"", "{x", "}", "[x", "]", ",x", "#x", " x", "x ", "---", "--- x", "...",
    ];
    for text in single {
        assert_eq!(line(text), format!("'{text}'"));
    }
    assert_eq!(line("'x'"), "'''x'''");
    let escaped = [
        ("a\tb", r#""a\tb""#),
        ("a\u{85}", r#""a\N""#),
        ("\u{1f600}", r#""\U0001F600""#),
        ("\u{feff}", r#""\uFEFF""#),
        ("\u{1}\u{0}", r#""\x01\0""#),
        ("a\r\nb", r#""a\r\nb""#),
    ];
    for (text, expected) in escaped {
        assert_eq!(line(text), expected);
    }
}

/// A text as it comes back from our reader, and from one of YAML 1.2.
fn read_back(text: &str, value: &Value) {
    // As it stands in a manifest: on a line that ends.
    let mut writer = Writer { out: String::new(), indents_lists: false };
    writer.root(value).expect("YAML");
    let expected = strval(&encode::to_json(std::slice::from_ref(value)).expect("JSON"));
    let ours = encode::must_from_yaml(&[Value::text(&writer.out)]).expect(&writer.out);
    let ours = strval(&encode::to_json(&[ours]).expect("JSON"));
    assert_eq!(ours, expected, "{text:?} as {:?}", writer.out);
    let other: serde_json::Value = serde_yaml::from_str(&writer.out).expect(&writer.out);
    let own: serde_json::Value = serde_json::from_str(&expected).expect("JSON");
    assert_eq!(other, own, "{text:?} as {:?}", writer.out);
}

fn everywhere(text: &str) {
    let key: Rc<str> = Rc::from(text);
    let value = Value::text(text);
    let map =
        |key: &Rc<str>, value: Value| Value::map([(Rc::clone(key), value)].into_iter().collect());
    let name: Rc<str> = Rc::from("name");
    read_back(text, &value);
    read_back(text, &Value::list(vec![value.clone(), Value::Int(1), value.clone()]));
    let below =
        map(&name, Value::list(vec![map(&key, value.clone()), Value::list(vec![value.clone()])]));
    read_back(text, &map(&name, below));
    if text != "<<" {
        read_back(text, &map(&key, map(&key, value)));
    }
}

#[test]
fn odd_texts_come_back() {
    for text in
        ["", "\n", "\n\n", " ", "\n x", " \n", "x\n ", "a\n\n\nb\n\n", "\u{2028}", "- ", "\\", "<<"]
    {
        everywhere(text);
    }
    everywhere(&"long ".repeat(60));
    everywhere(&"l".repeat(2000));
}

proptest! {
    #[test]
    fn every_text_comes_back(text in r#"[-a-c0-9 \n\t:#,.?!&*|>%@`'"{}\[\]~_+<=éT\\]{0,12}"#) {
        everywhere(&text);
    }

    #[test]
    fn any_character_comes_back(text in "\\PC{0,8}|.{0,8}") {
        everywhere(&text);
    }

    #[test]
    fn a_number_comes_back(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        let written = yaml(&Value::Float(number));
        prop_assert_eq!(written.parse::<f64>().expect("a number"), number);
    }

    #[test]
    fn any_keys_are_sorted_without_a_panic(keys in prop::collection::vec("[a0_9A-]{0,5}", 0..60)) {
        let keys: Vec<Rc<str>> = keys.iter().map(|key| Rc::from(key.as_str())).collect();
        prop_assert_eq!(sorted(keys.iter().collect()).len(), keys.len());
    }
}
