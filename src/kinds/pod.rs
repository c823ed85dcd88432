//! What a pod is: everything the scheduler, the node and the network need to know of its template.
//!
//! These types hold what a manifest says after Kubernetes' defaults were filled in and every value
//! was checked: a port is a port, a quantity is a number. The manifest's own JSON stands beside
//! them in [`super::object::Object`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::container::{Container, Protocol};
use super::digest::Digest;
use super::labels::{Labels, Requirement, Selector};
use super::name::{Name, NodeName};
use super::quantity::Quantity;
use super::volume::Volume;

/// Amounts by resource name: `cpu`, `memory`, `ephemeral-storage`, extended ones.
pub type ResourceList = BTreeMap<String, Quantity>;

/// A pod before it has a name and a node.
#[derive(Clone, Debug)]
pub struct PodTemplate {
    /// Labels of the pods made from it.
    pub labels: Labels,
    /// Annotations of the pods made from it.
    pub annotations: Labels,
    /// What the pods run. Shared: the network keeps it too.
    pub spec: std::sync::Arc<PodSpec>,
    /// The template's JSON with defaults, as the API shows it (`metadata` and `spec`).
    pub json: std::sync::Arc<str>,
    /// The digest of its meaning: equal for `1000m` and `1`, and for a default written out or not.
    pub meaning: Digest,
    /// The digest of the template's canonical JSON as written, before defaults: a name for it
    /// that no upgrade of ours changes.
    pub written: Digest,
    /// What LimitRanges gave its containers beside what is written, where they gave anything. Two pods
    /// of one template may differ in it.
    pub given: Option<Digest>,
}

/// `PodSpec`, valid.
#[derive(Clone, Debug, Default)]
pub struct PodSpec {
    /// Run one after the other before `containers`.
    pub init_containers: Vec<Container>,
    /// Run side by side.
    pub containers: Vec<Container>,
    /// What containers may mount.
    pub volumes: Vec<Volume>,
    /// What to do when a container ends.
    pub restart_policy: RestartPolicy,
    /// How long a pod may take to stop, in seconds.
    pub termination_grace_s: u32,
    /// How long a pod may run, in seconds.
    pub active_deadline_s: Option<u32>,
    /// Where names are looked up.
    pub dns: PodDns,
    /// Labels a node must have.
    pub node_selector: Labels,
    /// The node the manifest asks for by name.
    pub node_name: Option<NodeName>,
    /// Nodes preferred, pods sought and shunned.
    pub affinity: Affinity,
    /// Taints put up with.
    pub tolerations: Vec<Toleration>,
    /// How evenly pods spread.
    pub topology_spread: Vec<TopologySpread>,
    /// Use the node's network.
    pub host_network: bool,
    /// Use the node's process ids.
    pub host_pid: bool,
    /// Use the node's IPC.
    pub host_ipc: bool,
    /// Containers of the pod see each other's processes.
    pub share_process_namespace: bool,
    /// The pod's host name; its own name where absent.
    pub hostname: Option<Name>,
    /// The domain within the namespace in which `hostname` is published.
    pub subdomain: Option<Name>,
    /// The kernel's host name is the full DNS name.
    pub set_hostname_as_fqdn: bool,
    /// Lines for `/etc/hosts`.
    pub host_aliases: Vec<HostAlias>,
    /// Who the processes are.
    pub security: PodSecurity,
    /// Secrets with registry credentials.
    pub image_pull_secrets: Vec<Name>,
    /// Who the pod is.
    pub service_account: Option<Name>,
    /// Whether it gets its account's token and namespace file.
    pub automount_token: Option<bool>,
    /// Whether Services of the namespace appear as variables.
    pub enable_service_links: bool,
    /// The class its priority comes from.
    pub priority_class: Option<Name>,
    /// Whether it may push lesser pods off a node.
    pub preempts: bool,
    /// What the pod costs beside its containers.
    pub overhead: ResourceList,
    /// Conditions that must hold, besides its containers, for it to be ready.
    pub readiness_gates: Vec<String>,
}

impl PodSpec {
    /// Init containers and containers, in start order.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// The container of that name, init containers included.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all_containers().find(|container| container.name == *name)
    }

    /// What the scheduler reserves: the larger of what runs together and what any init step needs,
    /// sidecars counted with what runs beside them, plus overhead.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>
    pub fn requests(&self) -> ResourceList {
        self.effective(|container| &container.resources.requests)
    }

    /// The sum of limits by the same rule; a resource is absent where any container has none.
    pub fn limits(&self) -> ResourceList {
        self.effective(|container| &container.resources.limits)
    }

    fn effective(&self, of: impl Fn(&Container) -> &ResourceList) -> ResourceList {
        let mut together = ResourceList::new();
        for container in &self.containers {
            add(&mut together, of(container));
        }
        let (mut sidecars, mut init_peak) = (ResourceList::new(), ResourceList::new());
        for container in &self.init_containers {
            if container.is_sidecar {
                add(&mut sidecars, of(container));
                raise(&mut init_peak, &sidecars);
            } else {
                let mut step = sidecars.clone();
                add(&mut step, of(container));
                raise(&mut init_peak, &step);
            }
        }
        add(&mut together, &sidecars);
        raise(&mut together, &init_peak);
        add(&mut together, &self.overhead);
        together
    }

    /// The quality-of-service class, by which the kernel and we choose whom to sacrifice.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
    pub fn qos(&self) -> QosClass {
        const COUNTED: [&str; 2] = ["cpu", "memory"];
        let amount = |list: &ResourceList, name: &str| {
            list.get(name).copied().filter(|quantity| !quantity.is_zero())
        };
        let asks_nothing = self.all_containers().all(|container| {
            COUNTED.iter().all(|name| {
                amount(&container.resources.requests, name).is_none()
                    && amount(&container.resources.limits, name).is_none()
            })
        });
        if asks_nothing {
            return QosClass::BestEffort;
        }
        let asks_exactly = self.all_containers().all(|container| {
            COUNTED.iter().all(|name| {
                let limit = amount(&container.resources.limits, name);
                limit.is_some() && limit == amount(&container.resources.requests, name)
            })
        });
        if asks_exactly { QosClass::Guaranteed } else { QosClass::Burstable }
    }

    /// Whether its node selector and required node affinity allow a node.
    pub fn allows_node(&self, name: &NodeName, labels: &Labels) -> bool {
        let is_selected = self.node_selector.iter().all(|(key, its)| labels.get(key) == Some(its));
        let required = self.affinity.node_required.as_ref();
        is_selected
            && required.is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }

    /// The ports of its node that it takes.
    pub fn taken_ports(&self) -> impl Iterator<Item = HostPort> {
        self.host_ports().filter_map(|port| {
            let number = port.host_port.or(self.host_network.then_some(port.port))?;
            // `0.0.0.0` is how Kubernetes writes "every address".
            let address = port.host_ip.filter(|address| !address.is_unspecified());
            Some(HostPort { protocol: port.protocol, port: number, address })
        })
    }

    /// The ports that it takes on its node, as they are written.
    pub fn host_ports(&self) -> impl Iterator<Item = &super::container::ContainerPort> {
        let host_network = self.host_network;
        self.containers
            .iter()
            .chain(self.init_containers.iter().filter(|container| container.is_sidecar))
            .flat_map(|container| &container.ports)
            .filter(move |port| port.host_port.is_some() || host_network)
    }
}

/// A port of a node that a pod takes: one pod a port, transport and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The transport.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
    /// The address; absent takes every one.
    pub address: Option<IpAddr>,
}

impl HostPort {
    /// Whether two can't be had at once.
    pub fn clashes(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.port == other.port
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

fn add(total: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        let entry = total.entry(name.clone()).or_default();
        *entry = *entry + *quantity;
    }
}

fn raise(total: &mut ResourceList, floor: &ResourceList) {
    for (name, quantity) in floor {
        let entry = total.entry(name.clone()).or_default();
        *entry = (*entry).max(*quantity);
    }
}

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is started again.
    #[default]
    Always,
    /// It is started again if it failed.
    OnFailure,
    /// It stays as it ended.
    Never,
}

/// Who goes first when memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// Asks nothing; goes first.
    BestEffort,
    /// Asks something.
    Burstable,
    /// Asks exactly what it may use; goes last.
    Guaranteed,
}

impl QosClass {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

/// `dnsPolicy` and `dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDns {
    /// Where names are looked up first.
    pub policy: DnsPolicy,
    /// Further name servers.
    pub nameservers: Vec<IpAddr>,
    /// Further search domains.
    pub searches: Vec<String>,
    /// Resolver options, as (name, value).
    pub options: Vec<(String, Option<String>)>,
}

/// <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The cluster's DNS, unless the pod uses the node's network.
    #[default]
    ClusterFirst,
    /// The cluster's DNS, also on the node's network.
    ClusterFirstWithHostNet,
    /// The node's resolvers.
    Default,
    /// Only what `dnsConfig` says.
    None,
}

/// A line for `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// Pod-level `securityContext`; a container's own wins over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurity {
    /// The user of all containers.
    pub run_as_user: Option<u32>,
    /// The group of all containers.
    pub run_as_group: Option<u32>,
    /// Refuse to run as root.
    pub run_as_non_root: Option<bool>,
    /// Further groups.
    pub supplemental_groups: Vec<u32>,
    /// The group that owns the pod's volumes.
    pub fs_group: Option<u32>,
    /// Whether volumes that already have the group are left alone.
    pub fs_group_on_root_mismatch: bool,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: Vec<(String, String)>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// AppArmor profile.
    pub app_armor: Option<AppArmor>,
}

/// `seccompProfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's own profile.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile below the node's seccomp directory.
    Localhost(String),
}

/// `appArmorProfile`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppArmor {
    /// Docker's own profile.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile loaded on the node.
    Localhost(String),
}

/// `affinity`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// One of these terms must match the node; no term at all asks nothing.
    pub node_required: Option<Vec<NodeTerm>>,
    /// Each matching term adds its weight.
    pub node_preferred: Vec<(i32, NodeTerm)>,
    /// Pods that must run in the same topology.
    pub pod_required: Vec<PodTerm>,
    /// Pods liked in the same topology.
    pub pod_preferred: Vec<(i32, PodTerm)>,
    /// Pods that must not run in the same topology.
    pub anti_required: Vec<PodTerm>,
    /// Pods disliked in the same topology.
    pub anti_preferred: Vec<(i32, PodTerm)>,
}

/// `nodeSelectorTerm`: all of its requirements; one without any matches no node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTerm {
    /// On the node's labels.
    pub labels: Vec<Requirement>,
    /// On the node's fields; `metadata.name` only.
    pub fields: Vec<Requirement>,
}

impl NodeTerm {
    /// Whether a node meets it; a term that asks nothing meets no node.
    pub fn matches(&self, name: &NodeName, labels: &Labels) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        let are_fields_met = || {
            let fields = Labels::from([("metadata.name".to_owned(), name.to_string())]);
            self.fields.iter().all(|requirement| requirement.matches(&fields))
        };
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && (self.fields.is_empty() || are_fields_met())
    }
}

/// `podAffinityTerm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTerm {
    /// Which pods; absent picks none.
    pub selector: Option<Selector>,
    /// Namespaces by name; with `namespace_selector` absent and this empty: the pod's own.
    pub namespaces: Vec<Name>,
    /// Namespaces by label.
    pub namespace_selector: Option<Selector>,
    /// The node label whose value is the topology.
    pub topology_key: String,
    /// Labels of the pod itself whose values the other pods must share.
    pub match_label_keys: Vec<String>,
    /// Labels of the pod itself whose values the other pods must not share.
    pub mismatch_label_keys: Vec<String>,
}

/// `topologySpreadConstraint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologySpread {
    /// By how many pods the fullest domain may exceed the emptiest.
    pub max_skew: u32,
    /// The node label whose value is the domain.
    pub topology_key: String,
    /// Whether an uneven placement is refused or only disliked.
    pub refuses: bool,
    /// Which pods are counted; absent counts none.
    pub selector: Option<Selector>,
    /// With fewer domains than this, the emptiest counts as empty.
    pub min_domains: Option<u32>,
    /// Labels of the pod itself whose values counted pods must share.
    pub match_label_keys: Vec<String>,
    /// Whether only nodes that the pod's node affinity allows make domains.
    pub honors_node_affinity: bool,
    /// Whether only nodes whose taints the pod tolerates make domains.
    pub honors_taints: bool,
}

/// A taint put up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; absent means every key.
    pub key: Option<String>,
    /// The taint's value; absent means every value (`operator: Exists`).
    pub value: Option<String>,
    /// The effect; absent means every effect.
    pub effect: Option<TaintEffect>,
    /// For `NoExecute`: how long, in seconds; absent means for ever.
    pub seconds: Option<i64>,
}

impl PodSpec {
    /// Whether it puts up with `taint`, for however long.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

impl Toleration {
    /// Whether it puts up with `taint`.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && self.key.as_ref().is_none_or(|key| *key == taint.key)
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// What keeps pods off a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Its name.
    pub key: String,
    /// Its value, possibly empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// What a taint does to pods that don't tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// They are not placed here.
    NoSchedule,
    /// They are placed here last.
    PreferNoSchedule,
    /// They are not placed here, and leave if they are here.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }

    /// Reads Kubernetes' word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute]
            .into_iter()
            .find(|effect| effect.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, cpu: Option<i64>, sidecar: bool) -> Container {
        let mut container = Container::new(Name::trusted(name), "image");
        if let Some(millis) = cpu {
            container.resources.requests.insert("cpu".into(), Quantity::millis(millis));
        }
        container.is_sidecar = sidecar;
        container
    }

    #[test]
    fn a_pod_reserves_the_larger_of_its_phases() {
        // (init steps as (cpu, sidecar), containers, expected)
        type Row = (&'static [(i64, bool)], &'static [i64], i64);
        let table: &[Row] = &[
            (&[], &[100, 200], 300),
            (&[(500, false)], &[100, 200], 500),
            (&[(50, true)], &[100, 200], 350),
            (&[(50, true), (400, false)], &[100, 200], 450),
            (&[(400, false), (50, true)], &[100, 200], 400),
        ];
        for (init, containers, expected) in table {
            let spec = PodSpec {
                init_containers: init
                    .iter()
                    .map(|(cpu, s)| container("i", Some(*cpu), *s))
                    .collect(),
                containers: containers
                    .iter()
                    .map(|cpu| container("c", Some(*cpu), false))
                    .collect(),
                ..PodSpec::default()
            };
            assert_eq!(
                spec.requests()["cpu"],
                Quantity::millis(*expected),
                "{init:?} {containers:?}"
            );
        }
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let mut spec =
            PodSpec { containers: vec![container("c", None, false)], ..PodSpec::default() };
        assert_eq!(spec.qos(), QosClass::BestEffort);
        let resources = &mut spec.containers[0].resources;
        resources.limits.insert("cpu".into(), Quantity::units(1));
        resources.limits.insert("memory".into(), Quantity::bytes(1 << 20));
        assert_eq!(spec.qos(), QosClass::Burstable);
        let resources = &mut spec.containers[0].resources;
        resources.requests = resources.limits.clone();
        assert_eq!(spec.qos(), QosClass::Guaranteed);
    }

    #[test]
    fn a_toleration_without_key_or_effect_tolerates_all() {
        let taint = Taint { key: "k".into(), value: "v".into(), effect: TaintEffect::NoExecute };
        let all = Toleration { key: None, value: None, effect: None, seconds: None };
        assert!(all.tolerates(&taint));
        let other = Toleration { value: Some("w".into()), key: Some("k".into()), ..all.clone() };
        assert!(!other.tolerates(&taint));
        let effect = Toleration { effect: Some(TaintEffect::NoSchedule), ..all };
        assert!(!effect.tolerates(&taint));
    }
}
