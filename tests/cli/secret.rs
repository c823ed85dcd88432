//! `windlass secret` beside the real `age`, `age-keygen` and `sops`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::host::may_run;
use crate::support::{scratch, sops};

fn run(dir: &Path, program: &str, args: &[&str], input: &str) -> Vec<u8> {
    let mut command = Command::new(program);
    // SOPS otherwise asks its makers whether it is the newest.
    command.env("SOPS_DISABLE_VERSION_CHECK", "1");
    command.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env_remove("SOPS_AGE_KEY").env_remove("VISUAL").env("SOPS_AGE_KEY_FILE", "key.txt");
    let mut child = command.env("EDITOR", "sed -i s/hunter2/hunter3/").spawn().expect("it runs");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("takes it");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} {args:?}");
    output.stdout
}

fn windlass(dir: &Path, args: &[&str]) -> String {
    let said = run(dir, env!("CARGO_BIN_EXE_windlass"), args, "");
    String::from_utf8(said).expect("text")
}

#[test]
fn age_opens_what_is_encrypted_here_and_its_keys_open_here() {
    if !may_run(&["age", "age-keygen"]) {
        return;
    }
    let home = scratch("wsecret-");
    let dir = home.path();
    // Our key by their tool, their key by ours.
    let ours = windlass(dir, &["secret", "keys", "generate", "key.txt"]);
    assert_eq!(run(dir, "age-keygen", &["-y", "key.txt"], ""), ours.as_bytes());
    run(dir, "age-keygen", &["-o", "theirs.txt"], "");
    let theirs =
        String::from_utf8(run(dir, "age-keygen", &["-y", "theirs.txt"], "")).expect("text");
    let (ours, theirs) = (ours.trim(), theirs.trim());

    let plain = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  k: hunter2\n";
    fs::write(dir.join("a.yaml"), plain).expect("written");
    let rules = format!("creation_rules:\n- path_regex: a\\.yaml$\n  age: {ours},{theirs}\n");
    fs::write(dir.join(".sops.yaml"), rules).expect("written");
    windlass(dir, &["secret", "encrypt", "a.yaml"]);
    let text = fs::read_to_string(dir.join("a.yaml")).expect("the file");
    assert!(!text.contains("hunter2"), "{text}");
    let file: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    let mut keys = Vec::new();
    for (at, own) in ["key.txt", "theirs.txt"].iter().enumerate() {
        let locked = file["sops"]["age"][at]["enc"].as_str().expect("the file's key");
        keys.push(run(dir, "age", &["-d", "-i", own], locked));
    }
    assert_eq!((keys[0].len(), &keys[0]), (32, &keys[1]), "one key for both");

    let shown = windlass(dir, &["secret", "decrypt", "--key", "theirs.txt", "a.yaml"]);
    assert_eq!(shown.replace("\"hunter2\"", "hunter2"), plain);
    windlass(dir, &["secret", "edit", "a.yaml"]);
    let shown = windlass(dir, &["secret", "decrypt", "a.yaml"]);
    assert!(shown.contains("hunter3"), "{shown}");
    // Whoever is no longer named opens it no more.
    windlass(dir, &["secret", "rotate", "--to", ours, "a.yaml"]);
    let output = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["secret", "decrypt", "--key", "theirs.txt", "a.yaml"])
        .current_dir(dir)
        .output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(ours), "{said}");
}

/// Every form that a value of a Secret may be written in.
const YAML: &str = r#"# Kept by the shop.
apiVersion: v1
kind: Secret
metadata: {name: a, labels: {app: shop}}
type: Opaque
stringData:
  plain: hunter2
  quoted: "a: b # c"
  looks-like-a-number: "0123"
  looks-true: "true"
  empty: ""
  umlaut: "Käse \u2603"
  lines: |
    one
      two
  last-line: "no end"
data:
  binary: AAECAwQ=
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: b}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Secret
metadata: {name: c}
stringData:
  other: hunter2
"#;

const JSON: &str = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
"stringData": {"plain": "hunter2", "number": "1.50", "lines": "one\ntwo\n", "umlaut": "K\u00e4se"}}"#;

/// The documents of a file, whatever their form.
fn documents(text: &str) -> Vec<serde_json::Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let read = documents.map(<serde_json::Value as serde::Deserialize>::deserialize);
    read.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

#[test]
fn sops_reads_what_is_encrypted_here_and_what_it_encrypts_is_read_here() {
    let Some(sops_at) = sops("sops_reads_what_is_encrypted_here_and_what_it_encrypts_is_read_here")
    else {
        return;
    };
    let home = scratch("wsops-");
    let dir = home.path();
    let sops = |args: &[&str]| {
        let said = run(dir, sops_at.to_str().expect("a path"), args, "");
        String::from_utf8(said).expect("text")
    };
    let ours = windlass(dir, &["secret", "keys", "generate", "key.txt"]);
    let ours = ours.trim();
    let other = windlass(dir, &["secret", "keys", "generate", "other.txt"]);
    let rules = |more: &str| {
        let rules = format!(
            "creation_rules:\n- path_regex: file\n  encrypted_regex: ^(data|stringData)$\n{more}  age: {ours}\n"
        );
        fs::write(dir.join(".sops.yaml"), rules).expect("written");
    };
    for (name, plain, rule) in [
        ("file.yaml", YAML, ""),
        ("file.json", JSON, ""),
        ("file.yaml", YAML, "  mac_only_encrypted: true\n"),
    ] {
        rules(rule);
        let path = dir.join(name);
        let wanted = documents(plain);
        let begin = || fs::write(&path, plain).expect("written");
        let locked = || {
            let text = fs::read_to_string(&path).expect("the file");
            assert!(text.contains("sops") && !text.contains("hunter"), "{text}");
        };
        let ours_is = |wanted: &[serde_json::Value]| {
            locked();
            assert_eq!(documents(&windlass(dir, &["secret", "decrypt", name])), wanted, "{name}");
        };
        let theirs_is = |wanted: &[serde_json::Value]| {
            locked();
            let shown = sops(&["decrypt", "--output-type", "yaml", name]);
            assert_eq!(documents(&shown), wanted, "{name}");
        };
        let edited = documents(&plain.replace("hunter2", "hunter3"));

        begin();
        windlass(dir, &["secret", "encrypt", name]);
        theirs_is(&wanted);
        windlass(dir, &["secret", "edit", name]);
        theirs_is(&edited);
        windlass(dir, &["secret", "rotate", name]);
        theirs_is(&edited);

        begin();
        sops(&["encrypt", "-i", name]);
        ours_is(&wanted);
        sops(&["edit", name]);
        ours_is(&edited);
        sops(&["rotate", "-i", "--add-age", other.trim(), name]);
        ours_is(&edited);
        let shown = windlass(dir, &["secret", "decrypt", "--key", "other.txt", name]);
        assert_eq!(documents(&shown), edited);
        // Each edits what the other has written.
        windlass(dir, &["secret", "rotate", "--to", ours, name]);
        theirs_is(&edited);

        // What was altered is found out by both, where that is asked for.
        let text = fs::read_to_string(&path).expect("the file");
        let altered = text.replacen("Secret", "Sacred", 1);
        fs::write(&path, altered).expect("written");
        let opens = |program: &Path, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).arg(name).current_dir(dir).env("SOPS_AGE_KEY_FILE", "key.txt");
            let output = command.output().expect("it runs");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let ours = Path::new(env!("CARGO_BIN_EXE_windlass"));
        for (program, args) in [(&*sops_at, &["decrypt"][..]), (ours, &["secret", "decrypt"])] {
            let (is_open, said) = opens(program, args);
            assert_eq!(is_open, !rule.is_empty(), "{name}: {said}");
            assert!(is_open || said.contains("MAC"), "{name}: {said}");
        }
    }
}

#[test]
fn what_is_decrypted_is_kept_from_debuggers_and_core_dumps() {
    if !may_run(&["setpriv"]) {
        return;
    }
    let home = scratch("wsecret-");
    let dir = home.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("opened");
    let key = windlass(dir, &["secret", "keys", "generate", "key.txt"]);
    std::os::unix::fs::chown(dir.join("key.txt"), Some(65534), None).expect("given");
    fs::write(dir.join("a.json"), JSON).expect("written");
    windlass(dir, &["secret", "encrypt", "--to", key.trim(), "a.json"]);
    // The kernel gives a process that may be dumped to its user, and one that may not to root (proc(5)).
    let editor = "#!/bin/sh\npid=$$\nwhile [ \"$(cat /proc/$pid/comm)\" != windlass ]; do\n  \
        pid=$(sed -n 's/^PPid:\\t//p' /proc/$pid/status)\ndone\nstat -c %u /proc/$pid/environ /proc/$$/environ >owners\n";
    fs::write(dir.join("editor"), editor).expect("written");
    fs::set_permissions(dir.join("editor"), fs::Permissions::from_mode(0o755)).expect("made");
    // Where the program was built, nobody may look.
    fs::copy(env!("CARGO_BIN_EXE_windlass"), dir.join("windlass")).expect("copied");
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(nobody).arg(dir.join("windlass")).args(["secret", "edit", "a.json"]);
    command.current_dir(dir).env("SOPS_AGE_KEY_FILE", "key.txt").env_remove("VISUAL");
    let output = command.env("EDITOR", dir.join("editor")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let owners = fs::read_to_string(dir.join("owners")).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(owners, "0\n65534\n", "{said}");
}
