//! Answers to questions about names: a clerk with the telephone book, who looks nothing up
//! elsewhere and says when somebody else must be asked.
//!
//! What is below the cluster's domain is answered here and nowhere else; so is the name of an
//! address in the cluster's networks. The rules that implementations get wrong, and libraries trip
//! over: a name that exists answers "no data" for types it has not (never "no such name": musl gives
//! up on that); names keep the case they were asked in; a truncated answer still carries what fits;
//! negative answers are short-lived, because peers of a StatefulSet come up one after the other.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::kinds::zone::{Records, Zone};

/// How long an answer may be kept, in seconds (CoreDNS's `kubernetes` plugin has the same).
const TTL_S: u32 = 5;

/// How long "there is no such name" may be kept, in seconds.
const NEGATIVE_TTL_S: u32 = 5;

/// An alias may lead to an alias, and so on; this far.
const ALIASES_MAX: usize = 8;

/// What fits into a datagram on any path without being cut (DNS flag day 2020). We say so; clients
/// that say more get more.
const PAYLOAD: u16 = 1232;

/// What a client that says nothing can take (RFC 1035 §4.2.1).
const PAYLOAD_PLAIN: u16 = 512;

/// No client gets more in a datagram, whatever it says it can take.
const PAYLOAD_MAX: u16 = 4096;

/// The size of a message's header.
const HEADER_LEN: usize = 12;

/// How the question came, and so how long the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

/// What to do about a question.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Send this.
    Reply(Vec<u8>),
    /// It is not ours: ask others, as it is.
    Forward,
    /// It is an alias for a name that is not ours: ask others about that, and finish with what
    /// they say.
    Follow(Box<Alias>),
    /// Say nothing: it is no question.
    Ignore,
}

/// An answer that lacks what an alias leads to.
#[derive(Clone, Debug)]
pub struct Alias {
    reply: Message,
    limit: u16,
    question: Vec<u8>,
}

impl Alias {
    /// What others must be asked.
    pub fn question(&self) -> &[u8] {
        &self.question
    }

    /// The whole answer, with what others said; none where nobody did.
    pub fn finish(mut self, others: Option<&[u8]>) -> Vec<u8> {
        self.reply.metadata.authoritative = false;
        match others.and_then(|bytes| Message::from_vec(bytes).ok()) {
            Some(said) => {
                self.reply.metadata.response_code = said.metadata.response_code;
                self.reply.answers.extend(said.answers);
            }
            None => self.reply.metadata.response_code = ResponseCode::ServFail,
        }
        write(self.reply, self.limit)
    }
}

/// Answers `query` from `zone`. Where a name has several addresses, `turn` says which is named
/// first: callers count it up, so that clients that take the first spread.
pub fn answer(zone: &Zone, query: &[u8], transport: Transport, turn: usize) -> Outcome {
    let Ok(message) = Message::from_vec(query) else {
        return malformed(query);
    };
    if message.metadata.message_type == MessageType::Response {
        return Outcome::Ignore;
    }
    let limit = match (transport, &message.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PAYLOAD_PLAIN, PAYLOAD_MAX),
        (Transport::Udp, None) => PAYLOAD_PLAIN,
    };
    let mut reply = begin(&message);
    let refuse = |mut reply: Message, code| {
        reply.metadata.response_code = code;
        Outcome::Reply(write(reply, limit))
    };
    if message.metadata.op_code != OpCode::Query {
        return refuse(reply, ResponseCode::NotImp);
    }
    if message.version() > 0 {
        return refuse(reply, ResponseCode::BADVERS);
    }
    let [question] = &message.queries[..] else {
        return refuse(reply, ResponseCode::FormErr);
    };
    if question.query_class() != DNSClass::IN {
        return refuse(reply, ResponseCode::Refused);
    }
    let asked = Asked { zone, name: question.name(), kind: question.query_type(), turn };
    let key = key_of(question.name());
    match asked.look_up(&key, &mut reply) {
        Found::Here => Outcome::Reply(write(reply, limit)),
        Found::Elsewhere => Outcome::Forward,
        Found::Alias(target) => match question_about(&target, question.query_type()) {
            Some(question) => Outcome::Follow(Box::new(Alias { reply, limit, question })),
            None => refuse(reply, ResponseCode::ServFail),
        },
    }
}

/// An answer for a question that nobody can be asked about.
pub fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(query).ok()?;
    let mut reply = begin(&message);
    reply.metadata.authoritative = false;
    reply.metadata.response_code = ResponseCode::ServFail;
    Some(write(reply, PAYLOAD_PLAIN))
}

/// Cuts somebody else's answer down to what the client of `query` can take in a datagram.
pub fn fit(query: &[u8], answer: Vec<u8>) -> Vec<u8> {
    let limit = match Message::from_vec(query).ok().and_then(|query| query.edns) {
        Some(edns) => edns.max_payload().clamp(PAYLOAD_PLAIN, PAYLOAD_MAX),
        None => PAYLOAD_PLAIN,
    };
    if answer.len() <= usize::from(limit) {
        return answer;
    }
    match Message::from_vec(&answer) {
        Ok(message) => write(message, limit),
        Err(_) => failure(query).unwrap_or_default(),
    }
}

/// Whether `answer` is an answer to `query`: same id, same question. Letters may come back in
/// another case: some resolvers write all names in lower case.
pub fn is_answer_to(query: &[u8], answer: &[u8]) -> bool {
    let (Some(asked), Some(answered)) = (question_of(query), question_of(answer)) else {
        return false;
    };
    query.get(..2) == answer.get(..2)
        && asked.eq_ignore_ascii_case(answered)
        && answer[2] & 0x80 != 0
}

/// The bytes of the only question, name uncompressed as questions are; none where there is not
/// exactly one.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut end = HEADER_LEN;
    loop {
        let length = usize::from(*message.get(end)?);
        end += 1 + length;
        match length {
            0 => break,
            1..64 => {}
            _ => return None,
        }
    }
    message.get(HEADER_LEN..end + 4)
}

fn begin(message: &Message) -> Message {
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&message.metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    reply.add_queries(message.queries.iter().cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        reply.set_edns(edns);
    }
    reply
}

/// A question that can't be read is told so, if it at least has a header that says it is one.
fn malformed(query: &[u8]) -> Outcome {
    const QR: u8 = 0x80;
    const OPCODE_AND_RD: u8 = 0x79;
    const FORMERR: u8 = 1;
    match query {
        [id_high, id_low, flags, ..] if query.len() >= HEADER_LEN && flags & QR == 0 => {
            let mut reply = vec![*id_high, *id_low, QR | (flags & OPCODE_AND_RD), FORMERR];
            reply.resize(HEADER_LEN, 0);
            Outcome::Reply(reply)
        }
        _ => Outcome::Ignore,
    }
}

/// The name in lower case without the final dot; odd bytes are escaped, and so match no name.
fn key_of(name: &Name) -> String {
    let mut key = name.to_lowercase().to_ascii();
    if key.ends_with('.') {
        key.pop();
    }
    key
}

fn question_about(target: &str, kind: RecordType) -> Option<Vec<u8>> {
    let mut query = Message::new(0, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name_of(target)?, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.set_edns(edns);
    query.to_vec().ok()
}

fn name_of(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A question, with what it takes to answer it.
struct Asked<'a> {
    zone: &'a Zone,
    name: &'a Name,
    kind: RecordType,
    turn: usize,
}

enum Found {
    Here,
    Elsewhere,
    Alias(String),
}

impl Asked<'_> {
    fn look_up(&self, key: &str, reply: &mut Message) -> Found {
        if let Some(ip) = address_of(key) {
            return self.look_up_address(ip, reply);
        }
        if !self.is_ours(key) {
            return Found::Elsewhere;
        }
        let (mut key, mut owner) = (key.to_owned(), self.name.clone());
        for _ in 0..ALIASES_MAX {
            let Some(records) = self.zone.names.get(&key) else {
                self.no_such_name(reply);
                return Found::Here;
            };
            let Some(target) = &records.cname else {
                self.tell(records, &key, &owner, reply);
                return Found::Here;
            };
            let Some(next) = name_of(target) else {
                reply.metadata.response_code = ResponseCode::ServFail;
                return Found::Here;
            };
            let alias = RData::CNAME(CNAME(next.clone()));
            reply.add_answer(Record::from_rdata(owner, TTL_S, alias));
            if self.kind == RecordType::CNAME || self.kind == RecordType::ANY {
                return Found::Here;
            }
            if !self.is_ours(target) {
                return Found::Alias(target.clone());
            }
            (key, owner) = (target.clone(), next);
        }
        // Aliases in a circle.
        reply.metadata.response_code = ResponseCode::ServFail;
        Found::Here
    }

    /// Whether a name is the cluster's domain or below it. Before there is a zone nothing is.
    fn is_ours(&self, key: &str) -> bool {
        let domain = self.zone.domain.as_str();
        let above = key.strip_suffix(domain).filter(|_| !domain.is_empty());
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    fn look_up_address(&self, ip: Ipv4Addr, reply: &mut Message) -> Found {
        match self.zone.reverse.get(&ip).map(|name| name_of(name)) {
            Some(Some(name)) => {
                if matches!(self.kind, RecordType::PTR | RecordType::ANY) {
                    let data = RData::PTR(PTR(name));
                    reply.add_answer(Record::from_rdata(self.name.clone(), TTL_S, data));
                } else {
                    self.no_data(reply);
                }
                Found::Here
            }
            Some(None) => {
                reply.metadata.response_code = ResponseCode::ServFail;
                Found::Here
            }
            None if self.zone.networks.iter().any(|network| network.contains(ip)) => {
                self.no_such_name(reply);
                Found::Here
            }
            None => Found::Elsewhere,
        }
    }

    /// What a name has, of the type that was asked for.
    fn tell(&self, records: &Records, key: &str, owner: &Name, reply: &mut Message) {
        let wants = |kind| self.kind == kind || self.kind == RecordType::ANY;
        let add = |reply: &mut Message, data| {
            reply.add_answer(Record::from_rdata(owner.clone(), TTL_S, data));
        };
        if wants(RecordType::A) {
            for ip in turned(&records.a, self.turn) {
                add(reply, RData::A(A(*ip)));
            }
        }
        if wants(RecordType::SRV) {
            for (port, target) in turned(&records.srv, self.turn) {
                let Some(target_name) = name_of(target) else {
                    continue;
                };
                add(reply, RData::SRV(SRV::new(0, 100, *port, target_name.clone())));
                for ip in self.zone.names.get(target).into_iter().flat_map(|it| &it.a) {
                    let data = RData::A(A(*ip));
                    reply.add_additional(Record::from_rdata(target_name.clone(), TTL_S, data));
                }
            }
        }
        if wants(RecordType::SOA) && key == self.zone.domain {
            reply.answers.extend(self.authority());
        }
        if reply.answers.is_empty() {
            self.no_data(reply);
        }
    }

    fn no_such_name(&self, reply: &mut Message) {
        reply.metadata.response_code = ResponseCode::NXDomain;
        self.no_data(reply);
    }

    fn no_data(&self, reply: &mut Message) {
        reply.authorities.extend(self.authority());
    }

    /// The record that says how long "no" may be kept (RFC 2308).
    fn authority(&self) -> Option<Record> {
        let domain = name_of(&self.zone.domain)?;
        let server = name_of(&format!("ns.dns.{}", self.zone.domain))?;
        let person = name_of(&format!("hostmaster.{}", self.zone.domain))?;
        let soa = SOA::new(server, person, 1, 7200, 1800, 86_400, NEGATIVE_TTL_S);
        Some(Record::from_rdata(domain, NEGATIVE_TTL_S, RData::SOA(soa)))
    }
}

/// All of them, another one first each turn.
fn turned<T>(list: &[T], turn: usize) -> impl Iterator<Item = &T> {
    let first = turn.checked_rem(list.len()).unwrap_or(0);
    let (before, after) = list.split_at(first);
    after.iter().chain(before)
}

/// `10.0.96.10.in-addr.arpa` is about 10.96.0.10.
fn address_of(key: &str) -> Option<Ipv4Addr> {
    let backwards: Ipv4Addr = key.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = backwards.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

/// Writes an answer of at most `limit` bytes. Additional records go first; an answer that is cut
/// says so and keeps what fits: old musl never asks again by TCP, and is content with a part.
fn write(mut reply: Message, limit: u16) -> Vec<u8> {
    let fits = |reply: &Message| {
        let bytes = reply.to_vec().ok()?;
        (bytes.len() <= usize::from(limit)).then_some(bytes)
    };
    if let Some(bytes) = fits(&reply) {
        return bytes;
    }
    reply.additionals.clear();
    if let Some(bytes) = fits(&reply) {
        return bytes;
    }
    reply.metadata.truncation = true;
    let answers = std::mem::take(&mut reply.answers);
    reply.authorities.clear();
    // The most that fit, by halving: `low` fit, `high` don't.
    let (mut low, mut high) = (0, answers.len());
    let mut best = None;
    while low < high {
        let middle = (low + high).div_ceil(2);
        reply.answers = answers[..middle].to_vec();
        match fits(&reply) {
            Some(bytes) => (low, best) = (middle, Some(bytes)),
            None => high = middle - 1,
        }
    }
    reply.answers.clear();
    best.or_else(|| fits(&reply)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
