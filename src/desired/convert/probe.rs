//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::path::Path;
use super::Check;
use crate::kinds::container::{Container, Handler, HttpGet, PortRef, Probe, Protocol};
use crate::kinds::name::{Name, port_name_complaint};

/// Which of a container's probes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Liveness,
    Readiness,
    Startup,
}

impl Use {
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
            Self::Startup => "startupProbe",
        }
    }
}

/// `validateProbe`.
pub(super) fn probe(
    path: &Path<'_>,
    probe: &api::Probe,
    used_as: Use,
    check: &mut Check<'_, '_>,
) -> Option<Probe> {
    let handlers = [
        probe
            .exec
            .as_ref()
            .map(|exec| exec_handler(&path.field("exec"), exec, check)),
        probe
            .http_get
            .as_ref()
            .map(|get| http(&path.field("httpGet"), get, check)),
        probe
            .tcp_socket
            .as_ref()
            .map(|tcp| tcp_handler(&path.field("tcpSocket"), tcp, check)),
        probe
            .grpc
            .as_ref()
            .map(|grpc| grpc_handler(&path.field("grpc"), grpc, check)),
    ];
    let handler = only(path, handlers, "exec, httpGet, tcpSocket or grpc", check)?;
    let mut count =
        |field, value: Option<i32>, default| check.count(&path.field(field), value, default);
    let initial_delay_s = count("initialDelaySeconds", probe.initial_delay_seconds, 0);
    let period_s = count("periodSeconds", probe.period_seconds, 10);
    let timeout_s = count("timeoutSeconds", probe.timeout_seconds, 1);
    let successes = count("successThreshold", probe.success_threshold, 1);
    let failures = count("failureThreshold", probe.failure_threshold, 3);
    if used_as != Use::Readiness && successes != 1 {
        check.error(&path.field("successThreshold"), "must be 1 for this probe");
    }
    let grace_path = path.field("terminationGracePeriodSeconds");
    let grace_s = probe.termination_grace_period_seconds.map(|grace| {
        if used_as == Use::Readiness {
            check.error(
                &grace_path,
                "must not be set for a readinessProbe: it stops nothing",
            );
        }
        check.number(&grace_path, grace, 1, i64::from(i32::MAX))
    });
    Some(Probe {
        handler,
        initial_delay_s,
        period_s,
        timeout_s,
        successes,
        failures,
        grace_s,
    })
}

/// `validateHandler`: one, and one only.
fn only<const N: usize>(
    path: &Path<'_>,
    handlers: [Option<Handler>; N],
    names: &str,
    check: &mut Check<'_, '_>,
) -> Option<Handler> {
    let mut given = handlers.into_iter().flatten();
    let first = given.next();
    if first.is_none() {
        check.error(path, format!("needs one of {names}"));
    }
    if given.next().is_some() {
        check.error(path, format!("can have only one of {names}"));
    }
    first
}

/// A lifecycle hook.
pub(super) fn hook(
    path: &Path<'_>,
    hook: &api::LifecycleHandler,
    grace_s: i64,
    check: &mut Check<'_, '_>,
) -> Option<Handler> {
    let handlers = [
        hook.exec
            .as_ref()
            .map(|exec| exec_handler(&path.field("exec"), exec, check)),
        hook.http_get
            .as_ref()
            .map(|get| http(&path.field("httpGet"), get, check)),
        hook.tcp_socket
            .as_ref()
            .map(|tcp| tcp_handler(&path.field("tcpSocket"), tcp, check)),
        hook.sleep.as_ref().map(|sleep| {
            let sleep_path = path.field("sleep");
            let seconds_path = sleep_path.field("seconds");
            Handler::Sleep(check.number(&seconds_path, sleep.seconds, 0, grace_s))
        }),
    ];
    only(path, handlers, "exec, httpGet, tcpSocket or sleep", check)
}

fn exec_handler(path: &Path<'_>, exec: &api::ExecAction, check: &mut Check<'_, '_>) -> Handler {
    let command = exec.command.clone().unwrap_or_default();
    if command.is_empty() {
        check.error(&path.field("command"), "is required");
    }
    Handler::Exec(command)
}

fn http(path: &Path<'_>, get: &api::HTTPGetAction, check: &mut Check<'_, '_>) -> Handler {
    let schemes = [("HTTP", false), ("HTTPS", true)];
    let tls = check.word_or(
        &path.field("scheme"),
        get.scheme.as_deref(),
        &schemes,
        false,
    );
    let headers_path = path.field("httpHeaders");
    let mut headers = Vec::new();
    for (index, header) in get.http_headers.iter().flatten().enumerate() {
        let path = headers_path.index(index);
        if !is_header_name(&header.name) {
            let message = "must be letters, digits and -_!#$%&'*+.^`|~";
            check.error(&path.field("name"), message);
        }
        headers.push((header.name.clone(), header.value.clone()));
    }
    Handler::Http(HttpGet {
        host: get.host.clone(),
        port: port(&path.field("port"), &get.port, check),
        path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
        tls,
        headers,
    })
}

/// `validation.IsHTTPHeaderName`.
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&b))
}

fn tcp_handler(path: &Path<'_>, tcp: &api::TCPSocketAction, check: &mut Check<'_, '_>) -> Handler {
    Handler::Tcp {
        host: tcp.host.clone(),
        port: port(&path.field("port"), &tcp.port, check),
    }
}

fn grpc_handler(path: &Path<'_>, grpc: &api::GRPCAction, check: &mut Check<'_, '_>) -> Handler {
    Handler::Grpc {
        port: check.port(&path.field("port"), grpc.port),
        service: grpc.service.clone().unwrap_or_default(),
    }
}

/// A port by number or name (`ValidatePortNumOrName`).
pub(super) fn port(path: &Path<'_>, port: &IntOrString, check: &mut Check<'_, '_>) -> PortRef {
    match port {
        IntOrString::Int(number) => PortRef::Number(check.port(path, *number)),
        IntOrString::String(name) => {
            if name.is_empty() {
                check.error(path, "is required");
            } else if let (Some(complaint), true) =
                (port_name_complaint(name), name.parse::<u16>().is_ok())
            {
                let message = format!("{name:?} is taken for a port's name: {complaint}");
                check.error_hint(path, message, format!("write it without quotes: {name}"));
            } else {
                check.complain(path, name, port_name_complaint(name));
            }
            PortRef::Name(Name::trusted(name))
        }
    }
}

/// Warns of probes and hooks that name a port which the container does not have: they would fail
/// as long as it runs.
pub(super) fn check_named_ports(path: &Path<'_>, container: &Container, check: &mut Check<'_, '_>) {
    let probes = [
        (Use::Liveness, &container.liveness),
        (Use::Readiness, &container.readiness),
        (Use::Startup, &container.startup),
    ];
    for (used_as, probe) in probes {
        let Some(probe) = probe else { continue };
        let path = path.field(used_as.field());
        let (handler, port) = match &probe.handler {
            Handler::Http(get) => ("httpGet", &get.port),
            Handler::Tcp { port, .. } => ("tcpSocket", port),
            _ => continue,
        };
        if port.resolve([container], Protocol::Tcp).is_none()
            && let PortRef::Name(name) = port
        {
            let message = format!("this container has no port named {:?}", name.as_str());
            check.warn(&path.field(handler).field("port"), message);
        }
    }
}
