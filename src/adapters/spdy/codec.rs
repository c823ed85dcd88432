//! Frames of SPDY/3.1, as far as `port-forward` needs them: bytes in, frames out, and back.
//!
//! ```text
//!   control  1|version 15|type 16   flags 8|length 24   payload        DATA  0|stream 31   flags 8|length 24   bytes
//!   SYN_STREAM 1  stream, associated stream, priority, headers         PING     6  number
//!   SYN_REPLY  2  stream, headers        HEADERS 8  the same           GOAWAY   7  last stream, status
//!   RST_STREAM 3  stream, status         SETTINGS 4, WINDOW_UPDATE 9: read over
//! ```
//!
//! Headers are compressed by zlib, all those of one direction as one stream with a text known
//! beforehand, so each must be read, also where nobody wants it.
//!
//! The rule: whatever comes in, the reader holds a frame's head, one short control frame and 32 KiB of
//! zlib's window, and never more. Data is given out as it comes, in pieces: a DATA frame may say that it
//! has 16 MiB.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use super::dictionary;

const VERSION: u16 = 3;
/// The bit that sets a control frame off from data.
const CONTROL: u32 = 0x8000_0000;
const HEAD_BYTES: usize = 8;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// The sender has said all on this stream.
const FIN: u8 = 1;
/// The longest DATA frame.
const DATA_BYTES_MAX: usize = (1 << 24) - 1;
/// The longest control frame that is read: kubectl's have some 100 bytes.
const CONTROL_BYTES_MAX: usize = 16 * 1024;
/// The longest headers: they may be a thousand times as long as what they are compressed to.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// The longest piece of zlib that is not compressed (RFC 1951, 3.2.4).
const STORED_BYTES_MAX: usize = 0xffff;

/// A stream's headers, names in lower case.
pub(crate) type Headers = BTreeMap<String, String>;

/// What one side says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A stream begins.
    Open {
        /// Its number: a client's are odd.
        stream: u32,
        /// What it is for.
        headers: Headers,
        /// Whether whoever opens it will say nothing on it.
        ends: bool,
    },
    /// A stream is taken. What headers say that come with it interests nobody.
    Reply {
        /// Which.
        stream: u32,
        /// Whether whoever takes it will say nothing on it.
        ends: bool,
    },
    /// A piece of what is said on a stream.
    Data {
        /// On which.
        stream: u32,
        /// The piece.
        bytes: Bytes,
        /// Whether it is the last.
        ends: bool,
    },
    /// A stream ends at once, in both directions.
    Reset {
        /// Which.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// Are you there? It is sent back as it is.
    Ping(u32),
    /// No more streams are begun.
    Farewell {
        /// Why: 0 if all went well.
        status: u32,
    },
}

/// What is said makes no sense, and neither would anything after it: the line has to end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// Another version.
    #[error("a frame of SPDY version {0}; 3 is spoken here")]
    Version(u16),
    /// A control frame that is too long.
    #[error("a control frame of {0} bytes; {CONTROL_BYTES_MAX} is the most")]
    Long(usize),
    /// A frame that ends before what it has to say.
    #[error("a frame of type {0} that is too short")]
    Short(u16),
    /// Stream 0, or a number with a bit too many.
    #[error("{0} is no stream")]
    Stream(u32),
    /// Headers that can't be read.
    #[error("headers that can't be read: {0}")]
    Headers(&'static str),
}

/// Reads frames.
pub(crate) struct Decoder {
    part: Part,
    inflate: Decompress,
}

/// What of a frame is awaited.
enum Part {
    Head(BytesMut),
    Control { kind: u16, flags: u8, length: usize, payload: BytesMut },
    Data { stream: u32, left: usize, ends: bool },
}

impl Part {
    fn beginning() -> Self {
        Self::Head(BytesMut::with_capacity(HEAD_BYTES))
    }
}

impl Decoder {
    /// A reader at the beginning of a line.
    pub(crate) fn new() -> Self {
        Self { part: Part::beginning(), inflate: Decompress::new(true) }
    }

    /// Takes the next frame off `input`; none if the rest of it has not come yet, and all of `input`
    /// has been taken.
    pub(crate) fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame>, Broken> {
        loop {
            match &mut self.part {
                Part::Head(head) => {
                    if !fill(head, HEAD_BYTES, input) {
                        return Ok(None);
                    }
                    let (first, second) = (head.get_u32(), head.get_u32());
                    self.part = part(first, second)?;
                }
                Part::Control { kind, flags, length, payload } => {
                    if !fill(payload, *length, input) {
                        return Ok(None);
                    }
                    let (kind, flags, payload) = (*kind, *flags, payload.split().freeze());
                    self.part = Part::beginning();
                    if let Some(frame) = control(kind, flags, payload, &mut self.inflate)? {
                        return Ok(Some(frame));
                    }
                }
                Part::Data { stream, left, ends } => {
                    if input.is_empty() && *left > 0 {
                        return Ok(None);
                    }
                    let bytes = input.split_to(input.len().min(*left));
                    *left -= bytes.len();
                    let (stream, is_whole) = (*stream, *left == 0);
                    let ends = *ends && is_whole;
                    if is_whole {
                        self.part = Part::beginning();
                    }
                    if ends || !bytes.is_empty() {
                        return Ok(Some(Frame::Data { stream, bytes, ends }));
                    }
                }
            }
        }
    }
}

/// Fills `place` up to `length` from `input`; whether it is full.
fn fill(place: &mut BytesMut, length: usize, input: &mut Bytes) -> bool {
    let lacks = length.saturating_sub(place.len());
    place.extend_from_slice(&input.split_to(lacks.min(input.len())));
    place.len() == length
}

/// What follows a frame's head.
fn part(first: u32, second: u32) -> Result<Part, Broken> {
    let [flags, length @ ..] = second.to_be_bytes();
    let [a, b, c] = length.map(usize::from);
    let length = a << 16 | b << 8 | c;
    if first & CONTROL == 0 {
        let stream = stream(first)?;
        return Ok(Part::Data { stream, left: length, ends: flags & FIN != 0 });
    }
    let [a, b, c, d] = first.to_be_bytes();
    let (version, kind) = (u16::from_be_bytes([a & 0x7f, b]), u16::from_be_bytes([c, d]));
    if version != VERSION {
        return Err(Broken::Version(version));
    }
    if length > CONTROL_BYTES_MAX {
        return Err(Broken::Long(length));
    }
    Ok(Part::Control { kind, flags, length, payload: BytesMut::new() })
}

fn stream(number: u32) -> Result<u32, Broken> {
    if number == 0 || number & CONTROL != 0 { Err(Broken::Stream(number)) } else { Ok(number) }
}

/// A control frame; none if it means nothing here. Kinds that are not known are read over, as the
/// specification wants it.
fn control(
    kind: u16,
    flags: u8,
    mut payload: Bytes,
    inflate: &mut Decompress,
) -> Result<Option<Frame>, Broken> {
    let mut number = || payload.try_get_u32().map_err(|_| Broken::Short(kind));
    let ends = flags & FIN != 0;
    Ok(match kind {
        SYN_STREAM => {
            let stream = stream(number()?)?;
            number()?;
            // Priority and slot.
            payload.try_get_u16().map_err(|_| Broken::Short(kind))?;
            let headers = headers(inflate, &payload)?;
            Some(Frame::Open { stream, headers, ends })
        }
        SYN_REPLY => {
            let stream = stream(number()?)?;
            headers(inflate, &payload)?;
            Some(Frame::Reply { stream, ends })
        }
        HEADERS => {
            let stream = stream(number()?)?;
            headers(inflate, &payload)?;
            ends.then_some(Frame::Data { stream, bytes: Bytes::new(), ends })
        }
        RST_STREAM => {
            let (stream, status) = (stream(number()?)?, number()?);
            Some(Frame::Reset { stream, status })
        }
        PING => Some(Frame::Ping(number()?)),
        GOAWAY => {
            let (_last, status) = (number()?, number()?);
            Some(Frame::Farewell { status })
        }
        _ => None,
    })
}

/// Unpacks headers, with what was unpacked before.
fn headers(inflate: &mut Decompress, mut packed: &[u8]) -> Result<Headers, Broken> {
    let mut plain = Vec::with_capacity(HEADERS_BYTES_MAX);
    while !packed.is_empty() {
        let before = inflate.total_in();
        let done = inflate.decompress_vec(packed, &mut plain, FlushDecompress::Sync);
        let taken = usize::try_from(inflate.total_in() - before).unwrap_or(usize::MAX);
        packed = packed.get(taken..).unwrap_or_default();
        match done {
            Ok(Status::Ok) if taken > 0 => {}
            Ok(_) => return Err(Broken::Headers("they don't go on")),
            Err(error) if error.needs_dictionary() == Some(dictionary::ID) => {
                let known = inflate.set_dictionary(&dictionary::bytes());
                known.map_err(|_| Broken::Headers("SPDY's dictionary is not taken"))?;
            }
            Err(_) => {
                return Err(Broken::Headers("they are not zlib's, or for another dictionary"));
            }
        }
        if plain.len() == plain.capacity() {
            return Err(Broken::Headers("they are too long"));
        }
    }
    pairs(&plain).ok_or(Broken::Headers("they are no pairs of texts"))
}

fn pairs(mut plain: &[u8]) -> Option<Headers> {
    let count = plain.try_get_u32().ok()?;
    let mut text = || {
        let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
        let (text, rest) = plain.split_at_checked(length)?;
        plain = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    };
    // As many as there are: the count alone makes no room.
    (0..count).map(|_| Some((text()?.to_ascii_lowercase(), text()?))).collect()
}

/// Writes frames.
pub(crate) struct Encoder {
    /// Whether headers have been written: zlib's own head comes once.
    has_begun: bool,
}

impl Encoder {
    /// A writer at the beginning of a line.
    pub(crate) fn new() -> Self {
        Self { has_begun: false }
    }

    /// A frame's bytes.
    pub(crate) fn encode(&mut self, frame: &Frame) -> Bytes {
        let mut out = BytesMut::new();
        match frame {
            Frame::Open { stream, headers, ends } => {
                let headers = self.headers(headers);
                head(&mut out, SYN_STREAM, *ends, 10 + headers.len());
                out.put_u32(*stream);
                out.put_u32(0);
                out.put_u16(0);
                out.put(headers);
            }
            Frame::Reply { stream, ends } => {
                let headers = self.headers(&Headers::new());
                head(&mut out, SYN_REPLY, *ends, 4 + headers.len());
                out.put_u32(*stream);
                out.put(headers);
            }
            Frame::Data { stream, bytes, ends } => data(&mut out, *stream, bytes, *ends),
            Frame::Reset { stream, status } => {
                head(&mut out, RST_STREAM, false, 8);
                out.put_u32(*stream);
                out.put_u32(*status);
            }
            Frame::Ping(number) => {
                head(&mut out, PING, false, 4);
                out.put_u32(*number);
            }
            Frame::Farewell { status } => {
                head(&mut out, GOAWAY, false, 8);
                // Which stream was the last is of use only to who would begin them anew.
                out.put_u32(0);
                out.put_u32(*status);
            }
        }
        out.freeze()
    }

    /// Headers in zlib's form, stored as they are: they are short, and a compressor costs a quarter of a
    /// megabyte. The empty piece at the end is what zlib's readers take for "all that there is now".
    fn headers(&mut self, headers: &Headers) -> Bytes {
        let mut plain = BytesMut::new();
        plain.put_u32(length(headers.len()));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(length(text.len()));
            plain.put_slice(text.as_bytes());
        }
        let mut packed = BytesMut::with_capacity(plain.len() + 16);
        if !std::mem::replace(&mut self.has_begun, true) {
            // RFC 1950, 2.2: deflate with a window of 32 KiB, and a dictionary.
            packed.put_slice(&[0x78, 0x20]);
            packed.put_u32(dictionary::ID);
        }
        for piece in plain.chunks(STORED_BYTES_MAX).chain([&[][..]]) {
            let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
            packed.put_u8(0);
            packed.put_u16_le(length);
            packed.put_u16_le(!length);
            packed.put_slice(piece);
        }
        packed.freeze()
    }
}

/// Nothing that is written here comes near the end of the number.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn flags(ends: bool, length: usize) -> u32 {
    u32::from(if ends { FIN } else { 0 }) << 24 | self::length(length)
}

fn head(out: &mut BytesMut, kind: u16, ends: bool, length: usize) {
    out.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
    out.put_u32(flags(ends, length));
}

fn data(out: &mut BytesMut, stream: u32, mut bytes: &[u8], ends: bool) {
    out.reserve(HEAD_BYTES + bytes.len());
    loop {
        let (piece, rest) = bytes.split_at(bytes.len().min(DATA_BYTES_MAX));
        out.put_u32(stream);
        out.put_u32(flags(ends && rest.is_empty(), piece.len()));
        out.put_slice(piece);
        if rest.is_empty() {
            return;
        }
        bytes = rest;
    }
}

#[cfg(test)]
mod tests;
