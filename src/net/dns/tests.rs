//! Questions and answers, as tables; and any bytes at all.

use super::*;
use crate::net::words;
use crate::net::zone::{ZoneInput, zone};
use proptest::prelude::*;

fn book() -> Zone {
    let many: Vec<String> = (0..200).map(|n| format!("10.1.5.{n}:80@a")).collect();
    let services: Vec<_> = [
        "shop/web ip=10.96.0.10 tcp:80/http -> 10.1.0.1:8080@a",
        "shop/db headless tcp:5432/sql -> 10.1.0.2:5432@a#db-0 10.1.0.3:5432@b",
        "shop/empty headless tcp:80/http",
        "shop/out alias=example.org",
        "shop/near alias=web.shop.svc.cluster.local",
        "shop/lost alias=gone.shop.svc.cluster.local",
        "shop/ring alias=ring.shop.svc.cluster.local",
        &format!("shop/many headless tcp:80/http -> {}", many.join(" ")),
    ]
    .iter()
    .map(|text| words::service(text).expect(text))
    .collect();
    zone(&ZoneInput {
        domain: "cluster.local",
        services: &services,
        pods: &[(crate::kinds::name::Name::trusted("shop"), [10, 1, 0, 9].into())],
        networks: &[
            "10.1.0.0/16".parse().expect("a network"),
            "10.96.0.0/12".parse().expect("a network"),
        ],
    })
}

fn question(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut asked = Name::from_ascii(name).expect("a name");
    asked.set_fqdn(true);
    message.add_query(Query::query(asked, kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().expect("writes")
}

fn reply(outcome: &Outcome) -> Message {
    match outcome {
        Outcome::Reply(bytes) => Message::from_vec(bytes).expect("readable"),
        other => panic!("{other:?}"),
    }
}

/// `NOERROR a b +soa`, or what else is to be done.
fn shown(outcome: &Outcome) -> String {
    let message = match outcome {
        Outcome::Forward => return "forward".into(),
        Outcome::Ignore => return "ignore".into(),
        Outcome::Follow(alias) => {
            let about = Message::from_vec(alias.question()).expect("readable");
            return format!("follow {}", about.queries[0].name());
        }
        reply_of => reply(reply_of),
    };
    let mut text = match message.metadata.response_code {
        ResponseCode::NoError => "ok".to_owned(),
        ResponseCode::NXDomain => "none".to_owned(),
        other => format!("{other:?}"),
    };
    for record in &message.answers {
        assert_eq!(record.ttl, 5);
        text.push_str(&format!(" {}", record.data));
    }
    if !message.authorities.is_empty() {
        assert_eq!(message.authorities[0].ttl, 5);
        text.push_str(" +soa");
    }
    text
}

fn ask(name: &str, kind: RecordType) -> String {
    shown(&answer(&book(), &question(name, kind, None), Transport::Udp, 0))
}

#[test]
fn names_are_answered_as_the_specification_has_it() {
    use RecordType::{A, AAAA, ANY, CNAME, PTR, SOA, SRV, TXT};
    let table = [
        ("web.shop.svc.cluster.local", A, "ok 10.96.0.10"),
        ("web.shop.svc.cluster.local", AAAA, "ok +soa"),
        ("web.shop.svc.cluster.local", TXT, "ok +soa"),
        ("web.shop.svc.cluster.local", ANY, "ok 10.96.0.10"),
        ("db.shop.svc.cluster.local", A, "ok 10.1.0.2 10.1.0.3"),
        ("db-0.db.shop.svc.cluster.local", A, "ok 10.1.0.2"),
        ("db-1.db.shop.svc.cluster.local", A, "none +soa"),
        ("10-1-0-3.db.shop.svc.cluster.local", A, "ok 10.1.0.3"),
        ("empty.shop.svc.cluster.local", A, "ok +soa"),
        ("_http._tcp.web.shop.svc.cluster.local", SRV, "ok 0 100 80 web.shop.svc.cluster.local."),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            SRV,
            "ok 0 100 5432 db-0.db.shop.svc.cluster.local. \
             0 100 5432 10-1-0-3.db.shop.svc.cluster.local.",
        ),
        ("_http._udp.web.shop.svc.cluster.local", SRV, "none +soa"),
        ("_tcp.web.shop.svc.cluster.local", A, "ok +soa"),
        ("shop.svc.cluster.local", A, "ok +soa"),
        ("svc.cluster.local", A, "ok +soa"),
        ("cluster.local", A, "ok +soa"),
        (
            "cluster.local",
            SOA,
            "ok ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5",
        ),
        ("gone.shop.svc.cluster.local", A, "none +soa"),
        ("web.gone.svc.cluster.local", A, "none +soa"),
        ("web.shop.svc.cluster.local.shop.svc.cluster.local", A, "none +soa"),
        ("10-1-0-9.shop.pod.cluster.local", A, "ok 10.1.0.9"),
        ("10-1-0-8.shop.pod.cluster.local", A, "none +soa"),
        ("10-1-0-9.lab.pod.cluster.local", A, "none +soa"),
        ("out.shop.svc.cluster.local", A, "follow example.org."),
        ("out.shop.svc.cluster.local", CNAME, "ok example.org."),
        ("near.shop.svc.cluster.local", A, "ok web.shop.svc.cluster.local. 10.96.0.10"),
        ("lost.shop.svc.cluster.local", A, "none gone.shop.svc.cluster.local. +soa"),
        ("10.0.96.10.in-addr.arpa", PTR, "ok web.shop.svc.cluster.local."),
        ("2.0.1.10.in-addr.arpa", PTR, "ok db-0.db.shop.svc.cluster.local."),
        ("9.0.1.10.in-addr.arpa", PTR, "ok 10-1-0-9.shop.pod.cluster.local."),
        ("9.0.1.10.in-addr.arpa", A, "ok +soa"),
        ("99.0.1.10.in-addr.arpa", PTR, "none +soa"),
        ("5.113.0.203.in-addr.arpa", PTR, "forward"),
        ("1.10.in-addr.arpa", PTR, "forward"),
        ("example.org", A, "forward"),
        ("notcluster.local", A, "forward"),
        ("local", A, "forward"),
        (".", A, "forward"),
    ];
    for (name, kind, expected) in table {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
    assert!(ask("ring.shop.svc.cluster.local", A).starts_with("ServFail"));
}

#[test]
fn the_case_of_a_question_is_kept_and_ignored() {
    let name = "wEB.Shop.SVC.cluster.LOCAL.";
    let query = question(name, RecordType::A, None);
    let message = reply(&answer(&book(), &query, Transport::Udp, 0));
    assert_eq!(message.queries[0].name().to_string(), name);
    assert_eq!(message.answers[0].name.to_string(), name);
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.authoritative && message.metadata.recursion_available);
    assert!(message.metadata.recursion_desired);
}

#[test]
fn addresses_take_turns() {
    let query = question("db.shop.svc.cluster.local", RecordType::A, None);
    let at = |turn| shown(&answer(&book(), &query, Transport::Udp, turn));
    assert_eq!(at(0), "ok 10.1.0.2 10.1.0.3");
    assert_eq!(at(1), "ok 10.1.0.3 10.1.0.2");
    assert_eq!(at(2), at(0));
    assert_eq!(at(usize::MAX), at(1));
}

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let name = "many.shop.svc.cluster.local";
    for (payload, transport, answers, truncated) in [
        (None, Transport::Udp, 29, true),
        (Some(100), Transport::Udp, 28, true),
        (Some(1232), Transport::Udp, 73, true),
        (Some(4096), Transport::Udp, 168, true),
        (Some(65_535), Transport::Udp, 168, true),
        (None, Transport::Tcp, 200, false),
    ] {
        let query = question(name, RecordType::A, payload);
        let outcome = answer(&book(), &query, transport, 0);
        let Outcome::Reply(bytes) = &outcome else { panic!("{outcome:?}") };
        let message = reply(&outcome);
        assert_eq!(message.answers.len(), answers, "{payload:?} {transport:?}");
        assert_eq!(message.metadata.truncation, truncated, "{payload:?} {transport:?}");
        assert_eq!(message.edns.is_some(), payload.is_some());
        if transport == Transport::Udp {
            assert!(bytes.len() <= usize::from(payload.unwrap_or(512).clamp(512, 4096)));
        }
    }
}

#[test]
fn an_alias_is_finished_with_what_others_say() {
    let query = question("out.shop.svc.cluster.local", RecordType::A, None);
    let follow = || match answer(&book(), &query, Transport::Udp, 0) {
        Outcome::Follow(alias) => alias,
        other => panic!("{other:?}"),
    };
    let alias = follow();
    let asked = Message::from_vec(alias.question()).expect("readable");
    let mut said = begin(&asked);
    let example = name_of("example.org").expect("a name");
    said.add_answer(Record::from_rdata(example, 300, RData::A(A::new(203, 0, 113, 5))));
    let bytes = said.to_vec().expect("writes");
    let message = Message::from_vec(&alias.finish(Some(&bytes))).expect("readable");
    let data: Vec<String> = message.answers.iter().map(|it| it.data.to_string()).collect();
    assert_eq!(data, ["example.org.", "203.0.113.5"]);
    assert_eq!(message.queries, Message::from_vec(&query).expect("readable").queries);
    assert!(!message.metadata.authoritative);
    for nothing in [None, Some(&b"garbage"[..])] {
        let message = Message::from_vec(&follow().finish(nothing)).expect("readable");
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn what_is_no_question_is_not_answered() {
    let good = question("web.shop.svc.cluster.local", RecordType::A, None);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        shown(&answer(&book(), &bytes, Transport::Udp, 0))
    };
    assert_eq!(with(2, 0x81), "ignore", "an answer");
    assert_eq!(with(2, 0x29), "NotImp", "UPDATE");
    assert_eq!(with(5, 0), "FormErr", "no question");
    assert_eq!(with(5, 2), "FormErr", "a second question that is not there");
    assert_eq!(with(good.len() - 1, 3), "Refused", "class CHAOS");
    assert_eq!(shown(&answer(&book(), &good[..20], Transport::Udp, 0)), "FormErr");
    assert_eq!(shown(&answer(&book(), &good[..11], Transport::Udp, 0)), "ignore");
    let mut later = Message::from_vec(&question("a.b", RecordType::A, Some(512))).expect("reads");
    later.edns.as_mut().expect("set").set_version(1);
    let later = later.to_vec().expect("writes");
    assert_eq!(shown(&answer(&book(), &later, Transport::Udp, 0)), "BADSIG");
}

#[test]
fn only_the_answer_to_a_question_is_taken_for_it() {
    let query = question("example.org", RecordType::A, None);
    let good = failure(&query).expect("an answer");
    assert!(is_answer_to(&query, &good));
    assert!(!is_answer_to(&query, &query), "a question is no answer");
    for at in [0, 1, 13, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(!is_answer_to(&query, &bad), "byte {at}");
    }
    assert!(!is_answer_to(&query, &good[..14]));
    assert!(!is_answer_to(&query, &[]));
}

#[test]
fn others_answers_are_cut_to_what_the_client_takes() {
    let query = question("many.shop.svc.cluster.local", RecordType::A, None);
    let Outcome::Reply(long) = answer(&book(), &query, Transport::Tcp, 0) else {
        panic!("no reply")
    };
    let short = long[..300].to_vec();
    assert_eq!(fit(&query, short.clone()), short, "what fits is left as it is");
    let cut = fit(&query, long);
    assert!(cut.len() <= 512);
    assert!(Message::from_vec(&cut).expect("readable").metadata.truncation);
    let odd = fit(&query, vec![0xff; 600]);
    let message = Message::from_vec(&odd).expect("readable");
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
}

/// Questions that were damaged on the way.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let base = question("_sql._tcp.db.shop.svc.cluster.local", RecordType::ANY, Some(1232));
    proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8).prop_map(
        move |changes| {
            let mut bytes = base.clone();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic_or_say_too_much(
        bytes in prop_oneof![damaged(), proptest::collection::vec(any::<u8>(), 0..80)],
        turn: usize,
    ) {
        let zone = book_once();
        match answer(zone, &bytes, Transport::Udp, turn) {
            Outcome::Reply(reply) => {
                prop_assert!(reply.len() >= 12 && reply.len() <= 4096);
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert_eq!(reply[2] & 0x80, 0x80);
            }
            Outcome::Follow(alias) => { alias.finish(Some(&bytes)); }
            Outcome::Forward | Outcome::Ignore => {}
        }
        is_answer_to(&bytes, &bytes);
        fit(&bytes, bytes.clone());
        failure(&bytes);
    }
}

fn book_once() -> &'static Zone {
    static BOOK: std::sync::LazyLock<Zone> = std::sync::LazyLock::new(book);
    &BOOK
}
