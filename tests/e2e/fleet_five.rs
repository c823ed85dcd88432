//! A fleet of five nodes on two links with a router between, whose coordinator folds what all say: what
//! large fleets do, packets through the tunnel, and pods with names of their own when nodes fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::fleet::{FAILOVER_SPARE, fetch};
use crate::support::lab::{
    EVICT_AFTER, Fleet, LEASE, PODS, address_of, name_of, node_of, now, shop, took,
};
use crate::support::must_git;
use crate::support::site::{IMAGE, is_ready};

/// What a link of the lab takes, less what VXLAN needs.
const POD_MTU: &str = "1450";

/// A StatefulSet of two, one to a node.
fn database() -> String {
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: db, namespace: shop}}
spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 80}}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db, namespace: shop}}
spec:
  replicas: 2
  serviceName: db
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - {{topologyKey: kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: db}}}}}}
      containers: [{{name: db, image: {IMAGE}, command: [httpd, -f, -p, "80", -h, /tmp]}}]
"#
    )
}

/// A DaemonSet on every node.
fn agents(word: &str) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: log, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: log}}}}
  updateStrategy: {{rollingUpdate: {{maxUnavailable: 100%}}}}
  template:
    metadata: {{labels: {{app: log}}, annotations: {{word: {word}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: log, image: {IMAGE}, command: [httpd, -f, -p, "80", -h, /tmp]}}]
"#
    )
}

/// The nodes on which a container of a pod of this name runs. A pod that has just moved may be met on
/// both: so where two are, the first is looked at again.
fn hosts(fleet: &Fleet, pod: &str) -> BTreeSet<String> {
    let runs_on = |node: &&&str| fleet.containers(node).iter().any(|(name, _)| name == pod);
    let found: Vec<&&str> = fleet.nodes.iter().filter(runs_on).collect();
    let again = found.iter().copied().filter(|node| found.len() == 1 || runs_on(node));
    again.map(|node| (*node).to_owned()).collect()
}

/// The network that a node's pods have.
fn pod_network(fleet: &Fleet, node: &str) -> String {
    let node = fleet.get(fleet.nodes[0], &format!("/api/v1/nodes/{node}"));
    node["spec"]["podCIDR"].as_str().expect("a pod network").to_owned()
}

#[test]
fn pods_on_different_links_reach_each_other_through_the_tunnel() {
    let Some(fleet) = Fleet::of_five() else { return };
    fleet.push("Ten", &[("web.yaml", &shop("one", 10))]);
    let pods = fleet.wait_settled(10);
    let on: BTreeSet<&str> = pods.values().map(node_of).collect();
    assert_eq!(on.len(), fleet.nodes.len(), "one link each is not enough: {on:?}");

    // n1, n3 and n5 share a link, n2 and n4 the other.
    let route = |node: &str| {
        let output = fleet
            .lab
            .host("n1")
            .command("ip")
            .args(["route", "show", &pod_network(&fleet, node)])
            .output();
        String::from_utf8_lossy(&output.expect("ip runs").stdout).into_owned()
    };
    assert!(route("n2").contains("dev wdl-vx"), "{}", route("n2"));
    assert!(route("n3").contains("dev eth0"), "{}", route("n3"));

    // Whichever way it goes.
    fleet.pods_reach_each_other(&pods);

    // Full packets pass: what pods may send is what the tunnel takes, and is not cut on the way.
    let at = |node: &str| pods.values().find(|pod| node_of(pod) == node).expect("a pod");
    let mtu = fleet.in_pod(at("n1"), "cat /sys/class/net/eth0/mtu").expect("an MTU");
    assert_eq!(mtu, POD_MTU);
    let (from, to) = (at("n1"), at("n2"));
    let listen = "dd if=/dev/zero bs=1000 count=500 2>/dev/null | nc -l -p 9999 >/dev/null 2>&1 &";
    fleet.in_pod(to, listen).expect("listens");
    // A client that has nothing more to say would end the server.
    let take = format!("sleep 0.3; sleep 2 | nc {} 9999 | wc -c", address_of(to));
    assert_eq!(fleet.in_pod(from, &take).expect("takes"), "500000");

    // Services lead to every node from every node.
    let service = fleet.get(fleet.nodes[0], "/api/v1/namespaces/shop/services/web");
    let cluster_ip = service["spec"]["clusterIP"].as_str().expect("a cluster IP");
    let target = SocketAddr::new(cluster_ip.parse().expect("an address"), 80);
    for node in fleet.nodes {
        let answers = fleet.inside(node, || {
            (0..80).map(|_| fetch(target, "/cgi-bin/who")).collect::<Result<Vec<_>, _>>()
        });
        let answers = answers.unwrap_or_else(|error| panic!("{node}: {error}"));
        let pod = |answer: &String| answer.split(' ').next().map(|pod| node_of(&pods[pod]));
        let answered: BTreeSet<&str> = answers.iter().filter_map(pod).collect();
        assert_eq!(answered, fleet.nodes.iter().copied().collect(), "{node}");
    }
}

#[test]
fn a_fleet_that_is_folded_goes_on_when_its_coordinator_is_killed() {
    let Some(fleet) = Fleet::of_five() else { return };
    let folded = || {
        let list = must_git(
            &fleet.state(),
            &["ls-tree", "-r", "--name-only", "refs/windlass/coordinator"],
        );
        list.lines().filter(|path| path.starts_with("fold/")).count()
    };
    assert_eq!(folded(), fleet.nodes.len());
    let running = fleet.running();
    // Whoever is last in order reads nobody's register but its own and the coordinator's.
    let (first, last) = (fleet.coordinator(), fleet.nodes[4]);
    let ordinary = if first == last { fleet.nodes[3] } else { last };
    fleet.kill_agent(first);
    let (next, time) = fleet.successor(first);
    took("coordinator of a folded fleet killed, another leads", time);
    assert!(time < LEASE + FAILOVER_SPARE, "{time:?}");
    // What is pushed now is carried out, and known on ordinary nodes by what is folded.
    let commit = fleet.push("Two more", &[("web.yaml", &shop("one", PODS + 2))]);
    fleet.wait_in_force(next, &commit);
    fleet.wait("two more, as an ordinary node sees it", || {
        let pods = fleet.pods(ordinary);
        let well = pods.values().filter(|pod| is_ready(pod) && node_of(pod) != first).count();
        let dead = pods.values().filter(|pod| node_of(pod) == first).count();
        (well + dead >= PODS + 2 && well > PODS - dead).then_some(())
    });
    fleet.start_agent(first);
    fleet.wait_settled(PODS + 2);
    assert_eq!(folded(), fleet.nodes.len());
    let after = fleet.running();
    for (pod, containers) in running.iter().filter(|((node, _), _)| *node != first) {
        assert_eq!(after.get(pod), Some(containers), "{pod:?} was restarted");
    }
}

/// Says that something is over, also where the test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_pod_with_a_name_of_its_own_never_runs_twice_whatever_becomes_of_its_node() {
    let Some(fleet) = Fleet::of_five() else { return };
    fleet.push("A database", &[("extra-db.yaml", &database())]);
    let pods = fleet.wait_settled(PODS + 2);
    let (cut, dead) = (node_of(&pods["db-0"]).to_owned(), node_of(&pods["db-1"]).to_owned());
    let judge = *fleet.nodes.iter().find(|node| **node != cut && **node != dead).expect("a third");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut doubles = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                for pod in ["db-0", "db-1"] {
                    let hosts = hosts(&fleet, pod);
                    doubles.extend((hosts.len() > 1).then(|| format!("{pod} on {hosts:?}")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            doubles
        });
        let over = Over(&is_over);
        // One loses its cable and runs on, the other its power.
        fleet.lab.set_cable(&cut, false).expect("unplugged");
        fleet.lab.stop_node(&dead).expect("the power is cut");
        fleet.wait("two are missed", || (fleet.status(judge)["nodes"]["ready"] == 3).then_some(()));
        let web = || {
            let pods = fleet.pods(judge);
            let well = pods.values().filter(|pod| is_ready(pod) && name_of(pod).starts_with("web"));
            well.filter(|pod| node_of(pod) != cut && node_of(pod) != dead).count()
        };
        // Long enough for theirs to be elsewhere too, if anybody had dared.
        std::thread::sleep(EVICT_AFTER + Duration::from_secs(3));
        fleet.wait("other pods run elsewhere", || (web() == PODS).then_some(()));
        assert_eq!(hosts(&fleet, "db-0"), BTreeSet::from([cut.clone()]), "it runs on");
        assert_eq!(hosts(&fleet, "db-1"), BTreeSet::new(), "nobody knows that it is dead");
        let began = now();
        fleet.lab.set_cable(&cut, true).expect("plugged in");
        fleet.start_agent(&dead);
        fleet.wait_settled(PODS + 2);
        took("two nodes with a StatefulSet's pods back, settled", now().since(began));
        drop(over);
        assert_eq!(watch.join().expect("the watch ends"), Vec::<String>::new());
    });
}

#[test]
fn a_daemon_sets_roll_out_passes_by_a_node_without_power() {
    let Some(fleet) = Fleet::of_five() else { return };
    let word = |pod: &Value| pod["metadata"]["annotations"]["word"].as_str().map(str::to_owned);
    let words = |from: &str| -> BTreeMap<String, Option<String>> {
        let pods = fleet.pods(from).into_values();
        let own = pods.filter(|pod| {
            name_of(pod).starts_with("log-") && pod["metadata"]["deletionTimestamp"].is_null()
        });
        own.filter(is_ready).map(|pod| (node_of(&pod).to_owned(), word(&pod))).collect()
    };
    let all = |word: &str| -> BTreeMap<String, Option<String>> {
        fleet.nodes.iter().map(|node| ((*node).to_owned(), Some(word.to_owned()))).collect()
    };
    fleet.push("Agents", &[("extra-log.yaml", &agents("one"))]);
    fleet.wait_settled(PODS + 5);
    let dead = *fleet.nodes.iter().find(|node| **node != fleet.coordinator()).expect("a node");
    let judge = *fleet.nodes.iter().find(|node| **node != dead).expect("another");
    assert_eq!(words(judge), all("one"));
    fleet.lab.stop_node(dead).expect("the power is cut");
    fleet.wait("it is missed", || (fleet.status(judge)["nodes"]["ready"] == 4).then_some(()));
    fleet.push("Other agents", &[("extra-log.yaml", &agents("two"))]);
    let mut others = all("two");
    others.remove(dead);
    fleet.wait("the others have it", || (words(judge) == others).then_some(()));
    let began = now();
    fleet.start_agent(dead);
    fleet.wait("so has it when it is back", || (words(judge) == all("two")).then_some(()));
    took("power back, the DaemonSet's new pod is ready", now().since(began));
    fleet.wait_settled(PODS + 5);
}
