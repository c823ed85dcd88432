//! What the API needs of its host: somebody to ask, a runtime to listen to, a store to leaf through,
//! other nodes to call.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::adapters::docker::{Control, Docker, LogOptions, Pieces, Session};
use crate::adapters::images::Images;
use crate::adapters::line::{Line, Lines};
use crate::adapters::reach::reach;
use crate::agent::event::{Ask, Reply};
use crate::ports::Fault;
use crate::ports::store::Decision;

/// Something that will be there later.
pub type Later<'l, T> = Pin<Box<dyn Future<Output = T> + Send + 'l>>;

/// What the API needs of its host.
pub trait Backend: Send + Sync + 'static {
    /// Puts a question to the agent.
    fn ask(&self, ask: Ask) -> Later<'_, Result<Reply, Fault>>;
    /// The last decisions, newest first.
    fn history(&self, limit: usize) -> Later<'_, Result<Vec<Decision>, Fault>>;
    /// A container's log.
    fn logs<'l>(&'l self, id: &'l str, options: &'l LogOptions)
    -> Later<'l, Result<Pieces, Fault>>;
    /// Runs a program in a container.
    fn exec<'l>(
        &'l self,
        id: &'l str,
        command: &'l [String],
        tty: bool,
        stdin: bool,
    ) -> Later<'l, Result<Talk, Fault>>;
    /// Talks to a container's own process.
    fn attach<'l>(&'l self, id: &'l str, stdin: bool) -> Later<'l, Result<Talk, Fault>>;
    /// Connects to a port from inside the network of a container, at its loopback address or at `ip`.
    fn reach<'l>(
        &'l self,
        id: &'l str,
        port: u16,
        ip: Option<Ipv4Addr>,
    ) -> Later<'l, Result<TcpStream, Fault>>;
    /// Images that other nodes may have; none where there are none to give.
    fn images(&self) -> Option<&Images> {
        None
    }
    /// Calls the agent of another node, which has this key, from this address of ours.
    fn dial<'l>(
        &'l self,
        at: SocketAddr,
        from: Option<IpAddr>,
        key: &'l str,
    ) -> Later<'l, Result<Line, Fault>>;
}

/// A process that is being talked to.
pub struct Talk {
    /// What it says.
    pub output: Pieces,
    /// What is said to it.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Its terminal, and its end.
    pub hand: Arc<dyn Hand>,
}

/// The other hand on a process.
pub trait Hand: Send + Sync {
    /// Tells the terminal its size.
    fn resize(&self, columns: u16, rows: u16) -> Later<'_, Result<(), Fault>>;
    /// Its exit code, once its output has ended; none if it runs on nevertheless.
    fn exit_code(&self) -> Later<'_, Result<Option<i64>, Fault>>;
}

impl Hand for Control {
    fn resize(&self, columns: u16, rows: u16) -> Later<'_, Result<(), Fault>> {
        Box::pin(Self::resize(self, columns, rows))
    }

    fn exit_code(&self) -> Later<'_, Result<Option<i64>, Fault>> {
        Box::pin(Self::exit_code(self))
    }
}

impl From<Session> for Talk {
    fn from(session: Session) -> Self {
        Self { output: session.output, input: session.input, hand: Arc::new(session.control) }
    }
}

/// Leafs through the store: how many decisions, and what came of it.
pub type History = Arc<dyn Fn(usize) -> Later<'static, Result<Vec<Decision>, Fault>> + Send + Sync>;

/// The real thing: an agent at the other end of a channel, Docker, and other nodes' agents.
#[derive(Clone)]
pub struct Live {
    /// Where questions to the agent go.
    pub questions: mpsc::Sender<(Ask, oneshot::Sender<Reply>)>,
    /// The runtime.
    pub docker: Docker,
    /// The store.
    pub history: History,
    /// The other nodes.
    pub lines: Lines,
    /// What other nodes may have.
    pub images: Images,
}

impl Backend for Live {
    fn images(&self) -> Option<&Images> {
        Some(&self.images)
    }

    fn ask(&self, ask: Ask) -> Later<'_, Result<Reply, Fault>> {
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            // A full queue means that the agent is behind; waiting would only make it longer.
            self.questions
                .try_send((ask, sender))
                .map_err(|_| Fault::transient("the agent is too busy to answer; try again"))?;
            receiver.await.map_err(|_| Fault::transient("the agent ended before it answered"))
        })
    }

    fn history(&self, limit: usize) -> Later<'_, Result<Vec<Decision>, Fault>> {
        (self.history)(limit)
    }

    fn logs<'l>(
        &'l self,
        id: &'l str,
        options: &'l LogOptions,
    ) -> Later<'l, Result<Pieces, Fault>> {
        Box::pin(self.docker.logs(id, options))
    }

    fn exec<'l>(
        &'l self,
        id: &'l str,
        command: &'l [String],
        tty: bool,
        stdin: bool,
    ) -> Later<'l, Result<Talk, Fault>> {
        Box::pin(async move {
            let session = self.docker.exec_stream(id, command, tty, stdin).await?;
            Ok(session.into())
        })
    }

    fn attach<'l>(&'l self, id: &'l str, stdin: bool) -> Later<'l, Result<Talk, Fault>> {
        Box::pin(async move { Ok(self.docker.attach(id, stdin).await?.into()) })
    }

    fn reach<'l>(
        &'l self,
        id: &'l str,
        port: u16,
        ip: Option<Ipv4Addr>,
    ) -> Later<'l, Result<TcpStream, Fault>> {
        Box::pin(async move { reach(self.docker.network(id).await?, port, ip).await })
    }

    fn dial<'l>(
        &'l self,
        at: SocketAddr,
        from: Option<IpAddr>,
        key: &'l str,
    ) -> Later<'l, Result<Line, Fault>> {
        Box::pin(self.lines.dial(at, from, key))
    }
}
