//! `windlass hook`: pushes to a bare repository by Git itself.

use std::path::Path;

use super::windlass;
use crate::support::keys::Keys;
use crate::support::{git, must_git, scratch};

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\n";
const BAD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndta: {a: b}\n";

struct Shop {
    dir: tempfile::TempDir,
    keys: Keys,
}

impl Shop {
    fn new() -> Self {
        let dir = scratch("wdl-hook-");
        must_git(dir.path(), &["init", "-q", "--bare", "-b", "main", "desired.git"]);
        must_git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let keys = Keys::make(dir.path(), &["ada", "eve"]);
        Self { dir, keys }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn install(&self, args: &[&str]) -> (String, bool) {
        let output =
            windlass(&["hook", "install"]).arg(self.path("desired.git")).args(args).output();
        let output = output.expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// Commits these files, signed with this key or none, and pushes; what Git says.
    fn push(&self, key: Option<&str>, files: &[(&str, &str)]) -> (String, bool) {
        let work = self.path("work");
        for (path, text) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("made");
            std::fs::write(path, text).expect("written");
        }
        self.keys.sign_with(&work, key);
        must_git(&work, &["add", "-A"]);
        must_git(&work, &["commit", "-q", "--allow-empty", "-m", "a change"]);
        let output = git(&work, &["push", "-q", "../desired.git", "HEAD:main"]);
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
    }

    /// Takes back the last commit.
    fn back(&self) {
        must_git(&self.path("work"), &["reset", "-q", "--hard", "HEAD~1"]);
    }
}

#[test]
fn a_push_that_agents_would_refuse_is_refused() {
    let shop = Shop::new();
    let (said, is_well) = shop.install(&[]);
    assert!(is_well && said.contains("judges pushes to main"), "{said}");
    let (said, is_well) = shop.push(None, &[("a.yaml", GOOD)]);
    assert!(is_well, "{said}");
    let (said, is_well) = shop.push(None, &[("a.yaml", BAD)]);
    assert!(
        !is_well && said.contains("a.yaml:4:1: error: ConfigMap default/a: unknown field"),
        "{said}"
    );
    shop.back();

    // Other branches are nobody's business.
    let work = shop.path("work");
    std::fs::write(work.join("b.yaml"), BAD).expect("written");
    must_git(&work, &["add", "-A"]);
    must_git(&work, &["commit", "-q", "-m", "try"]);
    must_git(&work, &["push", "-q", "../desired.git", "HEAD:try"]);
    shop.back();

    // With a trust.yaml signatures count, from the commit on that brings it.
    let (trust, pin) = shop.keys.trust(&["ada"]);
    let (said, is_well) = shop.push(None, &[("trust.yaml", &trust)]);
    assert!(!is_well && said.contains("it is not signed"), "{said}");
    shop.back();
    let (said, is_well) = shop.push(Some("ada"), &[("trust.yaml", &trust)]);
    assert!(is_well && said.contains("is signed by ada@example.org"), "{said}");
    let (said, is_well) = shop.push(Some("eve"), &[("a.yaml", BAD)]);
    assert!(!is_well && said.contains(&shop.keys.fingerprint("eve")), "{said}");
    assert!(!said.contains("a.yaml"), "nothing of it is read: {said}");
    shop.back();
    std::fs::remove_file(work.join("trust.yaml")).expect("removed");
    let (said, is_well) = shop.push(None, &[]);
    assert!(!is_well && said.contains("has no trust.yaml any more"), "{said}");
    shop.back();

    // By the agents' pin; another one is refused.
    let (_, other) = shop.keys.trust(&["eve"]);
    assert!(shop.install(&["--trust", &other]).1, "ours is replaced");
    let (said, is_well) = shop.push(Some("ada"), &[]);
    assert!(!is_well && said.contains("trust.yaml is the pinned one"), "{said}");
    shop.back();
    assert!(shop.install(&["--trust", &pin]).1);
    let (said, is_well) = shop.push(Some("ada"), &[]);
    assert!(is_well, "{said}");
}

/// With `signed: tag` the tag comes with the branch, or before it.
#[test]
fn a_push_without_the_tag_that_it_needs_is_refused() {
    let shop = Shop::new();
    assert!(shop.install(&[]).1);
    let (trust, _) = shop.keys.trust(&["ada"]);
    let trust = format!("signed: tag\ntags: v*\n{trust}");
    let work = shop.path("work");
    let (said, is_well) = shop.push(None, &[("trust.yaml", &trust)]);
    assert!(!is_well && said.contains("bears no tag v* that is signed"), "{said}");
    shop.keys.sign_with(&work, Some("ada"));
    must_git(&work, &["tag", "-s", "-m", "x", "v1"]);
    let both = ["push", "-q", "../desired.git", "HEAD:main", "v1"];
    let output = git(&work, &both);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("is signed by ada@example.org"), "{said}");
    // Signed commits are no tags.
    let (said, is_well) = shop.push(Some("ada"), &[("a.yaml", GOOD)]);
    assert!(!is_well && said.contains("bears no tag v*"), "{said}");
    // Who commits need not be the one who tags.
    let validate = || {
        let output = windlass(&["validate"]).arg(&work).output().expect("runs");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(validate().contains("bears no tag v* that is signed"), "{}", validate());
    must_git(&work, &["tag", "-s", "-m", "x", "v2"]);
    must_git(&work, &["push", "-q", "../desired.git", "v2"]);
    must_git(&work, &["push", "-q", "../desired.git", "HEAD:main"]);
    // What is checked before the push is said in the same words.
    assert!(validate().contains("is signed by ada@example.org"), "{}", validate());
}

#[test]
fn a_hook_of_somebody_else_stays() {
    let shop = Shop::new();
    let hook = shop.path("desired.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("a parent")).expect("made");
    std::fs::write(&hook, "#!/bin/sh\nexit 0\n").expect("written");
    let (said, is_well) = shop.install(&[]);
    assert!(!is_well && said.contains("is there already") && said.contains("--force"), "{said}");
    assert!(shop.install(&["--force", "--directory", "it's here/"]).1);
    let text = std::fs::read_to_string(&hook).expect("is there");
    assert!(text.contains(r"'--directory' 'it'\''s here/'"), "{text}");
    let (said, is_well) = shop.push(None, &[("it's here/a.yaml", BAD), ("b.yaml", BAD)]);
    assert!(!is_well && said.contains("a.yaml:4:1: error:") && !said.contains("b.yaml"), "{said}");

    let output = windlass(&["hook", "install"]).arg(shop.path("work")).output().expect("runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no bare repository"));
    let (said, is_well) = shop.install(&["--trust", "abc"]);
    assert!(!is_well && said.contains("is no fingerprint"), "{said}");
}

/// A role for whoever may change ConfigMaps of `shop`, and who that is; ada may do everything.
const RIGHTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: config, namespace: shop}
rules:
- {apiGroups: [\"\"], resources: [configmaps], verbs: [create, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: config, namespace: shop}
subjects: [{kind: Group, name: devs, apiGroup: rbac.authorization.k8s.io}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: config}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: admins}
subjects: [{kind: User, name: ada@example.org, apiGroup: rbac.authorization.k8s.io}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
";

#[test]
fn a_push_of_who_may_not_is_refused() {
    let shop = Shop::new();
    assert!(shop.install(&[]).1);
    assert!(shop.push(None, &[("b.yaml", GOOD)]).1);
    let (trust, _) = shop.keys.trust(&["ada", "eve"]);
    let trust = format!("{trust}authorize: roles\ngroups: {{devs: [eve@example.org]}}\n");
    // Nobody would be left who may say who may what.
    let (said, is_well) = shop.push(Some("ada"), &[("trust.yaml", &trust)]);
    assert!(!is_well && said.contains("leaves nobody who may change trust.yaml"), "{said}");
    shop.back();
    let (said, is_well) =
        shop.push(Some("ada"), &[("trust.yaml", &trust), ("rights.yaml", RIGHTS)]);
    assert!(is_well, "{said}");

    let config = GOOD.replace("{name: a}", "{name: a, namespace: shop}");
    let (said, is_well) = shop.push(Some("eve"), &[("shop/a.yaml", &config)]);
    assert!(is_well, "{said}");
    let (said, is_well) = shop.push(Some("eve"), &[("shop/b.yaml", GOOD)]);
    assert!(
        !is_well
            && said.contains("makes 1 change that eve@example.org may not make")
            && said.contains(
                "shop/b.yaml:1:1: error: eve@example.org may not create configmaps \"a\""
            ),
        "{said}"
    );
    shop.back();
    // Nor by a role of her own, beside it or before it.
    let grab = RIGHTS.replace("devs", "system:authenticated").replace("create, update", "'*'");
    let (said, is_well) = shop.push(Some("eve"), &[("rights.yaml", &grab)]);
    assert!(!is_well && said.contains("may not update roles.rbac.authorization.k8s.io"), "{said}");
    shop.back();

    // The same, asked before the push.
    let ask = |args: &[&str]| {
        let output = windlass(args).current_dir(shop.path("work")).output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.code())
    };
    let eve = ["--as", "eve@example.org"];
    let can_i = |words: &[&str]| ask(&[&["auth", "can-i"], words, &eve[..]].concat());
    assert_eq!(can_i(&["update", "cm/a", "-n", "shop"]), ("yes\n".into(), Some(0)));
    assert_eq!(can_i(&["delete", "cm/a", "-n", "shop"]), ("no\n".into(), Some(1)));
    assert_eq!(can_i(&["update", "cm"]), ("no\n".into(), Some(1)));
    assert_eq!(can_i(&["update", "trust.windlass.dev"]), ("no\n".into(), Some(1)));
    let (said, _) = can_i(&["--list", "-n", "shop"]);
    assert!(said.contains("configmaps   []      [create,update]"), "{said}");
    std::fs::write(shop.path("work/shop/a.yaml"), "").expect("written");
    let (said, code) = ask(&[&["validate"], &eve[..]].concat());
    assert!(
        code == Some(1) && said.contains("eve@example.org may not delete configmaps"),
        "{said}"
    );
    let (said, code) = ask(&["validate", "--as", "ada@example.org"]);
    assert!(code == Some(0), "{said}");
    let (said, _) = ask(&["validate", "--as", "bob"]);
    assert!(said.contains("has no key of bob"), "{said}");
}
