//! `windlass secret` beside the real `age` and `age-keygen`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::host::may_run;
use crate::support::scratch;

fn run(dir: &Path, program: &str, args: &[&str], input: &str) -> Vec<u8> {
    let mut command = Command::new(program);
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
