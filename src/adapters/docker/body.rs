//! From what we ask to what Docker takes: one container, field by field.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
    RestartPolicy, RestartPolicyNameEnum,
};

use crate::ports::marks::VOLUME;
use crate::ports::runtime::{ContainerSpec, MountSource, MountSpec, NetworkMode, Share};

/// CFS' own period; quotas in specs are for it.
const CPU_PERIOD_US: i64 = 100_000;
/// A container's log: json-file grows without limit unless told (docs: `logs --previous` reaches
/// back three files).
const LOG_OPTIONS: [(&str, &str); 2] = [("max-file", "3"), ("max-size", "10m")];
/// An image's HEALTHCHECK is not run: Kubernetes' probes take its place (kubelet did the same to Docker).
const NO_HEALTHCHECK: &str = "NONE";
/// Those of the sysctls that belong to the network namespace.
const NETWORK_SYSCTL: &str = "net.";
/// What the pause program needs until it drops everything: a namespace, lo, the dropping itself.
const PAUSE_CAPABILITIES: [&str; 3] = ["NET_ADMIN", "SETPCAP", "SYS_ADMIN"];

/// What a container is made with beside its spec.
#[derive(Clone, Debug)]
pub(super) struct Making<'a> {
    /// The image, by id where it is known.
    pub image: &'a str,
    /// How a network of its own comes about.
    pub own_network: OwnNetwork,
    /// Whether the host takes a negative `oom_score_adj`.
    pub may_lower_oom_score: bool,
}

/// How a network of its own comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnNetwork {
    /// The pause program makes it: a third faster.
    ByPause,
    /// Docker makes it: where host mode is refused.
    ByDocker,
}

/// Says it in Docker's words.
pub(super) fn body(spec: &ContainerSpec, making: &Making<'_>) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(making.image.into()),
        entrypoint: spec.entrypoint.clone(),
        cmd: if makes_network(spec, making) {
            Some(vec![super::pause::OWN_NETWORK.into()])
        } else {
            spec.command.clone()
        },
        env: some(&spec.env),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        // Docker refuses a host name for who joins another's network: it has that one's.
        hostname: match spec.network {
            NetworkMode::New | NetworkMode::Host => spec.hostname.clone(),
            NetworkMode::Of(_) => None,
        },
        labels: Some(spec.labels.clone().into_iter().collect()),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin_once),
        tty: Some(spec.tty),
        stop_signal: spec.stop_signal.clone(),
        healthcheck: Some(HealthConfig {
            test: Some(vec![NO_HEALTHCHECK.into()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(spec, making)),
        ..ContainerCreateBody::default()
    }
}

/// Whether this is a pause container that makes its own network.
pub(super) fn makes_network(spec: &ContainerSpec, making: &Making<'_>) -> bool {
    spec.image.is_empty()
        && spec.network == NetworkMode::New
        && making.own_network == OwnNetwork::ByPause
}

fn host_config(spec: &ContainerSpec, making: &Making<'_>) -> HostConfig {
    let is_pause = spec.image.is_empty();
    let makes_network = makes_network(spec, making);
    HostConfig {
        network_mode: Some(match &spec.network {
            NetworkMode::New if makes_network => "host".into(),
            NetworkMode::New => "none".into(),
            NetworkMode::Host => "host".into(),
            NetworkMode::Of(id) => format!("container:{id}"),
        }),
        ipc_mode: Some(share(&spec.ipc, "private", "shareable")),
        pid_mode: Some(share(&spec.pid, "", "")),
        mounts: Some(spec.mounts.iter().map(mount).collect()),
        memory: spec.memory_bytes,
        // No swap beyond memory, as in Kubernetes: a limit is a limit.
        memory_swap: spec.memory_bytes,
        cpu_shares: spec.cpu_shares,
        cpu_quota: spec.cpu_quota_us,
        cpu_period: spec.cpu_quota_us.map(|_| CPU_PERIOD_US),
        oom_score_adj: Some(if making.may_lower_oom_score {
            spec.oom_score_adj
        } else {
            spec.oom_score_adj.max(0)
        }),
        privileged: Some(spec.privileged),
        cap_add: if is_pause {
            Some(pause_capabilities(makes_network))
        } else {
            some(&spec.cap_add)
        },
        cap_drop: if is_pause { Some(vec!["ALL".into()]) } else { some(&spec.cap_drop) },
        security_opt: if is_pause {
            Some(pause_security(&spec.security_opts))
        } else {
            some(&spec.security_opts)
        },
        group_add: some(&spec.groups),
        readonly_rootfs: Some(spec.read_only_root || is_pause),
        // Not unmasked for pause either, though it would start a little faster: whoever sees its
        // process (shared or host pid namespace) reaches its /proc/sys through /proc/<pid>/root.
        masked_paths: spec.unmasked_proc.then(Vec::new),
        readonly_paths: spec.unmasked_proc.then(Vec::new),
        sysctls: some_map(&sysctls(&spec.sysctls, makes_network)),
        init: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(LOG_OPTIONS.map(|(name, value)| (name.into(), value.into())).into()),
        }),
        ..HostConfig::default()
    }
}

fn pause_capabilities(makes_network: bool) -> Vec<String> {
    PAUSE_CAPABILITIES
        .iter()
        .filter(|name| makes_network || **name == "SETPCAP")
        .map(|name| (*name).to_owned())
        .collect()
}

/// Making Docker's filter of system calls takes a tenth of a pod's start; pause gives itself a
/// stricter one.
fn pause_security(wanted: &[String]) -> Vec<String> {
    let mut options = wanted.to_vec();
    if !wanted.iter().any(|option| option.starts_with("seccomp")) {
        options.push("seccomp=unconfined".into());
    }
    options
}

/// Docker refuses parameters of the network for a container in the node's; where pause makes its
/// own, whoever gives it its link sets them.
fn sysctls(wanted: &BTreeMap<String, String>, makes_network: bool) -> BTreeMap<String, String> {
    wanted
        .iter()
        .filter(|(name, _)| !(makes_network && name.starts_with(NETWORK_SYSCTL)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn share(share: &Share, own: &str, open: &str) -> String {
    match share {
        Share::Own => own.into(),
        Share::Open => open.into(),
        Share::Of(id) => format!("container:{id}"),
        Share::Host => "host".into(),
    }
}

/// As a mount, never as `source:target` text: paths may hold colons, and a missing source is an
/// error instead of an empty directory.
fn mount(spec: &MountSpec) -> Mount {
    let (kind, source, bind, volume) = match &spec.source {
        MountSource::Path(path) => (MountType::BIND, path, Some(bind_options(spec)), None),
        MountSource::Volume { name, driver, options } => {
            let options = volume_options(driver, options);
            (MountType::VOLUME, name, None, Some(options))
        }
    };
    Mount {
        typ: Some(kind),
        source: Some(source.clone()),
        target: Some(spec.target.clone()),
        read_only: Some(spec.read_only),
        bind_options: bind,
        volume_options: volume,
        ..Mount::default()
    }
}

/// Docker makes a volume that is missing as it makes the container. What the image has at that place
/// is not copied into it, as in Kubernetes.
fn volume_options(driver: &str, options: &BTreeMap<String, String>) -> MountVolumeOptions {
    MountVolumeOptions {
        no_copy: Some(true),
        labels: Some([(VOLUME.to_owned(), String::new())].into()),
        driver_config: Some(MountVolumeOptionsDriverConfig {
            name: Some(driver.to_owned()),
            options: Some(options.clone().into_iter().collect()),
        }),
        ..MountVolumeOptions::default()
    }
}

fn bind_options(spec: &MountSpec) -> MountBindOptions {
    MountBindOptions {
        propagation: Some(match spec.propagation {
            "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
            "rshared" => MountBindOptionsPropagationEnum::RSHARED,
            _ => MountBindOptionsPropagationEnum::RPRIVATE,
        }),
        ..MountBindOptions::default()
    }
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

// Docker's client library has them so; order does not matter in a request.
#[allow(clippy::disallowed_types)]
fn some_map(map: &BTreeMap<String, String>) -> Option<std::collections::HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(spec: &ContainerSpec, own_network: OwnNetwork, may_lower_oom_score: bool) -> Value {
        let making = Making { image: "sha256:1", own_network, may_lower_oom_score };
        serde_json::to_value(body(spec, &making)).expect("serializes")
    }

    #[test]
    fn requests_are_never_logged() {
        // They hold the values of Secrets, as variables, and bollard logs each at debug.
        assert!(log::STATIC_MAX_LEVEL <= log::LevelFilter::Info);
    }

    #[test]
    fn pause_makes_its_own_network_or_docker_does() {
        let spec = ContainerSpec {
            hostname: Some("web-0".into()),
            oom_score_adj: -998,
            ipc: Share::Open,
            sysctls: [("net.core.somaxconn", "1"), ("kernel.msgmax", "2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..ContainerSpec::default()
        };
        let fast = said(&spec, OwnNetwork::ByPause, true);
        assert_eq!(fast["Cmd"], json!(["own-network"]));
        assert_eq!(fast["Hostname"], json!("web-0"));
        let host = &fast["HostConfig"];
        assert_eq!(host["NetworkMode"], json!("host"));
        assert_eq!(host["IpcMode"], json!("shareable"));
        assert_eq!(host["CapDrop"], json!(["ALL"]));
        assert_eq!(host["CapAdd"], json!(["NET_ADMIN", "SETPCAP", "SYS_ADMIN"]));
        assert_eq!(host["Sysctls"], json!({"kernel.msgmax": "2"}));
        assert_eq!(host["ReadonlyRootfs"], json!(true));
        assert_eq!(host["SecurityOpt"], json!(["seccomp=unconfined"]));
        assert_eq!(host["OomScoreAdj"], json!(-998));
        assert!(host.get("MaskedPaths").is_none_or(Value::is_null));

        let fallback = said(&spec, OwnNetwork::ByDocker, false);
        assert!(fallback.get("Cmd").is_none_or(Value::is_null));
        let host = &fallback["HostConfig"];
        assert_eq!(host["NetworkMode"], json!("none"));
        assert_eq!(host["CapAdd"], json!(["SETPCAP"]));
        assert_eq!(host["Sysctls"]["net.core.somaxconn"], json!("1"));
        assert_eq!(host["OomScoreAdj"], json!(0));
    }

    #[test]
    fn a_container_is_said_field_by_field() {
        let spec = ContainerSpec {
            image: "app".into(),
            entrypoint: Some(vec!["/app".into()]),
            command: Some(vec!["-v".into()]),
            env: vec!["A=1".into()],
            working_dir: Some("/w".into()),
            user: Some("1000:1000".into()),
            groups: vec!["2000".into()],
            hostname: Some("ignored".into()),
            network: NetworkMode::Of("p".into()),
            ipc: Share::Of("p".into()),
            pid: Share::Of("p".into()),
            mounts: vec![
                MountSpec {
                    source: MountSource::Path("/a:b".into()),
                    target: "/c".into(),
                    read_only: true,
                    propagation: "rslave",
                },
                MountSpec {
                    source: MountSource::Volume {
                        name: "v".into(),
                        driver: "local".into(),
                        options: BTreeMap::from([("type".into(), "tmpfs".into())]),
                    },
                    target: "/v".into(),
                    read_only: false,
                    propagation: "rprivate",
                },
            ],
            memory_bytes: Some(1 << 20),
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            oom_score_adj: 1000,
            cap_add: vec!["NET_BIND_SERVICE".into()],
            cap_drop: vec!["ALL".into()],
            security_opts: vec!["no-new-privileges".into()],
            read_only_root: true,
            unmasked_proc: true,
            stdin: true,
            stdin_once: true,
            tty: true,
            stop_signal: Some("SIGQUIT".into()),
            ..ContainerSpec::default()
        };
        let said = said(&spec, OwnNetwork::ByPause, true);
        for (field, value) in [
            ("Image", json!("sha256:1")),
            ("Entrypoint", json!(["/app"])),
            ("Cmd", json!(["-v"])),
            ("Env", json!(["A=1"])),
            ("WorkingDir", json!("/w")),
            ("User", json!("1000:1000")),
            ("OpenStdin", json!(true)),
            ("StdinOnce", json!(true)),
            ("Tty", json!(true)),
            ("StopSignal", json!("SIGQUIT")),
            ("Healthcheck", json!({"Test": ["NONE"]})),
        ] {
            assert_eq!(said[field], value, "{field}");
        }
        assert!(said.get("Hostname").is_none_or(Value::is_null));
        let host = &said["HostConfig"];
        for (field, value) in [
            ("NetworkMode", json!("container:p")),
            ("IpcMode", json!("container:p")),
            ("PidMode", json!("container:p")),
            ("Memory", json!(1 << 20)),
            ("MemorySwap", json!(1 << 20)),
            ("CpuShares", json!(512)),
            ("CpuQuota", json!(50_000)),
            ("CpuPeriod", json!(100_000)),
            ("OomScoreAdj", json!(1000)),
            ("CapAdd", json!(["NET_BIND_SERVICE"])),
            ("CapDrop", json!(["ALL"])),
            ("SecurityOpt", json!(["no-new-privileges"])),
            ("GroupAdd", json!(["2000"])),
            ("ReadonlyRootfs", json!(true)),
            ("MaskedPaths", json!([])),
            ("ReadonlyPaths", json!([])),
            ("Init", json!(false)),
            ("Privileged", json!(false)),
        ] {
            assert_eq!(host[field], value, "{field}");
        }
        assert_eq!(host["RestartPolicy"]["Name"], json!("no"));
        assert_eq!(host["LogConfig"]["Type"], json!("json-file"));
        assert_eq!(host["LogConfig"]["Config"]["max-size"], json!("10m"));
        assert_eq!(host["Mounts"][0]["Source"], json!("/a:b"));
        assert_eq!(host["Mounts"][0]["BindOptions"]["Propagation"], json!("rslave"));
        assert_eq!(host["Mounts"][1]["Type"], json!("volume"));
    }
}
