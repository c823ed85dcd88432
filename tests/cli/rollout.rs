//! Commands that change the desired repository, on checkouts of it: what they print, and the commits
//! they make.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{expect, transcript, windlass};
use crate::support::{must_git, scratch};

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

fn web(image: &str, replicas: u32) -> String {
    format!(
        "# The shop's front.\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  replicas: {replicas} # three for the weekend\n  selector: {{matchLabels: {{app: web}}}}\n  \
         template:\n    metadata:\n      labels: {{app: web}}\n    spec:\n      containers:\n        \
         - name: web\n          image: web:{image} # pinned\n"
    )
}

/// A repository, and a clone of it that pushes there.
struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        let shop = Self { dir: scratch("wdl-undo-") };
        must_git(shop.dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        must_git(shop.dir.path(), &["init", "-q", "-b", "main", "work"]);
        shop.git(&["remote", "add", "origin", "../origin.git"]);
        shop.commit("The shop", &[("shop/ns.yaml", NAMESPACE), ("shop/web.yaml", &web("one", 2))]);
        shop
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn git(&self, args: &[&str]) -> String {
        must_git(&self.work(), args)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.work().join(path)).expect("is there")
    }

    fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            self.write(path, text);
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs a line as Bo does, in the checkout.
    fn run(&self, line: &str) -> (String, bool) {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command: Command = windlass(&args);
        command.current_dir(self.work()).env("HOME", self.dir.path());
        for (name, value) in [
            ("WINDLASS_NAMESPACE", "shop"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Bo"),
            ("GIT_AUTHOR_EMAIL", "bo@example.org"),
            ("GIT_COMMITTER_NAME", "Bo"),
            ("GIT_COMMITTER_EMAIL", "bo@example.org"),
        ] {
            command.env(name, value);
        }
        let output = command.output().expect("runs");
        let text = transcript(line, &output);
        (text.replace(&self.dir.path().display().to_string(), "DIR"), output.status.success())
    }

    /// The same, which must succeed.
    #[track_caller]
    fn done(&self, line: &str) -> String {
        let (text, done) = self.run(line);
        assert!(done, "{text}");
        text
    }

    fn last(&self) -> String {
        self.git(&["log", "-1", "--format=%an: %s"])
    }
}

#[test]
fn a_line_changes_by_a_commit_of_whoever_asked() {
    let shop = Shop::new();
    let first = shop.git(&["rev-parse", "HEAD"]);
    let text = shop.done("scale deploy/web --replicas 5");
    assert!(
        text.contains("\n-  replicas: 2 # three for the weekend\n+  replicas: 5 # three"),
        "{text}"
    );
    assert!(text.contains("! --commit makes this change: Scale Deployment shop/web from 2 to 5"));
    assert_eq!((shop.git(&["rev-parse", "HEAD"]), shop.git(&["status", "-s"])), (first, "".into()));

    // What else was being worked on stays as it is.
    shop.write("shop/notes.md", "draft");
    shop.git(&["add", "-A"]);
    shop.done("scale deploy web --replicas=5 --current-replicas=2 --commit");
    assert_eq!(shop.last(), "Bo: Scale Deployment shop/web from 2 to 5");
    assert_eq!(shop.read("shop/web.yaml"), web("one", 5));
    assert_eq!(shop.git(&["status", "-s"]), "A  shop/notes.md");
    shop.git(&["rm", "-q", "-f", "shop/notes.md"]);

    let text = shop.done("rollout pause deploy/web --commit --push");
    let head = shop.git(&["rev-parse", "HEAD"]);
    assert!(text.contains(&format!("commit {}: Pause Deployment shop/web", &head[..7])), "{text}");
    assert_eq!(must_git(&shop.dir.path().join("origin.git"), &["rev-parse", "main"]), head);
    let paused = shop.read("shop/web.yaml");
    assert!(paused.contains("spec:\n  paused: true\n  replicas: 5"), "{paused}");
    let refused = [
        ("rollout pause deploy/web --commit", "deployments.apps \"web\" is already paused"),
        ("rollout restart deploy/web --commit", "can't restart paused deployment"),
        ("scale deploy/web --replicas 3 --current-replicas 4", "Expected replicas to be 4, was 5"),
    ];
    for (line, why) in refused {
        let (text, done) = shop.run(line);
        assert!(!done && text.contains(why), "{text}");
    }
    shop.done("rollout resume deploy/web --commit");
    assert_eq!(shop.read("shop/web.yaml"), web("one", 5), "as it was before the pause");
    shop.done("rollout restart deploy/web --commit");
    let text = shop.read("shop/web.yaml");
    let annotation = "      annotations:\n        kubectl.kubernetes.io/restartedAt: \"2";
    assert!(text.contains(annotation), "{text}");
    let (text, _) = shop.run("scale deploy/web --replicas 5");
    assert!(text.contains("! Deployment shop/web says so already (shop/web.yaml)"), "{text}");
}

#[test]
fn an_undo_is_a_revert_where_that_does_just_it() {
    let shop = Shop::new();
    let first = shop.git(&["rev-parse", "HEAD"]);
    let second = shop.commit("web: two", &[("shop/web.yaml", &web("two", 2))]);
    shop.commit(
        "api",
        &[(
            "shop/api.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: api, namespace: shop}\n",
        )],
    );
    shop.commit("web: more", &[("shop/web.yaml", &web("two", 4))]);
    let line = format!("rollout undo deploy/web --to-commit {first}");
    let text = shop.done(&line);
    assert!(
        text.contains(&format!("\ngit revert --no-edit {}  # web: two\n", &second[..7])),
        "{text}"
    );
    assert_eq!(shop.last(), "Ada: web: more", "nothing is done yet");
    shop.done(&format!("{line} --commit --push"));
    assert_eq!(shop.last(), "Bo: Revert \"web: two\"");
    assert_eq!(shop.read("shop/web.yaml"), web("one", 4), "only the template goes back");
    let origin = shop.dir.path().join("origin.git");
    assert_eq!(must_git(&origin, &["rev-parse", "main"]), shop.git(&["rev-parse", "HEAD"]));
    let text = shop.done(&line);
    assert!(text.contains("skipped rollback (current template already matches)"), "{text}");

    // A merged branch goes back as a whole, and two commits one by one.
    shop.git(&["switch", "-q", "-c", "next"]);
    shop.commit("web: three", &[("shop/web.yaml", &web("three", 4))]);
    shop.git(&["switch", "-q", "main"]);
    shop.git(&["merge", "-q", "--no-ff", "-m", "Merge next", "next"]);
    shop.commit("web: four", &[("shop/web.yaml", &web("four", 4))]);
    let text = shop.done(&line);
    assert!(text.contains("  # web: four\ngit revert --no-edit -m 1 "), "{text}");
    shop.done(&format!("{line} --commit"));
    assert_eq!(shop.read("shop/web.yaml"), web("one", 4));
    assert_eq!(shop.last(), "Bo: Revert \"Merge next\"");
}

#[test]
fn an_undo_is_an_edit_where_a_revert_takes_other_things_along() {
    let shop = Shop::new();
    let first = shop.git(&["rev-parse", "HEAD"]);
    let api = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: api, namespace: shop}\n";
    shop.commit("all: two", &[("shop/web.yaml", &web("two", 2)), ("shop/api.yaml", api)]);
    let line = format!("rollout undo deploy/web --to-commit {first}");
    let text = shop.done(&line);
    assert!(
        text.contains("would also change shop/api.yaml: the template's lines are put back"),
        "{text}"
    );
    assert!(
        text.contains("\n-          image: web:two # pinned\n+          image: web:one # pinned\n"),
        "{text}"
    );
    shop.done(&format!("{line} --commit"));
    assert_eq!(
        (shop.read("shop/web.yaml"), shop.read("shop/api.yaml")),
        (web("one", 2), api.into())
    );
    assert!(
        shop.last().starts_with("Bo: Undo Deployment shop/web: back to the template of commit ")
    );

    // The same commit also scaled: what was scaled stays.
    shop.commit("web: three of three", &[("shop/web.yaml", &web("three", 3))]);
    let text = shop.done(&format!("{line} --commit"));
    assert!(text.contains("would change more than the template"), "{text}");
    assert_eq!(shop.read("shop/web.yaml"), web("one", 3));
}

#[test]
fn what_can_not_be_changed_is_said() {
    let shop = Shop::new();
    let mut text = String::new();
    let mut say = |shop: &Shop, line: &str| {
        let (said, done) = shop.run(line);
        assert!(!done, "{said}");
        text.push_str(&said);
        text.push('\n');
    };
    say(&shop, "scale deploy/web --replicas 5 --repo /");
    say(&shop, "scale svc/web --replicas 5");
    say(&shop, "scale deploy/web --replicas 5 --push");
    say(&shop, "rollout undo deploy/web --to-commit 0123456789abcdef");
    shop.write("shop/web.yaml", &web("two", 2));
    say(&shop, "scale deploy/web --replicas 5 --commit");
    let shared = web("two", 2)
        .replace("replicas: 2", "replicas: &n 2")
        .replace("  template:", "  minReadySeconds: *n\n  template:");
    shop.commit("an anchor", &[("shop/web.yaml", &shared)]);
    say(&shop, "scale deploy/web --replicas 5 --commit");
    shop.commit("twice", &[("shop/web.yaml", &web("two", 2)), ("test/web.yaml", &web("two", 2))]);
    say(&shop, "scale deploy/web --replicas 5");
    shop.git(&["switch", "-q", "--detach"]);
    say(&shop, "scale deploy/web --replicas 5 --commit --repo shop");
    assert_eq!(shop.git(&["status", "-s"]), "");
    // Which commit it is changes with the day it was made on.
    shop.commit(
        "gone",
        &[("shop/web.yaml", NAMESPACE), ("shop/ns.yaml", ""), ("test/web.yaml", "")],
    );
    let head = shop.git(&["rev-parse", "--short=7", "HEAD"]);
    say(&shop, "scale deploy/web --replicas 5");
    expect("unchanged", &text.replace(&head, "HEAD"));
}
