//! `windlass agent`: this machine's agent, until it is told to stop. Pods go on without it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::adapters::api::{Api, Limits, Live, Peer, Scrape, Server};
use crate::adapters::bundle::watch::Post;
use crate::adapters::dns::Dns;
use crate::adapters::docker::{Docker, Options};
use crate::adapters::engine::{Engine, Question};
use crate::adapters::files::Files;
use crate::adapters::git::watch::Watch;
use crate::adapters::git::{
    Notes, NotesConfig, Source, SourceConfig, Store, StoreConfig, Timeouts, local_path,
};
use crate::adapters::hints::Hints;
use crate::adapters::home::Home;
use crate::adapters::hooks::Hooks;
use crate::adapters::identity::Identity;
use crate::adapters::images::peers::Peers;
use crate::adapters::images::{self, Images};
use crate::adapters::iptables::Iptables;
use crate::adapters::line::Lines;
use crate::adapters::links::Links;
use crate::adapters::probe::Prober;
use crate::adapters::world::World;
use crate::adapters::{bundle, clock};
use crate::agent::Agent;
use crate::agent::event::Hint;
use crate::kinds::node::Contact;
use crate::ports::links::{Answer as LinksAnswer, Call as LinksCall};
use crate::ports::runtime::{Pulls, RuntimeHint};
use crate::ports::store::{Answer as StoreAnswer, Call as StoreCall};
use crate::ports::{Answer, Call, Fault};
use crate::view::picture::Picture;

use super::config::{self, Loaded};

/// Hints that wait for the agent. Each only says "look", so one that finds no room is no loss.
const HINTS_MAX: usize = 1000;
/// Questions that wait for the agent.
const QUESTIONS_MAX: usize = 100;

/// How long the socket's server may take to end.
const API_END_MAX: Duration = Duration::from_secs(2);

/// Why the agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::ConfigFault),
    /// The machine.
    #[error("{0}")]
    Machine(#[from] Fault),
    /// The operating system.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What it said.
        error: std::io::Error,
    },
}

/// Runs the agent.
pub fn run(path: &Path) -> Result<(), StartFault> {
    let system = |what| move |error| StartFault::System { what, error };
    keep_memory().map_err(system(NO_DUMPS))?;
    let mut loaded = config::load(path, &config::hostname(), &random())?;
    super::log::init(&loaded.file.log);
    let home = Home::take(&loaded.file.data_dir, &random())?;
    let agent = &mut loaded.agent;
    agent.incarnation = format!("{}-{}", home.installation, agent.incarnation);
    agent.installation.clone_from(&home.installation);
    let identity = Identity::open(&loaded.file.data_dir)?;
    // On this machine alone there is nobody to speak to.
    let hint_port = Some(loaded.file.network.hint_port)
        .filter(|port| *port > 0 && !config::is_path(&loaded.state_url));
    agent.contact = Some(Contact {
        key: identity.public(),
        life: agent.incarnation.clone(),
        hint_port,
        api_port: loaded.peer_port,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("the runtime can't be started"))?;
    runtime.block_on(serve(loaded, identity))
}

/// Keeps what is in memory, values of Secrets and keys among it, out of core dumps and from debuggers of
/// others. A limit on cores would not do: where the kernel hands them to a program (systemd-coredump),
/// it does not look at that (core(5)).
pub(super) fn keep_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// How it is said that memory can't be kept.
pub(super) const NO_DUMPS: &str = "core dumps can't be switched off";

/// Text unlike any other.
pub(super) fn random() -> String {
    let mut bytes = [0; 8];
    // Without randomness the time and the process id tell lives apart well enough.
    if getrandom::fill(&mut bytes).is_err() {
        let seed = clock::now().elapsed.since_boot().as_nanos() ^ u128::from(std::process::id());
        bytes.copy_from_slice(&seed.to_be_bytes()[8..]);
    }
    crate::kinds::digest::hex(&bytes)
}

async fn serve(mut loaded: Loaded, identity: Identity) -> Result<(), StartFault> {
    let (hints_in, hints) = mpsc::channel(HINTS_MAX);
    // Before anything else: an agent that runs already must not be joined by a second.
    let server = Server::bind(&loaded.file.api.socket)?;
    let (questions_in, questions) = mpsc::channel::<Question>(QUESTIONS_MAX);
    let scrape = match loaded.file.api.metrics {
        Some(address) => Some(Scrape::bind(address).await?),
        None => None,
    };
    let lines = Lines::new(&identity)?;
    let peer = match loaded.peer_port {
        Some(port) => Some(Peer::bind(port, lines.clone()).await?),
        None => None,
    };
    let spoken = speak(&mut loaded, identity, &hints_in).await;
    let world = Arc::new(world(&loaded, spoken)?);
    check_networks(&loaded, &world.links).await?;
    let bells = listen(&loaded, &world, &hints_in);
    take_bundles(&loaded, &world, &hints_in);
    let agent = Agent::new(loaded.agent.clone());
    let (pictures, looking) = watch::channel(Arc::new(agent.picture(&Pulls::new(), clock::now())));
    let (stop_in, stop) = oneshot::channel();
    tokio::spawn(stop_on_signal(stop_in));
    if loaded.peer_port.is_some() {
        world.images.join(Peers { lines: lines.clone(), pictures: looking.clone() });
    }
    let api = api(&loaded, &world, lines, questions_in, looking);
    let (end_in, end) = oneshot::channel::<()>();
    // Either word ends it: there is nothing to tell but that it is over.
    let scraping = scrape.map(|scrape| tokio::spawn(scrape.run(api.clone())));
    let answering = peer.map(|peer| tokio::spawn(peer.run(api.clone())));
    let serving = tokio::spawn(server.run(api, async { end.await.unwrap_or_default() }));
    let mut notify = super::notify::Notify::new();
    tracing::info!(node = %loaded.agent.node, desired = loaded.file.desired.url, "agent begins");
    let pulse = Box::new(move |picture: &Picture| notify.pulse(picture));
    Engine { world, hints, questions, pictures, stop, pulse }.run(agent).await;
    drop((bells, end_in));
    for task in [scraping, answering].into_iter().flatten() {
        task.abort();
    }
    if tokio::time::timeout(API_END_MAX, serving).await.is_err() {
        tracing::warn!("the socket's server does not end; leaving it behind");
    }
    tracing::info!("agent ends; pods go on without it");
    Ok(())
}

/// What answers on the socket.
fn api(
    loaded: &Loaded,
    world: &Arc<World>,
    lines: Lines,
    questions: mpsc::Sender<Question>,
    pictures: watch::Receiver<Arc<Picture>>,
) -> Arc<Api> {
    let store = world.clone();
    let live = Live {
        questions,
        docker: world.docker.clone(),
        images: world.images.clone(),
        lines,
        history: Arc::new(move |limit| {
            let world = store.clone();
            Box::pin(async move {
                let call = Call::Store(StoreCall::History { limit });
                match world.perform(call).await? {
                    Answer::Store(StoreAnswer::History(decisions)) => Ok(decisions),
                    _ => Err(Fault::stalled("the state store answered another question")),
                }
            })
        }),
    };
    let desired = &loaded.file.desired;
    let mut repository =
        format!("{}, branch {}", config::without_secrets(&desired.url), desired.branch);
    if !desired.directory.is_empty() {
        repository = format!("{repository}, directory {}", desired.directory);
    }
    // An earlier life has given a version a millisecond at most: no object changes faster for long.
    let first = u64::try_from(clock::now().wall.millis()).unwrap_or(1).max(1);
    Api::new(Arc::new(live), pictures, &repository, first, Limits::default())
}

/// Brings up everything through which the agent touches the world.
fn world(loaded: &Loaded, hints: Hints) -> Result<World, Fault> {
    let file = &loaded.file;
    let source = SourceConfig {
        branch: file.desired.branch.clone(),
        directory: file.desired.directory.clone(),
        credentials: loaded.credentials.clone(),
        tags: loaded.agent.trust.is_some(),
        ..SourceConfig::new(&file.desired.url, file.data_dir.join("desired.git"))
    };
    let node = loaded.agent.node.clone();
    let state = StoreConfig {
        credentials: loaded.state_credentials.clone(),
        ..StoreConfig::new(&loaded.state_url, node.clone(), file.data_dir.join("store"))
    };
    let notes = loaded.notes.as_ref().map(|(url, credentials)| {
        Notes::open(NotesConfig {
            url: url.clone(),
            credentials: credentials.clone(),
            copy: file.data_dir.join("notes.git"),
            node: node.to_string(),
            timeouts: Timeouts::default(),
        })
    });
    let docker = Docker::connect(Options {
        socket: file.docker.socket.clone(),
        node,
        registry_config: file.docker.registry_config.clone(),
        digest_map: Some(file.data_dir.join("digests.json")),
    });
    let directory = file.images_dir();
    // People put archives there before there is one.
    std::fs::create_dir_all(&directory).map_err(|error| {
        Fault::stalled(format!("{}: {error} (images.path)", directory.display()))
    })?;
    let images = images::Options {
        directory,
        catalogue: file.data_dir.join("images.json"),
        digest_map: file.data_dir.join("digests.json"),
        brought: file.data_dir.join("brought.json"),
        named: file.data_dir.join("named.json"),
        workshop: file.bundle_target(None).workshop,
        send_limit: loaded.send_limit,
    };
    Ok(World {
        notes: notes.transpose()?,
        hooks: Hooks(loaded.hooks.clone()),
        keys: file.secrets.keys.clone(),
        files: Files::open(loaded.agent.layout.clone())?,
        source: Source::open(source)?,
        store: Store::open(state)?,
        images: Images::open(docker.clone(), images),
        docker,
        filter: Iptables::new(loaded.filter),
        links: Links::default(),
        names: Dns::default(),
        prober: Prober::new()?,
        hints,
    })
}

/// Opens the way to other nodes. Where that fails, everything goes on more slowly.
async fn speak(loaded: &mut Loaded, identity: Identity, bell: &mpsc::Sender<Hint>) -> Hints {
    let agent = &mut loaded.agent;
    let Some(contact) = &mut agent.contact else { return Hints::none() };
    let Some(port) = contact.hint_port else { return Hints::none() };
    let (node, life) = (agent.node.clone(), contact.life.clone());
    match Hints::open(port, identity, node, life, bell.clone()).await {
        Ok(hints) => hints,
        Err(error) => {
            tracing::warn!(port, %error, "network.hintPort can't be had; changes reach this node more slowly");
            contact.hint_port = None;
            Hints::none()
        }
    }
}

/// Refuses to start where our networks are already somebody else's.
async fn check_networks(loaded: &Loaded, links: &Links) -> Result<(), StartFault> {
    let LinksAnswer::Survey(seen) = links.call(LinksCall::Survey).await? else { return Ok(()) };
    let complaints = config::overlaps(&loaded.agent.settings, &seen.routes);
    if complaints.is_empty() {
        return Ok(());
    }
    let path = "the configuration".to_owned();
    Err(config::ConfigFault { path, complaints }.into())
}

/// Listens for what shortens the next look: Docker's events, images that come, pushes to repositories
/// on this machine.
fn listen(loaded: &Loaded, world: &World, hints: &mpsc::Sender<Hint>) -> Vec<Watch> {
    let mut runtime = world.docker.watch();
    let runtime_hints = hints.clone();
    tokio::spawn(async move {
        while let Some(hint) = runtime.recv().await {
            let is_resync = hint == RuntimeHint::Resync;
            let hint = Hint::Runtime(hint);
            // A single change may be lost, the next listing finds it; "list again" may not.
            if is_resync {
                let _ = runtime_hints.send(hint).await;
            } else if runtime_hints.try_send(hint).is_err() {
                let _ = runtime_hints.send(Hint::Runtime(RuntimeHint::Resync)).await;
            }
        }
    });
    let mut images = world.images.watch();
    let image_hints = hints.clone();
    tokio::spawn(async move {
        while images.recv().await.is_some() {
            let _ = image_hints.send(Hint::Runtime(RuntimeHint::Images)).await;
        }
    });
    let repositories = [
        (loaded.file.desired.url.clone(), Hint::SourceMoved),
        (loaded.state_url.clone(), Hint::StoreMoved),
    ];
    let local = repositories.into_iter().filter(|(url, _)| config::is_path(url));
    local.map(|(url, hint)| ring(&url, hint, hints.clone())).collect()
}

/// Takes in what comes on a stick, where that is wished.
fn take_bundles(loaded: &Loaded, world: &World, hints: &mpsc::Sender<Hint>) {
    let file = loaded.file.clone();
    let Some(directory) = file.bundles.watch.clone() else { return };
    let post = Post { directory, signers: file.bundles.signers.clone() };
    let target = move || file.bundle_target(Some(file.landing()));
    let hints = hints.clone();
    let moved = move || {
        // Full: the agent has enough reasons to look already.
        let _ = hints.try_send(Hint::SourceMoved);
    };
    tokio::spawn(bundle::watch::watch(post, world.images.clone(), target, moved));
}

fn ring(url: &str, hint: Hint, hints: mpsc::Sender<Hint>) -> Watch {
    let path = local_path(url).unwrap_or_else(|| url.into());
    let (watch, mut bell) = Watch::start(&path);
    tokio::spawn(async move {
        while bell.recv().await.is_some() {
            // Full: the agent has enough reasons to look already.
            let _ = hints.try_send(hint.clone());
        }
    });
    watch
}

async fn stop_on_signal(stop: oneshot::Sender<()>) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without signals the agent can still be killed, which it survives just as well.
        tokio::time::sleep(Duration::MAX).await;
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    // The engine has ended already.
    let _ = stop.send(());
}
