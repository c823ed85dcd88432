//! What a person sees: the built program, run as a person runs it, its answers held against files.
//! `UPDATE=1` writes them anew; read the difference.

mod fake;
mod hook;
mod host_remote;
mod init;
mod lab;
mod rollout;
mod secret;
mod talk;
mod validate;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use windlass::sim::World;

use crate::support::fleet;
use fake::Fake;

/// The built program with nothing of this machine's settings.
pub(crate) fn windlass(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(args).env_remove("WINDLASS_SOCKET").env_remove("WINDLASS_NAMESPACE");
    command.stdin(Stdio::null());
    command
}

/// The program, with an agent to ask.
pub(crate) fn asking(fake: &Fake, line: &str) -> Command {
    let args: Vec<&str> = line.split_whitespace().collect();
    let mut command = windlass(&args);
    command.env("WINDLASS_SOCKET", fake.socket());
    command
}

/// What was typed, what came on standard output, what on standard error (`! `), and the code if it
/// is not 0.
pub(crate) fn transcript(line: &str, output: &Output) -> String {
    let mut text = format!("$ windlass {line}\n{}", String::from_utf8_lossy(&output.stdout));
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let _ = writeln!(text, "! {line}");
    }
    if output.status.code() != Some(0) {
        let _ = writeln!(text, "[{:?}]", output.status.code());
    }
    text
}

/// All that came: on standard output, then on standard error.
pub(crate) fn said(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The same of what failed, and names all of these.
#[track_caller]
pub(crate) fn refused(output: &Output, words: &[&str]) -> String {
    let said = said(output);
    assert!(!output.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in:\n{said}");
    }
    said
}

/// What `init` prints for the other machines: the token.
#[track_caller]
pub(crate) fn token_in(text: &str) -> String {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("windlass join "));
    line.unwrap_or_else(|| panic!("no line for the others in:\n{text}")).to_owned()
}

/// Runs lines one after the other and returns their transcripts.
pub(crate) fn session(fake: &Fake, lines: &[&str]) -> String {
    let transcripts = lines.iter().map(|line| {
        let output = asking(fake, line).output().expect("runs");
        transcript(line, &output)
    });
    let text = transcripts.collect::<Vec<_>>().join("\n");
    text.replace(&fake.dir().display().to_string(), "DIR")
}

/// Holds `text` against `tests/cli/expected/<name>.txt`.
#[track_caller]
pub(crate) fn expect(name: &str, text: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/expected");
    let path = dir.join(format!("{name}.txt"));
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        std::fs::write(&path, text).expect("writes what is expected");
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    let path = path.display();
    assert!(
        want == text,
        "{path} differs; if that is meant, run with UPDATE=1\n--- now ---\n{text}"
    );
}

/// The shop, settled.
fn settled() -> World {
    let mut world = fleet::world();
    fleet::run(&mut world, 100);
    world
}

/// Pushes the shop with one text changed to another.
fn push(world: &mut World, message: &str, (from, to): (&str, &str)) {
    let mut files = fleet::shop();
    let text = files.get_mut("shop/web.yaml").expect("is there");
    *text = text.replace(from, to);
    world.remote.commit(message, files);
}

/// The shop in the middle of a roll-out.
fn rolling() -> World {
    let mut world = settled();
    push(&mut world, "web: staging", ("production", "staging"));
    let is_rolling = |world: &World| {
        let picture = fleet::picture(world);
        let all =
            windlass::view::objects::list(&picture, windlass::kinds::registry::Kind::Deployment);
        let mut web = all.iter().filter(|shown| shown.key.name.as_str() == "web");
        web.next().is_some_and(|web| web.json["status"]["updatedReplicas"] != 3)
    };
    for second in 101..200 {
        fleet::run(&mut world, second);
        if is_rolling(&world) {
            return world;
        }
    }
    panic!("no roll-out began");
}

/// The shop with a new template that waits, and one pod more of the old.
fn paused() -> World {
    let mut world = settled();
    let mut files = fleet::shop();
    let text = files.get_mut("shop/web.yaml").expect("is there");
    let scaled = text.replace("replicas: 3", "paused: true\n  replicas: 4");
    *text = scaled.replace("production", "staging");
    world.remote.commit("web: staging, later", files);
    fleet::run(&mut world, 130);
    world
}

/// The shop while a bad commit waits.
fn refusing() -> World {
    let mut world = settled();
    push(&mut world, "web: a typo", ("replicas: 3", "replicsa: 3"));
    fleet::run(&mut world, 130);
    world
}

/// The shop after a roll-out, long enough for its images to be looked at.
fn stocked() -> World {
    let mut world = settled();
    push(&mut world, "web: two", ("image: run:1", "image: run:2"));
    fleet::run(&mut world, 700);
    world
}

#[test]
fn images_say_for_whom_they_stay() {
    let fake = Fake::start(stocked);
    expect("images", &session(&fake, &["images", "images -o wide", "images -o yaml"]));
}

/// The whole name of the first pod that begins so.
fn pod(fake: &Fake, start: &str) -> String {
    let output = asking(fake, "get pods -n shop -o name").output().expect("runs");
    let names = String::from_utf8(output.stdout).expect("text");
    let mut names = names.lines().filter_map(|line| line.strip_prefix("pod/"));
    names.find(|name| name.starts_with(start)).expect("a pod").to_owned()
}

#[test]
fn objects_in_columns() {
    let fake = Fake::start(settled);
    let text = session(
        &fake,
        &[
            "get pods",
            "get pods -n shop",
            "get po -n shop -o wide",
            "get pods -A --no-headers",
            "get pods -n shop -l app=web --show-labels",
            "get pods -n shop -L app,tier",
            "get pods -n shop --field-selector status.phase=Running",
            "get pods -n shop --sort-by .metadata.name",
            "get pods -n shop --sort-by {.status.startTime}",
            "get pods -n shop --sort-by .spec.nothing",
            "get pods -n shop --field-selector spec.nothing=1",
            "get pod big lacks nobody -n shop",
            "get pod nobody -n shop --ignore-not-found",
            "get deploy,svc -n shop",
            "get deploy/web svc/web -n shop",
            "get all -n shop",
            "get all -A",
            "get nodes -A",
            "get all",
            "get pods -A -l app=nobody",
        ],
    );
    expect("get", &text);
}

#[test]
fn objects_whole() {
    let fake = Fake::start(settled);
    let text = session(
        &fake,
        &[
            "get cm web-settings -n shop -o yaml",
            "get cm web-settings -n shop -o json",
            "get secret web-keys -n shop -o yaml",
            "get secret web-keys -n shop",
            "get deploy,cm,secret -n shop -o name",
            "get ns -o name",
            "get pods -o yaml",
            "get pod nobody -n shop -o json",
        ],
    );
    expect("whole", &text);
}

#[test]
fn pages() {
    let fake = Fake::start(settled);
    let text = session(
        &fake,
        &[
            "status",
            "status --check",
            "sync",
            "diff HEAD~1",
            "diff HEAD~1 -o yaml",
            "diff HEAD~1 --exit-code",
            "diff nothing",
            "history --limit 3",
            "history -o json",
            "why big -n shop",
            "why deploy/web -n shop",
            "why deploy web -n shop -o yaml",
            "why nobody -n shop",
            "describe svc/web -n shop",
            "describe svc -n shop",
            "describe pod bi -n shop",
            "describe pod nobody lacks -n shop",
            "describe pods",
            "events -n shop",
            "events -n shop --for pod/big",
            "events -n shop --types Warning --no-headers",
            "events",
            "rollout history deploy/web -n shop",
            "rollout history deploy web -n shop --revision 1",
            "rollout history deploy/web -n shop --revision 7",
            "rollout status deploy/web -n shop",
            "rollout status rs/web -n shop",
            "version",
            "version --client",
            "version -o json",
        ],
    );
    expect("pages", &text);
    let fake = Fake::start(refusing);
    let text = session(&fake, &["status --check", "status -o yaml"]);
    expect("refused", &text);
}

#[test]
fn what_is_paused_says_so() {
    let fake = Fake::start(paused);
    let lines = [
        "get deploy web -n shop",
        "rollout status deploy/web -n shop --watch=false",
        "why deploy/web -n shop",
        "rollout history deploy/web -n shop",
        "get pdb -n shop",
    ];
    expect("paused", &session(&fake, &lines));
}

#[test]
fn a_rollout_is_followed() {
    let fake = Fake::start(rolling);
    let text = session(
        &fake,
        &[
            "rollout status deploy/web -n shop --watch=false",
            "rollout status deploy/web -n shop --timeout 60s",
            "rollout status deploy/back -n shop --timeout 300ms",
            "rollout status deploy/nobody -n shop",
            "rollout history deploy/web -n shop",
        ],
    );
    assert!(text.contains("2 out of 3 new replicas have been updated"), "{text}");
    assert!(text.contains("1 old replicas are pending termination"), "{text}");
    assert!(text.contains("deployment \"web\" successfully rolled out"), "{text}");
    assert!(text.contains("! error: timed out waiting for the condition"), "{text}");
    assert!(text.contains("! Error from server (NotFound)"), "{text}");
    assert!(text.contains("\n2         commit "), "{text}");
}

/// Starts a program that goes on, and returns its first lines.
fn first_lines(mut command: Command, count: usize) -> Vec<String> {
    let mut child: Child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let stdout = BufReader::new(child.stdout.take().expect("its output"));
    let lines = stdout.lines().map_while(Result::ok).take(count).collect();
    child.kill().expect("can be killed");
    child.wait().expect("ends");
    lines
}

#[test]
fn changes_are_told_as_they_come() {
    let fake = Fake::start(rolling);
    let pods = first_lines(asking(&fake, "get pods -n shop -w -l app=web"), 12);
    assert!(pods[0].starts_with("NAME ") && pods[0].ends_with("AGE"), "{pods:#?}");
    assert!(pods.iter().any(|line| line.contains("Terminating")), "{pods:#?}");
    assert_eq!(pods.iter().filter(|line| line.starts_with("NAME")).count(), 1, "{pods:#?}");
    let name = pod(&fake, "back-");
    let one = first_lines(asking(&fake, &format!("get pod {name} -n shop -w -o name")), 2);
    assert_eq!(one, vec![format!("pod/{name}"); 2]);
    let events = first_lines(asking(&fake, "events -n shop -w --types Warning"), 9);
    assert!(events[0].starts_with("LAST SEEN"), "{events:#?}");
    assert!(events[1..].iter().all(|line| line.contains("Warning")), "{events:#?}");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_fault() {
    let fake = Fake::start(settled);
    for line in
        ["get pods -A", "get pods -A -o yaml", "logs -f deploy/web -n shop", "api-resources"]
    {
        let mut child = asking(&fake, line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        assert!(!said.contains("rror"), "{line}: {said}");
    }
}

#[test]
fn no_secret_is_printed_but_with_the_secret_itself() {
    let fake = Fake::start(settled);
    let secrets = ["hunter2", "aHVudGVyMg", "s3cr3t", "czNjcjN0"];
    let mut lines = vec![
        "status".to_owned(),
        "status -o json".to_owned(),
        "describe secrets -n shop".to_owned(),
        "get secrets -A -o wide --show-labels".to_owned(),
        "get secrets -A -o name".to_owned(),
        "get secrets -n shop --sort-by .metadata.name".to_owned(),
        "events -A".to_owned(),
        "why secret/web-keys -n shop".to_owned(),
        "why deploy/web -n shop -o json".to_owned(),
    ];
    for info in windlass::kinds::registry::KINDS.iter().filter(|info| info.name != "Secret") {
        lines.push(format!("get {} -A -o yaml", info.plural));
    }
    for line in lines {
        let output = asking(&fake, &line).output().expect("runs");
        let text = transcript(&line, &output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        for secret in secrets {
            assert!(!text.contains(secret), "{line} tells {secret}");
        }
    }
    let output = asking(&fake, "get secrets -n shop -o json").output().expect("runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("aHVudGVyMg=="));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let fake = Fake::start(settled);
    let text = session(
        &fake,
        &[
            "get",
            "get gadgets",
            "get deploymnets",
            "get pod pod/web",
            "get pod web -A",
            "get pod web -l app=web",
            "get pods,svc -w",
            "get pods -o table",
            "get pods --nonsense",
            "exec web",
            "port-forward web",
            "port-forward big 80 --address web.example -n shop",
            "port-forward big nothing -n shop",
            "port-forward cm/web-settings 80 -n shop",
            "logs",
            "logs big --since soon -n shop",
            "delete pod",
            "why",
            "frobnicate",
        ],
    );
    for block in text.split("\n\n$ ") {
        assert!(block.trim_end().ends_with("[Some(2)]"), "{block}");
    }
    expect("usage", &text);
}

#[test]
fn an_agent_that_does_not_answer_is_explained() {
    let dir = crate::support::scratch("wdl-cli-");
    let socket = dir.path().join("agent.sock");
    let ask = |args: &[&str]| {
        let output = windlass(args).arg("--socket").arg(&socket).output().expect("runs");
        let line = format!("{} --socket DIR/agent.sock", args.join(" "));
        transcript(&line, &output).replace(&dir.path().display().to_string(), "DIR")
    };
    let mut text = ask(&["get", "pods"]);
    // Somebody was there, and has gone.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("binds"));
    text.push_str(&ask(&["status"]));
    std::fs::remove_file(&socket).expect("goes");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody calls");
        let _ = stream.write_all(b"220 smtp.example.org ESMTP\r\n");
    });
    let said = ask(&["version"]);
    stranger.join().expect("ends");
    assert!(
        said.contains("! error: the connection to the agent on DIR/agent.sock broke"),
        "{said}"
    );
    expect("no-agent", &text);
}

#[test]
fn a_socket_of_somebody_else_is_explained() {
    use std::os::unix::process::CommandExt as _;
    if !crate::support::is_root("a_socket_of_somebody_else_is_explained") {
        return;
    }
    let fake = Fake::start(settled);
    // The program may lie where nobody else may look: a copy of it in an open directory.
    let open = crate::support::scratch("wdl-cli-open-");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(open.path(), mode(0o755)).expect("opens");
    let copy = open.path().join("windlass");
    std::fs::copy(env!("CARGO_BIN_EXE_windlass"), &copy).expect("copies");
    let output = Command::new(&copy)
        .args(["get", "pods", "--socket"])
        .arg(fake.socket())
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .output()
        .expect("runs");
    let text = transcript("get pods", &output).replace(&fake.dir().display().to_string(), "DIR");
    assert!(text.contains("! error: DIR/agent.sock may not be opened by this user"), "{text}");
    assert!(text.contains("! hint: be root (sudo), or a member of the socket's group"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn shells_take_the_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = windlass(&["completion", shell]).output().expect("runs");
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(script.contains("rollout") && script.contains("all-namespaces"), "{shell}");
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash runs");
    let script = windlass(&["completion", "bash"]).output().expect("runs").stdout;
    bash.stdin.take().expect("its input").write_all(&script).expect("takes it");
    assert!(bash.wait().expect("ends").success());
}

#[test]
fn words_for_kinds() {
    let mut text = String::new();
    for line in
        ["api-resources", "api-resources -o wide --namespaced=false", "api-resources -o name"]
    {
        let args: Vec<&str> = line.split(' ').collect();
        text.push_str(&transcript(line, &windlass(&args).output().expect("runs")));
        text.push('\n');
    }
    expect("api-resources", &text);
}
