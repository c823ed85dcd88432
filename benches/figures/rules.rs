//! What the rules of 5,000 Services with two endpoints each cost.
//!
//! The floor is `iptables-restore` alone, given the text that is written, in a namespace of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::adapters::iptables::{Backend, Choice, Iptables};
use windlass::kinds::name::Name;
use windlass::kinds::rules::{RuleSet, Table};
use windlass::net::{self, Input, words};
use windlass::ports::filter::Call;

use crate::row::Row;
use crate::support::host::may_run;
use crate::support::namespace::Namespace;

const SERVICES: usize = 5_000;
const ROUNDS: usize = 5;
const CHANGES: usize = 15;

fn services(changed: usize) -> Vec<String> {
    let one = |n: usize| {
        let (high, low) = (n / 250, n % 250 + 1);
        let more = if n == 2_500 && changed % 2 == 1 { " 10.1.200.1:8080@c" } else { "" };
        format!(
            "ns-{}/service-{n} ip=10.96.{high}.{low} tcp:80 -> 10.1.{high}.{low}:8080@b \
             10.1.{}.{low}:8080@c{more}",
            n % 40,
            high + 100
        )
    };
    (0..SERVICES).map(one).collect()
}

fn input(changed: usize) -> Input {
    let services = services(changed);
    let services = services.iter().map(|text| words::service(text).expect("a service"));
    let network = |text: &str| text.parse().expect("a network");
    Input {
        node: Name::trusted("a"),
        node_ips: vec!["192.168.0.1".parse().expect("an address")],
        pod_cidr: Some(network("10.1.0.0/24")),
        cluster_cidrs: vec![network("10.1.0.0/16")],
        service_cidr: network("10.96.0.0/12"),
        services: services.collect(),
        local_pods: Vec::new().into_iter().collect(),
        host_ports: Vec::new(),
        dns: None,
        zones: BTreeMap::new(),
        neighbours: Default::default(),
        masquerade_egress: true,
        localhost_node_ports: true,
    }
}

/// Hands a text to `iptables-restore` in a namespace; how long that takes.
fn restore(place: &Namespace, backend: Backend, text: String) -> Duration {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let program = match backend {
        Backend::Nft => "iptables-nft-restore",
        Backend::Legacy => "iptables-legacy-restore",
    };
    place.run(move || {
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["--noflush", "--wait", "10"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("iptables is installed");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(text.as_bytes()).expect("it reads");
        drop(pipe);
        assert!(child.wait().expect("it ends").success());
        began.elapsed()
    })
}

/// What one round took: everything at first, and one change of an endpoint.
struct Took {
    first: Duration,
    change: Duration,
}

impl Took {
    const MAX: Self = Self { first: Duration::MAX, change: Duration::MAX };

    fn min(self, other: &Self) -> Self {
        Self { first: self.first.min(other.first), change: self.change.min(other.change) }
    }
}

/// Rendered, compared and written, as the agent does.
fn ours(place: &Namespace, backend: Backend) -> Took {
    let filter = Arc::new(Iptables::new(Choice::Always(backend)));
    let call = |call: Call| {
        let filter = filter.clone();
        place.block_on(async move {
            let began = Instant::now();
            filter.call(call).await.expect("applied");
            began.elapsed()
        })
    };
    let render = |changed: usize| {
        let input = input(changed);
        let began = Instant::now();
        let rules = Arc::new(net::rules(&input));
        (began.elapsed(), rules)
    };
    let (rendered, mut known) = render(0);
    let first = rendered + call(Call::Apply { wanted: known.clone(), known: None });
    let mut change = Duration::MAX;
    for n in 1..=CHANGES {
        let (rendered, wanted) = render(n);
        let call = call(Call::Apply { wanted: wanted.clone(), known: Some(known) });
        change = change.min(rendered + call);
        known = wanted;
    }
    Took { first, change }
}

/// Without the jumps in the built-in chains the kernel would not look at ours at all.
fn jumps(rules: &RuleSet) -> String {
    let table = |table: Table| {
        let jumps = rules.jumps.iter().filter(|jump| jump.table == table);
        let lines = jumps.map(|jump| format!("-I {} {}\n", jump.chain, jump.rule));
        format!("*{table}\n{}COMMIT\n", lines.collect::<String>())
    };
    Table::ALL.into_iter().map(table).collect()
}

/// The same text, written by the program alone.
fn alone(place: &Namespace, backend: Backend) -> Took {
    let worlds = [0, 1].map(|changed| net::rules(&input(changed)));
    let text = |known: &RuleSet, wanted: &RuleSet| net::restore(known, wanted).expect("a change");
    let first = text(&RuleSet::default(), &worlds[0]) + &jumps(&worlds[0]);
    let first = restore(place, backend, first);
    let mut change = Duration::MAX;
    for n in 1..=CHANGES {
        let text = text(&worlds[(n + 1) % 2], &worlds[n % 2]);
        change = change.min(restore(place, backend, text));
    }
    Took { first, change }
}

/// All of it; nothing without the right to make namespaces.
pub(crate) fn rows() -> Vec<Row> {
    if !may_run(&["iptables-nft-restore", "iptables-legacy-restore"]) {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (backend, name, first_s, change_s, kubernetes) in [
        (Backend::Nft, "nft", 0.6, 0.03, ["7.2 s", "255 ms"]),
        (Backend::Legacy, "legacy", 0.15, 0.06, ["470 ms", "213 ms"]),
    ] {
        let (mut took, mut floor) = (Took::MAX, Took::MAX);
        for _ in 0..ROUNDS {
            let (Some(place), Some(other)) = (Namespace::new(), Namespace::new()) else {
                return Vec::new();
            };
            took = took.min(&ours(&place, backend));
            floor = floor.min(&alone(&other, backend));
        }
        let what = format!("rules of 5,000 Services × 2, first, {name}");
        let first = Row::time(what, took.first, first_s).floor(floor.first);
        let change = Row::time(format!("one endpoint changed, {name}"), took.change, change_s);
        rows.push(first.kubernetes(kubernetes[0]));
        rows.push(change.floor(floor.change).kubernetes(kubernetes[1]));
    }
    rows
}
