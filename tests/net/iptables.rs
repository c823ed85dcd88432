//! The adapter: what it writes, leaves alone, puts back and takes away.

use std::sync::Arc;

use windlass::adapters::iptables::{Backend, Choice, Iptables};
use windlass::kinds::rules::RuleSet;
use windlass::net::{self, words};
use windlass::ports::filter::{Answer, Call, Flow};

use super::lab::{Lab, Reply, input, program};
use super::packets::on_both;
use crate::support::namespace::Namespace;

const WEB: &str = "shop/web ip=10.96.0.10 tcp:80=30080 udp:80 affinity=60 -> 10.1.0.1:8080@a";

/// Rules with every kind of word in them.
fn everything() -> net::Input {
    let mut world = input(&[
        WEB,
        "shop/here ip=10.96.0.11 tcp:80=30081 external-local internal-local health=32000 \
         -> 10.1.0.1:8080@a 10.1.1.1:8080@b 10.1.1.2:8080@b",
        "shop/far ip=10.96.0.12 tcp:80=30082 external-local internal-local -> 10.1.1.1:8080@b",
        "shop/none ip=10.96.0.13 tcp:80=30083 udp:80=30083 sctp:80=30083 ext=198.51.100.9",
        "shop/lb ip=10.96.0.14 sctp:80 lb=198.51.100.2 range=203.0.113.7/24 range=0.0.0.0/0 \
         -> 10.1.0.1:8080@a 10.1.0.2:8080@a",
    ]);
    world.host_ports = ["tcp 8085 -> 10.1.0.1:80", "udp 127.0.0.1:8085 -> 10.1.0.2:80"]
        .map(|text| words::host_port(text).expect(text))
        .into();
    if let Some(dns) = &mut world.dns {
        dns.port = 5353;
    }
    world
}

fn check(lab: &Lab, wanted: &Arc<RuleSet>) -> bool {
    let wanted = wanted.clone();
    lab.filter(Call::Check { wanted }) == Answer::Intact(true)
}

fn apply(lab: &Lab, wanted: &Arc<RuleSet>, known: Option<&Arc<RuleSet>>) {
    let (wanted, known) = (wanted.clone(), known.cloned());
    assert_eq!(lab.filter(Call::Apply { wanted, known }), Answer::Done);
}

fn seen(lab: &Lab) -> RuleSet {
    let filter = lab.filter.clone();
    lab.node.block_on(async move { filter.seen().await.expect("looks") })
}

/// Everything that stands in a namespace's tables, without counters.
fn saved(lab: &Lab) -> Vec<String> {
    let save = format!("{0}-save -t nat; {0}-save -t filter", program(lab.backend));
    let text = lab.node.sh(&save);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_is_read_back_is_what_was_written() {
    on_both("what_is_read_back_is_what_was_written", |lab| {
        let wanted = Arc::new(net::rules(&everything()));
        apply(lab, &wanted, None);
        assert_eq!(seen(lab).chains, wanted.chains);
        assert!(check(lab, &wanted));
        // A restarted agent finds everything as it should be.
        lab.filter = Arc::new(Iptables::new(Choice::Always(lab.backend)));
        apply(lab, &wanted, None);
        assert!(check(lab, &wanted));
    });
}

#[test]
fn other_peoples_rules_are_left_alone_and_ours_leave_nothing() {
    on_both("other_peoples_rules_are_left_alone_and_ours_leave_nothing", |lab| {
        let iptables = program(lab.backend);
        lab.node.sh(&format!(
            "i='{iptables} -w'
             $i -t nat -N DOCKER; $i -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             $i -t nat -A DOCKER -p tcp --dport 5000 -j DNAT --to-destination 10.1.0.2:80
             $i -N DOCKER-USER; $i -A FORWARD -j DOCKER-USER; $i -A DOCKER-USER -j RETURN"
        ));
        let before = saved(lab);
        let one = Arc::new(net::rules(&input(&[WEB])));
        let all = Arc::new(net::rules(&everything()));
        apply(lab, &one, None);
        apply(lab, &all, Some(&one));
        apply(lab, &one, Some(&all));
        let with_ours = saved(lab);
        let others: Vec<String> =
            with_ours.iter().filter(|line| !line.contains("WDL-")).cloned().collect();
        assert_eq!(others, before);
        // Docker's published port still works, and its client is still seen.
        let packet = words::packet("outside 203.0.113.5 > 192.168.0.1:5000").expect("reads");
        let seen_client = Reply::From("10.1.0.2:80".parse().expect("an address"), packet.source);
        assert_eq!(lab.send(&packet), seen_client);
        lab.filter(Call::Clear);
        assert_eq!(saved(lab), before);
        lab.filter(Call::Clear);
    });
}

#[test]
fn what_others_break_is_noticed_and_put_back() {
    on_both("what_others_break_is_noticed_and_put_back", |lab| {
        let iptables = format!("{} -w", program(lab.backend));
        let wanted = Arc::new(net::rules(&everything()));
        apply(lab, &wanted, None);
        let good = saved(lab);
        let packet = words::packet("pod 10.1.0.9 > 10.96.0.10:80").expect("reads");
        let answer = lab.send(&packet);
        assert!(matches!(answer, Reply::From(..)));
        for (breakage, policies_stay) in [
            ("-t nat -F", true),
            ("-F FORWARD", false),
            ("-t nat -D PREROUTING -j WDL-PREROUTING", true),
            ("-I FORWARD -j DROP", true),
            ("-t nat -F WDL-MASQUERADE", true),
            ("-R WDL-VACANT 2 -j DROP", true),
            ("-t nat -I PREROUTING 2 -j WDL-PREROUTING", true),
        ] {
            assert!(check(lab, &wanted), "before {breakage}");
            lab.node.sh(&format!("{iptables} {breakage}"));
            assert!(!check(lab, &wanted), "{breakage} went unnoticed");
            apply(lab, &wanted, None);
            assert!(check(lab, &wanted), "{breakage} was not mended");
            assert_eq!(lab.send(&packet), answer, "{breakage}");
            if breakage == "-I FORWARD -j DROP" {
                lab.node.sh(&format!("{iptables} -D FORWARD -j DROP"));
            }
            if policies_stay {
                assert_eq!(saved(lab), good, "{breakage}");
            }
        }
        // A change by another between two of ours is noticed as well.
        assert!(check(lab, &wanted));
        let other = Arc::new(net::rules(&input(&[WEB])));
        lab.node.sh(&format!("{iptables} -t nat -F WDL-HAIRPIN"));
        apply(lab, &other, Some(&wanted));
        assert!(!check(lab, &other), "the flush went unnoticed");
        apply(lab, &wanted, None);
        assert!(check(lab, &wanted));
        apply(lab, &other, Some(&wanted));
        assert!(check(lab, &other));
        lab.node.sh(&format!("{iptables} -t nat -F WDL-HAIRPIN"));
        assert!(!check(lab, &other), "the flush after a change of ours went unnoticed");
        apply(lab, &wanted, None);
        // Everything flushed and removed, as a firewall's reload does.
        let (t, n) = (&iptables, "-t nat");
        lab.node.sh(&format!("{t} -F; {t} -X; {t} {n} -F; {t} {n} -X"));
        assert!(!check(lab, &wanted));
        // What is known is wrong now, and the change is made all the same.
        let more = Arc::new(net::rules(&input(&[WEB, "a/b ip=10.96.0.99 tcp:1 -> 10.1.0.1:1@a"])));
        apply(lab, &more, Some(&wanted));
        assert!(check(lab, &more));
        assert_eq!(lab.send(&packet), answer);
    });
}

#[test]
fn connections_survive_a_change_of_the_rules() {
    on_both("connections_survive_a_change_of_the_rules", |lab| {
        use std::io::{BufRead as _, BufReader, Write as _};
        use std::net::{TcpListener, TcpStream};
        let text = |ends: &str| format!("shop/echo ip=10.96.0.20 tcp:7 -> {ends}");
        lab.apply(&input(&[&text("10.1.0.1:7@a")]));
        let pod = &lab.pods[&[10, 1, 0, 1].into()];
        let listener = pod.run(|| TcpListener::bind("10.1.0.1:7")).expect("binds");
        pod.spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines();
                while let Some(Ok(line)) = lines.next() {
                    let _ = writeln!(&stream, "{line}");
                }
            }
        });
        let client = &lab.pods[&[10, 1, 0, 9].into()];
        let stream = client.run(|| TcpStream::connect("10.96.0.20:7")).expect("connects");
        let mut lines = BufReader::new(stream.try_clone().expect("clones")).lines();
        let mut echo = |word: &str| {
            writeln!(&stream, "{word}").expect("sends");
            lines.next().expect("a line").expect("reads")
        };
        assert_eq!(echo("before"), "before");
        // The endpoint leaves (new clients are refused), others come, everything is flushed.
        lab.apply(&input(&[&text("")]));
        let new = words::packet("pod 10.1.0.9 > 10.96.0.20:7").expect("reads");
        assert_eq!(lab.send(&new), Reply::Refused);
        assert_eq!(echo("gone"), "gone");
        lab.apply(&input(&[&text("10.1.0.2:7@a 10.1.1.1:7@b")]));
        assert_eq!(echo("others"), "others");
        lab.filter(Call::Clear);
        lab.node.sh(&format!("{} -w -P FORWARD ACCEPT", program(lab.backend)));
        assert_eq!(echo("flushed"), "flushed");
    });
}

#[test]
fn udp_flows_follow_their_endpoints() {
    on_both("udp_flows_follow_their_endpoints", |lab| {
        use std::net::UdpSocket;
        use std::time::Duration;
        let text = |end: &str| format!("shop/web ip=10.96.0.10 udp:80 -> {end}");
        lab.apply(&input(&[&text("10.1.0.1:8080@a")]));
        let client = &lab.pods[&[10, 1, 0, 9].into()];
        let socket = client.run(|| UdpSocket::bind("10.1.0.9:4000")).expect("binds");
        socket.set_read_timeout(Some(Duration::from_millis(600))).expect("sets");
        let ask = || {
            socket.send_to(b"?", "10.96.0.10:80").expect("sends");
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).expect("an answer");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert!(ask().starts_with("10.1.0.1:8080 "));
        lab.apply(&input(&[&text("10.1.0.2:8080@a")]));
        assert!(ask().starts_with("10.1.0.1:8080 "), "a busy client holds on to the old one");
        let flow = |endpoint: [u8; 4]| Flow {
            destination: [10, 96, 0, 10].into(),
            port: 80,
            endpoint: Some(endpoint.into()),
        };
        lab.filter(Call::ForgetFlows { flows: vec![flow([10, 1, 0, 2])] });
        assert!(ask().starts_with("10.1.0.1:8080 "), "another's flows are kept");
        lab.filter(Call::ForgetFlows { flows: vec![flow([10, 1, 0, 1])] });
        assert!(ask().starts_with("10.1.0.2:8080 "));
        lab.filter(Call::ForgetFlows { flows: Vec::new() });
    });
}

#[test]
fn ours_go_where_dockers_are() {
    let Some(place) = Namespace::new() else {
        crate::support::skip("ours_go_where_dockers_are", "needs root");
        return;
    };
    let filter = Arc::new(Iptables::new(Choice::AsDocker));
    let wanted = Arc::new(net::rules(&input(&[WEB])));
    let apply = || {
        let (filter, wanted) = (filter.clone(), wanted.clone());
        place.block_on(async move {
            let call = Call::Apply { wanted, known: None };
            filter.call(call).await.expect("applied");
            filter.backend().await
        })
    };
    let ours = |program: &str| place.sh(&format!("{program}-save -t nat | grep -c WDL- || true"));
    place.sh("iptables-legacy -w -t nat -N DOCKER");
    assert_eq!(apply(), Some(Backend::Legacy));
    assert_eq!(ours("iptables-nft").trim(), "0");
    // Docker was started anew with the other: ours follow, and leave nothing behind.
    place.sh("iptables-legacy -w -t nat -X DOCKER; iptables-nft -t nat -N DOCKER");
    assert_eq!(apply(), Some(Backend::Nft));
    assert_eq!(ours("iptables-legacy").trim(), "0");
    assert_ne!(ours("iptables-nft").trim(), "0");
}
