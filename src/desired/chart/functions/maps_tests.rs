use std::slice::from_ref;

use super::super::args::strval;
use super::super::encode;
use super::*;

fn json(text: &str) -> Value {
    encode::must_from_json(&[Value::text(text)]).expect("JSON")
}

fn in_json(answer: Answer) -> String {
    match answer.and_then(|value| encode::to_json(&[value])) {
        Ok(text) => strval(&text),
        Err(problem) => format!("error: {problem}"),
    }
}

#[test]
fn maps_are_asked_and_changed() {
    let map = json(r#"{"a":1,"b":{"c":null}}"#);
    let t = Value::text;
    let table: [(Answer, &str); 13] = [
        (dict(&[t("x"), Value::Int(1), t("y")]), r#"{"x":1,"y":""}"#),
        (get(&[map.clone(), t("a")]), "1"),
        (get(&[map.clone(), t("z")]), r#""""#),
        (has_key(&[map.clone(), t("a")]), "true"),
        (pluck(&[t("a"), map.clone(), json("{}"), json(r#"{"a":2}"#)]), "[1,2]"),
        (keys(from_ref(&map)), r#"["a","b"]"#),
        (values(from_ref(&map)), r#"[1,{"c":null}]"#),
        (pick(&[map.clone(), t("a"), t("z")]), r#"{"a":1}"#),
        (omit(&[map.clone(), t("a")]), r#"{"b":{"c":null}}"#),
        (dig(&[t("b"), t("c"), t("none"), map.clone()]), "null"),
        (dig(&[t("b"), t("x"), t("none"), map.clone()]), r#""none""#),
        (
            dig(&[t("a"), t("x"), t("none"), map.clone()]),
            "error: interface conversion: interface {} is float64, not map[string]interface {}",
        ),
        (
            get(&[t("text"), t("a")]),
            "error: wrong type for value; expected map[string]interface {}; got string",
        ),
    ];
    for (at, (answer, expected)) in table.into_iter().enumerate() {
        assert_eq!(in_json(answer), expected, "{at}");
    }
    set(&[map.clone(), t("z"), t("new")]).expect("a map");
    unset(&[map.clone(), t("a")]).expect("a map");
    assert_eq!(in_json(Ok(map)), r#"{"b":{"c":null},"z":"new"}"#);
}

#[test]
fn maps_are_merged_as_mergo_does() {
    let table = [
        (r#"{"a":1}"#, r#"{"a":2,"b":3}"#, r#"{"a":1,"b":3}"#, r#"{"a":2,"b":3}"#),
        (r#"{"a":0}"#, r#"{"a":2}"#, r#"{"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":true}"#, r#"{"a":false}"#, r#"{"a":true}"#, r#"{"a":false}"#),
        (
            r#"{"a":{"x":1}}"#,
            r#"{"a":{"x":2,"y":3}}"#,
            r#"{"a":{"x":1,"y":3}}"#,
            r#"{"a":{"x":2,"y":3}}"#,
        ),
        (r#"{"a":[1]}"#, r#"{"a":[2]}"#, r#"{"a":[1]}"#, r#"{"a":[2]}"#),
        (r#"{"a":1}"#, r#"{"a":null,"b":null}"#, r#"{"a":1}"#, r#"{"a":null,"b":null}"#),
        (r#"{"a":{"x":1}}"#, r#"{"a":"text"}"#, r#"{"a":{"x":1}}"#, r#"{"a":"text"}"#),
        (r#"{"a":"text"}"#, r#"{"a":{"x":1}}"#, r#"{"a":"text"}"#, r#"{"a":{"x":1}}"#),
    ];
    for (target, source, kept, overwritten) in table {
        assert_eq!(in_json(merge(&[json(target), json(source)])), kept, "{target} {source}");
        assert_eq!(
            in_json(merge_overwrite(&[json(target), json(source)])),
            overwritten,
            "{target}"
        );
    }
}

#[test]
fn a_merge_shares_and_a_copy_does_not() {
    let (target, source) = (json("{}"), json(r#"{"a":{"x":1}}"#));
    let copy = deep_copy(from_ref(&source)).expect("a map");
    merge(&[target.clone(), source.clone()]).expect("a map");
    set(&[target.get("a"), Value::text("x"), Value::Int(2)]).expect("a map");
    assert_eq!(in_json(Ok(source)), r#"{"a":{"x":2}}"#);
    assert_eq!(in_json(Ok(copy)), r#"{"a":{"x":1}}"#);
}

#[test]
fn a_map_that_holds_itself_is_no_trap() {
    let (map, other) = (json("{}"), json("{}"));
    for of in [&map, &other] {
        set(&[of.clone(), Value::text("own"), of.clone()]).expect("a map");
    }
    assert!(deep_copy(from_ref(&map)).is_err());
    assert!(merge(&[map.clone(), map.clone()]).is_ok());
    assert!(merge_overwrite(&[map.clone(), other]).is_err());
    assert!(in_json(Ok(map)).starts_with("error"));
}
