//! `windlass port-forward`: a port of a pod, as if it were one of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Context;
use super::client;
use super::fault::Failure;
use super::out::talk;
use super::pods;
use super::target::Target;
use crate::adapters::spdy::{
    self, Ear, Headers, Opener, PORT, PORT_FORWARD, PROTOCOL_VERSION, REQUEST_ID, SPDY,
    STREAM_TYPE, STREAMS_MAX, Session, Side, TYPE_DATA, TYPE_ERROR,
};
use crate::kinds::registry::Kind;

/// Connections at once, each of two streams. More wait until one has ended.
const CONNECTIONS_MAX: usize = STREAMS_MAX / 2;
/// How long a program here may take nothing of what the pod has sent it, before its connection is given up.
const STALL_MAX: Duration = Duration::from_secs(600);
/// A wait after a connection that could not be taken.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Why there is no connection is a sentence.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// Arguments of `windlass port-forward`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  windlass port-forward web-0 8080:80
  windlass port-forward deploy/web 8080:http 9090
  windlass port-forward svc/web :80

Goes on until Ctrl-C. A service's port leads to the port of one of its pods.")]
pub(super) struct PortForward {
    /// POD, pod/NAME, deploy/NAME, or svc/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// Port here, and the pod's by number or name; the same where one is given, any free one for :REMOTE
    #[arg(value_name = "[LOCAL:]REMOTE", required = true)]
    ports: Vec<String>,
    /// Addresses to listen at
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
}

/// A port here and the pod's port to which it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

pub(super) async fn run(args: &PortForward, context: &mut Context) -> Result<(), Failure> {
    let addresses = addresses(&args.address)?;
    let (kind, object) = pods::named(&args.pod, context).await?;
    let service = (kind == Kind::Service).then(|| object.clone());
    let pod = pods::likeliest(pods::behind(kind, object, context).await?);
    let ports = args.ports.iter().map(|word| ports(word, service.as_ref(), &pod));
    let ports: Vec<Ports> = ports.collect::<Result<_, _>>()?;
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Unknown");
    if phase != "Running" {
        return Err(Failure::plain(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let target = Target { kind: Kind::Pod, name: Some(pods::name(&pod).to_owned()) };
    let path = target.path(Some(&context.namespace));
    let headers = [(PROTOCOL_VERSION, PORT_FORWARD)];
    let line = context.client.upgrade(&format!("{path}/portforward"), SPDY, &headers).await?;
    let (session, opener, _) = Session::new(Side::Client);
    let (input, output) = spdy::bytes(TokioIo::new(line));
    let (sender, arrivals) = mpsc::channel(1);
    let mut listeners = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for ports in ports {
        for (ports, listener) in listen(ports, &addresses, context).await? {
            listeners.spawn(take(listener, ports, room.clone(), sender.clone()));
        }
    }
    if listeners.is_empty() {
        return Err(Failure::plain("unable to listen on any of the requested ports"));
    }
    tokio::select! {
        () = session.run(input, output, std::future::pending()) => {}
        forwarded = forward(&opener, arrivals, context) => return forwarded,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    }
    Err(lost(&pod, &path, context).await)
}

/// Why a session has ended that nobody here has ended.
async fn lost(pod: &Value, path: &str, context: &Context) -> Failure {
    let uid = |pod: &Value| pod.pointer("/metadata/uid").cloned();
    let why = match context.client.json(path, client::JSON).await {
        Err(failure) if failure.is_not_found() => "it is gone",
        Err(_) => "the agent has gone",
        Ok(now) if uid(&now) != uid(pod) => "it was replaced by another of the same name",
        Ok(now) if now.pointer("/metadata/deletionTimestamp").is_some() => "it is being ended",
        Ok(now) if now["status"]["phase"] != "Running" => "it has ended",
        Ok(_) => "the line to its node broke",
    };
    Failure::plain(format!("lost connection to pod {}: {why}", pods::name(pod)))
}

/// The addresses that words mean, and whether each must be had: `localhost` is two, of which one will do.
fn addresses(words: &[String]) -> Result<Vec<(IpAddr, bool)>, Failure> {
    let mut addresses = Vec::new();
    for word in words {
        if word == "localhost" {
            addresses.push((IpAddr::V4(Ipv4Addr::LOCALHOST), false));
            addresses.push((IpAddr::V6(Ipv6Addr::LOCALHOST), false));
        } else {
            let ip = word.parse();
            let ip = ip.map_err(|_| Failure::usage(format!("{word} is not a valid IP")))?;
            addresses.push((ip, true));
        }
    }
    addresses.sort();
    addresses.dedup_by_key(|(ip, _)| *ip);
    Ok(addresses)
}

/// A port of a service or a pod.
struct Port<'p> {
    name: &'p str,
    number: u16,
    protocol: &'p str,
    /// Where a service's port leads to.
    target: &'p Value,
}

fn port<'p>(port: &'p Value, field: &str) -> Option<Port<'p>> {
    let text = |name: &str| port.get(name).and_then(Value::as_str);
    Some(Port {
        name: text("name").unwrap_or_default(),
        number: number(port.get(field)?)?,
        protocol: text("protocol").unwrap_or("TCP"),
        target: port.get("targetPort").unwrap_or(&Value::Null),
    })
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn ports_of_service(service: &Value) -> Vec<Port<'_>> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    ports.into_iter().flatten().filter_map(|value| port(value, "port")).collect()
}

fn ports_of_pod(pod: &Value) -> Vec<Port<'_>> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists.into_iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.filter_map(|value| port(value, "containerPort")).collect()
}

/// The number of a port by its name.
fn numbered(ports: &[Port<'_>], name: &str, kind: &str, whose: &Value) -> Result<u16, Failure> {
    let found = ports.iter().find(|port| !name.is_empty() && port.name == name);
    found.map(|port| port.number).ok_or_else(|| {
        let whose = pods::name(whose);
        Failure::usage(format!("{kind} '{whose}' does not have a named port '{name}'"))
    })
}

/// The ports that a word means, as kubectl reads it: `8080:80`, `80`, `:80`, `8080:http`.
fn ports(word: &str, service: Option<&Value>, pod: &Value) -> Result<Ports, Failure> {
    let (local, remote) = word.split_once(':').unwrap_or((word, word));
    let known = service.map_or_else(|| ports_of_pod(pod), ports_of_service);
    let asked = match remote.parse::<u16>() {
        Ok(0) => return Err(Failure::usage("remote port must be > 0")),
        Ok(number) => number,
        Err(_) => {
            let (kind, whose) = service.map_or(("Pod", pod), |service| ("Service", service));
            numbered(&known, remote, kind, whose)?
        }
    };
    let same = || known.iter().filter(|port| port.number == asked);
    let tcp = same().find(|port| port.protocol == "TCP");
    if let (None, Some(other)) = (tcp, same().next()) {
        let protocol = other.protocol;
        return Err(Failure::usage(format!("{protocol} protocol is not supported for {asked}")));
    }
    let target = match service {
        Some(service) => behind(service, tcp, asked, pod)?,
        None => asked,
    };
    let local = match local {
        "" => 0,
        _ if local == remote => asked,
        _ => local.parse().map_err(|error| {
            Failure::usage(format!("local port '{local}' in '{word}': {error}"))
        })?,
    };
    Ok(Ports { local, remote: target })
}

/// The pod's port behind a service's port.
fn behind(
    service: &Value,
    port: Option<&Port<'_>>,
    asked: u16,
    pod: &Value,
) -> Result<u16, Failure> {
    let name = pods::name(service);
    let port = port.ok_or_else(|| {
        Failure::usage(format!("Service {name} does not have a service port {asked}"))
    })?;
    let is_headless = service.pointer("/spec/clusterIP").is_some_and(|ip| ip == "None");
    match port.target {
        _ if is_headless => Ok(asked),
        Value::String(target) => numbered(&ports_of_pod(pod), target, "Pod", pod),
        target => Ok(number(target).unwrap_or(asked)),
    }
}

/// Listens at a port, and says so. Where any free one will do, all addresses have the same.
async fn listen(
    mut ports: Ports,
    addresses: &[(IpAddr, bool)],
    context: &mut Context,
) -> Result<Vec<(Ports, TcpListener)>, Failure> {
    let (mut listeners, mut complaints) = (Vec::new(), Vec::new());
    let mut is_refused = false;
    for (ip, is_needed) in addresses {
        let bound = TcpListener::bind(SocketAddr::new(*ip, ports.local)).await;
        let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        match bound {
            Ok((at, listener)) => {
                ports.local = at.port();
                listeners.push((at, listener));
            }
            Err(error) => {
                is_refused |= is_needed;
                complaints.push(format!("{ip}: {error}"));
            }
        }
    }
    if is_refused || listeners.is_empty() {
        let complaints = complaints.join(", ");
        talk(&format!("Unable to listen on port {}: {complaints}\n", ports.local));
        return Ok(Vec::new());
    }
    for (at, _) in &listeners {
        context.out.text(&format!("Forwarding from {at} -> {}\n", ports.remote))?;
    }
    Ok(listeners.into_iter().map(|(_, listener)| (ports, listener)).collect())
}

/// A connection that somebody has made to one of our ports, and its place among all.
type Arrival = (Ports, TcpStream, OwnedSemaphorePermit);

/// Takes connections, as many as there is room for.
async fn take(
    listener: TcpListener,
    ports: Ports,
    room: Arc<Semaphore>,
    arrivals: mpsc::Sender<Arrival>,
) {
    while let Ok(place) = room.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((connection, _)) => {
                if arrivals.send((ports, connection, place)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                talk(&format!("a connection to {} can't be taken: {error}\n", ports.local));
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Forwards connections, for as long as somebody makes them.
async fn forward(
    opener: &Opener,
    mut arrivals: mpsc::Receiver<Arrival>,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut connections = JoinSet::new();
    let mut number = 0_u64;
    while let Some((ports, connection, place)) = arrivals.recv().await {
        let Ports { local, remote } = ports;
        context.out.text(&format!("Handling connection for {local}\n"))?;
        let opener = opener.clone();
        number += 1;
        connections.spawn(async move {
            let said = carry(&opener, connection, remote, number).await;
            if !said.is_empty() {
                talk(&format!("an error occurred forwarding {local} -> {remote}: {said}\n"));
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    Ok(())
}

/// Carries a connection to the pod's port; what was said if there was none.
async fn carry(opener: &Opener, connection: TcpStream, remote: u16, number: u64) -> String {
    let headers = |kind: &str| -> Headers {
        let (remote, number) = (remote.to_string(), number.to_string());
        let headers = [(STREAM_TYPE, kind), (PORT, &remote), (REQUEST_ID, &number)];
        headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    let streams = async {
        let errors = opener.open(headers(TYPE_ERROR), true).await?;
        Ok::<_, std::io::Error>((errors, opener.open(headers(TYPE_DATA), false).await?))
    };
    let (mut errors, mut data) = match streams.await {
        Ok(streams) => streams,
        Err(error) => return error.to_string(),
    };
    let _ = connection.set_nodelay(true);
    let mut carries = std::pin::pin!(spdy::carry(connection, &mut data, None, STALL_MAX));
    tokio::select! {
        biased;
        said = said(&mut errors.ear) => {
            if said.is_empty() {
                carries.await;
            }
            said
        }
        () = &mut carries => String::new(),
    }
}

/// All that is said on a stream.
async fn said(ear: &mut Ear) -> String {
    let mut said = Vec::new();
    while let Ok(Some((bytes, _))) = ear.next().await {
        let room = SAID_BYTES_MAX.saturating_sub(said.len());
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        let pod = json!({"metadata": {"name": "web-0"}, "spec": {"containers": [
            {"ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]},
        ]}});
        let service = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1", "ports": [
            {"name": "www", "port": 80, "targetPort": "http", "protocol": "TCP"},
            {"port": 90, "targetPort": 9090},
            {"port": 91, "targetPort": "nothing"},
            {"port": 53, "targetPort": 53, "protocol": "UDP"},
        ]}});
        let mut headless = service.clone();
        headless["spec"]["clusterIP"] = "None".into();
        let read = |word, service| match ports(word, service, &pod) {
            Ok(Ports { local, remote }) => format!("{local} -> {remote}"),
            Err(Failure::Usage(message)) => message,
            Err(other) => format!("{other:?}"),
        };
        for (word, service, meant) in [
            ("80", None, "80 -> 80"),
            ("8000:80", None, "8000 -> 80"),
            (":80", None, "0 -> 80"),
            ("0:80", None, "0 -> 80"),
            ("http", None, "8080 -> 8080"),
            ("81:http", None, "81 -> 8080"),
            ("80", Some(&service), "80 -> 8080"),
            ("www", Some(&service), "80 -> 8080"),
            ("1:www", Some(&service), "1 -> 8080"),
            ("90", Some(&service), "90 -> 9090"),
            ("80", Some(&headless), "80 -> 80"),
            ("0", None, "remote port must be > 0"),
            ("53", None, "UDP protocol is not supported for 53"),
            ("53", Some(&service), "UDP protocol is not supported for 53"),
            ("81", Some(&service), "Service web does not have a service port 81"),
            ("http", Some(&service), "Service 'web' does not have a named port 'http'"),
            ("91", Some(&service), "Pod 'web-0' does not have a named port 'nothing'"),
            ("www", None, "Pod 'web-0' does not have a named port 'www'"),
            ("1:", None, "Pod 'web-0' does not have a named port ''"),
            ("1:2:3", None, "Pod 'web-0' does not have a named port '2:3'"),
            ("x:80", None, "local port 'x' in 'x:80': invalid digit found in string"),
            (
                "70000:80",
                None,
                "local port '70000' in '70000:80': number too large to fit in target type",
            ),
        ] {
            assert_eq!(read(word, service), meant, "{word}");
        }
    }

    #[test]
    fn localhost_is_two_addresses_of_which_one_will_do() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            addresses(&words).map(|all| {
                all.iter().map(|(ip, needed)| format!("{ip} {needed}")).collect::<Vec<_>>()
            })
        };
        let read_well = |words| read(words).expect("addresses");
        assert_eq!(read_well(&["localhost"]), ["127.0.0.1 false", "::1 false"]);
        assert_eq!(read_well(&["10.0.0.1", "localhost"]).len(), 3);
        assert_eq!(read_well(&["0.0.0.0", "0.0.0.0"]), ["0.0.0.0 true"]);
        assert!(matches!(read(&["web.example"]), Err(Failure::Usage(_))));
    }
}
