//! Where packets and names go on this node: rendered whole whenever something they follow from has
//! changed, and applied if the result differs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;

use crate::kinds::binding::Generation;
use crate::kinds::container::Protocol;
use crate::kinds::name::{Name, NodeName, Uid};
use crate::kinds::object::Body;
use crate::kinds::rules::RuleSet;
use crate::kinds::status::PodStatus;
use crate::kinds::time::{Elapsed, Now};
use crate::net::paths::{self, Own, Peer};
use crate::net::{self, DnsListener, HostPort, PodView, ServiceView};
use crate::plan;
use crate::ports::filter::{Answer as FilterAnswer, Call as FilterCall, Flow};
use crate::ports::links::{Call as LinksCall, NodeNetwork};
use crate::ports::{Answer, Call, Fault, names};

use super::{Agent, Purpose};

/// How long a change of rules may take; tens of thousands of rules need seconds.
const RULES_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the rules are looked at: somebody may have flushed them.
const CHECK: Duration = Duration::from_secs(10);
/// How often addresses and routes are put right though nothing of ours changed: network managers
/// remove what they do not know.
const ENSURE: Duration = Duration::from_secs(60);
/// The wait after a change that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Where rules and names stand.
#[derive(Debug)]
pub(super) struct Network {
    needs_look: bool,
    wanted: Option<Arc<RuleSet>>,
    /// What is in force; none if it is not known.
    applied: Option<Arc<RuleSet>>,
    version: u64,
    in_flight: Option<(u64, Arc<RuleSet>, BTreeSet<Uid>)>,
    /// Pods that were leaving when the wanted rules were rendered.
    leaving: BTreeSet<Uid>,
    released: BTreeSet<Uid>,
    /// The decision that the wanted rules were rendered for, and the one that those in force follow.
    rendered: Generation,
    followed: Generation,
    check_at: Option<Elapsed>,
    is_checking: bool,
    retry_at: Option<Elapsed>,
    names: Option<names::Call>,
    names_served: Option<names::Call>,
    is_serving: bool,
    /// The port at which DNS answers: another than 53 where somebody else has that.
    dns_port: u16,
    node_network: Option<Arc<NodeNetwork>>,
    node_network_ensured: Option<Arc<NodeNetwork>>,
    /// The address of DNS is there, though perhaps not the way to every node.
    is_ensured_once: bool,
    is_ensuring: bool,
    ensure_at: Option<Elapsed>,
    /// What the wanted rules were rendered from.
    input: Option<net::Input>,
    /// UDP flows to be forgotten once the rules that lead elsewhere are in force.
    stale_flows: Vec<Flow>,
    pub(super) services: Arc<Vec<ServiceView>>,
    pub(super) fault: Option<Fault>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            needs_look: false,
            wanted: None,
            applied: None,
            version: 0,
            in_flight: None,
            leaving: BTreeSet::new(),
            released: BTreeSet::new(),
            rendered: Generation::default(),
            followed: Generation::default(),
            check_at: None,
            is_checking: false,
            retry_at: None,
            names: None,
            names_served: None,
            is_serving: false,
            dns_port: net::input::DNS_PORT,
            node_network: None,
            node_network_ensured: None,
            is_ensured_once: false,
            is_ensuring: false,
            ensure_at: None,
            input: None,
            stale_flows: Vec::new(),
            services: Arc::default(),
            fault: None,
        }
    }
}

impl Network {
    /// Pods that are being ended and to which no packet is led any more.
    pub(super) fn released(&self) -> &BTreeSet<Uid> {
        &self.released
    }

    /// The decision that the rules in force follow.
    pub(super) fn follows(&self) -> Generation {
        self.followed
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        // Until the time to try again has come, nothing else is done.
        self.retry_at.or_else(|| {
            self.check_at
                .filter(|_| self.applied.is_some() && !self.is_checking && self.in_flight.is_none())
        })
    }
}

impl Agent {
    /// Something that rules or names follow from may have changed.
    pub(super) fn network_needs_look(&mut self) {
        self.network.needs_look = true;
        self.is_stirred = true;
    }

    pub(super) fn tend_network(&mut self, now: Now) {
        if self.network.needs_look && self.may_render() {
            // Labels, by which Services find pods, stand in the templates.
            self.fetch_books();
            if !self.is_fetching_books() {
                self.network.needs_look = false;
                self.render();
            }
        }
        if self.network.retry_at.is_some_and(|at| at > now.elapsed) {
            return;
        }
        self.network.retry_at = None;
        self.ensure_node_network();
        self.apply_rules();
        self.serve_names();
        self.check_rules(now);
    }

    /// Whether everything is known that rules follow from. Before that, rules that an earlier agent
    /// left stay as they are: half of the truth would cut connections.
    fn may_render(&self) -> bool {
        self.store.is_read()
            && self.host.containers().is_some()
            && self.has_read_all()
            && !self.is_fetching_books()
    }

    fn render(&mut self) {
        let Some(around) = self.host.around().cloned() else {
            return;
        };
        let pods = self.pod_views();
        let services = self.service_views(&pods);
        let settings = &self.config.settings;
        let me = &self.config.node;
        let local = |pod: &&PodView| pod.node.as_ref() == Some(me) && !pod.spec.host_network;
        let own = Own {
            ip: around.node_ip,
            pods: around.pod_network,
            near: self.near(),
            link_mtu: self.host.network().map_or(0, |seen| self.link_mtu(seen)),
        };
        let peers = self.peers();
        let overlay = &self.config.overlay;
        let mut node_network = NodeNetwork {
            dns: Some(settings.dns_ip),
            services: settings.service_network,
            node_ip: around.node_ip,
            peers: Vec::new(),
            vxlan: None,
            localhost_node_ports: false,
        };
        paths::lay(&mut node_network, &own, overlay, &peers);
        let input = net::Input {
            node: me.clone(),
            node_ips: self.node_ips(),
            pod_cidr: around.pod_network,
            cluster_cidrs: vec![settings.pod_network],
            service_cidr: settings.service_network,
            services: services.clone(),
            local_pods: pods.iter().filter(local).filter_map(|pod| pod.ip).collect(),
            host_ports: pods.iter().filter(local).flat_map(host_ports).collect(),
            dns: Some(DnsListener { address: settings.dns_ip, port: self.network.dns_port }),
            neighbours: paths::neighbours(&node_network, overlay, &peers, &self.doors()),
            zones: self.zones(),
            masquerade_egress: true,
            localhost_node_ports: false,
        };
        let addresses: Vec<(Name, Ipv4Addr)> = pods
            .iter()
            .filter(|pod| !pod.spec.host_network && !pod.finished)
            .filter_map(|pod| Some((pod.key.namespace.clone(), pod.ip?)))
            .collect();
        let zone = net::zone(&net::ZoneInput {
            domain: &self.config.domain,
            services: &services,
            pods: &addresses,
            networks: &[settings.pod_network, settings.service_network],
        });
        let names = names::Call {
            address: settings.dns_ip,
            zone: Arc::new(zone),
            resolvers: around.resolvers.clone(),
        };
        let rules = net::rules(&input);
        let generation = self.store.state().map(|state| state.generation).unwrap_or_default();
        let network = &mut self.network;
        network.rendered = generation;
        network.leaving = self
            .host
            .pods()
            .iter()
            .filter(|(_, pod)| pod.binding.deletion.is_some())
            .map(|(uid, _)| uid.clone())
            .collect();
        if let Some(before) = &network.input {
            network.stale_flows.extend(net::stale_flows(before, &input));
        }
        network.input = Some(input);
        network.services = Arc::new(services);
        if network.node_network.as_deref() != Some(&node_network) {
            network.node_network = Some(Arc::new(node_network));
        }
        if network.wanted.as_deref() != Some(&rules) {
            network.wanted = Some(Arc::new(rules));
        }
        if network.names.as_ref() != Some(&names) {
            network.names = Some(names);
        }
    }

    fn near(&self) -> Vec<Ipv4Network> {
        let seen = self.host.network().into_iter();
        seen.flat_map(|seen| &seen.near).map(|near| near.network).collect()
    }

    /// The ports at which the agent answers other nodes.
    fn doors(&self) -> Vec<(Protocol, u16)> {
        let contact = self.config.contact.iter();
        let doors = contact.flat_map(|contact| {
            [(Protocol::Udp, contact.hint_port), (Protocol::Tcp, contact.api_port)]
        });
        doors.filter_map(|(protocol, port)| Some((protocol, port?))).collect()
    }

    /// The other nodes whose address is known and whose pods have addresses.
    fn peers(&self) -> Vec<Peer> {
        let Some(state) = self.store.state() else {
            return Vec::new();
        };
        let others = state.nodes.iter().filter(|(node, _)| **node != self.config.node);
        others
            .filter_map(|(node, allocation)| {
                let facts = &self.store.report_of(node)?.facts;
                let ip = facts.ipv4()?;
                Some(Peer { ip, pods: allocation.pod_cidr })
            })
            .collect()
    }

    fn node_ips(&self) -> Vec<Ipv4Addr> {
        let mut ips: Vec<Ipv4Addr> = self.node_ip().into_iter().collect();
        let others = self.host.network().into_iter().flat_map(|network| &network.addresses);
        for ip in others {
            if !ips.contains(ip) {
                ips.push(*ip);
            }
        }
        ips
    }

    fn zones(&self) -> BTreeMap<NodeName, String> {
        let own = self.host.report().map(|report| (&self.config.node, report));
        let said = self.store.nodes().chain(own);
        said.filter_map(|(node, report)| {
            let zone = report.facts.labels.get(crate::kinds::node::LABEL_ZONE)?.clone();
            Some((node.clone(), zone))
        })
        .collect()
    }

    /// Every placed pod as the network sees it: this node's from its own eyes, others' from their
    /// reports.
    fn pod_views(&self) -> Vec<PodView> {
        let Some(state) = self.store.state() else {
            return Vec::new();
        };
        let apps = self.wish.inputs(self.store.state());
        let mut reader = plan::Reader::new(&apps, &self.library);
        state
            .all_pods()
            .filter_map(|(node, binding)| {
                let name = node.as_ref()?;
                let template = reader.template_for(binding)?;
                let own = self.host.report().filter(|_| *name == self.config.node);
                let said = own.or_else(|| self.store.report_of(name));
                let report = said.and_then(|said| said.pods.get(&binding.uid));
                // What a lost node said last may be true no longer.
                let is_lost = state.is_away(name);
                let nothing = PodStatus::default();
                let status = report.map_or(&nothing, |report| &report.status);
                let mut labels = template.labels.clone();
                labels.extend(binding.labels.clone());
                let own_ip = if template.spec.host_network {
                    status.host_ip.and_then(|ip| match ip {
                        std::net::IpAddr::V4(ip) => Some(ip),
                        std::net::IpAddr::V6(_) => None,
                    })
                } else {
                    status.pod_ip
                };
                Some(PodView {
                    key: binding.key.clone(),
                    labels,
                    node: node.clone(),
                    ip: own_ip,
                    ready: status.is_ready() && !is_lost,
                    terminating: binding.deletion.is_some(),
                    finished: status.phase.is_over() || report.is_some_and(|report| report.gone),
                    spec: template.spec.clone(),
                })
            })
            .collect()
    }

    fn service_views(&self, pods: &[PodView]) -> Vec<ServiceView> {
        let Some(state) = self.store.state() else {
            return Vec::new();
        };
        let objects = self.wish.objects();
        objects
            .filter_map(|object| {
                let Body::Service(spec) = &object.body else {
                    return None;
                };
                let namespace: &Name = object.key.namespace.as_ref()?;
                let given = state.service(namespace, &object.key.name);
                let node_port = |port: &crate::kinds::service::ServicePort| {
                    given.and_then(|g| g.node_ports.get(&port.allocation_key()).copied())
                };
                Some(ServiceView {
                    namespace: namespace.clone(),
                    name: object.key.name.clone(),
                    spec: spec.clone(),
                    ip: given.and_then(|given| given.cluster_ip),
                    node_ports: spec.ports.iter().map(node_port).collect(),
                    load_balancer_ips: Vec::new(),
                    endpoints: net::endpoints(namespace, &object.key.name, spec, pods),
                })
            })
            .collect()
    }

    fn ensure_node_network(&mut self) {
        let network = &mut self.network;
        if network.is_ensuring || network.node_network == network.node_network_ensured {
            return;
        }
        let Some(wanted) = network.node_network.clone() else {
            return;
        };
        network.is_ensuring = true;
        let call = Call::Links(LinksCall::Ensure(NodeNetwork::clone(&wanted)));
        self.call(Purpose::EnsureNetwork(wanted), call, RULES_TIMEOUT);
    }

    pub(super) fn network_ensured(
        &mut self,
        wanted: Arc<NodeNetwork>,
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.network.is_ensuring = false;
        // One node that can't be reached must not take the names of all others away.
        self.network.is_ensured_once = true;
        match result {
            Ok(_) => {
                self.network.node_network_ensured = Some(wanted);
                self.network.ensure_at = Some(now.elapsed + ENSURE);
            }
            Err(fault) => self.network_failed(fault, now),
        }
    }

    fn apply_rules(&mut self) {
        let network = &mut self.network;
        let Some(wanted) = network.wanted.clone() else {
            return;
        };
        if network.in_flight.is_some() {
            return;
        }
        if network.applied.as_ref() == Some(&wanted) {
            network.followed = network.rendered;
            self.release();
            self.forget_flows();
            return;
        }
        network.version += 1;
        network.in_flight = Some((network.version, wanted.clone(), network.leaving.clone()));
        let known = network.applied.clone();
        let purpose = Purpose::Rules(network.version);
        self.call(purpose, Call::Filter(FilterCall::Apply { wanted, known }), RULES_TIMEOUT);
    }

    /// UDP has no connections, only flows that the kernel remembers: those that lead to an endpoint
    /// that is no more would go on leading there.
    fn forget_flows(&mut self) {
        if !self.network.stale_flows.is_empty() {
            let flows = std::mem::take(&mut self.network.stale_flows);
            let call = FilterCall::ForgetFlows { flows };
            self.call(Purpose::ForgetFlows, Call::Filter(call), RULES_TIMEOUT);
        }
    }

    /// The rules in force are the wanted ones: whoever was leaving when they were rendered gets no
    /// packet any more.
    fn release(&mut self) {
        if self.network.released != self.network.leaving {
            self.network.released = self.network.leaving.clone();
            self.host_needs_look();
        }
    }

    pub(super) fn rules_applied(&mut self, version: u64, result: Result<Answer, Fault>, now: Now) {
        let Some((asked, rules, leaving)) = self.network.in_flight.take() else {
            return;
        };
        if asked != version {
            return;
        }
        match result {
            Ok(_) => {
                self.network.applied = Some(rules);
                self.network.fault = None;
                self.network.check_at.get_or_insert(now.elapsed + CHECK);
                let released: BTreeSet<Uid> =
                    self.network.released.union(&leaving).cloned().collect();
                if released != self.network.released {
                    self.network.released = released;
                    self.host_needs_look();
                }
            }
            Err(fault) => {
                // What is in force is not known now.
                self.network.applied = None;
                self.network_failed(fault, now);
            }
        }
    }

    fn network_failed(&mut self, fault: Fault, now: Now) {
        if self.network.fault.as_ref() != Some(&fault) {
            tracing::warn!(%fault, "rules, routes or names could not be changed");
        }
        self.network.fault = Some(fault);
        self.network.retry_at = Some(now.elapsed + RETRY);
    }

    fn serve_names(&mut self) {
        let network = &mut self.network;
        let Some(names) = network.names.clone() else { return };
        let is_ready = network.is_ensured_once && !network.is_serving;
        if is_ready && network.names_served.as_ref() != Some(&names) {
            network.is_serving = true;
            let purpose = Purpose::Names(Box::new(names.clone()));
            self.call(purpose, Call::Names(names), RULES_TIMEOUT);
        }
    }

    pub(super) fn names_served(
        &mut self,
        names: names::Call,
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.network.is_serving = false;
        match result {
            Ok(Answer::Names(answer)) => {
                self.network.names_served = Some(names);
                if self.network.dns_port != answer.port {
                    self.network.dns_port = answer.port;
                    self.network_needs_look();
                }
            }
            Ok(_) => {}
            Err(fault) => self.network_failed(fault, now),
        }
    }

    fn check_rules(&mut self, now: Now) {
        let network = &mut self.network;
        let is_due = network.check_at.is_some_and(|at| at <= now.elapsed);
        let Some(wanted) = network.applied.clone() else {
            return;
        };
        if is_due && !network.is_checking && network.in_flight.is_none() {
            network.is_checking = true;
            network.check_at = None;
            self.survey_links();
            self.call(
                Purpose::CheckRules,
                Call::Filter(FilterCall::Check { wanted }),
                RULES_TIMEOUT,
            );
        }
    }

    pub(super) fn rules_checked(&mut self, result: Result<Answer, Fault>, now: Now) {
        self.network.is_checking = false;
        self.network.check_at = Some(now.elapsed + CHECK);
        match result {
            Ok(Answer::Filter(FilterAnswer::Intact(true))) => {
                if self.network.ensure_at.is_some_and(|at| at <= now.elapsed) {
                    self.network.node_network_ensured = None;
                }
            }
            Ok(_) => {
                tracing::warn!("somebody removed rules of ours; putting them back");
                self.network.applied = None;
                self.network.node_network_ensured = None;
            }
            Err(fault) => self.network_failed(fault, now),
        }
    }
}

/// The ports of the node that lead to a pod.
fn host_ports(pod: &PodView) -> Vec<HostPort> {
    let Some(pod_ip) = pod.ip else {
        return Vec::new();
    };
    pod.spec
        .host_ports()
        .filter_map(|port| {
            let host_ip = match port.host_ip {
                Some(std::net::IpAddr::V4(ip)) if !ip.is_unspecified() => Some(ip),
                _ => None,
            };
            Some(HostPort {
                protocol: port.protocol,
                host_ip,
                port: port.host_port?,
                pod_ip,
                pod_port: port.port,
            })
        })
        .collect()
}
