//! One connection on one stream.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::session::{Ear, Mouth, READ_BYTES, Stream};

/// Why neither direction can go on.
enum Cut {
    /// The connection broke.
    Broken,
    /// The stream, or its line, has gone.
    Gone,
}

/// Carries bytes to and fro until both directions have ended, or one of them can't go on. What one side
/// has said last reaches the other, and each may go on to speak when the other has ended.
///
/// `errors` is ended along with what the connection says: kubectl before 1.30 closes its connection only
/// then. A connection that takes nothing for `patience` is given up.
pub(crate) async fn carry(
    connection: TcpStream,
    stream: &mut Stream,
    errors: Option<&mut Mouth>,
    patience: Duration,
) {
    let (from, to) = connection.into_split();
    let Stream { ear, mouth, gone, .. } = stream;
    let both = async {
        let carried = tokio::try_join!(hear(ear, to, patience), speak(from, mouth, errors));
        if matches!(carried, Ok((false, ())) | Err(Cut::Broken)) {
            // Whoever still speaks to the connection learns that nobody hears it.
            let _ = mouth.reset().await;
        }
    };
    tokio::select! {
        biased;
        _ = gone => {}
        () = both => {}
    }
}

/// Gives the connection what comes on the stream; whether it has taken all.
async fn hear(ear: &mut Ear, mut to: OwnedWriteHalf, patience: Duration) -> Result<bool, Cut> {
    loop {
        let (bytes, place) = match ear.next().await {
            Ok(Some(piece)) => piece,
            // Dropped, the half says that it is over.
            Ok(None) => return Ok(true),
            Err(_) => return Err(Cut::Gone),
        };
        let given = tokio::time::timeout(patience, to.write_all(&bytes)).await;
        drop(place);
        if !matches!(given, Ok(Ok(()))) {
            // What it has still to say is heard; what is said to it holds nobody up.
            ear.close();
            return Ok(false);
        }
    }
}

/// Says on the stream what the connection says, to its end.
async fn speak(
    mut from: OwnedReadHalf,
    mouth: &mut Mouth,
    errors: Option<&mut Mouth>,
) -> Result<(), Cut> {
    let gone = |_: io::Error| Cut::Gone;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => mouth.say(buffer.split().freeze()).await.map_err(gone)?,
            Err(_) => return Err(Cut::Broken),
        }
    }
    mouth.end().await.map_err(gone)?;
    match errors {
        Some(errors) => errors.end().await.map_err(gone),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
