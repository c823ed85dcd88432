//! Commits that `git commit -S` signed, brought by the adapter and judged.

use windlass::adapters::git::Source;
use windlass::desired::trust::{Distrust, TRUST_FILE, Vouched, parse_fingerprint, vouch};
use windlass::kinds::binding::Oid;
use windlass::ports::source::{Answer, Call, Lineage};

use super::source::{Shelf, fetch};
use crate::support::keys::Keys;
use crate::support::must_git;

async fn lineage(source: &Source, commit: &Oid, pin: &str, known: &[&Oid]) -> Lineage {
    let call = Call::Lineage {
        commit: commit.clone(),
        file: TRUST_FILE.to_owned(),
        pin: parse_fingerprint(pin).expect("a fingerprint"),
        root: None,
        known: known.iter().map(|id| (*id).clone()).collect(),
    };
    match source.perform(call).await.expect("a lineage") {
        Answer::Lineage(lineage) => *lineage,
        other => panic!("lineage: {other:?}"),
    }
}

pub(super) async fn ask(
    source: &Source,
    commit: &Oid,
    pin: &str,
) -> Result<Vouched, (Oid, Distrust)> {
    let lineage = lineage(source, commit, pin, &[]).await;
    let pin = parse_fingerprint(pin).expect("a fingerprint");
    vouch(&lineage, &pin).map_err(|refusal| (refusal.culprit.id.clone(), refusal.why))
}

#[tokio::test]
async fn commits_signed_by_git_are_judged() {
    let shelf = Shelf::new();
    let names = ["ada", "rsa-bob", "ecdsa-cyd", "eve"];
    let keys = Keys::make(shelf.dir.path(), &names);
    let work = shelf.work();
    let before = shelf.push("before there was trust");
    let (trust, pin) = keys.trust(&names[..3]);
    shelf.write(TRUST_FILE, &trust);
    keys.sign_with(&work, Some("ada"));
    let root = shelf.push("trust");
    let mut good = vec![("ada", root.clone())];
    for name in &names[..3] {
        keys.sign_with(&work, Some(name));
        shelf.write("web.yaml", name);
        good.push((name, shelf.push(name)));
    }
    let source = Source::open(shelf.config()).expect("opens");
    fetch(&source).await.expect("fetched");
    for (name, commit) in &good {
        let vouched = ask(&source, commit, &pin).await.expect(name);
        assert_eq!(vouched.root, root);
        assert_eq!(&*vouched.signer.name, format!("{name}@example.org"));
        assert_eq!(vouched.signer.key, keys.fingerprint(name));
    }
    assert_eq!(ask(&source, &before, &pin).await, Err((before, Distrust::NoRoot)));

    // Only what is new is brought, and what it stands on at once.
    let (_, tip) = good.last().expect("some");
    let known = &good[good.len() - 2].1;
    let part = lineage(&source, tip, &pin, &[known]).await;
    assert_eq!((part.commits.len(), part.edge.len(), part.is_whole), (1, 1, false));
    assert!(part.edge[0].follows);
    let rewound = lineage(&source, known, &pin, &[tip]).await;
    assert_eq!(rewound.commits.len(), 1, "also what is known to stand under something good");

    // A merge of a branch that an outsider signed, and one of a branch from before there was trust.
    shelf.git(&["checkout", "-q", "-b", "side", tip.as_str()]);
    keys.sign_with(&work, Some("eve"));
    shelf.write("eve.yaml", "x");
    let eve = shelf.push("eve");
    keys.sign_with(&work, Some("ada"));
    shelf.git(&["checkout", "-q", "-b", "again", tip.as_str()]);
    shelf.git(&["merge", "-q", "--no-ff", "-m", "takes in", "side"]);
    let merge = shelf.push("on it");
    fetch(&source).await.expect("fetched");
    let unknown = Distrust::Unknown(keys.fingerprint("eve"));
    assert_eq!(ask(&source, &merge, &pin).await, Err((eve, unknown)));

    // A signature for something else than Git: ssh-keygen signs files as well.
    shelf.git(&["checkout", "-q", "-b", "other", tip.as_str()]);
    keys.sign_with(&work, None);
    let plain = shelf.push("plain");
    fetch(&source).await.expect("fetched");
    assert_eq!(ask(&source, &plain, &pin).await, Err((plain.clone(), Distrust::Unsigned)));
    let forged = forge(&shelf, &keys, &plain);
    fetch(&source).await.expect("fetched");
    assert_eq!(
        ask(&source, &forged, &pin).await,
        Err((forged, Distrust::Namespace("file".into())))
    );
}

/// The commit with a signature of its content that was made for the namespace `file`.
fn forge(shelf: &Shelf, keys: &Keys, commit: &Oid) -> Oid {
    use std::io::Write as _;
    let raw = shelf.git(&["cat-file", "commit", commit.as_str()]) + "\n";
    let file = shelf.dir.path().join("payload");
    std::fs::write(&file, &raw).expect("written");
    let key = shelf.dir.path().join("keys/ada");
    let args = ["-q", "-Y", "sign", "-n", "file", "-f", key.to_str().expect("a path")];
    crate::support::must_run(
        "ssh-keygen",
        &[&args[..], &[file.to_str().expect("a path")]].concat(),
    );
    let seal = std::fs::read_to_string(file.with_extension("sig")).expect("signed");
    let (head, body) = raw.split_once("\n\n").expect("a commit");
    let seal = seal.trim_end().replace('\n', "\n ");
    let forged = format!("{head}\ngpgsig {seal}\n\n{body}");
    let mut git = std::process::Command::new("git")
        .current_dir(shelf.work())
        .args(["hash-object", "-t", "commit", "-w", "--stdin"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("git runs");
    git.stdin.take().expect("a pipe").write_all(forged.as_bytes()).expect("written");
    let said = git.wait_with_output().expect("git ends").stdout;
    let id = String::from_utf8_lossy(&said).trim().to_owned();
    let _ = keys;
    shelf.git(&["push", "-q", "--force", "origin", &format!("{id}:main")]);
    Oid::new(&id)
}

#[tokio::test]
async fn a_directory_has_a_trust_of_its_own() {
    let shelf = Shelf::new();
    let keys = Keys::make(shelf.dir.path(), &["ada"]);
    let (trust, pin) = keys.trust(&["ada"]);
    shelf.write("shop/trust.yaml", &trust);
    keys.sign_with(&shelf.work(), Some("ada"));
    let tip = shelf.push("trust");
    let config =
        windlass::adapters::git::SourceConfig { directory: "shop".into(), ..shelf.config() };
    let source = Source::open(config).expect("opens");
    fetch(&source).await.expect("fetched");
    assert!(ask(&source, &tip, &pin).await.is_ok());
}

/// Who could choose beside which parent a merge is held would choose the one that lets him.
#[tokio::test]
async fn what_was_taken_away_does_not_come_back_by_a_merge() {
    let shelf = Shelf::new();
    let keys = Keys::make(shelf.dir.path(), &["ada", "eve"]);
    let work = shelf.work();
    let (trust, _) = keys.trust(&["ada", "eve"]);
    let trust = format!("{trust}authorize: roles\n");
    let pin = windlass::desired::trust::fingerprint(trust.as_bytes());
    let bound = |name: &str, who: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: \
             {name}}}\nsubjects: [{{kind: User, name: {who}@example.org, apiGroup: \
             rbac.authorization.k8s.io}}]\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: \
             ClusterRole, name: cluster-admin}}\n"
        )
    };
    shelf.write(TRUST_FILE, &trust);
    shelf.write("ada.yaml", &bound("ada", "ada"));
    shelf.write("eve.yaml", &bound("eve", "eve"));
    keys.sign_with(&work, Some("ada"));
    shelf.push("both may everything");
    must_git(&work, &["branch", "-q", "side"]);
    std::fs::remove_file(work.join("eve.yaml")).expect("removed");
    let revoked = shelf.push("eve may nothing any more");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    // She goes on where she still may, and merges what took that away, keeping her side of it.
    keys.sign_with(&work, Some("eve"));
    must_git(&work, &["checkout", "-q", "side"]);
    std::fs::write(work.join("web.yaml"), config).expect("written");
    must_git(&work, &["add", "-A"]);
    must_git(&work, &["commit", "-q", "-m", "eve's own"]);
    let own = Oid::new(&must_git(&work, &["rev-parse", "HEAD"]));
    must_git(&work, &["merge", "-q", "-s", "ours", "-m", "merge", revoked.as_str()]);
    must_git(&work, &["push", "-q", "origin", "HEAD:main"]);
    let merge = Oid::new(&must_git(&work, &["rev-parse", "HEAD"]));
    let source = Source::open(shelf.config()).expect("opens");
    fetch(&source).await.expect("fetched");
    assert!(ask(&source, &own, &pin).await.is_ok(), "there she might");
    let Err((culprit, Distrust::Oversteps { signer, findings })) = ask(&source, &merge, &pin).await
    else {
        panic!("it is taken");
    };
    assert_eq!((culprit, signer.as_str()), (merge, "eve@example.org"));
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|said| said.contains("may not create clusterrolebindings")),
        "{said:?}"
    );
    assert!(said.iter().any(|said| said.contains("web.yaml:1:1")), "{said:?}");
}

/// Whichever file of a chart is changed, it is what the chart becomes that its author must be allowed.
#[tokio::test]
async fn who_changes_a_chart_is_judged_by_what_it_becomes() {
    let shelf = Shelf::new();
    let keys = Keys::make(shelf.dir.path(), &["ada", "eve"]);
    let rules = "{apiGroups: [''], resources: [configmaps], verbs: [create, update]}";
    let pin = roles(&shelf, &keys, rules);
    let all = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {text: {{ .Values.text }}}\n\
               ---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: {{ \
               include \"port\" . }}}]}\n";
    shelf.write("app/Chart.yaml", "{apiVersion: v2, name: app, version: 1.0.0}");
    shelf.write("app/values.yaml", "text: one");
    shelf.write("app/templates/_port.tpl", "{{ define \"port\" }}80{{ end }}");
    shelf.write("app/templates/all.yaml", all);
    keys.sign_with(&shelf.work(), Some("ada"));
    shelf.push("a chart");
    keys.sign_with(&shelf.work(), Some("eve"));
    shelf.write("app/values.yaml", "text: two");
    let text = shelf.push("another text");
    let source = Source::open(shelf.config()).expect("opens");
    fetch(&source).await.expect("fetched");
    assert!(ask(&source, &text, &pin).await.is_ok(), "a ConfigMap she may");

    for (path, content, words) in [
        (
            "app/templates/_port.tpl",
            "{{ define \"port\" }}81{{ end }}",
            "eve@example.org may not update services \"a\" in namespace default",
        ),
        (
            "Chart/Chart.yaml",
            "{apiVersion: v2, name: app, version: 1.0.0}",
            "may not create ignores.windlass.dev \"Chart/Chart.yaml\"",
        ),
    ] {
        shelf.write(path, content);
        let tip = shelf.push("more than she may");
        fetch(&source).await.expect("fetched");
        let Err((culprit, Distrust::Oversteps { findings, .. })) = ask(&source, &tip, &pin).await
        else {
            panic!("{path} is taken");
        };
        assert_eq!(culprit, tip);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains(words)), "{path}: {said:?}");
        shelf.git(&["reset", "-q", "--hard", text.as_str()]);
    }
}

/// Ada may everything, eve what these rules say. Returns the fingerprint of the policy.
fn roles(shelf: &Shelf, keys: &Keys, rules: &str) -> String {
    let (trust, _) = keys.trust(&["ada", "eve"]);
    let trust = format!("{trust}authorize: roles\n");
    let group = "rbac.authorization.k8s.io";
    let bound = |who: &str, role: &str| {
        format!(
            "apiVersion: {group}/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {who}}}\nsubjects: \
             [{{kind: User, name: {who}@example.org, apiGroup: {group}}}]\nroleRef: {{apiGroup: \
             {group}, kind: ClusterRole, name: {role}}}\n"
        )
    };
    let role = format!(
        "apiVersion: {group}/v1\nkind: ClusterRole\nmetadata: {{name: team}}\nrules: [{rules}]\n"
    );
    shelf.write(TRUST_FILE, &trust);
    shelf.write(
        "roles.yaml",
        &[bound("ada", "cluster-admin"), bound("eve", "team"), role].join("---\n"),
    );
    windlass::desired::trust::fingerprint(trust.as_bytes())
}

/// A repository with such roles, in which eve is about to commit; and the fingerprint of its policy.
fn with_roles(rules: &str) -> (Shelf, Keys, String) {
    let shelf = Shelf::new();
    let keys = Keys::make(shelf.dir.path(), &["ada", "eve"]);
    let pin = roles(&shelf, &keys, rules);
    keys.sign_with(&shelf.work(), Some("ada"));
    shelf.push("roles");
    keys.sign_with(&shelf.work(), Some("eve"));
    (shelf, keys, pin)
}

/// What a refusal says of a commit; nothing if it is taken.
async fn overstepped(source: &Source, tip: &Oid, pin: &str) -> String {
    fetch(source).await.expect("fetched");
    match ask(source, tip, pin).await {
        Err((_, Distrust::Oversteps { findings, .. })) => {
            findings.iter().map(|finding| format!("{finding}\n")).collect()
        }
        Err((_, other)) => panic!("{other:?}"),
        Ok(_) => String::new(),
    }
}

/// A team that may make directories charts, and ConfigMaps, and nothing else.
const TEAM: &str = "{apiGroups: [''], resources: [configmaps], verbs: ['*']}, {apiGroups: \
                    [windlass.dev], resources: [ignores], verbs: ['*']}";
const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";

#[tokio::test]
async fn what_lay_hidden_in_a_chart_is_judged_when_it_is_none_any_more() {
    let (shelf, keys, pin) = with_roles(TEAM);
    shelf.write("web/Chart.yaml", "{apiVersion: v2, name: web, version: 1.0.0}");
    shelf.write("web/evil.yaml", SERVICE);
    let made = shelf.push("a chart, with something beside its templates");
    let source = Source::open(shelf.config()).expect("opens");
    assert_eq!(overstepped(&source, &made, &pin).await, "");
    shelf.git(&["rm", "-q", "web/Chart.yaml"]);
    let unmade = shelf.push("no chart any more");
    let said = overstepped(&source, &unmade, &pin).await;
    assert!(
        said.contains("web/evil.yaml:1:1: error: eve@example.org may not create services"),
        "{said}"
    );

    // And the other way round: what becomes a chart is not there any more.
    shelf.git(&["reset", "-q", "--hard", "HEAD~2"]);
    keys.sign_with(&shelf.work(), Some("ada"));
    shelf.write("web/a.yaml", SERVICE);
    shelf.push("a Service");
    keys.sign_with(&shelf.work(), Some("eve"));
    shelf.write("web/Chart.yaml", "{apiVersion: v2, name: web, version: 1.0.0}");
    let hidden = shelf.push("a chart above it");
    let said = overstepped(&source, &hidden, &pin).await;
    assert!(said.contains("eve@example.org may not delete services"), "{said}");
}

/// Git itself writes two modes for files. Others are read like these, and so are judged like these.
#[tokio::test]
async fn a_file_with_an_odd_mode_is_judged_like_any_other() {
    let (shelf, _keys, pin) = with_roles(TEAM);
    shelf.write("evil.yaml", SERVICE);
    let blob = shelf.git(&["hash-object", "-w", "evil.yaml"]);
    let source = Source::open(shelf.config()).expect("opens");
    for mode in ["100664", "100600"] {
        let others = shelf.git(&["ls-tree", "HEAD"]);
        let listed = format!("{others}\n{mode} blob {blob}\tevil.yaml\n");
        let mut mktree = std::process::Command::new("git")
            .args(["mktree"])
            .current_dir(shelf.work())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("git runs");
        use std::io::Write as _;
        mktree.stdin.take().expect("a pipe").write_all(listed.as_bytes()).expect("written");
        let tree = mktree.wait_with_output().expect("git ends").stdout;
        let tree = String::from_utf8_lossy(&tree).trim().to_owned();
        assert!(shelf.git(&["cat-file", "tree", &tree]).contains(mode), "Git mended the mode");
        let tip = shelf.git(&["commit-tree", "-S", "-p", "HEAD", "-m", "odd", &tree]);
        shelf.git(&["push", "-q", "--force", "origin", &format!("{tip}:main")]);
        let said = overstepped(&source, &Oid::new(&tip), &pin).await;
        assert!(said.contains("eve@example.org may not create services"), "{mode}: {said}");
    }
}
