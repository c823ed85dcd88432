//! `windlass drain`: a node's pods go elsewhere. The coordinator does it; what is here asks for it,
//! looks on and tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Context;
use super::client::{self, with_query};
use super::config::parse_duration;
use super::fault::Failure;
use super::nodes::{self, STEP};
use super::out::talk;
use crate::adapters::clock;

/// A pod that is not told to go within this time is held by its disruption budget.
const HELD_AFTER: Duration = Duration::from_secs(5);

/// Arguments of `windlass drain`.
#[derive(Args, Debug)]
pub(super) struct Drain {
    /// Nodes
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
    /// Also end pods that no controller makes anew
    #[arg(long)]
    force: bool,
    /// Leave pods of DaemonSets where they are
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Also end pods whose emptyDir goes with them
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Seconds each pod has to end; its own where absent
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// How long to wait; for ever if 0s
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    timeout: String,
}

pub(super) async fn run(args: &Drain, context: &mut Context) -> Result<(), Failure> {
    let timeout = parse_duration(&args.timeout)
        .map_err(|fault| Failure::usage(format!("--timeout: {fault}")))?;
    let began = clock::now().elapsed.since_boot();
    let until = (!timeout.is_zero()).then_some(began + timeout);
    for name in &args.nodes {
        nodes::set_cordon(name, true, context).await?;
    }
    for name in &args.nodes {
        drain(args, name, until, context).await?;
    }
    Ok(())
}

async fn drain(
    args: &Drain,
    name: &str,
    until: Option<Duration>,
    context: &mut Context,
) -> Result<(), Failure> {
    let going = going(args, name, &pods_on(name, context).await?)?;
    let yes = |is_set: bool| if is_set { "true" } else { "" };
    let grace = args.grace_period.map(|grace| grace.to_string()).unwrap_or_default();
    let asked = with_query(
        "/windlass/v1/drain",
        &[
            ("node", name),
            ("force", yes(args.force)),
            ("ignoreDaemonsets", yes(args.ignore_daemonsets)),
            ("deleteEmptydirData", yes(args.delete_emptydir_data)),
            ("gracePeriodSeconds", &grace),
        ],
    );
    context.client.post(&asked, client::JSON).await?;
    let end = tokio::select! {
        end = watch(name, going, until, context) => end?,
        _ = tokio::signal::ctrl_c() => End::Interrupted,
    };
    let rest = format!("the drain of {name} goes on; windlass uncordon {name} ends it");
    match end {
        End::Drained => context.out.text(&format!("node/{name} drained\n")),
        End::Interrupted => {
            talk(&format!("\n{rest}\n"));
            Err(Failure::Code(130))
        }
        End::TimedOut(left) => Err(Failure::hinted(
            format!(
                "unable to drain node \"{name}\" within {}: {} pods are still there",
                args.timeout, left
            ),
            rest,
        )),
    }
}

enum End {
    Drained,
    Interrupted,
    TimedOut(usize),
}

/// The pods on a node.
async fn pods_on(name: &str, context: &Context) -> Result<Vec<Value>, Failure> {
    let selector = format!("spec.nodeName={name}");
    let path = with_query("/api/v1/pods", &[("fieldSelector", &selector)]);
    let list = context.client.json(&path, client::JSON).await?;
    Ok(items(&list, "/items").to_vec())
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn uid(pod: &Value) -> String {
    text(pod, "/metadata/uid").to_owned()
}

fn title(pod: &Value) -> String {
    format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"))
}

/// The pods that are to go, by uid, or what speaks against it, in kubectl's words
/// (`pkg/drain/filters.go`).
fn going(args: &Drain, node: &str, pods: &[Value]) -> Result<BTreeMap<String, Value>, Failure> {
    let mut going = BTreeMap::new();
    let (mut alone, mut daemons, mut with_data) = (Vec::new(), Vec::new(), Vec::new());
    for pod in pods {
        let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        let owner = items(pod, "/metadata/ownerReferences").first();
        let is_daemon = owner.is_some_and(|owner| text(owner, "/kind") == "DaemonSet");
        let has_data = items(pod, "/spec/volumes").iter().any(|v| v.get("emptyDir").is_some());
        if is_daemon && !is_over {
            if !args.ignore_daemonsets {
                daemons.push(title(pod));
            }
            continue;
        }
        if !is_over && owner.is_none() && !args.force {
            alone.push(title(pod));
        } else if !is_over && has_data && !args.delete_emptydir_data {
            with_data.push(title(pod));
        }
        going.insert(uid(pod), pod.clone());
    }
    let table = [
        ("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", daemons),
        ("cannot delete Pods that declare no controller (use --force to override)", alone),
        (
            "cannot delete Pods with local storage (use --delete-emptydir-data to override)",
            with_data,
        ),
    ];
    let complaints = table.into_iter().filter(|(_, pods)| !pods.is_empty());
    let complaints: Vec<String> =
        complaints.map(|(what, pods)| format!("{what}: {}", pods.join(", "))).collect();
    if complaints.is_empty() {
        return Ok(going);
    }
    Err(Failure::hinted(
        format!("unable to drain node \"{node}\": {}", complaints.join("; ")),
        format!("it stays cordoned; windlass uncordon {node} lets pods come again"),
    ))
}

/// Looks on until the last of these pods is gone.
async fn watch(
    name: &str,
    mut going: BTreeMap<String, Value>,
    until: Option<Duration>,
    context: &mut Context,
) -> Result<End, Failure> {
    let began = clock::now().elapsed.since_boot();
    let mut told = BTreeSet::new();
    let mut is_lost_told = false;
    loop {
        let there = pods_on(name, context).await?;
        let there: BTreeMap<String, Value> =
            there.into_iter().map(|pod| (uid(&pod), pod)).collect();
        let passed = clock::now().elapsed.since_boot().saturating_sub(began);
        for (uid, pod) in &going {
            let now = there.get(uid);
            let is_leaving =
                now.is_none_or(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
            if is_leaving && told.insert((uid.clone(), "evicting")) {
                context.out.text(&format!("evicting pod {}\n", title(pod)))?;
            } else if !is_leaving && passed > HELD_AFTER && told.insert((uid.clone(), "held")) {
                talk(&format!(
                    "pod/{} waits: Cannot evict pod as it would violate the pod's disruption budget.\n",
                    text(pod, "/metadata/name")
                ));
            }
            if now.is_none() {
                context.out.text(&format!("pod/{} evicted\n", text(pod, "/metadata/name")))?;
            }
        }
        going.retain(|uid, _| there.contains_key(uid));
        if going.is_empty() {
            return Ok(End::Drained);
        }
        let node = nodes::node(name, context).await?;
        if !nodes::is_cordoned(&node) {
            return Err(Failure::plain(format!("somebody uncordoned {name}: its drain is over")));
        }
        if !is_ready(&node) && !is_lost_told {
            is_lost_told = true;
            talk(&format!(
                "node/{name} is NotReady: its pods are awaited until it says that they are gone\n\
                 hint: if its machine is off for good, windlass fence {name}\n"
            ));
        }
        if until.is_some_and(|until| clock::now().elapsed.since_boot() >= until) {
            return Ok(End::TimedOut(going.len()));
        }
        tokio::time::sleep(STEP).await;
    }
}

fn is_ready(node: &Value) -> bool {
    let mut conditions = items(node, "/status/conditions").iter();
    conditions.any(|its| text(its, "/type") == "Ready" && text(its, "/status") == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, owner: &str, volumes: &Value, phase: &str) -> Value {
        let owners = match owner {
            "" => json!([]),
            kind => json!([{"kind": kind, "name": "o"}]),
        };
        json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "ownerReferences": owners},
            "spec": {"volumes": volumes},
            "status": {"phase": phase},
        })
    }

    #[test]
    fn who_may_not_go_is_told_in_kubectls_words() {
        let (data, none) = (json!([{"name": "d", "emptyDir": {}}]), json!([]));
        let pods = [
            pod("web", "ReplicaSet", &none, "Running"),
            pod("data", "ReplicaSet", &data, "Running"),
            pod("alone", "", &none, "Running"),
            pod("done", "", &data, "Succeeded"),
            pod("proxy", "DaemonSet", &none, "Running"),
        ];
        let args = |force, ignore_daemonsets, delete_emptydir_data| Drain {
            nodes: Vec::new(),
            force,
            ignore_daemonsets,
            delete_emptydir_data,
            grace_period: None,
            timeout: String::new(),
        };
        let all = going(&args(true, true, true), "n1", &pods).expect("all may go");
        let names: Vec<&String> = all.keys().collect();
        assert_eq!(names, ["alone", "data", "done", "web"], "a DaemonSet's pod stays");
        let Err(Failure::Failed { message, .. }) = going(&args(false, false, false), "n1", &pods)
        else {
            panic!("they may not");
        };
        for part in [
            "DaemonSet-managed Pods (use --ignore-daemonsets to ignore): shop/proxy",
            "declare no controller (use --force to override): shop/alone",
            "local storage (use --delete-emptydir-data to override): shop/data",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("done") && !message.contains("web"), "{message}");
    }
}
