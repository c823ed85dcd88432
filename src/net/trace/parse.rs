//! Reads the text of a rule; refuses every word it does not know.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

use ipnetwork::Ipv4Network;

use crate::kinds::container::Protocol;
use crate::kinds::rules::CHAIN_PREFIX;

/// A rule, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    /// Conditions; the flag says that it must not hold.
    pub(super) matches: Vec<(Match, bool)>,
    pub(super) target: Target,
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Match {
    Source(Ipv4Network),
    Destination(Ipv4Network),
    CameBy(String),
    LeavesBy(String),
    Protocol(Protocol),
    Ports(RangeInclusive<u16>),
    SourceIsLocal,
    DestinationIsLocal,
    State(Vec<State>),
    OriginalDestination(Ipv4Network),
    Mark(u32, u32),
    Chance(f64),
    Recent(Recent, String),
}

/// What is done with a list of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recent {
    Set,
    Update,
}

/// A state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    New,
    Established,
    Related,
    Invalid,
    Dnat,
}

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Chain(String),
    Accept,
    Drop,
    Reject,
    Return,
    Mark(u32, u32),
    Dnat(Ipv4Addr, u16),
    Masquerade,
}

type Words<'a> = std::iter::Peekable<std::str::SplitAsciiWhitespace<'a>>;

pub(super) fn rule(text: &str) -> Result<Rule, String> {
    let mut words = text.split_ascii_whitespace().peekable();
    let mut matches = Vec::new();
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "-j" {
            let target = target(&mut words)?;
            return match words.next() {
                None if !negated => Ok(Rule { matches, target }),
                None => Err("'!' before the target".into()),
                Some(more) => Err(format!("'{more}' after the target")),
            };
        }
        if word == "!" {
            negated = true;
            continue;
        }
        // `-m tcp` announces words that say the same by themselves.
        let announces = word == "-m" && words.peek().is_some_and(|name| ANNOUNCED.contains(name));
        if announces {
            words.next();
            continue;
        }
        matches.push((condition(word, &mut words)?, negated));
        negated = false;
    }
    Err("it has no target".into())
}

/// Extensions whose options name themselves.
const ANNOUNCED: [&str; 6] = ["tcp", "udp", "sctp", "addrtype", "conntrack", "connmark"];

fn condition(word: &str, words: &mut Words<'_>) -> Result<Match, String> {
    Ok(match word {
        "-s" => Match::Source(network(words)?),
        "-d" => Match::Destination(network(words)?),
        "-i" => Match::CameBy(next(words)?.to_owned()),
        "-o" => Match::LeavesBy(next(words)?.to_owned()),
        "-p" => Match::Protocol(protocol(next(words)?)?),
        "--dport" => Match::Ports(ports(next(words)?)?),
        "--src-type" => expect(words, "LOCAL").map(|()| Match::SourceIsLocal)?,
        "--dst-type" => expect(words, "LOCAL").map(|()| Match::DestinationIsLocal)?,
        "--ctstate" => Match::State(states(next(words)?)?),
        "--ctorigdst" => Match::OriginalDestination(network(words)?),
        "--mark" => mark(next(words)?).map(|(value, mask)| Match::Mark(value, mask))?,
        "-m" => match next(words)? {
            "statistic" => chance(words)?,
            "recent" => recent(words)?,
            other => return Err(format!("unknown extension '{other}'")),
        },
        other => return Err(format!("unknown word '{other}'")),
    })
}

fn target(words: &mut Words<'_>) -> Result<Target, String> {
    Ok(match next(words)? {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => {
            expect(words, "--reject-with")?;
            match next(words)? {
                "tcp-reset" | "icmp-port-unreachable" => Target::Reject,
                other => return Err(format!("unknown refusal '{other}'")),
            }
        }
        "CONNMARK" => {
            expect(words, "--set-xmark")?;
            mark(next(words)?).map(|(value, mask)| Target::Mark(value, mask))?
        }
        "DNAT" => {
            expect(words, "--to-destination")?;
            let text = next(words)?;
            let to: SocketAddrV4 =
                text.parse().map_err(|_| format!("'{text}' is not an address and port"))?;
            Target::Dnat(*to.ip(), to.port())
        }
        "SNAT" => {
            expect(words, "--to-source")?;
            let text = next(words)?;
            text.parse::<Ipv4Addr>().map_err(|_| format!("'{text}' is not an address"))?;
            expect(words, "--random-fully").map(|()| Target::Masquerade)?
        }
        "MASQUERADE" => expect(words, "--random-fully").map(|()| Target::Masquerade)?,
        chain if chain.starts_with(CHAIN_PREFIX) => Target::Chain(chain.to_owned()),
        other => return Err(format!("unknown target '{other}'")),
    })
}

fn next<'a>(words: &mut Words<'a>) -> Result<&'a str, String> {
    words.next().ok_or_else(|| "it ends too early".into())
}

fn expect(words: &mut Words<'_>, wanted: &str) -> Result<(), String> {
    match next(words)? {
        word if word == wanted => Ok(()),
        other => Err(format!("'{other}' where '{wanted}' is expected")),
    }
}

fn network(words: &mut Words<'_>) -> Result<Ipv4Network, String> {
    let text = next(words)?;
    let network: Ipv4Network = text.parse().map_err(|_| format!("'{text}' is not a network"))?;
    if !text.contains('/') || network.ip() != network.network() {
        return Err(format!("'{text}' is not how iptables writes a network"));
    }
    Ok(network)
}

fn protocol(word: &str) -> Result<Protocol, String> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.lower() == word)
        .ok_or_else(|| format!("unknown transport '{word}'"))
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse().map_err(|_| format!("'{text}' is not a port"));
    Ok(number(first)?..=number(last)?)
}

fn states(text: &str) -> Result<Vec<State>, String> {
    let one = |word| {
        Ok(match word {
            "NEW" => State::New,
            "ESTABLISHED" => State::Established,
            "RELATED" => State::Related,
            "INVALID" => State::Invalid,
            "DNAT" => State::Dnat,
            other => return Err(format!("unknown state '{other}'")),
        })
    };
    text.split(',').map(one).collect()
}

fn mark(text: &str) -> Result<(u32, u32), String> {
    let (value, mask) = text.split_once('/').ok_or("a mark without a mask")?;
    let number = |text: &str| {
        let digits = text.strip_prefix("0x").ok_or("a mark that is not hexadecimal")?;
        u32::from_str_radix(digits, 16).map_err(|_| "a mark that is not hexadecimal")
    };
    Ok((number(value)?, number(mask)?))
}

fn chance(words: &mut Words<'_>) -> Result<Match, String> {
    expect(words, "--mode")?;
    expect(words, "random")?;
    expect(words, "--probability")?;
    let text = next(words)?;
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(Match::Chance(share)),
        _ => Err(format!("'{text}' is not a probability")),
    }
}

fn recent(words: &mut Words<'_>) -> Result<Match, String> {
    let verb = match next(words)? {
        "--set" => Recent::Set,
        "--update" => {
            expect(words, "--seconds")?;
            let text = next(words)?;
            text.parse::<u32>().map_err(|_| format!("'{text}' is not a number of seconds"))?;
            expect(words, "--reap")?;
            Recent::Update
        }
        other => return Err(format!("unknown word '{other}' of recent")),
    };
    expect(words, "--name")?;
    let list = next(words)?.to_owned();
    expect(words, "--mask")?;
    expect(words, "255.255.255.255")?;
    expect(words, "--rsource")?;
    Ok(Match::Recent(verb, list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, why) in [
            ("-j LOG", "unknown target 'LOG'"),
            ("-m string --algo bm -j DROP", "unknown extension 'string'"),
            ("-p icmp -j DROP", "unknown transport 'icmp'"),
            ("-d 10.0.0.1 -j DROP", "'10.0.0.1' is not how iptables writes a network"),
            ("-d 10.0.0.1/24 -j DROP", "'10.0.0.1/24' is not how iptables writes a network"),
            ("-m conntrack --ctstate SNAT -j DROP", "unknown state 'SNAT'"),
            ("-p tcp", "it has no target"),
            ("-j DROP -p tcp", "'-p' after the target"),
            ("-j DNAT --to-destination 10.0.0.1", "'10.0.0.1' is not an address and port"),
            ("-s", "it ends too early"),
        ] {
            assert_eq!(rule(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_rule_is_read_with_its_negations() {
        let read = rule(
            "-d 127.0.0.0/8 ! -i lo -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        )
        .expect("reads");
        let negated: Vec<bool> = read.matches.iter().map(|(_, negated)| *negated).collect();
        assert_eq!(negated, [false, true, true]);
        assert_eq!(read.target, Target::Drop);
    }
}
