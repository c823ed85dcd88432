//! Properties of [`decide`](super::super::decide): whatever happens in whatever order.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest,
};

use super::{Host, seconds};
use crate::node::decide;

#[derive(Clone, Debug)]
enum Deed {
    Pass(u64),
    EndMain(u8),
    EndPause,
    RestartAgent,
    DockerGone(bool),
    Bad(bool),
    Delete(u32),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0..90_u64).prop_map(Deed::Pass),
        2 => any::<u8>().prop_map(Deed::EndMain),
        1 => Just(Deed::EndPause),
        2 => Just(Deed::RestartAgent),
        1 => any::<bool>().prop_map(Deed::DockerGone),
        1 => any::<bool>().prop_map(Deed::Bad),
    ];
    (prop::collection::vec(deed, 0..25), prop::option::of(0..60_u32)).prop_map(
        |(mut deeds, end)| {
            deeds.extend(end.map(Deed::Delete));
            deeds
        },
    )
}

const SPEC: &str = "initContainers: [{name: one, image: x}], containers: [{name: main, image: x, \
                    livenessProbe: {tcpSocket: {port: 80}}, lifecycle: {preStop: {sleep: \
                    {seconds: 3}}}}]";

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// A look is safe to repeat: with nothing new, it asks for nothing. No container ever runs
    /// twice. In the end the pod runs, or, told to end, is gone.
    #[test]
    fn a_pod_comes_to_where_it_should_be(deeds in deeds()) {
        let mut host = Host::running(SPEC);
        let mut is_deleted = false;
        for deed in deeds {
            match deed {
                Deed::Pass(s) => host.pass(seconds(s)),
                Deed::EndMain(code) => {
                    if host.alive().contains(&"main".to_owned()) {
                        host.end("main", code.into());
                    } else if host.alive().contains(&"one".to_owned()) {
                        host.end("one", i64::from(code % 2));
                    }
                }
                Deed::EndPause => {
                    let has_pause = host.seen.containers.iter().flat_map(|all| all.values())
                        .any(|c| c.marks.role.container().is_none() && c.is_running());
                    if has_pause {
                        host.end("pause", 137);
                    }
                }
                Deed::RestartAgent => host.restart_agent(),
                Deed::DockerGone(gone) => host.is_docker_gone = gone,
                Deed::Bad(bad) => {
                    host.bad_probes.clear();
                    if bad {
                        host.bad_probes.insert("liveness");
                    }
                }
                Deed::Delete(grace_s) => {
                    is_deleted = true;
                    host.delete(grace_s);
                }
            }
            host.run();
            let Host { mine, seen, around, memory, now, .. } = &mut host;
            prop_assert!(decide(mine, seen, around, memory, *now).is_empty());
            let alive = host.alive();
            let mut once = alive.clone();
            once.dedup();
            prop_assert!(alive == once, "twice: {alive:?}");
        }
        host.is_docker_gone = false;
        host.bad_probes.clear();
        for _ in 0..4 {
            host.pass(seconds(400));
            if host.alive().contains(&"one".to_owned()) {
                host.end("one", 0);
            }
        }
        if is_deleted {
            prop_assert!(host.is_gone());
        } else {
            prop_assert!(host.alive() == ["main"], "{:?}", host.alive());
        }
    }
}
