//! The DNS server with real sockets: what it answers, whom it asks, and what it does when others
//! are silent, lie or ask in circles.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::runtime::Runtime;
use windlass::adapters::dns::Dns;
use windlass::kinds::zone::Zone;
use windlass::net::{self, ZoneInput, words};
use windlass::ports::filter;
use windlass::ports::names::Call;

use super::lab::{DNS, input};
use super::packets::on_both;
use crate::support::{namespace::Namespace, skip};

/// A node with a DNS server.
struct Place {
    node: Namespace,
    dns: Arc<Dns>,
    /// Serves as long as it is there.
    runtime: Option<Runtime>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn zone() -> Arc<Zone> {
    let services = [
        "shop/web ip=10.96.0.10 tcp:80/http",
        "shop/out alias=example.org",
        &format!(
            "shop/many headless tcp:80 -> {}",
            (0..60).map(|n| format!("10.1.0.{n}:80@a")).collect::<Vec<_>>().join(" ")
        ),
    ]
    .map(|text| words::service(text).expect(text));
    Arc::new(net::zone(&ZoneInput {
        domain: "cluster.local",
        services: &services,
        pods: &[],
        networks: &[],
    }))
}

/// A runtime whose threads are all in the namespace.
fn runtime_in(node: &Namespace) -> Runtime {
    node.run(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).enable_all().build().expect("a runtime")
    })
}

/// Runs a future on the runtime's own threads, and so in its namespace.
fn on<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(runtime.spawn(work)).expect("no panic")
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        let Some(node) = Namespace::new() else {
            skip(test, "making network namespaces needs root");
            return None;
        };
        node.sh(&format!("ip addr add {DNS}/32 dev lo"));
        let runtime = Some(runtime_in(&node));
        let dns = Arc::new(Dns::default());
        Some(Self { node, dns, runtime })
    }

    fn serve(&self, resolvers: &[[u8; 4]]) -> u16 {
        let call = Call {
            address: DNS,
            zone: zone(),
            resolvers: resolvers.iter().map(|ip| IpAddr::from(*ip)).collect(),
        };
        let dns = self.dns.clone();
        self.on(async move { dns.call(call).await }).expect("serves").port
    }

    fn on<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        on(self.runtime.as_ref().expect("it runs"), work)
    }

    fn ask(&self, query: Vec<u8>) -> (Message, Duration) {
        self.node.run(move || ask(&query, SocketAddr::from((DNS, 53))))
    }
}

fn question(name: &str, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::A));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().expect("writes")
}

#[allow(clippy::disallowed_methods)] // What is tested is how long it takes.
fn now() -> Instant {
    Instant::now()
}

fn ask(query: &[u8], at: SocketAddr) -> (Message, Duration) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("binds");
    socket.connect(at).expect("connects");
    socket.set_read_timeout(Some(Duration::from_secs(8))).expect("sets");
    let start = now();
    socket.send(query).expect("sends");
    let mut buffer = [0; 8192];
    let length = socket.recv(&mut buffer).expect("an answer");
    (Message::from_vec(&buffer[..length]).expect("readable"), start.elapsed())
}

fn ask_by_stream(stream: &mut TcpStream, query: &[u8]) -> Message {
    let length = u16::try_from(query.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes(), query].concat()).expect("sends");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).expect("an answer");
    Message::from_vec(&message).expect("readable")
}

fn data(message: &Message) -> String {
    let data: Vec<String> = message.answers.iter().map(|it| it.data.to_string()).collect();
    format!("{} {}", message.metadata.response_code, data.join(" ")).trim().to_owned()
}

/// How a resolver of the world behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    Silent,
    Fails,
    /// Forged answers come first.
    Forged,
    /// Datagrams are cut.
    Cut,
    /// It asks us in turn.
    AsksUs,
}

/// A resolver at `ip`, port 53; the count of questions put to it.
fn resolver(node: &Namespace, ip: [u8; 4], manner: Manner) -> Arc<AtomicUsize> {
    let at = SocketAddr::from((ip, 53));
    let count = Arc::new(AtomicUsize::new(0));
    let udp = node.run(move || UdpSocket::bind(at)).expect("binds");
    let seen = count.clone();
    node.spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            seen.fetch_add(1, Ordering::SeqCst);
            let query = buffer[..length].to_vec();
            for answer in answers(&query, manner, false) {
                let _ = udp.send_to(&answer, client);
            }
            if manner == Manner::AsksUs {
                let _ = udp.send_to(&query, (DNS, 53));
            }
        }
    });
    let tcp = node.run(move || TcpListener::bind(at)).expect("binds");
    node.spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            let _ = stream.read_exact(&mut query);
            for answer in answers(&query, manner, true) {
                let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                let _ = stream.write_all(&[&length[..], &answer].concat());
            }
        }
    });
    count
}

fn answers(query: &[u8], manner: Manner, by_stream: bool) -> Vec<Vec<u8>> {
    let Ok(asked) = Message::from_vec(query) else {
        return Vec::new();
    };
    let answer = |last: u8, id: u16, code, cut: bool| {
        let mut message = Message::response(id, OpCode::Query);
        message.add_queries(asked.queries.iter().cloned());
        message.metadata.response_code = code;
        message.metadata.truncation = cut;
        if code == ResponseCode::NoError && !cut {
            let name = asked.queries[0].name().clone();
            let address = RData::A(A(Ipv4Addr::new(203, 0, 113, last)));
            message.add_answer(Record::from_rdata(name, 300, address));
        }
        message.to_vec().expect("writes")
    };
    let (id, fine) = (asked.metadata.id, ResponseCode::NoError);
    match manner {
        Manner::Good => vec![answer(7, id, fine, false)],
        Manner::Silent | Manner::AsksUs => Vec::new(),
        Manner::Fails => vec![answer(0, id, ResponseCode::ServFail, false)],
        Manner::Forged => {
            let mut other = answer(66, id, fine, false);
            other[13] ^= 1;
            vec![answer(66, id ^ 1, fine, false), other, answer(7, id, fine, false)]
        }
        Manner::Cut => vec![answer(7, id, fine, !by_stream)],
    }
}

const ONE: [u8; 4] = [127, 1, 0, 1];
const TWO: [u8; 4] = [127, 1, 0, 2];
/// Less than a resolver that says nothing is waited for, on a busy machine too.
const AT_ONCE: Duration = Duration::from_millis(900);

#[test]
fn the_clusters_names_are_answered_by_both_transports() {
    let Some(place) = Place::new("the_clusters_names_are_answered_by_both_transports") else {
        return;
    };
    assert_eq!(place.serve(&[]), 53);
    let (message, _) = place.ask(question("web.shop.svc.cluster.local", None));
    assert_eq!(data(&message), "No Error 10.96.0.10");
    assert_eq!(message.metadata.id, 0x1234);
    let many = question("many.shop.svc.cluster.local", None);
    let (message, _) = place.ask(many.clone());
    assert!(message.metadata.truncation && message.answers.len() < 60);
    place.node.run(move || {
        let mut stream = TcpStream::connect((DNS, 53)).expect("connects");
        for _ in 0..3 {
            let message = ask_by_stream(&mut stream, &many);
            assert!(!message.metadata.truncation);
            assert_eq!(message.answers.len(), 60);
        }
    });
    // The answers take turns.
    let query = question("many.shop.svc.cluster.local", Some(4096));
    let (first, second) = (place.ask(query.clone()).0, place.ask(query).0);
    assert_ne!(first.answers[0], second.answers[0]);
    // What is no question at all goes unanswered, and the next is answered.
    place.node.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
        for junk in [&b""[..], b"x", &[0xff; 600]] {
            socket.send_to(junk, (DNS, 53)).expect("sends");
        }
    });
    let (message, _) = place.ask(question("nothing.shop.svc.cluster.local", None));
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn other_names_are_asked_for_elsewhere() {
    let Some(place) = Place::new("other_names_are_asked_for_elsewhere") else {
        return;
    };
    let asked = resolver(&place.node, ONE, Manner::Good);
    place.serve(&[ONE]);
    let (message, _) = place.ask(question("Example.org", None));
    assert_eq!(data(&message), "No Error 203.0.113.7");
    assert_eq!(message.metadata.id, 0x1234, "the client's own id");
    assert_eq!(message.queries[0].name().to_string(), "Example.org.");
    let (message, _) = place.ask(question("out.shop.svc.cluster.local", None));
    assert_eq!(data(&message), "No Error example.org. 203.0.113.7");
    let message = place.node.run(|| {
        let mut stream = TcpStream::connect((DNS, 53)).expect("connects");
        ask_by_stream(&mut stream, &question("example.org", None))
    });
    assert_eq!(data(&message), "No Error 203.0.113.7");
    let (message, _) = place.ask(question("gone.shop.svc.cluster.local", None));
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "ours are never asked for elsewhere");
}

#[test]
fn resolvers_that_fail_are_passed_over() {
    for (bad, patience) in [
        (None, AT_ONCE),
        (Some(Manner::Fails), AT_ONCE),
        (Some(Manner::Silent), Duration::from_secs(4)),
    ] {
        let Some(place) = Place::new("resolvers_that_fail_are_passed_over") else {
            return;
        };
        if let Some(manner) = bad {
            resolver(&place.node, ONE, manner);
        }
        resolver(&place.node, TWO, Manner::Good);
        place.serve(&[ONE, TWO]);
        let (message, time) = place.ask(question("example.org", None));
        assert_eq!(data(&message), "No Error 203.0.113.7");
        assert!(time < patience, "{time:?}");
        let (_, time) = place.ask(question("example.org", None));
        assert!(time < AT_ONCE, "the one that answered is asked first: {time:?}");
        // Where nobody does better, the failure is the answer.
        place.serve(&[ONE]);
        let (message, time) = place.ask(question("example.org", None));
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
        assert!(time < Duration::from_secs(5), "before the client gives up: {time:?}");
    }
}

#[test]
fn without_resolvers_the_answer_comes_at_once() {
    let Some(place) = Place::new("without_resolvers_the_answer_comes_at_once") else {
        return;
    };
    for resolvers in [&[][..], &[DNS.octets()], &[[0, 0, 0, 0]]] {
        place.serve(resolvers);
        for name in ["example.org", "out.shop.svc.cluster.local"] {
            let (message, time) = place.ask(question(name, None));
            assert_eq!(message.metadata.response_code, ResponseCode::ServFail, "{name}");
            assert!(time < AT_ONCE, "{time:?}");
        }
        let (message, _) = place.ask(question("web.shop.svc.cluster.local", None));
        assert_eq!(data(&message), "No Error 10.96.0.10");
    }
}

#[test]
fn forged_and_cut_answers_are_not_taken() {
    let Some(place) = Place::new("forged_and_cut_answers_are_not_taken") else {
        return;
    };
    resolver(&place.node, ONE, Manner::Forged);
    resolver(&place.node, TWO, Manner::Cut);
    for resolver in [ONE, TWO] {
        place.serve(&[resolver]);
        let (message, _) = place.ask(question("example.org", None));
        assert_eq!(data(&message), "No Error 203.0.113.7");
        assert!(!message.metadata.truncation);
    }
}

#[test]
fn a_circle_of_resolvers_ends() {
    let Some(place) = Place::new("a_circle_of_resolvers_ends") else {
        return;
    };
    let asked = resolver(&place.node, ONE, Manner::AsksUs);
    place.serve(&[ONE]);
    let (message, time) = place.ask(question("example.org", None));
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert!(time < Duration::from_secs(6), "{time:?}");
    let (message, time) = place.ask(question("web.shop.svc.cluster.local", None));
    assert_eq!(data(&message), "No Error 10.96.0.10");
    assert!(time < AT_ONCE, "{time:?}");
    std::thread::sleep(Duration::from_secs(6));
    let (before, ()) = (asked.load(Ordering::SeqCst), std::thread::sleep(Duration::from_secs(2)));
    assert_eq!(asked.load(Ordering::SeqCst), before, "it has ended");
}

#[test]
fn who_comes_when_all_are_busy_is_told_at_once() {
    let Some(place) = Place::new("who_comes_when_all_are_busy_is_told_at_once") else {
        return;
    };
    resolver(&place.node, ONE, Manner::Silent);
    place.serve(&[ONE]);
    place.node.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
        for n in 0..256 {
            let query = question(&format!("n{n}.example.org"), None);
            socket.send_to(&query, (DNS, 53)).expect("sends");
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    let (message, time) = place.ask(question("example.org", None));
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert!(time < AT_ONCE, "{time:?}");
    let (message, _) = place.ask(question("web.shop.svc.cluster.local", None));
    assert_eq!(data(&message), "No Error 10.96.0.10");
}

#[test]
fn sockets_are_handed_on_and_given_up() {
    let Some(mut place) = Place::new("sockets_are_handed_on_and_given_up") else {
        return;
    };
    place.serve(&[]);
    let old = std::mem::replace(&mut place.dns, Arc::new(Dns::default()));
    let new = place.dns.clone();
    place.on(async move {
        let sockets = old.sockets().await.expect("it has some");
        new.take_over(sockets).await.expect("takes over");
        old.stop().await;
    });
    let (message, _) = place.ask(question("web.shop.svc.cluster.local", None));
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail, "no zone yet");
    assert_eq!(place.serve(&[]), 53);
    let (message, _) = place.ask(question("web.shop.svc.cluster.local", None));
    assert_eq!(data(&message), "No Error 10.96.0.10");
    let dns = place.dns.clone();
    place.on(async move { dns.stop().await });
    place.node.run(|| UdpSocket::bind((DNS, 53))).expect("free again");
}

#[test]
fn a_missing_address_is_a_fault_that_may_pass() {
    let Some(place) = Place::new("a_missing_address_is_a_fault_that_may_pass") else {
        return;
    };
    let call = Call { address: Ipv4Addr::new(10, 96, 0, 99), zone: zone(), resolvers: Vec::new() };
    let dns = place.dns.clone();
    let fault = place.on(async move { dns.call(call).await }).expect_err("not there");
    assert_eq!(fault.kind, windlass::ports::FaultKind::Transient);
    assert!(fault.message.contains("10.96.0.99:53"), "{fault}");
}

#[test]
fn pods_ask_at_port_53_also_where_that_is_taken() {
    on_both("pods_ask_at_port_53_also_where_that_is_taken", |lab| {
        for is_taken in [false, true] {
            // Somebody else (dnsmasq, say) has port 53 on all addresses.
            let taken = is_taken.then(|| {
                let bound = lab.node.run(|| UdpSocket::bind("0.0.0.0:53"));
                bound.expect("binds")
            });
            let runtime = runtime_in(&lab.node);
            let dns = Arc::new(Dns::default());
            let call = Call { address: DNS, zone: zone(), resolvers: Vec::new() };
            let server = dns.clone();
            let port = on(&runtime, async move { server.call(call).await });
            let port = port.expect("serves").port;
            assert_eq!(port != 53, is_taken);
            let mut world = input(&[]);
            world.dns = world.dns.map(|dns| net::DnsListener { port, ..dns });
            lab.apply(&world);
            for place in lab.pods.values().chain([&lab.node]) {
                let (message, _) = place.run(|| ask(&about_web(), SocketAddr::from((DNS, 53))));
                assert_eq!(data(&message), "No Error 10.96.0.10");
                let message = place.run(|| {
                    let mut stream = TcpStream::connect((DNS, 53)).expect("connects");
                    ask_by_stream(&mut stream, &about_web())
                });
                assert_eq!(data(&message), "No Error 10.96.0.10");
            }
            let stopped = dns.clone();
            on(&runtime, async move { stopped.stop().await });
            runtime.shutdown_background();
            drop(taken);
        }
        lab.filter(filter::Call::Clear);
    });
}

fn about_web() -> Vec<u8> {
    question("web.shop.svc.cluster.local", None)
}
