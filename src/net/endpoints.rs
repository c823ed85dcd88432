//! Who stands behind a Service: from its selector and the pods to a list of addresses, as
//! Kubernetes' EndpointSlice controller would write it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName, PodKey};
use crate::kinds::pod::PodSpec;
use crate::kinds::service::{Endpoint, EndpointState, Service};

/// A pod as the network sees it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// Its name.
    pub key: PodKey,
    /// Its labels.
    pub labels: Labels,
    /// Its node; absent until it is placed.
    pub node: Option<NodeName>,
    /// Its address; absent until it has one. The node's own for a pod on the node's network.
    pub ip: Option<Ipv4Addr>,
    /// Whether its containers are ready.
    pub ready: bool,
    /// Whether its end is decided.
    pub terminating: bool,
    /// Whether all its containers have ended for good.
    pub finished: bool,
    /// What it runs: named ports, host name and subdomain come from here.
    pub spec: Arc<PodSpec>,
}

/// The endpoints of the Service `name` in `namespace` among `pods`, by address.
///
/// A Service without a selector has none here: its endpoints are written by hand.
pub fn endpoints<'a>(
    namespace: &Name,
    name: &Name,
    service: &Service,
    pods: impl IntoIterator<Item = &'a PodView>,
) -> Vec<Endpoint> {
    let Some(selector) = &service.selector else {
        return Vec::new();
    };
    let mut found: Vec<Endpoint> = pods
        .into_iter()
        .filter(|pod| pod.key.namespace == *namespace && selector.matches(&pod.labels))
        .filter_map(|pod| endpoint(name, service, pod))
        .collect();
    found.sort();
    found
}

fn endpoint(name: &Name, service: &Service, pod: &PodView) -> Option<Endpoint> {
    if pod.finished {
        return None;
    }
    let in_our_domain = pod.spec.subdomain.as_ref() == Some(name);
    let hostname = pod.spec.hostname.as_ref().filter(|_| in_our_domain);
    let port_of = |port: &crate::kinds::service::ServicePort| {
        // `podutil.FindPort`: containers first, then init containers that keep running.
        let sidecars = pod.spec.init_containers.iter().filter(|init| init.is_sidecar);
        let containers = pod.spec.containers.iter().chain(sidecars);
        port.target.resolve(containers, port.protocol)
    };
    Some(Endpoint {
        ip: pod.ip?,
        node: pod.node.clone(),
        pod: Some(pod.key.clone()),
        hostname: hostname.map(ToString::to_string),
        state: state(service, pod),
        ports: service.ports.iter().map(port_of).collect(),
    })
}

/// `endpointslice.utils.podToEndpoint`: published pods count as ready whatever they say.
fn state(service: &Service, pod: &PodView) -> EndpointState {
    match (pod.ready, pod.terminating) {
        _ if service.publish_not_ready => EndpointState::Ready,
        (true, false) => EndpointState::Ready,
        (true, true) => EndpointState::ServingTerminating,
        (false, _) => EndpointState::NotReady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::container::{Container, ContainerPort, PortRef, Protocol};
    use crate::kinds::labels::Selector;
    use crate::net::words;

    fn web() -> Service {
        let view = words::service("shop/web tcp:80/http").expect("a service");
        Arc::unwrap_or_clone(view.spec)
    }

    fn pod(name: &str, ip: u8, ready: bool, terminating: bool, http: u16) -> PodView {
        let mut container = Container::new(Name::trusted("c"), "image");
        container.ports = vec![ContainerPort {
            name: Some(Name::trusted("http")),
            port: http,
            protocol: Protocol::Tcp,
            host_port: None,
            host_ip: None,
        }];
        PodView {
            key: PodKey::new(&Name::trusted("shop"), &Name::trusted(name)),
            labels: Labels::from([("app".into(), "web".into())]),
            node: Some(Name::trusted("a")),
            ip: Some(Ipv4Addr::new(10, 1, 0, ip)),
            ready,
            terminating,
            finished: false,
            spec: Arc::new(PodSpec { containers: vec![container], ..PodSpec::default() }),
        }
    }

    fn shown(service: &Service, pods: &[PodView]) -> String {
        let found = endpoints(&Name::trusted("shop"), &Name::trusted("web"), service, pods);
        let one = |endpoint: &Endpoint| {
            let ports: Vec<String> = endpoint
                .ports
                .iter()
                .map(|port| port.map_or("-".into(), |port| port.to_string()))
                .collect();
            format!("{}:{} {:?}", endpoint.ip, ports.join(","), endpoint.state)
        };
        found.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn a_service_has_the_pods_that_its_selector_picks() {
        let mut service = web();
        service.selector = Some(Selector::parse("app=web").expect("parses"));
        service.ports[0].target = PortRef::Name(Name::trusted("http"));
        let mut other_app = pod("x", 9, true, false, 80);
        other_app.labels.clear();
        let mut other_namespace = pod("y", 8, true, false, 80);
        other_namespace.key.namespace = Name::trusted("lab");
        let mut finished = pod("z", 7, true, false, 80);
        finished.finished = true;
        let mut addressless = pod("v", 6, true, false, 80);
        addressless.ip = None;
        let mut portless = pod("u", 5, true, false, 80);
        portless.spec = Arc::new(PodSpec::default());
        let pods = [
            pod("c", 3, true, true, 80),
            pod("b", 2, false, false, 80),
            pod("a", 1, true, false, 8080),
            other_app,
            other_namespace,
            finished,
            addressless,
            portless,
        ];
        assert_eq!(
            shown(&service, &pods),
            "10.1.0.1:8080 Ready | 10.1.0.2:80 NotReady | 10.1.0.3:80 ServingTerminating | \
             10.1.0.5:- Ready"
        );
        service.publish_not_ready = true;
        assert!(!shown(&service, &pods).contains("NotReady"));
        service.selector = None;
        assert_eq!(shown(&service, &pods), "");
    }

    #[test]
    fn a_host_name_is_published_in_its_own_service_only() {
        let mut named = pod("a", 1, true, false, 80);
        named.spec = Arc::new(PodSpec {
            hostname: Some(Name::trusted("db-0")),
            subdomain: Some(Name::trusted("web")),
            ..PodSpec::default()
        });
        let mut service = web();
        service.selector = Some(Selector::default());
        for (name, hostname) in [("web", Some("db-0")), ("other", None)] {
            let pods = [named.clone()];
            let found = endpoints(&Name::trusted("shop"), &Name::trusted(name), &service, &pods);
            assert_eq!(found[0].hostname.as_deref(), hostname, "{name}");
        }
    }
}
