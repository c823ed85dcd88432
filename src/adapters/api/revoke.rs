//! A connection that ends when whoever called is no longer answered: what was opened in good faith must
//! not outlive the trust in it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection, and what ends it. Reading waits for both; it is read from as long as it is in use.
pub(super) struct Revocable<S> {
    stream: S,
    /// None once it has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Revocable<S> {
    /// Ends with `end`.
    pub(super) fn new(stream: S, end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { stream, end: Some(Box::pin(end)) }
    }

    fn check(&self) -> io::Result<()> {
        let revoked = || {
            io::Error::new(io::ErrorKind::ConnectionAborted, "the caller is not answered any more")
        };
        if self.end.is_some() { Ok(()) } else { Err(revoked()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Revocable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            self.end = None;
        }
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Revocable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_ends_in_the_middle_of_waiting_and_nothing_more_is_sent() {
        let (mut theirs, ours) = duplex(64);
        let (revoke, revoked) = oneshot::channel::<()>();
        let line = Revocable::new(ours, async {
            let _ = revoked.await;
        });
        let (mut read, mut write) = split(line);
        theirs.write_all(b"a").await.expect("sent");
        assert_eq!(read.read_u8().await.expect("heard"), b'a');
        write.write_all(b"b").await.expect("sent");
        let waiting = tokio::spawn(async move { read.read_u8().await });
        tokio::task::yield_now().await;
        revoke.send(()).expect("somebody waits");
        let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        let error = ended.expect("at once").expect("whole").expect_err("no more is heard");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(write.write_all(b"c").await.is_err());
    }
}
