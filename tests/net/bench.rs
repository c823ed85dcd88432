//! Figures: 5,000 Services × 2 endpoints. `cargo test --release --test all bench -- --ignored --nocapture`

use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::adapters::iptables::{Backend, Choice, Iptables};
use windlass::net;
use windlass::ports::filter::Call;

use super::lab::input;
use crate::support::namespace::Namespace;

const SERVICES: usize = 5_000;
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

#[allow(clippy::disallowed_methods)] // A benchmark measures time.
fn now() -> Instant {
    Instant::now()
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{what:<44} min {:7.1} ms   median {:7.1} ms   ({} runs)",
        ms(times[0]),
        ms(times[times.len() / 2]),
        times.len()
    );
}

#[test]
#[ignore = "a benchmark: minutes, and its figures are for people"]
fn rules_of_many_services() {
    for backend in [Backend::Nft, Backend::Legacy] {
        let (mut firsts, mut renders, mut changes) = (vec![], vec![], vec![]);
        let (mut checks, mut unchanged) = (vec![], vec![]);
        for _ in 0..5 {
            let Some(place) = Namespace::new() else {
                crate::support::skip("rules_of_many_services", "needs root");
                return;
            };
            let worlds = [0, 1].map(|changed| {
                let texts = services(changed);
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                input(&texts)
            });
            let start = now();
            let mut known = Arc::new(net::rules(&worlds[0]));
            renders.push(start.elapsed());
            if firsts.is_empty() {
                println!("{backend:?}: {} rules", known.rule_count());
            }
            let filter = Arc::new(Iptables::new(Choice::Always(backend)));
            let call = |call: Call| {
                let filter = filter.clone();
                place.block_on(async move {
                    let start = now();
                    filter.call(call).await.expect("applied");
                    start.elapsed()
                })
            };
            firsts.push(call(Call::Apply { wanted: known.clone(), known: None }));
            for change in 1..=CHANGES {
                let start = now();
                let wanted = Arc::new(net::rules(&worlds[change % 2]));
                let rendered = start.elapsed();
                let written = call(Call::Apply { wanted: wanted.clone(), known: Some(known) });
                changes.push(rendered + written);
                known = wanted;
            }
            checks.push(call(Call::Check { wanted: known.clone() }));
            let wanted = Arc::new(net::rules(&worlds[0]));
            call(Call::Apply { wanted: wanted.clone(), known: Some(known) });
            unchanged.push(call(Call::Check { wanted }));
        }
        show(&format!("{backend:?}: render"), renders);
        show(&format!("{backend:?}: first sync (look and write)"), firsts);
        show(&format!("{backend:?}: one endpoint (render, diff, write)"), changes);
        show(&format!("{backend:?}: check"), checks);
        show(&format!("{backend:?}: check after a change of ours"), unchanged);
    }
}
