//! Encrypted Secrets: opened on the node that has a key and runs a pod which needs them, and nowhere
//! else. On the fleet of [`super::fleet`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use serde_json::Value;

use crate::support::host::run;
use crate::support::lab::Fleet;
use crate::support::sops;

/// Values that stand nowhere but where this test puts them.
const FIRST: &str = "correct-horse-battery-91";
const SECOND: &str = "incorrect-donkey-staple-17";

/// The program, on files of its own.
fn windlass(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(args).current_dir(dir).envs(env.iter().copied()).env_remove("VISUAL");
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn pod(name: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  nodeSelector: \
         {{kubernetes.io/hostname: {node}}}\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: app\n    \
         image: {image}\n    command: [sleep, '3600']\n    env:\n    - name: PASSWORD\n      valueFrom: \
         {{secretKeyRef: {{name: vault, key: password}}}}\n    volumeMounts: [{{name: v, mountPath: /vault}}]\n  \
         volumes: [{{name: v, secret: {{secretName: vault}}}}]\n---\n",
        image = crate::support::site::IMAGE
    )
}

fn secret(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: vault, namespace: shop}}\nstringData:\n  password: {value}\n"
    )
}

/// Every file below a directory but Docker's own, which hold the variables of containers, and those of
/// pods in `run`, which is memory.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_dockers = ["data", "exec", "run"].iter().any(|name| path.ends_with(name));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !is_dockers => files(&path, out),
            Ok(kind) if kind.is_file() => out.push(path),
            _ => {}
        }
    }
}

/// Where a text stands in what was written: files, and the objects of repositories among them.
fn traces(dir: &Path, text: &str) -> Vec<String> {
    let mut all = Vec::new();
    files(dir, &mut all);
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut found = Vec::new();
    let mut repositories = 0;
    for path in &all {
        if fs::read(path).is_ok_and(|bytes| holds(&bytes)) {
            found.push(path.display().to_string());
        }
        if path.file_name().is_some_and(|name| name == "HEAD")
            && path.with_file_name("objects").is_dir()
        {
            let repository = path.parent().expect("a directory");
            let mut git = Command::new("git");
            git.arg("-C").arg(repository).args(["cat-file", "--batch", "--batch-all-objects"]);
            let objects = git.output().expect("git runs").stdout;
            repositories += usize::from(!objects.is_empty());
            if holds(&objects) {
                found.push(format!("objects of {}", repository.display()));
            }
        }
    }
    assert!(repositories > 0, "no repository below {}", dir.display());
    found
}

#[test]
fn a_secret_is_opened_where_its_key_is_and_nowhere_else() {
    let Some(fleet) = Fleet::settled() else { return };
    let Some(sops) = sops("a_secret_is_opened_where_its_key_is_and_nowhere_else") else { return };
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path();
    let (key, file) = (dir.join("age.txt"), dir.join("vault.yaml"));
    let key_text = key.to_str().expect("text");
    let recipient =
        windlass(dir, &["secret", "keys", "generate", "age.txt"], &[]).trim().to_owned();
    fs::write(&file, secret(FIRST)).expect("written");
    windlass(dir, &["secret", "encrypt", "--to", &recipient, "vault.yaml"], &[]);
    let encrypted = || fs::read_to_string(&file).expect("the file");
    fleet.configure("n1", &[("secrets.keys", key_text)]);
    let pods = format!("{}{}", pod("opens", "n1"), pod("waits", "n2"));
    fleet.push("A Secret", &[("extra-vault.yaml", &encrypted()), ("extra-pods.yaml", &pods)]);

    let opens = fleet.wait("the pod with the key runs", || {
        fleet.pods("n1").remove("opens").filter(|pod| pod["status"]["phase"] == "Running")
    });
    let look = "echo $PASSWORD; cat /vault/password; grep ' /vault ' /proc/mounts";
    let seen = fleet.in_pod(&opens, look).expect("looks");
    assert!(
        seen.starts_with(&format!("{FIRST}\n{FIRST}")) && seen.contains(" /vault tmpfs "),
        "in memory: {seen}"
    );
    let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let events = |node: &str| fleet.get(node, "/api/v1/namespaces/shop/events").to_string();
    fleet.wait("the other says why it waits", || {
        let pod = fleet.pods("n1").remove("waits")?;
        let said = fleet.windlass("n2", &["why", "waits", "-n", "shop"]);
        (said.contains("can't be decrypted here") && waiting(&pod)["reason"].is_string())
            .then_some(())
    });
    assert!(events("n2").contains("FailedMount"), "{}", events("n2"));

    // Who may see values sees them where they can be opened.
    let base64 = base64::engine::general_purpose::STANDARD.encode(FIRST);
    let get = |node: &str| fleet.get(node, "/api/v1/namespaces/shop/secrets/vault");
    assert_eq!(get("n1")["data"]["password"], base64.as_str());
    assert_eq!(get("n2")["data"]["password"], "");
    let why = get("n2")["metadata"]["annotations"]["windlass.dev/sealed"].to_string();
    assert!(why.contains(&recipient), "{why}");
    let keys = fleet.windlass("n1", &["secret", "keys", dir.to_str().expect("text")]);
    assert!(keys.contains(&format!("{recipient}  n1")), "{keys}");

    // An edit reaches the file in the pod; a difference is told without values.
    let editor = format!("sed -i s/{FIRST}/{SECOND}/");
    let env = [("EDITOR", editor.as_str()), ("SOPS_AGE_KEY_FILE", key_text)];
    windlass(dir, &["secret", "edit", "vault.yaml"], &env);
    let commit = fleet.push("Another value", &[("extra-vault.yaml", &encrypted())]);
    let read = |pod: &Value| fleet.in_pod(pod, "cat /vault/password").unwrap_or_default();
    fleet.wait("the new value in the pod", || (read(&opens) == SECOND).then_some(()));
    let diff = fleet.windlass("n1", &["diff", &format!("{commit}~1")]);
    assert!(diff.contains("data[password]") && diff.contains("(secret)"), "{diff}");

    // A file that somebody has tampered with gives nothing.
    let tampered = encrypted()
        .replace("name: vault", "name:  vault")
        .replace("namespace: shop}", "namespace: shop, labels: {a: b}}");
    fleet.push("Tampered", &[("extra-vault.yaml", &tampered)]);
    fleet
        .wait("the broken MAC is told", || events("n1").contains("MAC does not fit").then_some(()));
    assert_eq!(read(&opens), SECOND, "what was there stays");

    // A new key, and the file for it, by the real SOPS: the agent finds both.
    fs::remove_file(&key).expect("removed");
    let next = windlass(dir, &["secret", "keys", "generate", "age.txt"], &[]).trim().to_owned();
    fs::write(&file, secret(FIRST)).expect("written");
    let mut sops = Command::new(&sops);
    sops.args(["encrypt", "--age", &next, "--encrypted-regex", "^(data|stringData)$", "-i"]);
    run(sops.arg(&file));
    fleet.push("Another key", &[("extra-vault.yaml", &encrypted())]);
    fleet.wait("the value under the new key", || (read(&opens) == FIRST).then_some(()));

    // Nothing of it was written down: not by agents, not into the store, not into what they answer.
    for value in [FIRST, SECOND, &base64] {
        for node in ["n1", "n2"] {
            let found = traces(fleet.lab.host(node).dir(), value);
            assert!(found.is_empty(), "{value} on {node}: {found:?}");
            for path in [
                "/api/v1/namespaces/shop/secrets",
                "/api/v1/namespaces/shop/pods",
                "/api/v1/namespaces/shop/events",
                "/windlass/v1/status",
            ] {
                assert!(!fleet.get(node, path).to_string().contains(value), "{value}: {path}");
            }
            let said = [["describe", "secret", "vault"], ["describe", "pod", "opens"]];
            for args in said {
                let args = [&args[..], &["-n", "shop"]].concat();
                assert!(!fleet.windlass(node, &args).contains(value), "{value}: {args:?}");
            }
        }
        for repository in [fleet.state(), fleet.desired()] {
            assert!(traces(&repository, value).is_empty(), "{value}");
        }
    }

    // What is meant to be encrypted and isn't comes into no node.
    let rules = format!("creation_rules:\n- path_regex: ^extra-vault\n  age: {next}\n");
    let plain = secret("known-to-everybody");
    let bad = fleet.push("Plain", &[(".sops.yaml", &rules), ("extra-vault.yaml", &plain)]);
    fleet.wait("it is refused", || {
        let said = fleet.said("n1");
        (said.contains("stands here in plain text") && said.contains(&bad[..7])).then_some(())
    });
    assert_eq!(read(&opens), FIRST);
    fleet.push("No rules", &[(".sops.yaml", "")]);
}
