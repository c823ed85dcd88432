//! A fleet of three nodes and a Git server, and what happens when each of them fails. docs/FLEET.md
//! names these tests beside what it promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::lab::{
    EVICT_AFTER, Fleet, LEASE, NODES, NOT_READY_AFTER, PODS, PORT, Running, SPARE, name_of,
    node_of, now, shop, took,
};
use crate::support::must_git;
use crate::support::site::is_ready;

/// What may pass beyond the lease until another node leads. 5 s are promised (docs/DESIGN.md), which `benches/`
/// measures on a quiet machine; here others may have most of the processor.
pub(super) const FAILOVER_SPARE: Duration = Duration::from_secs(15);
const COORDINATOR: &str = "refs/windlass/coordinator";

/// How many of a fleet's pods stand on each node.
fn spread(pods: &BTreeMap<String, Value>) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods.values() {
        *counts.entry(node_of(pod)).or_default() += 1;
    }
    counts
}

/// What of this still runs untouched.
fn on_others(running: &Running, node: &str) -> Running {
    running.iter().filter(|((at, _), _)| at != node).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[test]
fn pods_spread_over_the_nodes_and_reach_each_other() {
    let Some(fleet) = Fleet::settled() else { return };
    // What other tests have left stands where it stood.
    fleet.push("None", &[("web.yaml", &shop("one", 0))]);
    fleet.wait_settled(0);
    fleet.push("Six", &[("web.yaml", &shop("one", PODS))]);
    let pods = fleet.wait_settled(PODS);
    let counts = spread(&pods);
    assert_eq!(counts.len(), NODES.len(), "{counts:?}");
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");

    fleet.pods_reach_each_other(&pods);

    // Services from every node to pods on every node; so many requests that chance is no excuse.
    let service = fleet.get(NODES[0], "/api/v1/namespaces/shop/services/web");
    let cluster_ip = service["spec"]["clusterIP"].as_str().expect("a cluster IP");
    for node in NODES {
        let mut targets = vec![SocketAddr::new(cluster_ip.parse().expect("an address"), 80)];
        targets.extend(NODES.map(|other| fleet.entrance(other)));
        for target in targets {
            let answers = fleet.inside(node, || {
                (0..40).map(|_| fetch(target, "/cgi-bin/who")).collect::<Result<Vec<_>, _>>()
            });
            let answers = answers.unwrap_or_else(|error| panic!("{node}: {target}: {error}"));
            let pod = |answer: &String| answer.split(' ').next().map(|pod| node_of(&pods[pod]));
            let answered: BTreeSet<&str> = answers.iter().filter_map(pod).collect();
            assert_eq!(answered, BTreeSet::from(NODES), "{node}: {target}");
        }
    }

    for node in NODES {
        let pod = pods.values().find(|pod| node_of(pod) == node).expect("a pod");
        let look = "busybox nslookup -type=a web.shop.svc.cluster.local";
        let answer = fleet.in_pod(pod, look).expect("an answer");
        assert!(answer.contains(&format!("Address: {cluster_ip}")), "{node}: {answer}");
    }
}

#[test]
fn another_node_leads_when_the_coordinator_is_killed_in_the_middle_of_a_turn() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    let first = fleet.coordinator();
    let term = fleet.status(first)["coordinator"]["term"].as_u64();

    // Its next decision is held up on its way into the store, and there it is killed.
    let hooks = fleet.state().join("hooks");
    let (held, hook) = (fleet.state().join("held"), hooks.join("pre-receive"));
    let script = format!(
        "#!/bin/sh\nif grep -q coordinator && [ ! -e {held} ]; then touch {held}; sleep 1; fi\n",
        held = held.display()
    );
    fs::create_dir_all(&hooks).expect("made");
    let _ = fs::remove_file(&held);
    fs::write(&hook, script).expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let commit = fleet.push("Seven", &[("web.yaml", &shop("one", PODS + 1))]);
    fleet.wait("a decision on its way", || held.exists().then_some(()));
    fleet.kill_agent(first);

    let (next, time) = fleet.successor(first);
    took("coordinator killed in mid turn, another leads", time);
    assert!(time < LEASE + FAILOVER_SPARE, "{time:?}");
    let status = fleet.status(next);
    assert!(status["coordinator"]["term"].as_u64() > term, "{status:#}");

    // The push that was being decided takes effect, and nothing was touched.
    fleet.wait_in_force(next, &commit);
    fleet.wait("the seventh pod", || (fleet.pods(next).len() == PODS + 1).then_some(()));
    fleet.start_agent(first);
    fleet.wait_settled(PODS + 1);
    let after = fleet.running();
    for (pod, containers) in &running {
        assert_eq!(after.get(pod), Some(containers), "{pod:?} was restarted");
    }
    // The killed one follows.
    let status = fleet.status(first);
    assert_eq!(status["isCoordinator"], false);
    assert_eq!(status["coordinator"]["node"], next);
}

#[test]
fn pods_of_a_node_without_power_run_elsewhere_and_it_keeps_what_was_not_replaced() {
    let Some(fleet) = Fleet::settled() else { return };
    // One that stays bound to its node however long that is gone.
    let loyal = shop("loyal", 3)
        .replace("name: web, ", "name: loyal, ")
        .replace("app: web", "app: loyal")
        .replace(&PORT.to_string(), "30081")
        .replace("    spec:\n", "    spec:\n      tolerations: [{operator: Exists}]\n");
    fleet.push("The loyal", &[("extra-loyal.yaml", &loyal)]);
    let before = fleet.wait_settled(PODS + 3);
    let lost = Fleet::others(fleet.coordinator())[0];
    let judge = Fleet::others(lost)[0];
    let of_it: BTreeSet<&String> =
        before.iter().filter(|(_, pod)| node_of(pod) == lost).map(|(name, _)| name).collect();
    let (web, loyal): (BTreeSet<&String>, BTreeSet<&String>) =
        of_it.iter().partition(|name| name.starts_with("web"));
    assert!(!web.is_empty() && !loyal.is_empty(), "{of_it:?}");
    let running = fleet.running();

    let began = now();
    fleet.lab.stop_node(lost).expect("the power is cut");
    fleet.wait("the node is not ready", || {
        (fleet.status(judge)["nodes"]["ready"] == 2).then_some(())
    });
    let silent = now().since(began);
    took("node without power, NotReady", silent);
    assert!(silent >= NOT_READY_AFTER - Duration::from_secs(1), "{silent:?}");
    assert!(silent < NOT_READY_AFTER + Duration::from_secs(6), "{silent:?}");
    let runs_elsewhere = || {
        let pods = fleet.pods(judge);
        let well = pods.values().filter(|pod| is_ready(pod) && node_of(pod) != lost);
        (well.filter(|pod| name_of(pod).starts_with("web")).count() == PODS).then_some(())
    };
    fleet.wait("six pods on two nodes", runs_elsewhere);
    let replaced = now().since(began);
    took("node without power, its pods run elsewhere", replaced);
    assert!(replaced >= NOT_READY_AFTER + EVICT_AFTER - Duration::from_secs(1), "{replaced:?}");
    assert!(replaced < NOT_READY_AFTER + EVICT_AFTER + Duration::from_secs(12), "{replaced:?}");

    let began = now();
    fleet.start_agent(lost);
    let after = fleet.wait_settled(PODS + 3);
    took("power back, settled", now().since(began));
    assert!(
        web.iter().all(|name| !after.contains_key(*name)),
        "{web:?} were replaced: {:?}",
        after.keys()
    );
    for name in loyal {
        let stays = after.get(name).map(node_of);
        assert_eq!(stays, Some(lost), "{name} was not replaced");
    }
    // Elsewhere nothing was touched.
    let now_runs = fleet.running();
    for (pod, containers) in on_others(&running, lost) {
        assert_eq!(now_runs.get(&pod), Some(&containers), "{pod:?} was restarted");
    }
}

#[test]
fn a_coordinator_that_is_cut_off_stops_leading_and_its_pods_run_on() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    let first = fleet.coordinator();
    let began = now();
    fleet.lab.set_cable(first, false).expect("unplugged");
    let resigns = fleet.wait("the one that is cut off resigns", || {
        (fleet.status(first)["isCoordinator"] == false).then(|| now().since(began))
    });
    took("coordinator cut off, it resigns", resigns);
    let (_, _) = fleet.successor(first);
    let time = now().since(began);
    took("coordinator cut off, another leads", time);
    assert!(resigns <= time, "there were two: {resigns:?}, {time:?}");
    assert!(time < LEASE + FAILOVER_SPARE, "{time:?}");
    assert_eq!(fleet.running(), running, "nothing was stopped");
    // A question that was under way is waited for, and its pods may be replaced meanwhile.
    fleet.wait("it says what is the matter", || {
        let faults = fleet.status(first)["faults"].as_array().cloned().unwrap_or_default();
        faults.iter().any(|fault| fault["part"] == "state store").then_some(())
    });
    let after = fleet.running();
    for (pod, containers) in running.iter().filter(|((at, _), _)| at == first) {
        assert_eq!(after.get(pod), Some(containers), "{pod:?} was stopped");
    }
    fleet.lab.set_cable(first, true).expect("plugged in");
    fleet.wait_settled(PODS);
}

#[test]
fn a_short_cut_restarts_nothing() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    let leader = fleet.coordinator();
    let cut = Fleet::others(leader)[1];
    fleet.lab.set_cable(cut, false).expect("unplugged");
    fleet.wait("the node is not ready", || {
        (fleet.status(leader)["nodes"]["ready"] == 2).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(fleet.running(), running, "nothing was stopped");
    fleet.lab.set_cable(cut, true).expect("plugged in");
    fleet.wait_settled(PODS);
    assert_eq!(fleet.running(), running, "nothing was restarted");
    assert_eq!(fleet.status(cut)["isCoordinator"], false, "who was cut off leads nobody");
}

#[test]
fn without_the_remote_everything_runs_on_and_pushes_wait() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    fleet.lab.stop_server().expect("stopped");
    // What pushes leave that were ended in their middle.
    for node in NODES {
        let lock = fleet.state().join(format!("refs/windlass/nodes/{node}.lock"));
        std::fs::write(lock, "").expect("a lock");
    }
    let began = now();
    for node in NODES {
        fleet.wait(&format!("{node} says so"), || {
            let faults = fleet.status(node)["faults"].as_array().cloned().unwrap_or_default();
            let has = |part: &str| faults.iter().any(|fault| fault["part"] == part);
            (has("state store") && has("desired repository")).then_some(())
        });
    }
    took("remote stopped, every node says so", now().since(began));
    let commit = fleet.push("Seven", &[("web.yaml", &shop("one", PODS + 1))]);
    // Longer than the lease and than nodes and pods are waited for.
    std::thread::sleep(Duration::from_secs(15).saturating_sub(now().since(began)));
    assert_eq!(fleet.running(), running, "everything runs on");
    for node in NODES {
        let said = fleet.said(node);
        assert!(said.contains("State store is in trouble"), "{node}: {said}");
        let page = fetch(fleet.entrance(node), "/");
        assert_eq!(page.as_deref(), Ok("one"), "{node}");
    }
    let began = now();
    fleet.lab.start_server(&mut |_| ()).expect("started");
    fleet.wait_in_force(NODES[0], &commit);
    took("remote back, what was pushed meanwhile is in force", now().since(began));
    fleet.wait_settled(PODS + 1);
    let after = fleet.running();
    for (pod, containers) in &running {
        assert_eq!(after.get(pod), Some(containers), "{pod:?} was restarted");
    }
}

#[test]
fn a_deleted_ref_is_written_anew() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    let logged: Vec<usize> = NODES.iter().map(|node| fleet.log(node).len()).collect();
    for name in [COORDINATOR, "refs/windlass/nodes/n2"] {
        let began = now();
        fleet.delete_state_ref(name);
        fleet.wait(&format!("{name} is back"), || fleet.state_ref(name).map(|_| ()));
        took(&format!("{name} deleted, back"), now().since(began));
    }
    let said = NODES.iter().zip(logged).any(|(node, from)| {
        fleet.log(node)[from..].contains("the coordinator's ref is gone from the state store")
    });
    assert!(said, "nobody said so");
    // Decisions are taken as before.
    let commit = fleet.push("Nothing new", &[]);
    fleet.wait_in_force(NODES[0], &commit);
    fleet.wait_settled(PODS);
    assert_eq!(fleet.running(), running, "nothing was touched");
}

#[test]
fn a_deleted_coordinator_ref_is_recovered_from_local_copies() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    for node in NODES {
        fleet.kill_agent(node);
    }
    fleet.delete_state_ref(COORDINATOR);
    let began = now();
    for node in NODES {
        fleet.start_agent(node);
    }
    fleet.wait("the ref is back", || fleet.state_ref(COORDINATOR).map(|_| ()));
    took("ref deleted while no agent ran, back", now().since(began));
    let commit = fleet.push("Nothing new", &[]);
    fleet.wait_in_force(NODES[0], &commit);
    fleet.wait_settled(PODS);
    assert_eq!(fleet.running(), running, "nothing was touched");
}

#[test]
fn a_ref_that_was_tampered_with_is_refused_and_mended_by_deleting_it() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    let state = fleet.state();
    // Each node has acted on the newer ones.
    for _ in 0..3 {
        let commit = fleet.push("Nothing new", &[]);
        for node in NODES {
            fleet.wait_in_force(node, &commit);
        }
    }
    let older = fleet.state_ref("refs/windlass/coordinator~2").expect("a decision before");
    let tree = must_git(&state, &["hash-object", "-t", "tree", "-w", "--stdin"]);
    let foreign = must_git(&state, &["commit-tree", &tree, "-m", "Nothing"]);
    for (what, commit) in [("an older decision", older), ("something else", foreign)] {
        must_git(&state, &["update-ref", COORDINATOR, &commit]);
        for node in NODES {
            fleet.wait(&format!("{node} says so"), || {
                fleet.said(node).contains("it was set back").then_some(())
            });
        }
        // Longer than the lease, and than nodes are waited for.
        std::thread::sleep(NOT_READY_AFTER + Duration::from_secs(1));
        assert_eq!(fleet.running(), running, "nothing was touched");
        assert_eq!(fleet.state_ref(COORDINATOR), Some(commit), "nobody wrote over it");
        let began = now();
        fleet.delete_state_ref(COORDINATOR);
        fleet.wait("the ref is back", || fleet.state_ref(COORDINATOR).map(|_| ()));
        took(&format!("{what} in the ref, deleted, back"), now().since(began));
        let commit = fleet.push("Nothing new", &[]);
        fleet.wait_in_force(NODES[0], &commit);
        fleet.wait_settled(PODS);
        assert_eq!(fleet.running(), running, "nothing was touched");
    }
}

#[test]
fn a_restored_backup_of_the_state_is_refused_until_somebody_says_that_it_is_meant() {
    let Some(fleet) = Fleet::settled() else { return };
    let (state, backup) = (fleet.state(), fleet.state().with_extension("backup"));
    let _ = fs::remove_dir_all(&backup);
    let mirror = |from: &std::path::Path, to: &std::path::Path| {
        let (from, to) = (from.to_str().expect("text"), to.to_str().expect("text"));
        must_git(std::path::Path::new("/"), &["clone", "-q", "--mirror", from, to]);
    };
    mirror(&state, &backup);
    fleet.push("Four", &[("web.yaml", &shop("two", 4))]);
    let after = fleet.wait_settled(4);
    let running = fleet.running();
    let restore = || {
        fleet.lab.stop_server().expect("stopped");
        must_git(&backup, &["push", "-q", "--mirror", state.to_str().expect("text")]);
        fleet.lab.start_server(&mut |_| ()).expect("started");
        for node in NODES {
            fleet.wait(&format!("{node} says so"), || {
                fleet.said(node).contains("it was set back").then_some(())
            });
        }
    };
    restore();
    std::thread::sleep(NOT_READY_AFTER + Duration::from_secs(1));
    assert_eq!(fleet.running(), running, "nothing was touched");

    // A person says so on one of them, and it is as if the backup were yesterday's decisions: the
    // newest commit is carried out on top of them.
    let before = fleet.status(NODES[1])["decision"]["epoch"].as_u64().expect("an epoch");
    let began = now();
    let said = fleet.windlass(NODES[1], &["state", "adopt", "--yes"]);
    assert!(said.contains(&format!("in epoch {}", before + 1)), "{said}");
    assert!(said.contains("The state store is taken as it is"), "{said}");
    took("restored store, adopted", now().since(began));
    let pods = fleet.wait_settled(4);
    took("restored store, adopted and settled", now().since(began));
    assert_ne!(pods.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "made anew");
    let said = fleet.windlass(NODES[2], &["state", "adopt", "--yes"]);
    assert!(said.contains("as it should be"), "{said}");

    // The same once more, by a commit.
    restore();
    let epoch = format!("stateEpoch: {}\n", before + 5);
    let began = now();
    fleet.push("The backup is meant", &[("windlass.yaml", &epoch)]);
    fleet.wait("the epoch", || {
        let epochs = NODES.map(|node| fleet.status(node)["decision"]["epoch"].as_u64());
        epochs.iter().all(|epoch| *epoch == Some(before + 5)).then_some(())
    });
    took("restored store, taken by a commit", now().since(began));
    fleet.wait_settled(4);
    let _ = fs::remove_dir_all(&backup);
}

#[test]
fn a_node_with_other_settings_gets_no_new_pods_and_does_not_coordinate() {
    let Some(fleet) = Fleet::settled() else { return };
    let leader = fleet.coordinator();
    // The coordinator's own file is changed, by a slip.
    let running = fleet.running();
    fleet.configure(leader, &[("fleet.evictAfter", "9m")]);
    let (next, time) = fleet.successor(leader);
    took("coordinator with other settings, another leads", time);
    fleet.wait("it says so", || {
        let said = fleet.said(leader);
        let words = format!("fleet.evictAfter is 9m on {leader} and 5s in the fleet");
        (said.contains(&words) && said.contains("fleet.version: 2")).then_some(())
    });
    fleet.wait("the others say so", || {
        let nodes = fleet.windlass(next, &["get", "nodes"]);
        let line = nodes.lines().find(|line| line.starts_with(leader))?.to_owned();
        line.contains("Ready,SettingsDiffer").then_some(())
    });
    let had = spread(&fleet.pods(next)).get(leader).copied();
    fleet.push("Nine", &[("web.yaml", &shop("one", PODS + 3))]);
    fleet.wait("nine pods", || {
        let pods = fleet.pods(next);
        (pods.len() == PODS + 3 && pods.values().all(is_ready)).then_some(())
    });
    assert_eq!(spread(&fleet.pods(next)).get(leader).copied(), had, "no new pod came");
    let now_runs = fleet.running();
    assert!(running.iter().all(|(pod, ids)| now_runs.get(pod) == Some(ids)), "what ran, runs");
    // As the fleet has it, again.
    fleet.configure(leader, &[]);
    fleet.wait_settled(PODS + 3);

    // Meant for all: it holds from the second node on.
    let meant = [("fleet.evictAfter", "6s"), ("fleet.version", "2")];
    let others = Fleet::others(leader);
    fleet.configure(others[0], &meant);
    fleet.wait("one of three", || fleet.said(leader).contains("1 of the 3 nodes").then_some(()));
    fleet.configure(others[1], &meant);
    fleet.wait("the third differs", || {
        let words = format!("fleet.evictAfter is 5s on {leader} and 6s in the fleet");
        fleet.said(leader).contains(&words).then_some(())
    });
    fleet.configure(leader, &meant);
    fleet.wait_settled(PODS + 3);
    // For the tests that follow.
    fleet.restore_settings();
    fleet.wait_settled(PODS + 3);
}

#[test]
fn an_empty_repository_in_place_of_the_state_is_filled_by_the_nodes() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    fleet.lab.stop_server().expect("stopped");
    fs::remove_dir_all(fleet.state()).expect("lost");
    let began = now();
    fleet.lab.start_server(&mut |_| ()).expect("started, and the repository made");
    fleet.wait("the ref is back", || fleet.state_ref(COORDINATOR).map(|_| ()));
    took("state repository lost, the decisions are back", now().since(began));
    let commit = fleet.push("Nothing new", &[]);
    fleet.wait_in_force(NODES[0], &commit);
    fleet.wait_settled(PODS);
    assert_eq!(fleet.running(), running, "nothing was touched");
}

#[test]
fn a_second_machine_of_the_same_name_is_refused() {
    let Some(fleet) = Fleet::settled() else { return };
    let running = fleet.running();
    let leader = fleet.coordinator();
    let node = Fleet::others(leader)[0];
    let mut lab = fleet.lab.clone();
    lab.settings.insert("node.name".to_owned(), node.to_owned());
    lab.start_node(SPARE, &mut |_| ()).expect("the machine starts");
    fleet.wait("it is refused", || {
        let faults = fleet.status(SPARE)["faults"].to_string();
        faults.contains(&format!("another machine runs under the name {node}")).then_some(())
    });
    // Longer than a name is kept for a machine that has gone.
    let began = now();
    while now().since(began) < NOT_READY_AFTER + Duration::from_secs(2) {
        assert_eq!(fleet.status(SPARE)["isCoordinator"], false, "it leads nobody");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(fleet.containers(SPARE), [], "it runs nothing");
    assert!(fleet.said(SPARE).contains("Give one of them another name"), "{}", fleet.said(SPARE));
    fleet.wait_settled(PODS);
    assert_eq!(fleet.running(), running, "nothing was touched");
    lab.host(SPARE).destroy().expect("ended");
}

#[test]
fn a_rolling_update_over_nodes_loses_no_request() {
    const REPLICAS: usize = 10;
    let Some(fleet) = Fleet::settled() else { return };
    fleet.push("Ten", &[("web.yaml", &shop("one", REPLICAS))]);
    let before = fleet.wait_settled(REPLICAS);
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = std::sync::mpsc::channel();
    for node in NODES {
        let (stop, tell) = (stop.clone(), tell.clone());
        let address = fleet.entrance(node);
        std::thread::spawn(move || {
            let (mut pages, mut lost) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match fetch(address, "/") {
                    Ok(_) => pages += 1,
                    Err(error) => lost.push(error),
                }
            }
            let _ = tell.send((node, pages, lost));
        });
    }
    let began = now();
    fleet.push("Two", &[("web.yaml", &shop("two", REPLICAS))]);
    let fresh = |pods: &BTreeMap<String, Value>| {
        let mut names = pods.keys();
        pods.len() == REPLICAS && names.all(|name| !before.contains_key(name))
    };
    fleet.wait("new pods only", || fresh(&fleet.pods(NODES[0])).then_some(()));
    fleet.wait_settled(REPLICAS);
    took("rolling update of ten pods", now().since(began));
    stop.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    for (node, pages, lost) in told.iter().take(NODES.len()) {
        assert!(pages > 100, "only {pages} requests through {node}");
        failed.extend(
            lost.first().map(|first| format!("{node}: {} of {pages}: {first}", lost.len())),
        );
    }
    assert_eq!(failed, Vec::<String>::new());
}

/// Asks for a page.
pub(super) fn fetch(address: SocketAddr, path: &str) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let limit = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error| error.to_string())?;
    match text.split_once("\r\n\r\n") {
        Some((head, page)) if head.split(' ').nth(1) == Some("200") => Ok(page.trim().to_owned()),
        _ => Err(format!("{text:?}")),
    }
}
