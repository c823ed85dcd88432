//! What an operator has beside pushes: the program, systemd, Prometheus, registries.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::images::bulky;
use crate::support::must_git;
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::site::{IMAGE, METRICS, NAMESPACE, Site, name, web};

#[test]
fn the_program_shows_and_reaches_what_runs() {
    let Some(site) = Site::start("we2e-cli-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    let pods = site.wait_ready("app=web", 2);
    let pod = pods[0].as_str();
    let table: [(&[&str], &str); 11] = [
        (&["get", "pods", "-n", "shop"], pod),
        (&["get", "all", "-A"], "deployment.apps/web"),
        (&["get", "deploy", "web", "-n", "shop", "-o", "yaml"], "kind: Deployment"),
        (&["describe", "pod", pod, "-n", "shop"], "Successfully assigned"),
        (&["exec", pod, "-n", "shop", "--", "cat", "/tmp/www/index.html"], "one"),
        (&["logs", pod, "-n", "shop"], ""),
        (&["events", "-n", "shop"], "ScalingReplicaSet"),
        (&["status"], "2 of 2 ready"),
        (&["why", pod, "-n", "shop"], "the scheduler chose n1"),
        (&["rollout", "status", "deploy/web", "-n", "shop"], "successfully rolled out"),
        (&["history"], "in force: web"),
    ];
    for (args, word) in table {
        let (said, is_well) = site.windlass(args);
        assert!(is_well && said.contains(word), "windlass {args:?}: {said}");
    }
    site.git(&["checkout", "-q", "-b", "next"]);
    std::fs::write(site.host.dir().join("work/web.yaml"), web("one", 5, 30080)).expect("written");
    site.git(&["commit", "-qam", "five"]);
    site.git(&["push", "-q", "origin", "next"]);
    let (said, is_well) = site.windlass(&["diff", "next"]);
    assert!(is_well && said.contains("spec.replicas: 2 -> 5"), "{said}");
    let (said, is_well) = site.windlass(&["diff", "nowhere"]);
    assert!(!is_well && said.contains("no branch"), "{said}");

    let (said, is_well) = site.windlass(&["delete", "pod", pod, "-n", "shop"]);
    assert!(is_well, "{said}");
    site.wait("another pod in its place", |site| {
        let now = site.wait_ready("app=web", 2);
        (!now.iter().any(|name| name == pod)).then_some(())
    });
    let metrics = site.fetch_from(METRICS, "/metrics").expect("metrics are answered");
    assert!(metrics.contains("kube_deployment_spec_replicas"), "{metrics}");
    assert!(metrics.contains("windlass_applied_commit_info"), "{metrics}");
    let refused = site.fetch_from(METRICS, "/api/v1/secrets").expect_err("nothing else is");
    assert!(refused.contains("404"), "{refused}");
}

#[test]
fn systemd_is_told_that_the_agent_is_ready_and_alive() {
    let Some(mut site) = Site::without_agent("we2e-notify-") else { return };
    let socket = UnixDatagram::bind(site.notify_socket()).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    site.start_agent();
    let mut said = String::new();
    while !["READY=1", "WATCHDOG=1", "STATUS="].iter().all(|word| said.contains(word)) {
        let mut word = [0; 4096];
        let count = socket.recv(&mut word).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        said.push_str(&String::from_utf8_lossy(&word[..count]));
        said.push('\n');
    }
}

fn pod(name: &str, image: &str, policy: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
{more}
  containers:
    - {{name: main, image: '{image}', imagePullPolicy: {policy}, command: [sleep, '1000000']}}
"
    )
}

/// Why a pod's container waits, and in which words.
fn waiting(site: &Site, pod: &str) -> Option<(String, String)> {
    let pods = site.pods("");
    let found = pods.iter().find(|one| name(one) == pod)?;
    let waiting = &found["status"]["containerStatuses"][0]["state"]["waiting"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    waiting.is_object().then(|| (text(&waiting["reason"]), text(&waiting["message"])))
}

#[test]
fn images_come_from_registries_and_what_fails_says_why() {
    let Some(site) = Site::start("we2e-pull-") else { return };
    let Some(open) = Registry::start(&site.host, 5011, false) else { return };
    let Some(locked) = Registry::start(&site.host, 5012, true) else { return };
    open.push(IMAGE, "app", "1");
    locked.push(IMAGE, "app", "1");
    let auth = format!("{USER}:{PASSWORD}");
    let auth = base64::engine::general_purpose::STANDARD.encode(auth);
    let config = json!({"auths": {locked.address.as_str(): {"auth": auth}}}).to_string();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: door, namespace: shop}}\n\
         type: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '{config}'\n"
    );
    let (from_open, from_locked) =
        (format!("{}/app:1", open.address), format!("{}/app:1", locked.address));
    let missing = format!("{}/app:none", open.address);
    let key = "  imagePullSecrets: [{name: door}]";
    site.push(
        "pods",
        &[
            ("namespace.yaml", Some(NAMESPACE)),
            ("secret.yaml", Some(&secret)),
            ("open.yaml", Some(&pod("open", &from_open, "Always", ""))),
            ("locked.yaml", Some(&pod("locked", &from_locked, "Always", key))),
            ("stranger.yaml", Some(&pod("stranger", &from_locked, "Always", ""))),
            ("missing.yaml", Some(&pod("missing", &missing, "IfNotPresent", ""))),
            ("never.yaml", Some(&pod("never", &missing, "Never", ""))),
        ],
    );
    site.wait_ready("app=open", 1);
    site.wait_ready("app=locked", 1);
    let backs_off = |pod: &'static str| {
        site.wait(&format!("{pod} backs off"), |site| {
            waiting(site, pod).filter(|(reason, _)| reason == "ImagePullBackOff")
        })
    };
    let (_, why) = backs_off("missing");
    assert!(why.contains("not found") || why.contains("unknown"), "{why}");
    let (_, why) = backs_off("stranger");
    assert!(why.contains("no basic auth") || why.contains("authentication"), "{why}");
    let (reason, _) = site.wait("never is refused", |site| waiting(site, "never"));
    assert_eq!(reason, "ErrImageNeverPull");
}

#[test]
fn a_long_pull_says_how_far_it_is_and_writes_nothing() {
    let Some(site) = Site::start("we2e-slow-") else { return };
    let Some(registry) = Registry::start(&site.host, 5011, false) else { return };
    const BULKY: &str = "registry.example.com/test/bulky:1";
    site.host.load(&bulky(BULKY, 3_000_000));
    registry.push(BULKY, "bulky", "1");
    site.host.plain().delete(&format!("/images/{BULKY}")).expect("answers").expect(200);
    let image = format!("{}/bulky:1", registry.narrow_way(5012, 500_000));
    site.push(
        "a long pull",
        &[
            ("namespace.yaml", Some(NAMESPACE)),
            ("slow.yaml", Some(&pod("slow", &image, "IfNotPresent", ""))),
        ],
    );
    let far = |site: &Site| {
        let (reason, message) = waiting(site, "slow")?;
        let far = message.strip_prefix(&format!("pulling image {image}: "))?;
        (reason == "ContainerCreating" && far.contains(" MB, ")).then(|| far.to_owned())
    };
    site.wait("some of the image", far);
    // That the pod has begun is said within two seconds (`REPORT_INTERVAL`).
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let first = far(&site).expect("it is still being pulled");
    let store = site.data_dir().join("state.git");
    let report = || must_git(&store, &["rev-parse", "refs/windlass/nodes/n1"]);
    let before = report();
    let shown: [(&[&str], &str); 5] = [
        (&["get", "pods", "-n", "shop", "-o", "wide"], "ContainerCreating ("),
        (&["describe", "pod", "slow", "-n", "shop"], "pulling image"),
        (&["why", "slow", "-n", "shop"], "pulling image"),
        (&["why", "slow", "-n", "shop"], "0 of 1 layers"),
        (&["status"], "pulling image"),
    ];
    for (args, what) in shown {
        let (said, is_well) = site.windlass(args);
        assert!(is_well && said.contains(what), "{args:?}: {said}");
    }
    let next = site.wait("more of it", |site| far(site).filter(|next| *next != first));
    assert_eq!(report(), before, "from {first} to {next}, nothing was written");
    site.wait_ready("app=slow", 1);
    let (said, _) = site.windlass(&["get", "pods", "-n", "shop"]);
    assert!(!said.contains("ContainerCreating") && !said.contains('%'), "{said}");
}

#[test]
fn a_node_is_cordoned_drained_and_used_again() {
    let Some(site) = Site::start("we2e-drain-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web", &[("web.yaml", Some(&web("one", 1, 30080)))]);
    let before = site.wait_ready("app=web", 1);
    let run = |args: &[&str], word: &str, expected: bool| {
        let (said, is_well) = site.windlass(args);
        assert!(is_well == expected && said.contains(word), "windlass {args:?}: {said}");
        said
    };
    let said = run(&["cordon", "n1"], "node/n1 cordoned", true);
    assert!(said.contains("\"unschedulable\":true"), "how to say so in Git: {said}");
    run(&["cordon", "n1"], "node/n1 already cordoned", true);
    run(&["get", "nodes"], "Ready,SchedulingDisabled", true);
    run(&["describe", "node", "n1"], "node.kubernetes.io/unschedulable:NoSchedule", true);
    run(&["describe", "node", "n1"], "Cordoned:           by root since ", true);
    assert_eq!(site.wait_ready("app=web", 1), before, "what is there stays");

    run(&["fence", "n1", "--yes"], "is heard of", false);
    run(&["delete", "node", "n1"], "is heard of", false);
    run(&["drain", "nobody"], "nodes \"nobody\" not found", false);
    let said = run(&["drain", "n1", "--timeout", "60s"], "node/n1 drained", true);
    assert!(said.contains(&format!("pod/{} evicted", before[0])), "{said}");
    let pods = site.pods("app=web");
    let [pod] = pods.as_slice() else { panic!("one pod, {pods:?}") };
    assert_eq!(pod["status"]["phase"], "Pending");
    run(&["why", &name(pod), "-n", "shop"], "unschedulable", true);
    run(&["uncordon", "n1"], "node/n1 uncordoned", true);
    site.wait_ready("app=web", 1);
    run(&["uncordon", "n1"], "node/n1 already uncordoned", true);

    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {unschedulable: true}\n";
    let commit = site.push("n1 is kept empty", &[("node.yaml", Some(node))]);
    site.wait_in_force(&commit);
    run(&["uncordon", "n1"], "node.yaml:1", false);
    run(&["get", "nodes"], "SchedulingDisabled", true);
}
