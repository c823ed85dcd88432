//! Pod specs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::affinity::{affinity, check_spread_pairs, toleration, topology_spread};
use super::container::{Pod, check_host_ports, container};
use super::resources;
use super::security;
use super::volume::volumes;
use super::{Check, Kind};
use crate::kinds::container::Container;
use crate::kinds::labels::label_key_complaint;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::pod::{DnsPolicy, HostAlias, PodDns, PodSpec, RestartPolicy};
use crate::kinds::volume::{DownwardValue, FileSource, FileVolume, VolumeSource};

/// `v1.DefaultTerminationGracePeriodSeconds`.
const GRACE_SECONDS: i64 = 30;

/// `ValidatePodSpec`. `claims` are volumes that the pod will have beside its own.
pub(super) fn spec(
    path: &Path<'_>,
    spec: &api::PodSpec,
    claims: BTreeSet<String>,
    check: &mut Check<'_, '_>,
) -> PodSpec {
    let most = i64::from(i32::MAX);
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS);
    let grace_path = path.field("terminationGracePeriodSeconds");
    let termination_grace_s = check.number(&grace_path, grace, 0, most);
    let host_network = spec.host_network.unwrap_or(false);
    let host_ipc = spec.host_ipc.unwrap_or(false);
    let given = spec.volumes.as_deref().unwrap_or_default();
    let (volumes, mut volume_names) = volumes(&path.field("volumes"), given, check);
    volume_names.extend(claims);
    let pod = Pod { volumes: &volume_names, grace_s: grace, host_network };
    let (init_containers, containers) = containers(path, spec, &pod, check);
    let policies = [
        ("Always", RestartPolicy::Always),
        ("OnFailure", RestartPolicy::OnFailure),
        ("Never", RestartPolicy::Never),
    ];
    let policy = spec.restart_policy.as_deref();
    let mut result = PodSpec {
        init_containers,
        containers,
        volumes,
        restart_policy: check.word_or(
            &path.field("restartPolicy"),
            policy,
            &policies,
            RestartPolicy::Always,
        ),
        termination_grace_s,
        active_deadline_s: spec
            .active_deadline_seconds
            .map(|deadline| check.number(&path.field("activeDeadlineSeconds"), deadline, 1, most)),
        dns: dns(path, spec, check),
        host_network,
        host_pid: spec.host_pid.unwrap_or(false),
        host_ipc,
        share_process_namespace: spec.share_process_namespace.unwrap_or(false),
        set_hostname_as_fqdn: spec.set_hostname_as_fqdn.unwrap_or(false),
        automount_token: spec.automount_service_account_token,
        enable_service_links: spec.enable_service_links.unwrap_or(true),
        host_aliases: host_aliases(&path.field("hostAliases"), spec, check),
        ..PodSpec::default()
    };
    if let Some(context) = &spec.security_context {
        let path = path.field("securityContext");
        result.security = security::pod(&path, context, host_network, host_ipc, check);
    }
    if result.share_process_namespace && result.host_pid {
        let message = "can't be set together with hostPID";
        check.error(&path.field("shareProcessNamespace"), message);
    }
    names(path, spec, &mut result, check);
    placement(path, spec, &mut result, check);
    check_files(path, &result, check);
    result
}

/// Init containers and containers, with names that differ among all of them.
fn containers(
    path: &Path<'_>,
    spec: &api::PodSpec,
    pod: &Pod<'_>,
    check: &mut Check<'_, '_>,
) -> (Vec<Container>, Vec<Container>) {
    let init_path = path.field("initContainers");
    let main_path = path.field("containers");
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let main = spec.containers.as_slice();
    if main.is_empty() {
        check.error(&main_path, "needs at least one container");
    }
    let mut names = BTreeSet::new();
    let mut all = |list_path: &Path<'_>, list: &[api::Container], is_init| {
        let mut result = Vec::new();
        for (index, item) in list.iter().enumerate() {
            let path = list_path.index(index);
            result.push(container(&path, item, is_init, pod, check));
            if !item.name.is_empty() && !names.insert(item.name.clone()) {
                let message =
                    format!("{} is the name of another container already", quoted(&item.name));
                check.error(&path.field("name"), message);
            }
        }
        result
    };
    let init = all(&init_path, init, true);
    let main = all(&main_path, main, false);
    let mut host_ports = BTreeMap::new();
    check_host_ports(&main_path, &main, &mut host_ports, check);
    check_host_ports(&init_path, &init, &mut host_ports, check);
    (init, main)
}

/// Other objects, and what the pod is called.
fn names(path: &Path<'_>, spec: &api::PodSpec, result: &mut PodSpec, check: &mut Check<'_, '_>) {
    let mut named = |field, text: Option<&String>, rule| {
        check.name_if_given(&path.field(field), text.map(String::as_str), rule)
    };
    result.hostname = named("hostname", spec.hostname.as_ref(), NameRule::Label);
    result.subdomain = named("subdomain", spec.subdomain.as_ref(), NameRule::Label);
    result.node_name = named("nodeName", spec.node_name.as_ref(), NameRule::Subdomain);
    let account = spec.service_account_name.as_ref();
    result.service_account = named("serviceAccountName", account, NameRule::Subdomain);
    let class = spec.priority_class_name.as_ref();
    result.priority_class = named("priorityClassName", class, NameRule::Subdomain);
    if let Some(class) = &result.priority_class {
        check.mention(Kind::PriorityClass, class, &path.field("priorityClassName"));
    }
    if let Some(account) = &result.service_account {
        check.mention(Kind::ServiceAccount, account, &path.field("serviceAccountName"));
    }
    let secrets_path = path.field("imagePullSecrets");
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        let item_path = secrets_path.index(index);
        let path = item_path.field("name");
        let name = check.name(&path, &secret.name, NameRule::Subdomain);
        check.mention(Kind::Secret, &name, &path);
        result.image_pull_secrets.push(name);
    }
}

/// Where it may run.
fn placement(
    path: &Path<'_>,
    spec: &api::PodSpec,
    result: &mut PodSpec,
    check: &mut Check<'_, '_>,
) {
    result.node_selector = spec.node_selector.clone().unwrap_or_default();
    check.labels(&path.field("nodeSelector"), &result.node_selector);
    if let Some(given) = &spec.affinity {
        result.affinity = affinity(&path.field("affinity"), given, check);
    }
    let tolerations_path = path.field("tolerations");
    for (index, given) in spec.tolerations.iter().flatten().enumerate() {
        let path = tolerations_path.index(index);
        result.tolerations.push(toleration(&path, given, check));
    }
    let spread_path = path.field("topologySpreadConstraints");
    for (index, given) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = spread_path.index(index);
        result.topology_spread.push(topology_spread(&path, given, check));
    }
    check_spread_pairs(&spread_path, &result.topology_spread, check);
    let policies = [("PreemptLowerPriority", true), ("Never", false)];
    let policy = spec.preemption_policy.as_deref();
    result.preempts = check.word_or(&path.field("preemptionPolicy"), policy, &policies, true);
    result.overhead = resources::list(&path.field("overhead"), spec.overhead.as_ref(), None, check);
    let gates_path = path.field("readinessGates");
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let item_path = gates_path.index(index);
        let path = item_path.field("conditionType");
        let complaint = label_key_complaint(&gate.condition_type);
        check.complain(&path, &gate.condition_type, complaint);
        result.readiness_gates.push(gate.condition_type.clone());
    }
}

/// `MaxDNSNameservers`.
const NAMESERVERS_MAX: usize = 3;
/// `MaxDNSSearchPaths`.
const SEARCHES_MAX: usize = 32;
/// `MaxDNSSearchListChars`.
const SEARCH_CHARS_MAX: usize = 2048;

/// `validateDNSPolicy` and `validatePodDNSConfig`.
fn dns(path: &Path<'_>, spec: &api::PodSpec, check: &mut Check<'_, '_>) -> PodDns {
    let policies = [
        ("ClusterFirst", DnsPolicy::ClusterFirst),
        ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
        ("Default", DnsPolicy::Default),
        ("None", DnsPolicy::None),
    ];
    let policy_path = path.field("dnsPolicy");
    let policy = spec.dns_policy.as_deref();
    let policy = check.word_or(&policy_path, policy, &policies, DnsPolicy::ClusterFirst);
    let path = path.field("dnsConfig");
    let mut dns = PodDns { policy, ..PodDns::default() };
    let config = spec.dns_config.as_ref();
    let servers_path = path.field("nameservers");
    let servers = config.and_then(|c| c.nameservers.as_deref()).unwrap_or_default();
    for (index, server) in servers.iter().enumerate() {
        dns.nameservers.extend(ip(&servers_path.index(index), server, check));
    }
    if servers.len() > NAMESERVERS_MAX {
        check.error(&servers_path, format!("can't be more than {NAMESERVERS_MAX}"));
    }
    if policy == DnsPolicy::None && servers.is_empty() {
        check.error(&servers_path, "needs at least one with dnsPolicy None");
    }
    let searches_path = path.field("searches");
    let searches = config.and_then(|c| c.searches.as_deref()).unwrap_or_default();
    let chars: usize = searches.iter().map(|s| s.len() + 1).sum();
    if searches.len() > SEARCHES_MAX || chars > SEARCH_CHARS_MAX + 1 {
        let message =
            format!("can't be more than {SEARCHES_MAX}, or {SEARCH_CHARS_MAX} characters together");
        check.error(&searches_path, message);
    }
    for (index, search) in searches.iter().enumerate() {
        let path = searches_path.index(index);
        // "." and "_" stand in real search paths (`validateDNSSearches`, relaxed).
        let text = search.strip_suffix('.').unwrap_or(search).replace('_', "x");
        if search != "." {
            check.complain(&path, search, NameRule::Subdomain.complaint(&text));
        }
        dns.searches.push(search.clone());
    }
    let options_path = path.field("options");
    for (index, option) in config.and_then(|c| c.options.as_ref()).into_iter().flatten().enumerate()
    {
        let name = option.name.clone().unwrap_or_default();
        if name.is_empty() {
            check.error(&options_path.index(index).field("name"), "is required");
        }
        dns.options.push((name, option.value.clone()));
    }
    dns
}

fn ip(path: &Path<'_>, text: &str, check: &mut Check<'_, '_>) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none() {
        check.error(path, format!("{} is not an IP address", quoted(text)));
    }
    ip
}

/// `ValidateHostAliases`.
fn host_aliases(path: &Path<'_>, spec: &api::PodSpec, check: &mut Check<'_, '_>) -> Vec<HostAlias> {
    let mut result = Vec::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.index(index);
        let names_path = path.field("hostnames");
        let hostnames = alias.hostnames.clone().unwrap_or_default();
        for (index, name) in hostnames.iter().enumerate() {
            let complaint = NameRule::Subdomain.complaint(name);
            check.complain(&names_path.index(index), name, complaint);
        }
        if let Some(ip) = ip(&path.field("ip"), &alias.ip, check) {
            result.push(HostAlias { ip, hostnames });
        }
    }
    result
}

/// Files that show a container's resources must name a container of this pod.
fn check_files(path: &Path<'_>, spec: &PodSpec, check: &mut Check<'_, '_>) {
    let named = |value: &DownwardValue| match value {
        DownwardValue::Resource(reference) => reference.container.clone(),
        DownwardValue::Field(_) => None,
    };
    let missing: Vec<(usize, Name)> = spec
        .volumes
        .iter()
        .enumerate()
        .filter_map(|(index, volume)| match &volume.source {
            VolumeSource::Files(FileVolume { sources, .. }) => Some((index, sources)),
            _ => None,
        })
        .flat_map(|(index, sources)| sources.iter().map(move |source| (index, source)))
        .filter_map(|(index, source)| match source {
            FileSource::Downward(files) => Some((index, files)),
            _ => None,
        })
        .flat_map(|(index, files)| files.iter().map(move |file| (index, &file.value)))
        .filter_map(|(index, value)| named(value).map(|name| (index, name)))
        .filter(|(_, name)| spec.container(name.as_str()).is_none())
        .collect();
    let volumes_path = path.field("volumes");
    for (index, name) in missing {
        let message = format!("a resourceFieldRef names container {name}, which the pod has not");
        check.error(&volumes_path.index(index), message);
    }
}
