//! The socket: made, listened on, and taken away again.

use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Sleep;

use super::door;
use super::serve::{Api, Caller, answer};
use crate::ports::Fault;

/// Its owner and its group may use the socket: whoever can is root on every node's containers.
const MODE: u32 = 0o660;
/// How long a client may take to send the head of a request, and an idle connection is kept.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(30);
/// What a client is told for whom there is no room.
const FULL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: text/plain\r\nContent-Length: 28\r\n\r\ntoo many connections at once";

/// The socket, listening. Dropping it takes it away.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Which file it is: a later agent may have put its own in its place.
    file: (u64, u64),
}

impl Server {
    /// Listens at `path`. What an agent that was killed has left there is replaced; one that still
    /// answers is left alone.
    pub fn bind(path: &Path) -> Result<Self, Fault> {
        let failed = |what: &str, error: io::Error| {
            Fault::stalled(format!("{what} {}: {error} (api.socket)", path.display()))
        };
        let (Some(dir), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(Fault::stalled(format!("{} is no path for a socket", path.display())));
        };
        std::fs::create_dir_all(dir).map_err(|error| failed("making the directory of", error))?;
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Fault::stalled(format!(
                "another agent answers at {}; stop it, or set another api.socket",
                path.display()
            )));
        }
        // Bound under another name and moved into its place with its mode set, so that it is never
        // open to others, and an old one is replaced in one step.
        let draft = dir.join(format!(".wdl-{}", std::process::id()));
        let _ = std::fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).map_err(|error| failed("listening at", error))?;
        let placed = std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(MODE))
            .and_then(|()| std::fs::rename(&draft, path))
            .and_then(|()| std::fs::metadata(path));
        let file = placed.map_err(|error| {
            let _ = std::fs::remove_file(&draft);
            failed("making", error)
        })?;
        Ok(Self { listener, path: path.to_owned(), file: (file.dev(), file.ino()) })
    }

    /// Answers until `stop`. Connections are closed with it.
    pub async fn run(self, api: Arc<Api>, stop: impl Future<Output = ()>) {
        // Fits into an empty socket's buffer, or the client goes without it.
        let turn_away = |stream: &UnixStream| drop(stream.try_write(FULL));
        let taking = door::take(&self.listener, api.limits.connections, turn_away, |stream| {
            talk(api.clone(), stream)
        });
        tokio::select! {
            () = stop => {}
            () = taking => {}
            () = api.keep_small() => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let now = std::fs::metadata(&self.path);
        if now.is_ok_and(|now| (now.dev(), now.ino()) == self.file) {
            // What stays behind is replaced by the next agent.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn talk(api: Arc<Api>, stream: UnixStream) {
    let caller = Caller(stream.peer_cred().ok().map(|peer| peer.uid()));
    let stream = Patient::new(stream, api.limits.stall);
    let service = service_fn(move |request| {
        let answer = answer(api.clone(), caller, request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        // Clients go away in the middle of a watch; that is how watches end.
        tracing::debug!(%error, "a connection to the socket ended early");
    }
}

/// A connection that ends when the other side takes nothing for too long: what is sent waits in no
/// buffer of ours, and a reader that has stopped must not keep its place for ever.
///
/// It may also end when whoever called is no longer answered: what was opened in good faith must not
/// outlive the trust in it.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    /// What ends it, for who reads and for who writes: they may be two tasks, and either may be stuck.
    ends: [Option<End>; 2],
    has_ended: bool,
}

type End = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Which of the two.
const READER: usize = 0;
const WRITER: usize = 1;

impl<S> Patient<S> {
    /// Waits so long for the other side to take something.
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stall: None, ends: [None, None], has_ended: false }
    }

    /// Ends with `end`, whatever waits. Two of the same are made of it.
    pub(super) fn until<E: Future<Output = ()> + Send + 'static>(
        self,
        end: impl Fn() -> E,
    ) -> Self {
        Self { ends: [Some(Box::pin(end())), Some(Box::pin(end()))], ..self }
    }

    fn check(&mut self, who: usize, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ends[who].as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            (self.ends, self.has_ended) = ([None, None], true);
        }
        let ended = || {
            io::Error::new(io::ErrorKind::ConnectionAborted, "the caller is not answered any more")
        };
        if self.has_ended { Err(ended()) } else { Ok(()) }
    }

    fn wait<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let patience = self.patience;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client reads nothing",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(READER, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(WRITER, cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(WRITER, cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wait(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(WRITER, cx)?;
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn it_ends_in_the_middle_of_waiting_and_nothing_more_is_sent() {
        let (mut theirs, ours) = duplex(64);
        let (revoke, revoked) = watch::channel(false);
        let line = Patient::new(ours, Duration::from_secs(60)).until(|| {
            let mut revoked = revoked.clone();
            async move {
                let _ = revoked.wait_for(|is_so| *is_so).await;
            }
        });
        let (mut read, mut write) = split(line);
        theirs.write_all(b"a").await.expect("sent");
        assert_eq!(read.read_u8().await.expect("heard"), b'a');
        write.write_all(b"b").await.expect("sent");
        let reading = tokio::spawn(async move { read.read_u8().await.map(drop) });
        // More than the other side takes.
        let writing = tokio::spawn(async move { write.write_all(&[0; 1000]).await });
        tokio::task::yield_now().await;
        revoke.send(true).expect("somebody waits");
        for waiting in [reading, writing] {
            let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
            let error = ended.expect("at once").expect("whole").expect_err("it has ended");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        }
    }
}
