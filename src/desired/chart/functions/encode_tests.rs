use super::super::args::{strings, strval};
use super::*;

type Row = (fn(&[Value]) -> Answer, &'static str, &'static str);

#[test]
fn texts_are_encoded_and_decoded() {
    let table: &[Row] = &[
        (b64enc, "hello", "aGVsbG8="),
        (b64dec, "aGVsbG8=", "hello"),
        (b64dec, "a*Vs", "illegal base64 data at input byte 1"),
        (b32enc, "hello!", "NBSWY3DPEE======"),
        (b32dec, "NBSWY3DPEE======", "hello!"),
        (b32dec, "NBSWY3DP", "hello"),
        (b32dec, "1", "illegal base32 data at input byte 0"),
        (sha1sum, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (sha256sum, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (adler32sum, "Wikipedia", "300286872"),
    ];
    for (function, text, expected) in table {
        assert_eq!(strval(&function(&[Value::text(text)]).expect("a text")), *expected, "{text}");
    }
    assert!(b64dec(&[Value::text("/w==")]).is_err());
}

#[test]
fn json_is_gos() {
    let value = must_from_json(&[Value::text(
        r#"{"b":[1,2.5,null,true],"a":"<a&b>\u2028\n\u0001é","e":{},"l":[]}"#,
    )])
    .expect("JSON");
    let json = |function: fn(&[Value]) -> Answer| {
        strval(&function(std::slice::from_ref(&value)).expect("a text"))
    };
    assert_eq!(
        json(to_json),
        r#"{"a":"\u003ca\u0026b\u003e\u2028\n\u0001é","b":[1,2.5,null,true],"e":{},"l":[]}"#
    );
    assert_eq!(
        json(to_raw_json),
        r#"{"a":"<a&b>\u2028\n\u0001é","b":[1,2.5,null,true],"e":{},"l":[]}"#
    );
    let pretty = "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}";
    let value = must_from_json(&[Value::text(pretty)]).expect("JSON");
    assert_eq!(strval(&to_pretty_json(&[value]).expect("a text")), pretty);
}

#[test]
fn numbers_are_written_as_json_does() {
    let table = [
        (0.1, "0.1"),
        (3.0, "3"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-7, "1.5e-7"),
        (0.000_001, "0.000001"),
    ];
    for (number, expected) in table {
        assert_eq!(json_number(number).as_deref(), Some(expected));
    }
    assert_eq!(json_number(f64::NAN), None);
}

#[test]
fn what_cant_be_read_is_told_as_helm_does() {
    let error = |function: fn(&[Value]) -> Answer, text: &str| {
        strval(&function(&[Value::text(text)]).expect("a map").get("Error"))
    };
    assert_eq!(
        error(from_json, "[1]"),
        "json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
    assert_eq!(error(from_json, ""), "unexpected end of JSON input");
    assert!(error(from_yaml, "a: [").starts_with("error converting YAML to JSON: yaml: line "));
    assert_eq!(error(from_yaml, "a: 1"), "<nil>");
    let list = |text: &str| {
        strings(&from_yaml_array(&[Value::text(text)]).expect("a list")).expect("texts")
    };
    assert_eq!(list("- a\n- 1\n"), ["a", "1"]);
    assert_eq!(
        list("a: 1"),
        ["json: cannot unmarshal object into Go value of type []interface {}"]
    );
    assert!(must_from_json(&[Value::text("{")]).is_err());
}

#[test]
fn yaml_is_read_as_kubernetes_reads_it() {
    let yaml = "a: 0644\nb: yes\nc: 1.0\nd: 'x'\ne: [1.5, null]\n";
    let value = from_yaml(&[Value::text(yaml)]).expect("a map");
    let json = strval(&to_json(&[value]).expect("a text"));
    assert_eq!(json, r#"{"a":420,"b":true,"c":1,"d":"x","e":[1.5,null]}"#);
}
