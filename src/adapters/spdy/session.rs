//! Whose frame it is: the streams of one line, and who speaks when.
//!
//! ```text
//!   line ─▶ hear ─┬─ its stream's inbox ─▶ Stream::ear
//!                 └─ answers: urgent ─┐
//!   line ◀─ speak ◀──────────────────┴─ words ◀─ Stream::mouth
//! ```
//!
//! Hearing and speaking never wait for each other, so that two ends that both have much to say don't
//! stand in each other's way. What is urgent is short, and goes before what waits.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::codec::{Broken, Decoder, Encoder, Frame, Headers};

/// Streams of one line; each connection has two.
pub(crate) const STREAMS_MAX: usize = 256;
/// So much that was heard is held for those who don't take it at once; then the line is not read.
pub(crate) const HELD_BYTES_MAX: usize = 256 * 1024;
/// What a piece counts at least: a thousand pieces of a byte are more than a thousand bytes.
const PIECE_BYTES_MIN: usize = 256;
/// Pieces are read from a line, and from connections, of this length.
pub(super) const READ_BYTES: usize = 16 * 1024;
/// Frames that wait to be said.
const WORDS_MAX: usize = 8;
/// Short frames that go before them: who has so many unread answers has stopped to read.
const URGENT_MAX: usize = 2 * STREAMS_MAX;
/// Who went away is noticed by what is said to him: a line that is not read tells nothing.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long the last word may take.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Why a stream is reset, and a line ended (SPDY/3.1, 2.6.3 and 2.6.6).
const REFUSED_STREAM: u32 = 3;
const CANCEL: u32 = 5;
const GONE_WELL: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;

/// What comes from the other end.
pub(crate) type Input = Pin<Box<dyn futures_util::Stream<Item = io::Result<Frame>> + Send>>;
/// What goes to it.
pub(crate) type Output = Pin<Box<dyn Sink<Frame, Error = io::Error> + Send>>;

/// Which end of the line this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who asks, and begins streams.
    Client,
    /// Who is asked.
    Server,
}

impl Side {
    /// Whether numbers of this end are odd: of its streams, and of its pings.
    fn is_own(self, number: u32) -> bool {
        (number % 2 == 1) == (self == Self::Client)
    }
}

/// A stream that the other end has begun.
pub(crate) struct Opened {
    /// What it is for.
    pub(crate) headers: Headers,
    /// It. Dropped without [`Stream::accept`], it is refused.
    pub(crate) stream: Stream,
}

enum Said {
    Piece(Bytes, OwnedSemaphorePermit),
    End,
}

/// A stream, as whoever distributes what is heard knows it. It is here for as long as somebody holds the
/// stream, also when the other end has reset it: or who begins streams and resets them at once would fill
/// the memory with what nobody has looked at yet.
#[derive(Default)]
struct Entry {
    /// None once the other end has said all.
    inbox: Option<mpsc::UnboundedSender<Said>>,
    /// Told by being dropped: the other end has reset the stream, or the line has ended.
    on_hold: Option<oneshot::Sender<()>>,
}

struct Shared {
    side: Side,
    streams: Mutex<BTreeMap<u32, Entry>>,
    urgent: mpsc::Sender<Frame>,
    words: mpsc::Sender<Frame>,
    next: AtomicU32,
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, BTreeMap<u32, Entry>> {
        // Nothing is left half done under it.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream; none if there are too many, or one of this number.
    fn begin(self: &Arc<Self>, id: u32, ends: bool) -> Option<Stream> {
        let mut streams = self.streams();
        if streams.len() >= STREAMS_MAX || streams.contains_key(&id) {
            return None;
        }
        let (sender, inbox) = mpsc::unbounded_channel();
        let (on_hold, gone) = oneshot::channel();
        if ends {
            // The receiver is right here.
            let _ = sender.send(Said::End);
        }
        let inbox_in = (!ends).then_some(sender);
        streams.insert(id, Entry { inbox: inbox_in, on_hold: Some(on_hold) });
        let mouth = Mouth { id, words: self.words.clone(), has_ended: false };
        Some(Stream { ear: Ear { inbox }, mouth, gone, shared: self.clone() })
    }

    /// Whether the other end has left no stream.
    fn is_idle(&self) -> bool {
        self.streams().values().all(|entry| entry.on_hold.is_none())
    }

    /// Says something that must not wait. If there is no room, who is to hear it does not listen, and
    /// will be given up for that.
    fn hurry(&self, frame: Frame) {
        if self.urgent.try_send(frame).is_err() {
            tracing::debug!("an answer is left out: nobody listens");
        }
    }
}

/// A stream. Dropped before all has been said on it, it is reset.
pub(crate) struct Stream {
    /// What the other end says.
    pub(crate) ear: Ear,
    /// What is said to it.
    pub(crate) mouth: Mouth,
    /// Comes when the other end has reset the stream, or the line has ended.
    pub(crate) gone: oneshot::Receiver<()>,
    shared: Arc<Shared>,
}

impl Stream {
    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.mouth.id
    }

    /// Whether the other end has reset the stream, or the line has ended.
    pub(crate) fn has_gone(&mut self) -> bool {
        matches!(self.gone.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    /// Tells the other end that the stream is taken; before this kubectl throws away what it hears on it.
    pub(crate) fn accept(&self) {
        self.shared.hurry(Frame::Reply { stream: self.id(), ends: false });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let known = self.shared.streams().remove(&self.id());
        if known.is_some_and(|entry| entry.on_hold.is_some()) && !self.mouth.has_ended {
            self.shared.hurry(Frame::Reset { stream: self.id(), status: CANCEL });
        }
    }
}

/// What the other end says on a stream.
pub(crate) struct Ear {
    inbox: mpsc::UnboundedReceiver<Said>,
}

impl Ear {
    /// The next piece, and what keeps its place among all that is held; none at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Bytes, OwnedSemaphorePermit)>> {
        match self.inbox.recv().await {
            Some(Said::Piece(bytes, place)) => Ok(Some((bytes, place))),
            Some(Said::End) => Ok(None),
            None => Err(lost()),
        }
    }

    /// Hears no more: what comes is thrown away, and holds nobody up.
    pub(crate) fn close(&mut self) {
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
    }
}

/// What is said on a stream.
pub(crate) struct Mouth {
    id: u32,
    words: mpsc::Sender<Frame>,
    has_ended: bool,
}

impl Mouth {
    async fn put(&self, frame: Frame) -> io::Result<()> {
        self.words.send(frame).await.map_err(|_| lost())
    }

    /// Says a piece.
    pub(crate) async fn say(&self, bytes: Bytes) -> io::Result<()> {
        self.put(Frame::Data { stream: self.id, bytes, ends: false }).await
    }

    /// Has said all.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Ok(());
        }
        self.put(Frame::Data { stream: self.id, bytes: Bytes::new(), ends: true }).await
    }

    /// Ends the stream in both directions, behind all that was said on it.
    pub(crate) async fn reset(&mut self) -> io::Result<()> {
        self.has_ended = true;
        self.put(Frame::Reset { stream: self.id, status: CANCEL }).await
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset, or its line has ended")
}

/// Begins streams, at a client's end.
#[derive(Clone)]
pub(crate) struct Opener(Arc<Shared>);

impl Opener {
    /// Begins a stream; one on which nothing will be said if it `ends` at once.
    pub(crate) async fn open(&self, headers: Headers, ends: bool) -> io::Result<Stream> {
        let id = self.0.next.fetch_add(2, Ordering::Relaxed);
        let stream = self.0.begin(id, false);
        let mut stream = stream.ok_or_else(|| io::Error::other("too many streams at once"))?;
        stream.mouth.has_ended = ends;
        stream.mouth.put(Frame::Open { stream: id, headers, ends }).await?;
        Ok(stream)
    }
}

/// One end of a line.
pub(crate) struct Session {
    shared: Arc<Shared>,
    opened: mpsc::Sender<Opened>,
    urgent: mpsc::Receiver<Frame>,
    words: mpsc::Receiver<Frame>,
}

impl Session {
    /// An end, what begins streams at it, and those that the other end begins.
    pub(crate) fn new(side: Side) -> (Self, Opener, mpsc::Receiver<Opened>) {
        let (urgent_in, urgent) = mpsc::channel(URGENT_MAX);
        let (words_in, words) = mpsc::channel(WORDS_MAX);
        let (opened, openings) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            side,
            streams: Mutex::default(),
            urgent: urgent_in,
            words: words_in,
            next: AtomicU32::new(if side == Side::Client { 1 } else { 2 }),
        });
        (Self { shared: shared.clone(), opened, urgent, words }, Opener(shared), openings)
    }

    /// Hears and speaks until the line ends, the other end says good-bye, or `stop` comes. All streams
    /// end with it.
    pub(crate) async fn run(self, input: Input, output: Output, stop: impl Future<Output = ()>) {
        let Self { shared, opened, urgent, words } = self;
        let mut speaks = std::pin::pin!(speak(shared.side, output, urgent, words));
        let status = tokio::select! {
            error = &mut speaks => {
                tracing::debug!(?error, "a line can't be spoken on any more");
                None
            }
            heard = hear(&shared, input, opened) => match heard {
                Ok(()) => Some(GONE_WELL),
                Err(error) => {
                    tracing::debug!(%error, "a line makes no sense any more");
                    Some(PROTOCOL_ERROR)
                }
            },
            () = stop => Some(GONE_WELL),
        };
        if let Some(status) = status {
            // Behind what was said on the streams.
            let says = shared.words.send(Frame::Farewell { status });
            let goodbye = futures_util::future::join(says, &mut speaks);
            // Who does not hear it knows anyway.
            let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        }
        shared.streams().clear();
    }
}

/// Says what is to be said, until a good-bye.
async fn speak(
    side: Side,
    mut output: Output,
    mut urgent: mpsc::Receiver<Frame>,
    mut words: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    let ping = if side == Side::Client { 1 } else { 2 };
    loop {
        let frame = tokio::select! {
            biased;
            Some(frame) = urgent.recv() => frame,
            Some(frame) = words.recv() => frame,
            _ = pings.tick() => Frame::Ping(ping),
        };
        let is_last = matches!(frame, Frame::Farewell { .. });
        output.send(frame).await?;
        if is_last {
            return output.close().await;
        }
    }
}

/// Gives each frame to whom it is meant for, until there are no more.
async fn hear(
    shared: &Arc<Shared>,
    mut input: Input,
    opened: mpsc::Sender<Opened>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(HELD_BYTES_MAX));
    while let Some(frame) = input.next().await {
        match frame? {
            Frame::Open { stream: id, headers, ends } => {
                // Numbers need not come in order: of two that kubectl begins at once, either may be first.
                let taken = if shared.side.is_own(id) { None } else { shared.begin(id, ends) };
                match taken {
                    Some(stream) => {
                        // Who takes no more drops it, and so refuses it.
                        let _ = opened.send(Opened { headers, stream }).await;
                    }
                    None => shared.hurry(Frame::Reset { stream: id, status: REFUSED_STREAM }),
                }
            }
            Frame::Reply { stream, ends } => {
                if ends {
                    finish(shared, stream);
                }
            }
            Frame::Data { stream, bytes, ends } => {
                let inbox = shared.streams().get(&stream).and_then(|entry| entry.inbox.clone());
                if let Some(inbox) = inbox.filter(|_| !bytes.is_empty()) {
                    hold(&inbox, bytes, &room).await;
                }
                if ends {
                    finish(shared, stream);
                }
            }
            Frame::Reset { stream, .. } => {
                drop(shared.streams().get_mut(&stream).map(std::mem::take));
            }
            Frame::Ping(number) if !shared.side.is_own(number) => {
                shared.hurry(Frame::Ping(number));
            }
            // kubectl resets its streams first. One that is left may go on to its end.
            Frame::Farewell { .. } if shared.is_idle() => return Ok(()),
            Frame::Ping(_) | Frame::Farewell { .. } => {}
        }
    }
    Ok(())
}

/// Puts a piece into an inbox as soon as there is room for it. What waits there is a copy: the piece
/// itself may be a byte of a message of 128 KiB, which it would keep whole.
async fn hold(inbox: &mpsc::UnboundedSender<Said>, bytes: Bytes, room: &Arc<Semaphore>) {
    let counts = bytes.len().clamp(PIECE_BYTES_MIN, HELD_BYTES_MAX);
    let counts = u32::try_from(counts).unwrap_or(u32::MAX);
    tokio::select! {
        biased;
        // Who hears no more is no reason to wait.
        () = inbox.closed() => {}
        place = room.clone().acquire_many_owned(counts) => {
            if let Ok(place) = place {
                let _ = inbox.send(Said::Piece(Bytes::copy_from_slice(&bytes), place));
            }
        }
    }
}

/// The other end has said all on this stream.
fn finish(shared: &Shared, stream: u32) {
    let inbox = shared.streams().get_mut(&stream).and_then(|entry| entry.inbox.take());
    if let Some(inbox) = inbox {
        let _ = inbox.send(Said::End);
    }
}

/// Frames on a line of bytes.
pub(crate) fn bytes<L>(line: L) -> (Input, Output)
where
    L: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(line);
    let pieces = futures_util::stream::try_unfold(
        (reader, BytesMut::new()),
        |(mut reader, mut buffer)| async move {
            buffer.reserve(READ_BYTES);
            let count = reader.read_buf(&mut buffer).await?;
            let piece = buffer.split().freeze();
            Ok((count > 0).then_some((piece, (reader, buffer))))
        },
    );
    let output = futures_util::sink::unfold(writer, |mut writer, piece: Bytes| async move {
        writer.write_all(&piece).await?;
        writer.flush().await?;
        Ok(writer)
    });
    frames(pieces, output)
}

/// Frames on pieces of bytes.
pub(crate) fn frames(
    pieces: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
    output: impl Sink<Bytes, Error = io::Error> + Send + 'static,
) -> (Input, Output) {
    let start = (Box::pin(pieces), Decoder::new(), Bytes::new());
    let input = futures_util::stream::try_unfold(
        start,
        |(mut pieces, mut decoder, mut piece)| async move {
            loop {
                let broken = |error: Broken| io::Error::new(io::ErrorKind::InvalidData, error);
                if let Some(frame) = decoder.decode(&mut piece).map_err(broken)? {
                    return Ok(Some((frame, (pieces, decoder, piece))));
                }
                match pieces.next().await {
                    Some(next) => piece = next?,
                    None => return Ok(None),
                }
            }
        },
    );
    let mut encoder = Encoder::new();
    let output = output.with(move |frame: Frame| {
        let encoded = encoder.encode(&frame);
        std::future::ready(Ok(encoded))
    });
    (Box::pin(input), Box::pin(output))
}

#[cfg(test)]
pub(super) mod tests;
