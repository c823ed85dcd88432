use super::super::args::strval;
use super::*;

type Row = (fn(&[Value]) -> Answer, &'static [&'static str], &'static str);

/// Calls a function; arguments that are whole numbers are passed as such.
fn call(function: fn(&[Value]) -> Answer, args: &[&str]) -> String {
    let value = |arg: &&str| match *arg {
        "nil" => Value::Null,
        other => other.parse().map_or_else(|_| Value::text(other), Value::Int),
    };
    match function(&args.iter().map(value).collect::<Vec<_>>()) {
        Ok(Value::List(items)) => {
            format!("[{}]", strings(&Value::List(items)).expect("texts").join("|"))
        }
        Ok(Value::Map(map)) => {
            map.borrow().iter().map(|(key, value)| format!("{key}={} ", strval(value))).collect()
        }
        Ok(Value::Bool(truth)) => truth.to_string(),
        Ok(value) => strval(&value),
        Err(problem) => format!("error: {problem}"),
    }
}

#[test]
fn texts_are_changed_as_sprig_does() {
    let table: &[Row] = &[
        (trim, &["  a b \n"], "a b"),
        (trim_all, &["$", "$5.00$"], "5.00"),
        (trim_prefix, &["-", "--x"], "-x"),
        (trim_suffix, &["-", "x--"], "x-"),
        (upper, &["straße"], "STRAßE"),
        (title, &["hello wörld-x's a_b"], "Hello Wörld-X'S A_b"),
        (untitle, &["Hello World"], "hello world"),
        (swapcase, &["This Is A.Test"], "tHIS iS a.tEST"),
        (repeat, &["3", "ab"], "ababab"),
        (repeat, &["-1", "ab"], "error: error calling repeat: strings: negative Repeat count"),
        (nospace, &[" a b\tc "], "abc"),
        (initials, &["First Try"], "FT"),
        (trunc, &["5", "hello world"], "hello"),
        (trunc, &["-5", "hello world"], "world"),
        (trunc, &["63", "x"], "x"),
        (trunc, &["1", "é"], "error: a text can't be cut inside a character"),
        (substr, &["0", "5", "hello world"], "hello"),
        (substr, &["-1", "5", "hello world"], "hello"),
        (substr, &["6", "-1", "hello world"], "world"),
        (abbrev, &["5", "hello world"], "he..."),
        (abbrev, &["3", "hello world"], "hello world"),
        (abbrevboth, &["5", "10", "1234 5678 9123"], "...5678..."),
        (wrap, &["5", "Hello World"], "Hello\nWorld"),
        (wrap, &["4", "Hello World"], "Hello\nWorld"),
        (wrap_with, &["4", "-", "Hello World"], "Hell-o-Worl-d"),
        (contains, &["cat", "catch"], "true"),
        (has_prefix, &["cat", "catch"], "true"),
        (has_suffix, &["cat", "catch"], "false"),
        (quote, &["a\"b\\\n\té\u{7}", "nil", "1"], "\"a\\\"b\\\\\\n\\té\\a\" \"1\""),
        (quote, &["nil"], ""),
        (squote, &["it's", "nil"], "'it's'"),
        (cat, &["a", "nil", "b"], "a b"),
        (indent, &["2", "a\nb"], "  a\n  b"),
        (nindent, &["2", "a\n"], "\n  a\n  "),
        (replace, &[" ", "-", "a b c"], "a-b-c"),
        (replace, &["", "-", "ab"], "-a-b-"),
        (plural, &["one", "many", "1"], "one"),
        (plural, &["one", "many", "0"], "many"),
        (to_string, &["nil"], "<nil>"),
        (split, &["$", "a$b"], "_0=a _1=b "),
        (splitn, &["$", "2", "a$b$c"], "_0=a _1=b$c "),
        (splitn, &["", "2", "abc"], "_0=a _1=bc "),
        (split_list, &[",", "a,b,"], "[a|b|]"),
        (split_list, &["", "aé"], "[a|é]"),
        (join, &["-", "a"], "a"),
        (join, &["-", "nil"], ""),
        (sort_alpha, &["a"], "[a]"),
        (trunc, &["5"], "error: wrong number of args for trunc: want 2 got 1"),
        (trim, &["nil"], "error: invalid value; expected string"),
        (trim, &["5"], "error: wrong type for value; expected string; got int"),
    ];
    for (function, args, expected) in table {
        assert_eq!(call(*function, args), *expected, "{args:?}");
    }
}

#[test]
fn what_grows_too_long_is_an_error() {
    let long = "x".repeat(1 << 20);
    let table: &[Row] = &[(repeat, &["1000000000", "x"], ""), (indent, &["9999999", "x"], "")];
    for (function, args, _) in table {
        assert!(call(*function, args).starts_with("error: the text would be longer"), "{args:?}");
    }
    assert!(call(replace, &["x", "yyyyyyyyyy", &long]).starts_with("error"));
    assert!(call(split_list, &["x", &long]).starts_with("error"));
}

#[test]
fn lists_are_joined_and_sorted() {
    let list = Value::list(vec![Value::text("b"), Value::Null, Value::text("a")]);
    let joined = join(&[Value::text("-"), list.clone()]).expect("a text");
    assert_eq!(strval(&joined), "b-a");
    assert_eq!(strings(&sort_alpha(&[list]).expect("a list")), Ok(vec!["a".into(), "b".into()]));
}
