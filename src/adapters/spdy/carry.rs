//! One connection on one stream.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::session::{Ear, Mouth, READ_BYTES, Stream};

/// How one direction ended.
enum End {
    /// With the last byte, and the end was passed on.
    Whole,
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
        let (mut hearing, mut speaking) = (None, None);
        {
            let mut hears = std::pin::pin!(hear(ear, to, patience));
            let mut speaks = std::pin::pin!(speak(from, mouth, errors));
            while hearing.is_none() || speaking.is_none() {
                tokio::select! {
                    end = &mut hears, if hearing.is_none() => hearing = Some(end),
                    end = &mut speaks, if speaking.is_none() => speaking = Some(end),
                }
                if matches!(hearing, Some(End::Gone))
                    || matches!(speaking, Some(End::Gone | End::Broken))
                {
                    break;
                }
            }
        }
        if matches!((hearing, speaking), (Some(End::Broken), _) | (_, Some(End::Broken))) {
            // Whoever still speaks to the connection learns that nobody hears it. If the line has gone
            // he knows.
            let _ = mouth.reset().await;
        }
    };
    tokio::select! {
        biased;
        _ = gone => {}
        () = both => {}
    }
}

/// Gives the connection what comes on the stream.
async fn hear(ear: &mut Ear, mut to: OwnedWriteHalf, patience: Duration) -> End {
    loop {
        let (bytes, place) = match ear.next().await {
            Ok(Some(piece)) => piece,
            // Dropped, the half says that it is over.
            Ok(None) => return End::Whole,
            Err(_) => return End::Gone,
        };
        let given = tokio::time::timeout(patience, to.write_all(&bytes)).await;
        drop(place);
        if !matches!(given, Ok(Ok(()))) {
            // What it has still to say is heard; what is said to it holds nobody up.
            ear.close();
            return End::Broken;
        }
    }
}

/// Says on the stream what the connection says.
async fn speak(mut from: OwnedReadHalf, mouth: &mut Mouth, errors: Option<&mut Mouth>) -> End {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let said: io::Result<()> = match from.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => mouth.say(buffer.split().freeze()).await,
            Err(_) => return End::Broken,
        };
        if said.is_err() {
            return End::Gone;
        }
    }
    let ended = async {
        mouth.end().await?;
        match errors {
            Some(errors) => errors.end().await,
            None => Ok(()),
        }
    };
    match ended.await {
        Ok(()) => End::Whole,
        Err(_) => End::Gone,
    }
}
