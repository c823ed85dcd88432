//! Follows a packet through the rules without a kernel, as a clerk follows a letter through the
//! sorting office by reading the labels on the boxes.
//!
//! It executes the rules' own text, so what it says is about the very thing the kernel gets; a
//! word it does not know is an error, never a guess. Where the rules draw lots it follows every
//! lot and says how likely each is. The limit: it follows one packet at a time, knows no policy
//! routing, and takes foreign rules to do nothing; tests with real packets prove it right.
//!
//! ```text
//!   from a link   nat PREROUTING ─▶ routed ─┬─▶ filter INPUT (the destination is ours)
//!                                           └─▶ filter FORWARD ─▶ nat POSTROUTING
//!   from the node nat OUTPUT ─▶ filter OUTPUT ─▶ nat POSTROUTING ─▶ (to ourselves) filter INPUT
//! ```

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use parse::{Match, Recent, Rule, State, Target};

use crate::kinds::container::Protocol;
use crate::kinds::rules::{RuleSet, Table};

/// Chains may lead to chains this deep; ours are at most seven deep. Rules that go in a circle
/// are refused by the kernel, and by this.
const DEPTH_MAX: usize = 16;

/// The machine whose rules are followed.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Its addresses; 127.0.0.0/8 need not be named.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether what no rule accepts is dropped (`FORWARD`, as Docker sets it, and `INPUT`).
    pub drops_by_default: bool,
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod of this node, by its link.
    Pod,
    /// A process of the node itself.
    Host,
    /// Another machine, by a wire.
    Outside,
}

/// Where a packet stands in its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It opens one: `NEW`.
    #[default]
    First,
    /// It belongs to one that was not led anywhere: `ESTABLISHED`.
    Later,
    /// It belongs to none and cannot open one: `INVALID`.
    Stray,
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Where it comes from.
    pub from: Origin,
    /// Its source.
    pub source: Ipv4Addr,
    /// Its destination.
    pub destination: Ipv4Addr,
    /// Its transport.
    pub protocol: Protocol,
    /// Its destination port.
    pub port: u16,
    /// Where it stands in its connection.
    pub phase: Phase,
    /// The lists (`recent`) in which its source already stands.
    pub remembered: BTreeSet<String>,
}

impl Packet {
    /// The first packet of a TCP connection.
    pub fn tcp(from: Origin, source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Self {
        Self {
            from,
            source,
            destination,
            protocol: Protocol::Tcp,
            port,
            phase: Phase::First,
            remembered: BTreeSet::new(),
        }
    }
}

/// How a packet's way ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It arrives.
    Accepted,
    /// It is answered with a refusal.
    Rejected,
    /// It vanishes.
    Dropped,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How likely this is, where the rules draw lots.
    pub chance: f64,
    /// Where it arrives.
    pub destination: (Ipv4Addr, u16),
    /// Whether the node's address takes the place of its source.
    pub masqueraded: bool,
    /// How it ends.
    pub end: End,
    /// How many rules it met.
    pub met: usize,
    /// The lists in which its source stands afterwards.
    pub remembered: BTreeSet<String>,
}

/// A rule that the tracer cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot follow '{rule}' in {table} {chain}: {why}")]
pub struct Unreadable {
    /// The table.
    pub table: Table,
    /// The chain.
    pub chain: String,
    /// The rule.
    pub rule: String,
    /// What is wrong with it.
    pub why: String,
}

/// Follows `packet` through `rules` on `machine`: everything that may become of it, the likeliest
/// first. The chances add up to one.
pub fn trace(
    rules: &RuleSet,
    machine: &Machine,
    packet: &Packet,
) -> Result<Vec<Verdict>, Unreadable> {
    Ok(Tracer::new(rules)?.trace(machine, packet))
}

/// Rules, read once for many packets.
#[derive(Debug)]
pub struct Tracer {
    chains: BTreeMap<Table, BTreeMap<String, Vec<Rule>>>,
}

impl Tracer {
    /// Reads `rules`; refuses what it does not understand, and jumps into nothing.
    pub fn new(rules: &RuleSet) -> Result<Self, Unreadable> {
        let mut chains: BTreeMap<Table, BTreeMap<String, Vec<Rule>>> = BTreeMap::new();
        let mut read = |table: Table, chain: &str, rule: Option<&String>| {
            let list = chains.entry(table).or_default().entry(chain.to_owned()).or_default();
            if let Some(rule) = rule {
                let unreadable =
                    |why| Unreadable { table, chain: chain.to_owned(), rule: rule.clone(), why };
                list.push(parse::rule(rule).map_err(unreadable)?);
            }
            Ok(())
        };
        for table in Table::ALL {
            for (chain, list) in rules.chains(table) {
                read(table, chain, None)?;
                for rule in list {
                    read(table, chain, Some(rule))?;
                }
            }
        }
        for jump in &rules.jumps {
            read(jump.table, jump.chain, Some(&jump.rule))?;
        }
        let tracer = Self { chains };
        tracer.check_jumps()?;
        Ok(tracer)
    }

    fn check_jumps(&self) -> Result<(), Unreadable> {
        for (table, chains) in &self.chains {
            for (chain, rules) in chains {
                for rule in rules {
                    let Target::Chain(target) = &rule.target else {
                        continue;
                    };
                    if !chains.contains_key(target) {
                        return Err(Unreadable {
                            table: *table,
                            chain: chain.clone(),
                            rule: format!("-j {target}"),
                            why: "there is no such chain".into(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Follows one packet.
    pub fn trace(&self, machine: &Machine, packet: &Packet) -> Vec<Verdict> {
        let start = Walk {
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            port: packet.port,
            original: packet.destination,
            phase: packet.phase,
            led: false,
            masqueraded: false,
            mark: 0,
            remembered: packet.remembered.clone(),
            chance: 1.0,
            met: 0,
        };
        let mut verdicts: Vec<Verdict> = self
            .travel(machine, packet.from, start)
            .into_iter()
            .map(|(walk, end)| walk.verdict(end))
            .collect();
        verdicts.sort_by(|a, b| {
            let by_chance = b.chance.total_cmp(&a.chance);
            by_chance.then(a.destination.cmp(&b.destination))
        });
        verdicts
    }

    fn travel(&self, machine: &Machine, from: Origin, start: Walk) -> Vec<(Walk, End)> {
        let mut journey =
            Journey { tracer: self, machine, on_the_way: vec![start], ended: Vec::new() };
        if from == Origin::Host {
            journey.pass(Table::Nat, "OUTPUT", None, |_| true);
            journey.pass(Table::Filter, "OUTPUT", None, |_| true);
            journey.pass(Table::Nat, "POSTROUTING", None, |_| true);
            journey.pass(Table::Filter, "INPUT", Some("lo"), |walk| machine.has(walk.destination));
        } else {
            let link = Some("link");
            journey.pass(Table::Nat, "PREROUTING", link, |_| true);
            journey.pass(Table::Filter, "INPUT", link, |walk| machine.has(walk.destination));
            let passing = |walk: &Walk| !machine.has(walk.destination);
            journey.pass(Table::Filter, "FORWARD", link, passing);
            journey.pass(Table::Nat, "POSTROUTING", None, passing);
        }
        let arrived = journey.on_the_way.into_iter().map(|walk| (walk, End::Accepted));
        arrived.chain(journey.ended).collect()
    }

    /// Runs `walk` through a chain: every way out of it. No end is falling off the chain's end, or
    /// `RETURN`.
    fn run(&self, at: &Place<'_>, chain: &str, walk: Walk, depth: usize) -> Vec<(Walk, Exit)> {
        let mut out = Vec::new();
        let mut here = vec![walk];
        let rules = self.chains.get(&at.table).and_then(|chains| chains.get(chain));
        if depth > DEPTH_MAX {
            return here.into_iter().map(|walk| (walk, Exit::End(End::Dropped))).collect();
        }
        for rule in rules.into_iter().flatten() {
            let mut next = Vec::new();
            for mut walk in here {
                walk.met += 1;
                let chance = walk.matches(rule, at);
                if chance < 1.0 {
                    next.push(walk.with_chance(1.0 - chance));
                }
                if chance > 0.0 {
                    let mut hit = walk.with_chance(chance);
                    hit.note(rule);
                    for (walk, exit) in self.act(at, &rule.target, hit, depth) {
                        match exit {
                            Exit::Onwards => next.push(walk),
                            Exit::Return => out.push((walk, Exit::Onwards)),
                            Exit::End(_) => out.push((walk, exit)),
                        }
                    }
                }
            }
            here = next;
        }
        out.extend(here.into_iter().map(|walk| (walk, Exit::Onwards)));
        out
    }

    fn act(
        &self,
        at: &Place<'_>,
        target: &Target,
        mut walk: Walk,
        depth: usize,
    ) -> Vec<(Walk, Exit)> {
        let exit = match target {
            Target::Chain(chain) => return self.run(at, chain, walk, depth + 1),
            Target::Accept => Exit::End(End::Accepted),
            Target::Drop => Exit::End(End::Dropped),
            Target::Reject => Exit::End(End::Rejected),
            Target::Return => Exit::Return,
            Target::Mark(value, mask) => {
                walk.mark = (walk.mark & !mask) ^ value;
                Exit::Onwards
            }
            Target::Dnat(ip, port) => {
                (walk.destination, walk.port, walk.led) = (*ip, *port, true);
                Exit::End(End::Accepted)
            }
            Target::Masquerade => {
                walk.masqueraded = true;
                Exit::End(End::Accepted)
            }
        };
        vec![(walk, exit)]
    }
}

impl Machine {
    fn has(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }
}

/// A hook: where a packet is tried against a table.
struct Place<'a> {
    table: Table,
    machine: &'a Machine,
    came_by: Option<&'a str>,
    leaves: bool,
}

/// How a chain, or a rule's target, is left.
#[derive(Clone, Copy)]
enum Exit {
    Onwards,
    Return,
    End(End),
}

/// All the packets that one packet may have become, some still on the way.
struct Journey<'a> {
    tracer: &'a Tracer,
    machine: &'a Machine,
    on_the_way: Vec<Walk>,
    ended: Vec<(Walk, End)>,
}

impl Journey<'_> {
    /// Takes those that come by a hook through it.
    fn pass(
        &mut self,
        table: Table,
        chain: &str,
        came_by: Option<&str>,
        comes_by: impl Fn(&Walk) -> bool,
    ) {
        let at = Place { table, machine: self.machine, came_by, leaves: chain == "POSTROUTING" };
        for walk in std::mem::take(&mut self.on_the_way) {
            // The kernel asks `nat` about first packets only, and repeats the answer.
            let asked = table == Table::Filter || walk.phase == Phase::First;
            if !comes_by(&walk) || !asked {
                self.on_the_way.push(walk);
                continue;
            }
            for (walk, exit) in self.tracer.run(&at, chain, walk, 0) {
                match exit {
                    Exit::End(End::Accepted) => self.on_the_way.push(walk),
                    Exit::End(end) => self.ended.push((walk, end)),
                    Exit::Onwards | Exit::Return if self.drops(chain) => {
                        self.ended.push((walk, End::Dropped));
                    }
                    Exit::Onwards | Exit::Return => self.on_the_way.push(walk),
                }
            }
        }
    }

    fn drops(&self, chain: &str) -> bool {
        self.machine.drops_by_default && matches!(chain, "INPUT" | "FORWARD")
    }
}

/// A packet on its way.
#[derive(Clone, Debug)]
struct Walk {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: Protocol,
    port: u16,
    original: Ipv4Addr,
    phase: Phase,
    led: bool,
    masqueraded: bool,
    mark: u32,
    remembered: BTreeSet<String>,
    chance: f64,
    met: usize,
}

impl Walk {
    fn with_chance(&self, factor: f64) -> Self {
        Self { chance: self.chance * factor, ..self.clone() }
    }

    /// How likely `rule` takes this packet.
    fn matches(&self, rule: &Rule, at: &Place<'_>) -> f64 {
        let mut chance = 1.0;
        for (condition, negated) in &rule.matches {
            let holds = match condition {
                Match::Chance(share) => {
                    chance *= share;
                    continue;
                }
                other => self.fulfils(other, at),
            };
            if holds == *negated {
                return 0.0;
            }
        }
        chance
    }

    fn fulfils(&self, condition: &Match, at: &Place<'_>) -> bool {
        match condition {
            Match::Source(network) => network.contains(self.source),
            Match::Destination(network) => network.contains(self.destination),
            Match::CameBy(link) => at.came_by == Some(link.as_str()),
            Match::LeavesBy(link) => {
                let by_loopback = at.machine.has(self.destination);
                at.leaves && (link == "lo") == by_loopback
            }
            Match::Protocol(protocol) => *protocol == self.protocol,
            Match::Ports(range) => range.contains(&self.port),
            Match::SourceIsLocal => at.machine.has(self.source),
            Match::DestinationIsLocal => at.machine.has(self.destination),
            Match::State(states) => states.iter().any(|state| self.is(*state)),
            Match::OriginalDestination(network) => network.contains(self.original),
            Match::Mark(value, mask) => self.mark & mask == *value,
            Match::Recent(Recent::Set, _) | Match::Chance(_) => true,
            Match::Recent(Recent::Update, list) => self.remembered.contains(list),
        }
    }

    fn is(&self, state: State) -> bool {
        match state {
            State::New => self.phase == Phase::First,
            State::Established => self.phase == Phase::Later,
            State::Invalid => self.phase == Phase::Stray,
            State::Related => false,
            State::Dnat => self.led,
        }
    }

    /// What a rule that took the packet remembers of it.
    fn note(&mut self, rule: &Rule) {
        for (condition, _) in &rule.matches {
            if let Match::Recent(_, list) = condition {
                self.remembered.insert(list.clone());
            }
        }
    }

    fn verdict(self, end: End) -> Verdict {
        Verdict {
            chance: self.chance,
            destination: (self.destination, self.port),
            masqueraded: self.masqueraded,
            end,
            met: self.met,
            remembered: self.remembered,
        }
    }
}

/// `10.1.2.3:8080, masquerade`; `rejected`; `dropped`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            End::Rejected => return f.write_str("rejected"),
            End::Dropped => return f.write_str("dropped"),
            End::Accepted => {}
        }
        let (ip, port) = self.destination;
        write!(f, "{ip}:{port}")?;
        if self.masqueraded {
            f.write_str(", masquerade")?;
        }
        Ok(())
    }
}

/// All that may become of a packet, in words: `50% 10.1.0.1:80 | 50% 10.1.0.2:80, masquerade`.
pub fn describe(verdicts: &[Verdict]) -> String {
    if let [only] = verdicts {
        return only.to_string();
    }
    let one = |verdict: &Verdict| format!("{:.0}% {verdict}", verdict.chance * 100.0);
    verdicts.iter().map(one).collect::<Vec<_>>().join(" | ")
}
