//! StatefulSets and DaemonSets on a fleet of three.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::lab::{Fleet, NODES, PODS, SPARE, address_of, name_of, node_of, now, took};
use crate::support::site::{IMAGE, is_ready};

/// A StatefulSet of three behind a headless Service; its pods are ready when this port answers.
fn database(port: u16) -> String {
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: db, namespace: shop}}
spec: {{clusterIP: None, publishNotReadyAddresses: true, selector: {{app: db}}, ports: [{{port: 80}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db, namespace: shop}}
spec:
  replicas: 3
  serviceName: db
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: db
          image: {IMAGE}
          command: [httpd, -f, -p, "80", -h, /tmp]
          readinessProbe: {{tcpSocket: {{port: {port}}}, periodSeconds: 1}}
"#
    )
}

/// A DaemonSet on the nodes that are labelled so.
const AGENTS: &str = r"apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log, namespace: shop}
spec:
  selector: {matchLabels: {app: log}}
  template:
    metadata: {labels: {app: log}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {logged: 'yes'}
      containers: [{name: log, image: IMAGE, command: [httpd, -f, -p, '80', -h, /tmp]}]
";

fn labelled(nodes: &[&str]) -> String {
    let nodes = nodes.iter().map(|node| {
        format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {node}, labels: {{logged: 'yes'}}}}\n")
    });
    nodes.collect()
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// What `windlass` prints on a node.
fn says(fleet: &Fleet, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(args).args(["-n", "shop"]);
    let output = command.env("WINDLASS_SOCKET", fleet.lab.agent_socket(NODES[0])).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The address that a pod is told for a name.
fn look_up(fleet: &Fleet, from: &Value, name: &str) -> String {
    let line = format!("busybox nslookup -type=a {name}.shop.svc.cluster.local");
    let answer = fleet.in_pod(from, &line).unwrap_or_else(|error| error);
    let address = answer.lines().rev().find_map(|line| line.strip_prefix("Address: "));
    address.unwrap_or(&answer).to_owned()
}

#[test]
fn a_stateful_set_comes_in_order_is_found_by_name_and_heals_when_a_mistake_is_reverted() {
    let Some(fleet) = Fleet::settled() else { return };
    let began = now();
    fleet.push("A database", &[("extra-db.yaml", &database(80))]);
    let pods = fleet.wait_settled(PODS + 3);
    took("StatefulSet of three, ready one after the other", now().since(began));
    let (first, last) = (&pods["db-0"], &pods["db-2"]);
    for (one, next) in [("db-0", "db-1"), ("db-1", "db-2")] {
        let conditions = pods[one]["status"]["conditions"].as_array().expect("conditions");
        let ready = conditions.iter().find(|its| its["type"] == "Ready").expect("ready");
        let (ready, made) =
            (&ready["lastTransitionTime"], &pods[next]["metadata"]["creationTimestamp"]);
        assert!(
            made.as_str() >= ready.as_str(),
            "{next} was made at {made}, {one} ready at {ready}"
        );
    }
    assert_eq!(fleet.in_pod(first, "hostname").as_deref(), Ok("db-0"));
    assert_eq!(look_up(&fleet, last, "db-0.db"), address_of(first), "a peer, by its name");

    let began = now();
    fleet.push("A mistake", &[("extra-db.yaml", &database(9))]);
    let broken = fleet.wait("the last pod is renewed", || {
        let pod = fleet.pods(NODES[0]).remove("db-2")?;
        let runs = pod["status"]["phase"] == "Running" && !address_of(&pod).is_empty();
        (uid(&pod) != uid(last) && runs).then_some(pod)
    });
    assert!(!is_ready(&broken));
    fleet.wait("a name before it is ready", || {
        (look_up(&fleet, first, "db-2.db") == address_of(&broken)).then_some(())
    });
    let why = says(&fleet, &["why", "sts/db"]);
    assert!(why.contains("2 of 3 pods are ready"), "{why}");

    fleet.push("Reverted", &[("extra-db.yaml", &database(80))]);
    let after = fleet.wait_settled(PODS + 3);
    took("a mistake in a StatefulSet and its revert", now().since(began));
    for name in ["db-0", "db-1"] {
        assert_eq!(uid(&after[name]), uid(&pods[name]), "{name} was well and is left alone");
    }
    assert_ne!(uid(&after["db-2"]), uid(&broken));
    let revision = |pod: &Value| pod["metadata"]["labels"]["controller-revision-hash"].clone();
    assert_eq!(revision(&after["db-2"]), revision(last), "the revision it left");
    let status = says(&fleet, &["rollout", "status", "sts/db"]);
    assert_eq!(status, "partitioned roll out complete: 3 new pods have been updated...\n");
    let table = says(&fleet, &["get", "sts"]);
    assert!(table.lines().nth(1).is_some_and(|row| row.starts_with("db     3/3 ")), "{table}");
    let history = says(&fleet, &["rollout", "history", "sts/db"]);
    assert_eq!(history.lines().filter(|line| line.contains("commit")).count(), 2, "{history}");
}

/// The nodes on which the DaemonSet's pods are, all ready.
fn logged(fleet: &Fleet) -> BTreeMap<String, Value> {
    let pods = fleet.pods(NODES[0]).into_values();
    let own = pods.filter(|pod| name_of(pod).starts_with("log-") && is_ready(pod));
    own.map(|pod| (node_of(&pod).to_owned(), pod)).collect()
}

#[test]
fn a_daemon_set_follows_labels_and_nodes_and_needs_no_remote() {
    let Some(fleet) = Fleet::settled() else { return };
    let agents = AGENTS.replace("IMAGE", IMAGE);
    let push = |nodes: &[&str]| {
        let manifests = format!("{agents}{}", labelled(nodes));
        fleet.push(&nodes.join(", "), &[("extra-log.yaml", &manifests)]);
    };
    let awaited = |nodes: &[&str]| {
        fleet.wait(&format!("a pod on {nodes:?}"), || {
            let pods = logged(&fleet);
            let is_there = pods.keys().map(String::as_str).collect::<BTreeSet<_>>();
            (is_there == nodes.iter().copied().collect()).then_some(())
        });
    };
    push(&["n1", "n2"]);
    awaited(&["n1", "n2"]);
    let began = now();
    push(&["n2", "n3"]);
    awaited(&["n2", "n3"]);
    took("labels of two nodes changed, pods followed", now().since(began));

    push(&["n2", SPARE]);
    let began = now();
    fleet.lab.start_node(SPARE, &mut |_| ()).expect("the machine starts");
    fleet.lab.load_image(SPARE, &fleet.image()).expect("an image");
    awaited(&["n2", SPARE]);
    took("a node joins, its pod is ready", now().since(began));
    let status = says(&fleet, &["rollout", "status", "ds/log"]);
    assert_eq!(status, "daemon set \"log\" successfully rolled out\n");

    // Without the remote a node makes its pods anew by itself.
    fleet.lab.stop_server().expect("stopped");
    fleet.wait("n2 says so", || {
        let faults = fleet.status("n2")["faults"].as_array().cloned().unwrap_or_default();
        faults.iter().any(|fault| fault["part"] == "state store").then_some(())
    });
    let docker = format!("unix://{}", fleet.lab.host("n2").socket().display());
    let on_node = |args: &[&str]| {
        let output = Command::new("docker").args(["-H", &docker]).args(args).output();
        String::from_utf8_lossy(&output.expect("docker runs").stdout).trim().to_owned()
    };
    let containers = || on_node(&["ps", "-q", "--filter", "name=log-"]);
    let before: BTreeSet<String> = containers().lines().map(str::to_owned).collect();
    assert!(!before.is_empty(), "{}", on_node(&["ps", "--format", "{{.Names}}"]));
    let began = now();
    on_node(&["rm", "-f", &on_node(&["ps", "-q", "--filter", "name=wdl_POD_log-"])]);
    fleet.wait("n2 makes its pod anew", || {
        let now: BTreeSet<String> = containers().lines().map(str::to_owned).collect();
        (now.len() == before.len() && now.is_disjoint(&before)).then_some(())
    });
    took("a pod removed while the remote is gone, made anew", now().since(began));
    fleet.lab.start_server(&mut |_| ()).expect("started");

    fleet.lab.host(SPARE).destroy().expect("ended");
    fleet.wait("the machine that has gone is missed", || {
        (fleet.status(NODES[0])["nodes"]["ready"] == 3).then_some(())
    });
    says(&fleet, &["delete", "node", SPARE, "--wait=false"]);
    fleet.wait("it is forgotten", || (fleet.status(NODES[0])["nodes"]["total"] == 3).then_some(()));
}
