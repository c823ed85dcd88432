//! Which endpoints get the packets of a Service's port on this node.
//!
//! Kubernetes' `proxy.CategorizeEndpoints`: ready ones; only if there are none, those that are
//! stopping but still answer; near ones first where the Service asks for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::kinds::name::NodeName;
use crate::kinds::service::{Endpoint, EndpointState, TrafficDistribution};

/// An address and port that packets are led to.
pub(super) type Target = (Ipv4Addr, u16);

/// What stands behind one port of a Service, seen from one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    /// For packets that may go anywhere.
    pub(super) spread: Vec<Target>,
    /// For packets that must stay on this node.
    pub(super) local: Vec<Target>,
    /// Whether any endpoint of the fleet could answer: refusing is for Services that have none,
    /// dropping for those that only have none here.
    pub(super) any: bool,
}

/// Where this node is.
pub(super) struct Here<'a> {
    pub(super) node: &'a NodeName,
    pub(super) zones: &'a BTreeMap<NodeName, String>,
}

/// The targets of the port that stands at `index` in the Service's list.
pub(super) fn targets(
    endpoints: &[Endpoint],
    index: usize,
    traffic: TrafficDistribution,
    here: &Here<'_>,
) -> Targets {
    let anywhere = usable(endpoints, index, |_| true);
    let at_home = usable(endpoints, index, |endpoint| endpoint.node.as_ref() == Some(here.node));
    let spread = match traffic {
        TrafficDistribution::Anywhere => anywhere,
        _ => near(anywhere, traffic, here),
    };
    Targets {
        any: !spread.is_empty(),
        spread: addresses(spread, index),
        local: addresses(at_home, index),
    }
}

fn port_of(endpoint: &Endpoint, index: usize) -> Option<u16> {
    endpoint.ports.get(index).copied().flatten()
}

/// Among those that have the port and are `wanted`: the ready ones; where there are none, those
/// that stop and still answer.
fn usable(
    endpoints: &[Endpoint],
    index: usize,
    wanted: impl Fn(&Endpoint) -> bool,
) -> Vec<&Endpoint> {
    let of = |state| -> Vec<&Endpoint> {
        endpoints
            .iter()
            .filter(|endpoint| endpoint.state == state)
            .filter(|endpoint| port_of(endpoint, index).is_some() && wanted(endpoint))
            .collect()
    };
    let ready = of(EndpointState::Ready);
    if ready.is_empty() { of(EndpointState::ServingTerminating) } else { ready }
}

/// Keeps the near ones, if there are any and if it is known of all where they are: an endpoint
/// whose place is unknown must not starve (`topology.go`, `canUseTopology`).
fn near<'a>(
    endpoints: Vec<&'a Endpoint>,
    traffic: TrafficDistribution,
    here: &Here<'_>,
) -> Vec<&'a Endpoint> {
    let among = |place_of: &dyn Fn(&Endpoint) -> Option<bool>| -> Vec<&'a Endpoint> {
        let places: Option<Vec<bool>> = endpoints.iter().map(|it| place_of(it)).collect();
        let here = places.into_iter().flatten().zip(&endpoints);
        here.filter_map(|(is_here, endpoint)| is_here.then_some(*endpoint)).collect()
    };
    let same_node = |endpoint: &Endpoint| endpoint.node.as_ref().map(|node| node == here.node);
    let zone = here.zones.get(here.node);
    let same_zone = |endpoint: &Endpoint| {
        let theirs = here.zones.get(endpoint.node.as_ref()?)?;
        Some(Some(theirs) == zone)
    };
    let mut chosen = Vec::new();
    if traffic == TrafficDistribution::SameNode {
        chosen = among(&same_node);
    }
    if chosen.is_empty() {
        chosen = among(&same_zone);
    }
    if chosen.is_empty() { endpoints } else { chosen }
}

/// In order, each once: endpoints may be named by several slices.
fn addresses(endpoints: Vec<&Endpoint>, index: usize) -> Vec<Target> {
    let targets = endpoints.into_iter();
    let mut targets: Vec<Target> =
        targets.filter_map(|endpoint| Some((endpoint.ip, port_of(endpoint, index)?))).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::Name;

    /// `1@a` is a ready endpoint 10.1.0.1 on node a, `1@a~` one that stops, `1@a!` one not ready;
    /// `1@` is outside the fleet.
    fn endpoints(text: &str) -> Vec<Endpoint> {
        let one = |word: &str| {
            let (number, rest) = word.split_once('@').expect("number@node");
            let node = rest.trim_end_matches(['~', '!']);
            Endpoint {
                ip: Ipv4Addr::new(10, 1, 0, number.parse().expect("a number")),
                node: (!node.is_empty()).then(|| Name::trusted(node)),
                pod: None,
                hostname: None,
                state: match rest.chars().last() {
                    Some('~') => EndpointState::ServingTerminating,
                    Some('!') => EndpointState::NotReady,
                    _ => EndpointState::Ready,
                },
                ports: vec![Some(80), None],
            }
        };
        text.split_whitespace().map(one).collect()
    }

    fn numbers(targets: &[Target]) -> String {
        let numbers: Vec<String> =
            targets.iter().map(|(ip, _)| ip.octets()[3].to_string()).collect();
        numbers.join(" ")
    }

    #[test]
    fn endpoints_are_picked_as_kube_proxy_does() {
        use TrafficDistribution::{Anywhere, SameNode, SameZone};
        // Nodes a and b are in zone x, c is in zone y, d in none; we are a.
        let table = [
            ("1@a 2@b 3@c", Anywhere, "1 2 3", "1"),
            ("1@a! 2@b", Anywhere, "2", ""),
            ("1@a~ 2@b", Anywhere, "2", "1"),
            ("1@a~ 2@b~ 3@c!", Anywhere, "1 2", "1"),
            ("1@a! 2@b!", Anywhere, "", ""),
            ("2@b 1@a 1@a", Anywhere, "1 2", "1"),
            ("1@ 2@b", Anywhere, "1 2", ""),
            ("1@a 2@b 3@c", SameZone, "1 2", "1"),
            ("3@c", SameZone, "3", ""),
            ("1@a 3@c 4@d", SameZone, "1 3 4", "1"),
            ("1@a 2@b 3@c", SameNode, "1", "1"),
            ("2@b 3@c", SameNode, "2", ""),
            ("1@a 2@", SameNode, "1 2", "1"),
            ("1@a~ 2@b", SameNode, "2", "1"),
        ];
        let zones = [("a", "x"), ("b", "x"), ("c", "y")]
            .map(|(node, zone)| (Name::trusted(node), zone.to_owned()))
            .into();
        let node = Name::trusted("a");
        let here = Here { node: &node, zones: &zones };
        for (text, traffic, spread, local) in table {
            let picked = targets(&endpoints(text), 0, traffic, &here);
            assert_eq!(numbers(&picked.spread), spread, "spread of {text}, {traffic:?}");
            assert_eq!(numbers(&picked.local), local, "local of {text}, {traffic:?}");
            assert_eq!(picked.any, !spread.is_empty());
        }
        let no_port = targets(&endpoints("1@a"), 1, Anywhere, &here);
        assert_eq!(no_port, Targets::default(), "a pod without the named port");
    }
}
