use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::desired::{self, ParsedFile};
use crate::kinds::object::Body;
use crate::ports::source::FileContent;

/// Made by `age-keygen` 1.1.1, and used nowhere else.
const KEY: &str = "AGE-SECRET-KEY-149DS54TCMK90V7MCCDZMFV29GS97XJFQ7DD8TEPQDAQSKH5GG56SSCTT92";
const RECIPIENT: &str = "age16d947vl58jh2a7g0gdsvc89ujzf7wx7edtckf3arzygaq4eugunqyfzjc8";
const OTHER: &str = "age193wem66g533p5v0scdtf9cgn6cr4d3pyeja2z6qff0s680myq40qnrrv2l";

/// Files as SOPS 3.9 writes them: its form, values, tags and MAC made by its description in Python's
/// `cryptography`, the file's key locked by `age` 1.1.1.
const SAMPLES: [&str; 2] =
    [include_str!("samples/all.yaml"), include_str!("samples/encrypted-only.yaml")];

fn keyring() -> Keyring {
    Keyring::parse("/etc/windlass/age.txt", KEY)
}

/// What `write` is given, without chance: another byte each time.
fn with_means<T>(work: impl FnOnce(&mut Means<'_>) -> T) -> T {
    let mut next = 0_u8;
    let mut chance = |buffer: &mut [u8]| {
        for byte in buffer {
            next = next.wrapping_mul(5).wrapping_add(13);
            *byte = next;
        }
    };
    work(&mut Means { chance: &mut chance, now: "2026-11-21T20:15:00Z".to_owned() })
}

fn parse(path: &str, text: &str) -> ParsedFile {
    let bytes = text.as_bytes().into();
    desired::parse(&FileContent {
        path: path.into(),
        blob: crate::kinds::binding::Oid::new(""),
        bytes,
    })
}

fn findings(text: &str) -> Vec<String> {
    parse("shop/db.yaml", text).findings.iter().map(ToString::to_string).collect()
}

/// The Secret that a file holds, as the commit has it.
fn sealed(path: &str, text: &str) -> Option<Arc<Secret>> {
    let file = parse(path, text);
    assert!(file.findings.is_empty(), "{:?}", file.findings);
    file.objects.iter().find_map(|object| match &object.body {
        Body::Secret(secret) => Some(Arc::clone(secret)),
        _ => None,
    })
}

fn shown(secret: &Secret) -> BTreeMap<&str, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    secret.data.iter().map(|(key, value)| (key.as_str(), text(value))).collect()
}

/// Values that are files of age, made by `age` 1.1.1.
const VALUES: &str = include_str!("samples/values.yaml");

#[test]
fn values_that_are_files_of_age_are_opened_where_the_key_is() {
    let secret = sealed("shop/db.yaml", VALUES).expect("a Secret");
    assert_eq!(secret.keys().collect::<Vec<_>>(), ["blob", "password"]);
    assert!(secret.data.is_empty(), "nothing is opened on the way in");
    let opened = open(&secret, &keyring()).expect("opens");
    assert_eq!(&*opened.data["password"], b"hunter2");
    assert_eq!(&*opened.data["blob"], [0, 1, 255]);
    let none = Keyring::parse("/etc/windlass/age.txt", "");
    let why = open(&secret, &none).expect_err("has no key").to_string();
    assert_eq!(
        why,
        "data[blob] is encrypted for others, and /etc/windlass/age.txt has no key in it"
    );

    // A letter of the message, which only who opens it can know of.
    let line = VALUES.lines().filter(|line| line.starts_with("    ")).nth_back(1).expect("one");
    let changed = match line.chars().nth(5) {
        Some('A') => line.replacen('A', "B", 1),
        _ => format!("    A{}", &line[5..]),
    };
    let broken = sealed("shop/db.yaml", &VALUES.replace(line, &changed)).expect("a Secret");
    let why = open(&broken, &keyring()).expect_err("was changed").to_string();
    assert!(why.starts_with("the value at password is not what was encrypted"), "{why}");

    // A program that opens its own is left alone.
    let own = VALUES.replace("windlass.dev/encrypted", "example.org/encrypted");
    let own = sealed("shop/db.yaml", &own).expect("a Secret");
    assert!(own.sealed.is_none() && own.data["password"].starts_with(b"-----BEGIN AGE"));
}

/// It would wait for ever for a file that there is none of.
#[test]
fn a_secret_without_values_has_nothing_to_be_opened() {
    let begin = VALUES.split("stringData:").next().expect("a begin");
    for values in ["", "data: {}\n", "stringData: {}\n", "data:\n", "data: {}\nstringData: {}\n"] {
        let text = format!("{begin}{values}");
        let secret = sealed("shop/db.yaml", &text).expect("a Secret");
        assert!(secret.sealed.is_none() && secret.data.is_empty(), "{text}");
        assert_eq!(open(&secret, &keyring()).as_ref(), Ok(&*secret), "{text}");
    }
}

#[test]
fn what_is_to_be_a_file_of_age_is_one() {
    for (from, to, why) in [
        ("data:\n  blob: ", "data:\n  plain: aGk=\n  blob: ", "data[plain] is no file of age"),
        ("stringData:\n", "stringData:\n  plain: hunter2\n", "stringData[plain] is no file of age"),
        ("encrypted: age", "encrypted: gpg", "windlass.dev/encrypted can be age only"),
        ("-----END AGE", "-----ENDE AGE", "stringData[password] is no file of age"),
    ] {
        let text = VALUES.replace(from, to);
        let found = findings(&text);
        assert!(found.iter().any(|line| line.contains(why)), "{why}: {found:?}");
        assert!(!found.join("").contains("hunter2"), "{found:?}");
    }
    let both = SAMPLES[1]
        .replace("    annotations:\n", "    annotations:\n        windlass.dev/encrypted: age\n");
    let found = findings(&both);
    assert!(
        found.iter().any(|line| line.contains("is for values that SOPS has not encrypted")),
        "{found:?}"
    );
}

#[test]
fn what_sops_writes_is_read() {
    for sample in SAMPLES {
        let secret = sealed("shop/db.yaml", sample).expect("a Secret");
        assert_eq!(secret.keys().collect::<Vec<_>>(), ["empty", "password", "pin", "url"]);
        assert!(secret.data.is_empty(), "nothing is opened on the way in");
        let opened = open(&secret, &keyring()).expect("opens");
        let expected = [
            ("empty", ""),
            ("password", "hunter2"),
            ("pin", "123"),
            ("url", "postgres://app:hunter2@db/app\n"),
        ];
        assert_eq!(shown(&opened), expected.map(|(key, value)| (key, value.to_owned())).into());
        assert_eq!(
            decrypt("db.yaml", sample, &keyring()).map(|text| text.contains("sops")),
            Ok(false)
        );
    }
}

#[test]
fn the_mac_has_values_as_gos_reader_has_them() {
    let text = include_str!("samples/forms.yaml");
    let opened = |text: &str| {
        let documents = file::documents("forms.yaml", text).expect("can be read");
        file::open(&documents, &keyring())
    };
    let leaves = opened(text).expect("opens");
    let of = |name: &str| -> Vec<String> {
        let found = leaves.iter().filter(|leaf| leaf.path[0] == name);
        found.map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned()).collect()
    };
    assert_eq!(of("octal"), ["420"]);
    assert_eq!(of("word"), ["on"]);
    assert_eq!(of("list_enc"), ["one", "2", "True", "2.5"]);
    for (from, to) in
        [("0644", "0645"), ("TRUE", "False"), ("1.50", "1.51"), ("list: [a", "list: [b")]
    {
        let changed = text.replacen(from, to, 1);
        let why = opened(&changed).err();
        assert_eq!(why, Some(Unsealed::Mac), "{from}");
    }
}

#[test]
fn the_object_shows_ciphertext_and_nothing_else() {
    let file = parse("shop/db.yaml", SAMPLES[0]);
    let object = &file.objects[0];
    assert!(object.json.contains(r#""password":"ENC["#), "{}", object.json);
    assert!(!format!("{object:?}").contains("hunter2"));
    assert!(!object.json.contains("sops"));
    let rotated = SAMPLES[0].replace("data:AqL2fMJNPbRMGtHp", "data:BqL2fMJNPbRMGtHp");
    let other = parse("shop/db.yaml", &rotated);
    assert_ne!(object.meaning, other.objects[0].meaning, "another ciphertext is another Secret");
    let recipients = SAMPLES[0].replace(RECIPIENT, OTHER);
    let other = parse("shop/db.yaml", &recipients);
    assert_eq!(
        object.meaning, other.objects[0].meaning,
        "for whom it is changes nothing of what it is"
    );
}

#[test]
fn who_has_no_key_is_told_so() {
    let secret = sealed("shop/db.yaml", SAMPLES[0]).expect("a Secret");
    let none =
        Keyring { trouble: Some("there is no /etc/windlass/age.txt".into()), ..Keyring::default() };
    let why = open(&secret, &none).expect_err("no key").to_string();
    assert_eq!(
        why,
        format!("it is encrypted for {RECIPIENT}, and there is no /etc/windlass/age.txt")
    );
}

#[test]
fn a_file_that_is_not_as_it_was_encrypted_gives_nothing() {
    let table = [
        ("name: db", "name: d8", "MAC"),
        ("mode: \"0644\"", "mode: \"0600\"", "MAC"),
        ("immutable: yes", "immutable: no", "MAC"),
        ("lastmodified: \"2026-11-21T19:00:00Z\"", "lastmodified: \"2026-11-21T19:00:01Z\"", "MAC"),
        ("    pin: ENC", "    pan: ENC", "the value at stringData:pin"),
        ("data:EfSu", "data:EfSA", "the value at stringData:pin"),
        ("tag:7p5jrGOIy02zG0I6QdytbQ==", "tag:7p5jrA==", "the value at stringData:pin"),
        ("    empty: \"\"\n", "", "values"),
        ("YWdlLWVuY3J5cHRpb24ub3JnL3Yx", "YWdlLWVuY3J5cHRpb24ub3JnL3Yy", "the file's key"),
    ];
    for (from, to, why) in table {
        let text = SAMPLES[0].replace(from, to);
        assert_ne!(text, SAMPLES[0], "{from}");
        let file = parse("shop/db.yaml", &text);
        let Some(Body::Secret(secret)) = file.objects.first().map(|object| &object.body) else {
            panic!("{from}: {:?}", file.findings);
        };
        let opened = open(secret, &keyring());
        let expected = if why == "values" { Ok(()) } else { Err(()) };
        match (opened, expected) {
            // An empty value adds nothing to a MAC, in SOPS too.
            (Ok(_), Ok(())) => {}
            (Err(fault), Err(())) => {
                let fault = fault.to_string().replace("pan", "pin");
                assert!(fault.contains(why), "{from}: {fault}");
            }
            (opened, _) => panic!("{from}: {opened:?}"),
        }
    }
}

#[test]
fn what_can_never_be_opened_refuses_the_commit() {
    let of = |from: &str, to: &str| findings(&SAMPLES[0].replace(from, to)).join("\n");
    let age =
        SAMPLES[0].split("    age:\n").nth(1).and_then(|rest| rest.split("    lastmod").next());
    let age = age.expect("the sample's keys");
    let table = [
        (of(&format!("    age:\n{age}"), "    pgp: [{fp: A}]\n"), "is encrypted for PGP only"),
        (of(&format!("    age:\n{age}"), "    age: []\n"), "is encrypted for nobody"),
        (of("    kms: []", "    shamir_threshold: 2"), "is shared among several key groups"),
        (of("    mac: ", "    Mac: "), "has no mac"),
        (of("    encrypted_regex: ^", "    encrypted_regex: (("), "is no regular expression"),
        (of("encrypted_regex: ^(data|stringData)$", "encrypted_comment_regex: x"), "is not built"),
        (
            of("    encrypted_regex: ^(data|stringData)$\n", ""),
            "only data and stringData of Secrets can be",
        ),
        (of("    empty: \"\"", "    empty: aGk="), "stands in plain text in a file that is meant"),
        (of("kind: Secret", "kind: ConfigMap"), "only data and stringData of Secrets can be"),
    ];
    for (found, expected) in table {
        assert!(found.contains(expected), "{expected}: {found}");
        assert!(!found.contains("aGk="), "{found}");
    }
}

const PLAIN: &str = "\
# What the shop needs.
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
type: Opaque
stringData:
  user: app   
  # not here
  key: |
    -----BEGIN KEY-----
    abc: #def

    -----END KEY-----
  folded: >-
    one
    two
  quoted: \"a\\tb: c\"
  number: '0644'
---
apiVersion: v1
kind: Secret
metadata:
  name: other
data: {a: aGVsbG8=, b: \"\"}
# The end.
";

fn manner() -> Manner {
    Manner::for_all(&[OTHER.to_owned(), RECIPIENT.to_owned()]).expect("recipients")
}

#[test]
fn what_is_encrypted_here_is_read_and_the_rest_of_the_text_stays() {
    let refused = with_means(|means| encrypt("db.yaml", PLAIN, &manner(), means));
    let why = refused.expect_err("a comment").to_string();
    assert!(why.contains("line 8: a comment among the values"), "{why}");
    let plain = PLAIN.replace("  # not here\n", "");
    let text = with_means(|means| encrypt("db.yaml", &plain, &manner(), means)).expect("encrypts");
    for word in ["abc", "two", "0644", "aGVsbG8", "app"] {
        assert!(!text.contains(&format!(" {word}")), "{word}: {text}");
    }
    for line in ["# What the shop needs.", "metadata: {name: db, namespace: shop}", "# The end."] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let file = parse("db.yaml", &text);
    assert!(file.findings.is_empty(), "{:?}\n{text}", file.findings);
    let opened: Vec<Secret> = file
        .objects
        .iter()
        .filter_map(|object| match &object.body {
            Body::Secret(secret) => Some(open(secret, &keyring()).expect("opens")),
            _ => None,
        })
        .collect();
    let key = "-----BEGIN KEY-----\nabc: #def\n\n-----END KEY-----\n";
    let expected = [
        ("user", "app"),
        ("key", key),
        ("folded", "one two"),
        ("quoted", "a\tb: c"),
        ("number", "0644"),
    ];
    assert_eq!(shown(&opened[0]), expected.map(|(key, value)| (key, value.to_owned())).into());
    assert_eq!(shown(&opened[1]), [("a", "hello".to_owned()), ("b", String::new())].into());
    let back = decrypt("db.yaml", &text, &keyring()).expect("opens");
    assert!(!back.contains("sops") && !back.contains("ENC["), "{}", *back);
    assert!(
        back.contains("  key: |\n    -----BEGIN KEY-----\n    abc: #def\n\n    -----END"),
        "{}",
        *back
    );
    let again = with_means(|means| encrypt("db.yaml", &back, &manner(), means));
    assert_eq!(again.as_ref(), Ok(&text), "by the same chance it comes to the same");
}

#[test]
fn json_stays_json() {
    let plain = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Secret\",\n  \"metadata\": {\"name\": \"a\"},\n  \
                 \"stringData\": {\"k\": \"v\\u00e9\\n\", \"n\": \"1\"}\n}\n";
    let text = with_means(|means| encrypt("a.json", plain, &manner(), means)).expect("encrypts");
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    let secret = sealed("a.json", &text).expect("a Secret");
    let opened = open(&secret, &keyring()).expect("opens");
    assert_eq!(shown(&opened), [("k", "v\u{e9}\n".to_owned()), ("n", "1".to_owned())].into());
    let back = decrypt("a.json", &text, &keyring()).expect("opens");
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(value(&back), value(plain));
}

#[test]
fn an_edit_encrypts_anew_only_what_it_changes() {
    let before = SAMPLES[0];
    let plain = decrypt("db.yaml", before, &keyring()).expect("opens");
    let changed = plain.replace("123", "124");
    let after = with_means(|means| reencrypt("db.yaml", before, &changed, &keyring(), means));
    let after = after.expect("encrypts");
    let line = |text: &str, name: &str| {
        text.lines().find(|line| line.trim().starts_with(name)).unwrap_or_default().to_owned()
    };
    assert_eq!(line(&after, "url:"), line(before, "url:"));
    assert_eq!(line(&after, "password:"), line(before, "password:"));
    assert_ne!(line(&after, "pin:"), line(before, "pin:"));
    let secret = sealed("db.yaml", &after).expect("a Secret");
    let opened = open(&secret, &keyring()).expect("opens");
    assert_eq!(shown(&opened)["pin"], "124");
}

#[test]
fn creation_rules_go_by_the_first_that_fits() {
    let text = "creation_rules:\n- path_regex: ^edge/\n  age: a1, b1\n- path_regex: secret\\.ya?ml$\n  \
                key_groups: [{age: [c1]}]\n";
    let rules: CreationRules = text.parse().expect("rules");
    let of = |path: &str| rules.of(path).map(|rule| (rule.line, rule.recipients.join("+")));
    assert_eq!(of("edge/a.yaml"), Some((2, "a1+b1".into())));
    assert_eq!(of("shop/secret.yml"), Some((4, "c1".into())));
    assert_eq!(of("shop/web.yaml"), None);
    let wrong = "creation_rules:\n- path_regex: ((\n".parse::<CreationRules>();
    assert!(wrong.is_err_and(|why| why.starts_with("line 2: path_regex")), "");
}

/// What became of a file that somebody has changed: refused at the door, not opened, or as it was.
fn judge(text: &str, original: &Secret) {
    for object in &parse("shop/db.yaml", text).objects {
        let Body::Secret(secret) = &object.body else { continue };
        if secret.sealed.is_none() {
            continue;
        }
        if let Ok(opened) = open(secret, &keyring()) {
            // What is empty adds nothing to the MAC and may be left out; nothing may be put in.
            for (key, value) in &opened.data {
                assert_eq!(original.data.get(key).map(|v| &**v), Some(&**value), "{key}\n{text}");
            }
        }
    }
}

#[test]
fn a_thousand_changed_files_give_an_error_or_what_was_encrypted() {
    let original =
        open(&sealed("shop/db.yaml", SAMPLES[0]).expect("a Secret"), &keyring()).expect("opens");
    let mut state = 0x5eed_u64;
    let mut next = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default() % below
    };
    let mut taken = 0;
    for _ in 0..1000 {
        let mut bytes = SAMPLES[0].as_bytes().to_vec();
        for _ in 0..=next(3) {
            let (at, other) = (next(bytes.len()), next(bytes.len()));
            match next(5) {
                0 => bytes[at] = u8::try_from(32 + next(95)).unwrap_or(b' '),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[other]),
                3 => bytes.swap(at, other),
                _ => {
                    let end = (at + next(200)).min(bytes.len());
                    let piece: Vec<u8> = bytes[at..end].to_vec();
                    let to = other.min(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        if let Ok(text) = String::from_utf8(bytes) {
            judge(&text, &original);
            taken += 1;
        }
    }
    assert!(taken > 900, "{taken}");
}

#[test]
fn lines_that_change_places_give_an_error_or_what_was_encrypted() {
    let original =
        open(&sealed("shop/db.yaml", SAMPLES[0]).expect("a Secret"), &keyring()).expect("opens");
    let lines: Vec<&str> = SAMPLES[0].lines().collect();
    for one in 0..lines.len() {
        for other in 0..one {
            let mut changed = lines.clone();
            changed.swap(one, other);
            judge(&changed.join("\n"), &original);
        }
    }
}

proptest! {
    #[test]
    fn no_reader_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0..3000_usize) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = age::open(&text, &keyring().identities);
        let _ = cipher::open(&text, &[0; 32], "a:");
        let _ = recipients("a.yaml", &text);
        let _ = text.parse::<CreationRules>();
        let _ = with_means(|means| encrypt("a.yaml", &text, &manner(), means));
        let mut sample = SAMPLES[0].to_owned();
        let at = at.min(sample.len());
        sample.insert_str(at, &text);
        let _ = parse("a.yaml", &sample);
        let _ = decrypt("a.yaml", &sample, &keyring());
    }

    #[test]
    fn what_age_seals_it_opens(plain in prop::collection::vec(any::<u8>(), 0..300), blocks in 0..3_usize) {
        let plain = plain.repeat(blocks * 300 + 1);
        let to = [OTHER, RECIPIENT].map(|text| text.parse().expect("a recipient"));
        let armoured = with_means(|means| age::seal(&plain, &to, means.chance)).expect("seals");
        prop_assert_eq!(age::open(&armoured, &keyring().identities).map(|p| p.to_vec()), Ok(plain));
    }

    #[test]
    fn any_text_comes_back_from_the_file(value in "\\PC{0,40}(\n\\PC{0,20}){0,3}") {
        comes_back(&value);
    }
}

/// A text is sealed, opened, and may be sealed again where it was.
fn comes_back(value: &str) {
    let plain = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  k: {}\n",
        serde_json::json!(value)
    );
    let text = with_means(|means| encrypt("a.yaml", &plain, &manner(), means)).expect("encrypts");
    let secret = sealed("a.yaml", &text).expect("a Secret");
    let opened = open(&secret, &keyring()).expect("opens");
    assert_eq!(shown(&opened)["k"], value);
    let back = decrypt("a.yaml", &text, &keyring()).expect("opens");
    let again = with_means(|means| encrypt("a.yaml", &back, &manner(), means));
    assert!(again.is_ok(), "{again:?} of {value:?}");
}

#[test]
fn white_space_that_yaml_knows_not_is_a_part_of_a_text() {
    comes_back("0\nA\u{2000}");
    comes_back("A\u{a0}");
}
