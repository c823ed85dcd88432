//! Armour (RFC 9580 §6) and packets (§4). What could be read in two ways is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::wire::Wire;

/// Kinds of packets (§5).
pub(super) mod kind {
    pub(in super::super) const SIGNATURE: u8 = 2;
    pub(in super::super) const SECRET_KEY: u8 = 5;
    pub(in super::super) const PUBLIC_KEY: u8 = 6;
    pub(in super::super) const SECRET_SUBKEY: u8 = 7;
    pub(in super::super) const MARKER: u8 = 10;
    pub(in super::super) const USER_ID: u8 = 13;
    pub(in super::super) const PUBLIC_SUBKEY: u8 = 14;
    pub(in super::super) const USER_ATTRIBUTE: u8 = 17;
    pub(in super::super) const PADDING: u8 = 21;
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

/// Takes armour off: `PUBLIC KEY BLOCK`, `SIGNATURE`.
pub(super) fn bare(armour: &str, label: &str) -> Result<Vec<u8>, String> {
    let damaged = || format!("the armour of the {} is damaged", label.to_ascii_lowercase());
    let begin = format!("-----BEGIN PGP {label}-----\n");
    let end = format!("\n-----END PGP {label}-----");
    let inner = armour.trim_end_matches('\n').strip_prefix(&begin);
    let inner = inner.and_then(|rest| rest.strip_suffix(&end)).ok_or_else(damaged)?;
    // `Version: …` and the like, which nobody signs, up to an empty line.
    let body = match inner.strip_prefix('\n') {
        Some(body) => body,
        None => {
            let (headers, body) = inner.split_once("\n\n").ok_or_else(damaged)?;
            let is_header = |line: &str| line.contains(": ") && line.is_ascii();
            headers.lines().all(is_header).then_some(body).ok_or_else(damaged)?
        }
    };
    let (base64, sum) = match body.rsplit_once('\n') {
        Some((base64, last)) if last.starts_with('=') => (base64, last.strip_prefix('=')),
        _ => (body, None),
    };
    let base64: String = base64.chars().filter(|letter| *letter != '\n').collect();
    let bytes = STANDARD.decode(base64).map_err(|_| damaged())?;
    match sum {
        Some(sum) if STANDARD.decode(sum) != Ok(crc24(&bytes).to_be_bytes()[1..].to_vec()) => {
            Err(damaged())
        }
        _ => Ok(bytes),
    }
}

/// RFC 9580 §6.1: against slips, not against people.
fn crc24(bytes: &[u8]) -> u32 {
    let mut crc: u32 = 0x00B7_04CE;
    for byte in bytes {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4CFB;
            }
        }
    }
    crc & 0x00FF_FFFF
}

/// Divides bytes into packets, to the last byte.
pub(super) fn split(bytes: &[u8]) -> Option<Vec<Packet<'_>>> {
    let mut wire = Wire(bytes);
    let mut packets = Vec::new();
    while !wire.0.is_empty() {
        let head = wire.byte()?;
        let (kind, length) = match head & 0xC0 {
            0xC0 => (head & 0x3F, new_length(&mut wire)?),
            // The old form; without a length ends nowhere, which nobody needs.
            0x80 => {
                let length = match head & 3 {
                    0 => u32::from(wire.byte()?),
                    1 => u32::from(wire.short()?),
                    2 => wire.number()?,
                    _ => return None,
                };
                (head >> 2 & 0x0F, length)
            }
            _ => return None,
        };
        packets.push(Packet { kind, body: wire.take(usize::try_from(length).ok()?)? });
    }
    Some(packets)
}

/// §4.2.1, without partial lengths: that of subpackets, but for 0xE0 to 0xFE.
fn new_length(wire: &mut Wire<'_>) -> Option<u32> {
    match wire.0.first()? {
        224..=254 => None,
        _ => subpacket_length(wire),
    }
}

/// The length of a subpacket (§5.2.3.7).
pub(super) fn subpacket_length(wire: &mut Wire<'_>) -> Option<u32> {
    match wire.byte()? {
        first @ 0..=191 => Some(u32::from(first)),
        first @ 192..=254 => Some((u32::from(first) - 192) * 256 + u32::from(wire.byte()?) + 192),
        255 => wire.number(),
    }
}

impl<'a> Wire<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A number with its bits counted in front (§3.2): as many as there are.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let bits = usize::from(self.short()?);
        let number = self.take(bits.div_ceil(8))?;
        let found = match number {
            [] => 0,
            [first, rest @ ..] => {
                rest.len() * 8 + 8 - usize::try_from(first.leading_zeros()).ok()?
            }
        };
        (found == bits).then_some(number)
    }
}
