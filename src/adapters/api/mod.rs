//! The API: Kubernetes' own paths and our few, over HTTP on a unix socket.
//!
//! A counter at which one may ask, look on, and hand in very little: what should run is written in
//! the desired repository, and whoever tries to write here is told which file and line to change.
//!
//! ```text
//!   listen ─▶ serve ─┬─ discovery, openapi   what there is to ask for
//!   (socket)         ├─ read, watch          objects, tables, changes   ◀─ view::cache ◀─ Picture
//!                    ├─ own                  status, why, diff, sync …  ◀─ view, the agent
//!                    ├─ metrics              for Prometheus
//!                    ├─ log, talk            a container of this node   ◀─ Docker
//!                    ├─ tunnel               a port of a pod of this node
//!                    ├─ forward              one of another node        ◀─ its agent's peer
//!                    ├─ requests             cordon, drain, evict, fence          ─▶ the coordinator
//!                    └─ write                delete a pod; all else: which file to change
//!   peer ─▶ log, talk, tunnel, larder         the same for other nodes' agents, by TLS; images
//! ```
//!
//! The rule: everything that is shown is drawn from one [`Picture`](crate::view::picture::Picture), and
//! nothing here decides: a deletion is put to the agent, which may refuse it. Whoever can open the
//! socket may do everything that can be done on it; its mode is the only lock.
//!
//! The limit: there is no protobuf, and SPDY only to forward ports: `exec` and `attach` need a client
//! with WebSockets (kubectl 1.30).

mod ask;
mod backend;
mod channels;
mod container;
mod discovery;
mod door;
mod forward;
mod larder;
mod listen;
mod log;
mod metrics;
mod openapi;
mod own;
mod peer;
mod proto;
mod read;
mod reply;
mod requests;
mod review;
mod route;
mod scrape;
mod serve;
mod talk;
mod tunnel;
mod upgrade;
mod watch;
mod write;

pub use backend::{Backend, Hand, History, Later, Live, Talk};
pub(crate) use larder::{BLOBS, IMAGES};
pub use listen::Server;
pub use peer::Peer;
pub use scrape::Scrape;
pub use serve::{Api, Limits};
