//! A server that shows a picture of the simulation, and who answers behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use windlass::adapters::api::{Api, Backend, Hand, Later, Limits, Server, Talk};
use windlass::adapters::docker::{LogOptions, Pieces, Which};
use windlass::adapters::identity::Identity;
use windlass::adapters::line::{Line, Lines};
use windlass::agent::event::{Ask, Reply};
use windlass::kinds::binding::Oid;
use windlass::kinds::name::PodKey;
use windlass::kinds::object::Key;
use windlass::kinds::registry::Kind;
use windlass::kinds::time::Wall;
use windlass::ports::Fault;
use windlass::ports::store::Decision;
use windlass::sim::World;
use windlass::state::RequestKind;
use windlass::view::objects;
use windlass::view::picture::Picture;

use crate::support::http::Connection;
use crate::support::proxy::port_to;
use crate::support::{fleet, scratch};

/// As the API names the desired repository.
pub(crate) const REPOSITORY: &str = "/srv/shop.git, branch main";

/// What was asked of the agent and of Docker.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) requests: Vec<(RequestKind, String)>,
    pub(crate) logs: Vec<(String, LogOptions)>,
    pub(crate) sizes: Vec<(u16, u16)>,
}

/// Stands in for the agent and for Docker.
pub(crate) struct Fake {
    pub(crate) asked: Arc<Mutex<Asked>>,
    pictures: watch::Sender<Arc<Picture>>,
    lines: Lines,
}

impl Fake {
    /// The coordinator carries out a deletion as soon as it is asked for.
    fn delete(&self, pod: &PodKey) {
        self.pictures.send_modify(|picture| {
            let mut next = (**picture).clone();
            for pods in next.state.pods.values_mut() {
                Arc::make_mut(pods).remove(pod);
            }
            *picture = Arc::new(next);
        });
    }
}

impl Backend for Fake {
    fn ask(&self, ask: Ask) -> Later<'_, Result<Reply, Fault>> {
        let reply = match ask {
            Ask::Sync => Reply::Synced("nothing new".into()),
            Ask::Adopt { .. } => Reply::Refused("the state store is as it should be".into()),
            Ask::Images => Reply::Images(windlass::view::images::Images::default()),
            Ask::Diff { commit } => {
                Reply::Diff { commit, changes: Vec::new(), findings: Vec::new(), signer: None }
            }
            Ask::Request { what, by } => {
                if let RequestKind::DeletePod { pod, .. } = &what {
                    self.delete(pod);
                }
                self.asked.lock().expect("unbroken").requests.push((what, by));
                Reply::Accepted
            }
        };
        Box::pin(async move { Ok(reply) })
    }

    fn history(&self, limit: usize) -> Later<'_, Result<Vec<Decision>, Fault>> {
        let decision = Decision {
            rev: Oid::new("0123456789012345678901234567890123456789"),
            by: "n0".into(),
            time: Wall::from_seconds(1_700_000_000),
            why: "web: 3 pods".into(),
        };
        Box::pin(async move { Ok(vec![decision; limit.min(2)]) })
    }

    fn logs<'l>(
        &'l self,
        id: &'l str,
        options: &'l LogOptions,
    ) -> Later<'l, Result<Pieces, Fault>> {
        self.asked.lock().expect("unbroken").logs.push((id.to_owned(), options.clone()));
        let lines = (1..=3).map(|n| Ok((Which::Stdout, Bytes::from(format!("line {n}\n")))));
        let lines = futures_util::stream::iter(lines);
        let pieces: Pieces = if options.follow {
            Box::pin(lines.chain(futures_util::stream::pending()))
        } else {
            Box::pin(lines)
        };
        Box::pin(async move { Ok(pieces) })
    }

    fn exec<'l>(
        &'l self,
        _id: &'l str,
        command: &'l [String],
        _tty: bool,
        stdin: bool,
    ) -> Later<'l, Result<Talk, Fault>> {
        Box::pin(async move { Ok(self.program(command, stdin)) })
    }

    fn attach<'l>(&'l self, _id: &'l str, stdin: bool) -> Later<'l, Result<Talk, Fault>> {
        Box::pin(async move { Ok(self.program(&["cat".to_owned()], stdin)) })
    }

    /// A port of this machine stands for the pod's.
    fn reach<'l>(
        &'l self,
        _id: &'l str,
        port: u16,
        _ip: Option<Ipv4Addr>,
    ) -> Later<'l, Result<TcpStream, Fault>> {
        Box::pin(async move {
            let reached = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            reached.map_err(|error| Fault::transient(format!("failed to connect: {error}")))
        })
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

impl Fake {
    /// `cat` says what it is told; `exit N` ends with N; all else says its arguments.
    fn program(&self, command: &[String], stdin: bool) -> Talk {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let (code, said) = match words.as_slice() {
            ["exit", code] => (code.parse().unwrap_or(1), String::new()),
            ["cat"] => (0, String::new()),
            words => (0, format!("{}\n", words.join(" "))),
        };
        let hand = Arc::new(FakeHand { code, asked: self.asked.clone() });
        if words == ["cat"] && stdin {
            let (ours, theirs) = tokio::io::simplex(1024);
            let echo = futures_util::stream::unfold(ours, |mut ours| async move {
                let mut buffer = vec![0; 1024];
                match ours.read(&mut buffer).await {
                    Ok(0) | Err(_) => None,
                    Ok(count) => {
                        buffer.truncate(count);
                        Some((Ok((Which::Stdout, Bytes::from(buffer))), ours))
                    }
                }
            });
            let input: std::pin::Pin<Box<dyn AsyncWrite + Send>> = Box::pin(theirs);
            return Talk { output: Box::pin(echo), input: Some(input), hand };
        }
        let said = [(Which::Stdout, said), (Which::Stderr, "to stderr\n".to_owned())];
        let said = said.map(|(which, text)| Ok((which, Bytes::from(text))));
        Talk { output: Box::pin(futures_util::stream::iter(said)), input: None, hand }
    }
}

struct FakeHand {
    code: i64,
    asked: Arc<Mutex<Asked>>,
}

impl Hand for FakeHand {
    fn resize(&self, columns: u16, rows: u16) -> Later<'_, Result<(), Fault>> {
        self.asked.lock().expect("unbroken").sizes.push((columns, rows));
        Box::pin(async { Ok(()) })
    }

    fn exit_code(&self) -> Later<'_, Result<Option<i64>, Fault>> {
        Box::pin(async { Ok(Some(self.code)) })
    }
}

/// A server that is up, until it is dropped.
pub(crate) struct Served {
    pub(crate) socket: PathBuf,
    pub(crate) asked: Arc<Mutex<Asked>>,
    pub(crate) pictures: watch::Sender<Arc<Picture>>,
    pub(crate) world: World,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) identity: Identity,
    pub(crate) api: Arc<Api>,
    pub(crate) dir: tempfile::TempDir,
}

/// The shop, settled, on a socket.
pub(crate) fn serve() -> Served {
    serve_with(Limits::default())
}

/// The same with other limits.
pub(crate) fn serve_with(limits: Limits) -> Served {
    let mut world = fleet::world();
    fleet::run(&mut world, 100);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = scratch("wdl-api-");
    let socket = dir.path().join("deep/agent.sock");
    let (pictures, looking) = watch::channel(fleet::picture(&world));
    let asked = Arc::new(Mutex::new(Asked::default()));
    let identity = Identity::open(scratch("wdl-key-").path()).expect("a key");
    let lines = Lines::new(&identity).expect("lines");
    let fake = Fake { asked: asked.clone(), pictures: pictures.clone(), lines };
    let api = Api::new(Arc::new(fake), looking, REPOSITORY, 1, limits);
    let shown = api.clone();
    runtime.block_on(async {
        let server = Server::bind(&socket).expect("a socket");
        tokio::spawn(server.run(shown, std::future::pending()));
    });
    Served { socket, asked, pictures, world, runtime, identity, api, dir }
}

impl Served {
    /// Shows another picture.
    pub(crate) fn show(&self, change: impl FnOnce(&mut Picture)) {
        self.pictures.send_modify(|picture| change(Arc::make_mut(picture)));
    }

    /// A connection that gives up after ten seconds of silence.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.socket).expect("connects")
    }

    /// Lets the simulation go on and shows what became of it.
    pub(crate) fn go_on(&mut self, seconds: u64) {
        fleet::run(&mut self.world, seconds);
        self.pictures.send_replace(fleet::picture(&self.world));
    }

    /// The name of the first object of a kind whose name begins so.
    pub(crate) fn named(&self, kind: Kind, prefix: &str) -> Key {
        let shown = objects::list(&self.pictures.borrow(), kind);
        let found = shown.into_iter().find(|shown| shown.key.name.as_str().starts_with(prefix));
        found.expect("there is one").key
    }

    /// A TCP port that leads to the socket.
    pub(crate) fn port(&self) -> SocketAddr {
        self.runtime.block_on(port_to(self.socket.clone()))
    }
}
