//! The files a pod finds: `/etc/hosts`, resolvers, and its volumes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::kinds::container::{Container, Mount, SubPath};
use crate::kinds::digest::Digest;
use crate::kinds::name::Name;
use crate::kinds::pod::{DnsPolicy, PodSpec};
use crate::kinds::storage::Medium;
use crate::kinds::volume::{
    ConfigFiles, DownwardFile, DownwardValue, FileSource, FileVolume, VolumeSource,
};
use crate::ports::files::{FileBody, FileWish, VolumeRoot};

use super::env::{self, Missing};
use super::fields::Myself;
use super::{Around, Assignment};

/// The name of the file mounted at `/etc/hosts`.
pub(super) const HOSTS: &str = "hosts";
/// The name of the file mounted at `/etc/resolv.conf`.
pub(super) const RESOLV_CONF: &str = "resolv.conf";
/// The name of the file mounted as the ServiceAccount's `namespace`.
pub(super) const ACCOUNT_NAMESPACE: &str = "account-namespace";
/// The most name servers and search domains a resolver heeds
/// (`validation.MaxDNSNameservers`, `MaxDNSSearchPaths`).
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
/// The longest host name Linux takes.
const HOSTNAME_LEN_MAX: usize = 63;

/// The name of the file that takes a container's last words.
pub(super) fn last_words_file(container: &Name) -> String {
    format!("last-words-{container}")
}

/// The pod's host name: what the manifest says, or its own name as far as one fits.
pub(super) fn hostname(pod: &Assignment, spec: &PodSpec) -> String {
    let name = spec.hostname.as_ref().unwrap_or(&pod.binding.key.name).as_str();
    let cut = &name[..name.len().min(HOSTNAME_LEN_MAX)];
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Everything that must stand before a container starts, in the order in which it is to be made.
pub(super) fn wishes(
    pod: &Assignment,
    around: &Around,
    ip: Option<Ipv4Addr>,
) -> Result<Vec<FileWish>, Missing> {
    let Some(template) = &pod.template else {
        return Ok(Vec::new());
    };
    let spec = &template.spec;
    let myself = Myself { binding: &pod.binding, template, around, ip };
    let mut wishes = Vec::new();
    if !spec.host_network || !spec.host_aliases.is_empty() {
        wishes.push(file(HOSTS, hosts(pod, around, spec, ip)));
    }
    wishes.push(file(RESOLV_CONF, resolv_conf(&pod.binding.key.namespace, spec, around)));
    // Also where nothing mounts it now: what its account says may change while the pod lives.
    wishes.push(file(ACCOUNT_NAMESPACE, pod.binding.key.namespace.to_string()));
    for container in spec.all_containers() {
        wishes.push(FileWish::File {
            name: last_words_file(&container.name),
            content: Arc::from(b"".as_slice()),
            mode: 0o666,
            keep: true,
        });
    }
    let group = spec.security.fs_group;
    for volume in &spec.volumes {
        let name = volume.name.to_string();
        match &volume.source {
            VolumeSource::EmptyDir { memory, size_limit } => {
                let bytes = size_limit.map_or(0, |limit| limit.as_units());
                let memory = memory.then(|| u64::try_from(bytes).unwrap_or(0));
                wishes.push(FileWish::Directory { volume: name, memory, group });
            }
            VolumeSource::HostPath { path, kind } => {
                wishes.push(FileWish::HostPath { path: path.clone(), kind: *kind });
            }
            VolumeSource::Files(files) => {
                let files = set(files, &myself).map_err(|missing| {
                    Missing(format!(
                        "MountVolume.SetUp failed for volume \"{name}\" : {}",
                        missing.0
                    ))
                })?;
                wishes.push(FileWish::Set { volume: name, files, group });
            }
            // Neither is left in a pod's own template.
            VolumeSource::OwnClaim { .. } | VolumeSource::Scratch(_) => {}
            VolumeSource::Claim { name: claim, .. } => {
                let volume = myself.claimed(claim).map_err(|why| {
                    Missing(format!("MountVolume.SetUp failed for volume \"{name}\" : {why}"))
                })?;
                match &volume.medium {
                    Medium::Directory(name) => {
                        wishes.push(FileWish::Kept { name: name.clone(), group });
                    }
                    Medium::Path { path, kind } => {
                        wishes.push(FileWish::HostPath { path: path.clone(), kind: *kind });
                    }
                    // Docker makes it with the container.
                    Medium::Docker { .. } => {}
                }
            }
        }
    }
    for container in spec.all_containers() {
        sub_paths(container, &myself, &mut wishes);
    }
    Ok(wishes)
}

fn file(name: &str, content: String) -> FileWish {
    FileWish::File {
        name: name.to_owned(),
        content: content.into_bytes().into(),
        mode: 0o644,
        keep: false,
    }
}

/// Whether the pod's containers find the files of its ServiceAccount: as the pod says, else as the
/// account says, else they do.
pub(super) fn has_account_files(spec: &PodSpec, namespace: &Name, around: &Around) -> bool {
    let own = spec.automount_token;
    own.or_else(|| around.account(namespace, spec).automounts).unwrap_or(true)
}

/// A digest of everything wished, to tell whether it is written already. Secrets go into it, so it
/// never leaves the agent's memory.
pub(super) fn digest(wishes: &[FileWish]) -> Digest {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for wish in wishes {
        match wish {
            FileWish::File { name, content, mode, keep } => {
                parts.push(format!("file {name} {mode} {keep}").into_bytes());
                parts.push(content.to_vec());
            }
            FileWish::Set { volume, files, group } => {
                parts.push(format!("set {volume} {group:?}").into_bytes());
                for (path, body) in files {
                    parts.push(format!("{path} {}", body.mode).into_bytes());
                    parts.push(body.content.to_vec());
                }
            }
            other => parts.push(format!("{other:?}").into_bytes()),
        }
    }
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

/// `/etc/hosts`, as kubelet writes it.
fn hosts(pod: &Assignment, around: &Around, spec: &PodSpec, ip: Option<Ipv4Addr>) -> String {
    let mut text = String::from(
        "# Managed by Windlass.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    if let Some(ip) = ip {
        let hostname = hostname(pod, spec);
        let full = spec.subdomain.as_ref().map(|subdomain| {
            let namespace = &pod.binding.key.namespace;
            format!("{hostname}.{subdomain}.{namespace}.svc.{}\t", around.domain)
        });
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{ip}\t{}{hostname}", full.unwrap_or_default());
    }
    for alias in &spec.host_aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
    text
}

/// `/etc/resolv.conf` by the pod's DNS policy.
/// <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/>
fn resolv_conf(namespace: &Name, spec: &PodSpec, around: &Around) -> String {
    let dns = &spec.dns;
    let policy = match dns.policy {
        DnsPolicy::ClusterFirst if spec.host_network => DnsPolicy::Default,
        policy => policy,
    };
    let (mut servers, mut searches, mut options) = match policy {
        DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet => {
            let domain = &around.domain;
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(around.searches.iter().cloned());
            let ndots = ("ndots".to_owned(), Some("5".to_owned()));
            (vec![IpAddr::V4(around.dns)], searches, vec![ndots])
        }
        DnsPolicy::Default => (around.resolvers.clone(), around.searches.clone(), Vec::new()),
        DnsPolicy::None => (Vec::new(), Vec::new(), Vec::new()),
    };
    servers.extend(&dns.nameservers);
    searches.extend(dns.searches.iter().cloned());
    for (name, value) in &dns.options {
        options.retain(|(known, _)| known != name);
        options.push((name.clone(), value.clone()));
    }
    render_resolv_conf(servers, searches, &options)
}

fn render_resolv_conf(
    servers: Vec<IpAddr>,
    searches: Vec<String>,
    options: &[(String, Option<String>)],
) -> String {
    let mut text = String::new();
    for server in first_of_each(servers, NAMESERVERS_MAX) {
        let _ = writeln!(text, "nameserver {server}");
    }
    let searches = first_of_each(searches, SEARCHES_MAX);
    if !searches.is_empty() {
        let _ = writeln!(text, "search {}", searches.join(" "));
    }
    if !options.is_empty() {
        let words: Vec<String> = options
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            })
            .collect();
        let _ = writeln!(text, "options {}", words.join(" "));
    }
    text
}

fn first_of_each<T: PartialEq>(all: Vec<T>, most: usize) -> Vec<T> {
    let mut kept = Vec::new();
    for item in all {
        if kept.len() < most && !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// The files of a `configMap`, `secret`, `downwardAPI` or `projected` volume.
fn set(volume: &FileVolume, myself: &Myself<'_>) -> Result<BTreeMap<String, FileBody>, Missing> {
    let namespace = &myself.binding.key.namespace;
    let mut files = BTreeMap::new();
    for source in &volume.sources {
        match source {
            FileSource::ConfigMap(wanted) => {
                let config = myself.around.config_map(namespace, &wanted.name);
                pick(wanted, config.map(|c| &c.data), "configmap", volume.mode, &mut files)?;
            }
            FileSource::Secret(wanted) => {
                let secret = myself.around.secret(namespace, &wanted.name)?;
                pick(wanted, secret.map(|s| &s.data), "secret", volume.mode, &mut files)?;
            }
            FileSource::Downward(wanted) => {
                for file in wanted {
                    let (path, body) = downward(file, myself, volume.mode)?;
                    files.insert(path, body);
                }
            }
            FileSource::Token { .. } => {}
        }
    }
    Ok(files)
}

fn pick(
    wanted: &ConfigFiles,
    data: Option<&BTreeMap<String, Arc<[u8]>>>,
    kind: &str,
    mode: u32,
    files: &mut BTreeMap<String, FileBody>,
) -> Result<(), Missing> {
    let ConfigFiles { name, items, optional } = wanted;
    let Some(data) = data else {
        let missing = Missing(format!("{kind} \"{name}\" not found"));
        return if *optional { Ok(()) } else { Err(missing) };
    };
    let Some(items) = items else {
        for (key, content) in data {
            files.insert(key.clone(), FileBody { content: content.clone(), mode });
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                let mode = item.mode.unwrap_or(mode);
                files.insert(item.path.clone(), FileBody { content: content.clone(), mode });
            }
            None if *optional => {}
            None => {
                let key = &item.key;
                return Err(Missing(format!("references non-existent {kind} key: {key}")));
            }
        }
    }
    Ok(())
}

fn downward(
    file: &DownwardFile,
    myself: &Myself<'_>,
    mode: u32,
) -> Result<(String, FileBody), Missing> {
    let value = match &file.value {
        DownwardValue::Field(path) => myself.field(path),
        DownwardValue::Resource(reference) => {
            let own = myself.template.spec.containers.first();
            own.and_then(|own| myself.resource(reference, own))
        }
    };
    let value = value.ok_or_else(|| Missing(format!("{} is not known yet", file.path)))?;
    let mode = file.mode.unwrap_or(mode);
    Ok((file.path.clone(), FileBody { content: value.into_bytes().into(), mode }))
}

/// The parts of volumes that a container mounts. One whose variables are not known yet is left out:
/// the container can't start without them anyway.
fn sub_paths(container: &Container, myself: &Myself<'_>, wishes: &mut Vec<FileWish>) {
    for mount in container.mounts.iter().filter(|mount| mount.sub_path.is_some()) {
        if let Some((root, Some(path))) = place(mount, container, myself) {
            wishes.push(FileWish::SubPath { root, path });
        }
    }
}

/// Where a mount's volume is, and which part of it is mounted; none if the volume or a variable is
/// missing.
pub(super) fn place(
    mount: &Mount,
    container: &Container,
    myself: &Myself<'_>,
) -> Option<(VolumeRoot, Option<String>)> {
    let volumes = &myself.template.spec.volumes;
    let volume = volumes.iter().find(|volume| volume.name == mount.volume)?;
    let name = volume.name.to_string();
    let root = match &volume.source {
        VolumeSource::EmptyDir { memory, .. } => VolumeRoot::Directory(name, *memory),
        VolumeSource::HostPath { path, .. } => VolumeRoot::Host(path.clone()),
        VolumeSource::Files(_) => VolumeRoot::Set(name),
        VolumeSource::Claim { name, .. } => match &myself.claimed(name).ok()?.medium {
            Medium::Directory(name) => VolumeRoot::Kept(name.clone()),
            Medium::Path { path, .. } => VolumeRoot::Host(path.clone()),
            Medium::Docker { .. } => return None,
        },
        VolumeSource::OwnClaim { .. } | VolumeSource::Scratch(_) => return None,
    };
    let part = match &mount.sub_path {
        None => None,
        Some(SubPath::Literal(path)) => Some(path.clone()),
        Some(SubPath::Expression(path)) => {
            let variables = env::variables(container, myself).ok()?;
            Some(env::expand(path, &variables))
        }
    };
    Some((root, part))
}
