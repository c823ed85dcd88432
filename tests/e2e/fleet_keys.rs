//! Whoever can write the state store, and no more, opens no container: keys of nodes that the desired
//! repository certifies. On the fleet of [`super::fleet`].

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use windlass::adapters::identity::Identity;
use windlass::adapters::line::Lines;

use crate::support::lab::{Fleet, NODES, PODS, name_of, node_of, shop};
use crate::support::must_git;

/// The manifest that certifies a node's key, as its machine prints it.
fn certificate(fleet: &Fleet, node: &str) -> String {
    let config = fleet.lab.host(node).dir().join("agent.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    let output = command.args(["init", "--print-key", "--config"]).arg(config).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("---\n{}", String::from_utf8_lossy(&output.stdout))
}

/// Writes a key of one's own into a node's register, as somebody does who has the state store's key.
fn plant(fleet: &Fleet, node: &str, key: &str) {
    let (state, name) = (fleet.state(), format!("refs/windlass/nodes/{node}"));
    let text = must_git(&state, &["show", &format!("{name}:node.json")]);
    let mut facts: Value = serde_json::from_str(&text).expect("what the node says");
    facts["contact"]["key"] = key.into();
    let file = fleet.state().with_extension("planted");
    fs::write(&file, facts.to_string()).expect("written");
    let blob = must_git(&state, &["hash-object", "-w", file.to_str().expect("text")]);
    fs::remove_file(file).expect("removed");
    let index = state.join("planted-index");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&state).args(args).env("GIT_INDEX_FILE", &index);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    git(&["read-tree", &name]);
    git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},node.json")]);
    let tree = git(&["write-tree"]);
    fs::remove_file(&index).expect("removed");
    let commit = must_git(&state, &["commit-tree", &tree, "-m", "report"]);
    must_git(&state, &["update-ref", &name, &commit]);
}

/// What the agent of `node` answers to somebody with this key who asks it for a log, from another
/// node's network.
fn asks(fleet: &Fleet, thief: &Identity, from: &str, node: &str, pod: &str) -> String {
    reads(fleet, thief, from, node, &format!("/api/v1/namespaces/shop/pods/{pod}/log"))
}

/// The same for this path, until the answer ends.
fn reads(fleet: &Fleet, thief: &Identity, from: &str, node: &str, path: &str) -> String {
    let register =
        must_git(&fleet.state(), &["show", &format!("refs/windlass/nodes/{node}:node.json")]);
    let said: Value = serde_json::from_str(&register).expect("what the node says");
    let key = said["contact"]["key"].as_str().expect("its key").to_owned();
    let port =
        u16::try_from(said["contact"]["apiPort"].as_u64().expect("its port")).expect("a port");
    let at = SocketAddr::from((IpAddr::V4(fleet.lab.address(node).expect("an address")), port));
    let lines = Lines::new(thief).expect("lines");
    fleet.inside(from, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut line = match lines.dial(at, None, &key).await {
                Ok(line) => line,
                Err(fault) => return fault.to_string(),
            };
            let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            line.write_all(ask.as_bytes()).await.expect("asks");
            let mut answer = Vec::new();
            // It may hang up without TLS's good-bye.
            let _ = line.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        })
    })
}

#[test]
fn a_key_planted_in_the_state_store_is_refused_once_keys_are_certified() {
    let Some(fleet) = Fleet::settled() else { return };
    // What other tests have left stands where it stood.
    fleet.push("None", &[("web.yaml", &shop("one", 0))]);
    fleet.wait_settled(0);
    fleet.push("Six", &[("web.yaml", &shop("one", PODS))]);
    fleet.wait_settled(PODS);
    let leader = fleet.coordinator();
    let victim = Fleet::others(leader)[0];
    let asked = Fleet::others(leader)[1];
    let pods = fleet.pods(asked);
    let pod = pods.values().find(|pod| node_of(pod) == asked).map(name_of).expect("a pod");
    let home = tempfile::tempdir().expect("a directory");
    let thief = Identity::open(home.path()).expect("a key");

    // Without certificates the store's word is all that there is.
    fleet.kill_agent(victim);
    plant(&fleet, victim, &thief.public());
    fleet.wait("the planted key opens the door", || {
        let answer = asks(&fleet, &thief, victim, asked, pod);
        answer.starts_with("HTTP/1.1 200").then_some(())
    });

    let nodes: String = NODES.iter().map(|node| certificate(&fleet, node)).collect();
    std::thread::scope(|scope| {
        let path = format!("/api/v1/namespaces/shop/pods/{pod}/log?follow=true");
        let (fleet, thief) = (&fleet, &thief);
        let opened = fleet.log(asked).matches("another node reads a log").count();
        let following = scope.spawn(move || reads(fleet, thief, victim, asked, &path));
        fleet.wait("he follows a log", || {
            let now = fleet.log(asked).matches("another node reads a log").count();
            (now > opened).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(!following.is_finished(), "it goes on for as long as he likes");
        let commit = fleet.push("Whose key is whose", &[("extra-nodes.yaml", &nodes)]);
        fleet.wait_in_force(asked, &commit);
        fleet.wait("what he has open ends", || following.is_finished().then_some(()));
        let heard = following.join().expect("whole");
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    });
    assert!(fleet.log(asked).contains("answered no more is ended"), "{}", fleet.log(asked));
    let answer = fleet.wait("the planted key is refused", || {
        let answer = asks(&fleet, &thief, victim, asked, pod);
        answer.starts_with("HTTP/1.1 403").then_some(answer)
    });
    assert!(answer.contains("certifies another key of this node"), "{answer}");
    let listed = fleet.windlass(asked, &["get", "nodes"]);
    let line = listed.lines().find(|line| line.starts_with(victim)).unwrap_or_default().to_owned();
    assert!(line.contains("Uncertified"), "{listed}");
    let said = fleet.said(asked);
    assert!(said.contains(&format!("Key of {victim} is in trouble")), "{said}");
    // Nobody speaks to it either.
    let named = fleet.pods(asked);
    let theirs = named.values().find(|pod| node_of(pod) == victim).map(name_of).expect("a pod");
    let refused = fleet.windlass(asked, &["logs", "-n", "shop", theirs]);
    assert!(refused.contains("its key does not count"), "{refused}");

    // The node itself comes back, says its own key, and all is as it was.
    fleet.start_agent(victim);
    fleet.wait_settled(PODS);
    for (from, to) in [(victim, asked), (asked, victim)] {
        let pods = fleet.pods(from);
        let pod = pods.values().find(|pod| node_of(pod) == to).map(name_of).expect("a pod");
        let said = fleet.windlass(from, &["logs", "-n", "shop", pod]);
        assert!(!said.contains("error"), "{from} to {to}: {said}");
    }
    // A machine whose key nobody has committed is named.
    let two: String =
        NODES.iter().filter(|node| **node != victim).map(|n| certificate(&fleet, n)).collect();
    fleet.push("One is missing", &[("extra-nodes.yaml", &two)]);
    fleet.wait("it is uncertified", || {
        fleet.said(asked).contains("certifies nodes' keys, and none of this one").then_some(())
    });
}
