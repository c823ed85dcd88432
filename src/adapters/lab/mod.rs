//! A fleet on one machine, for trying out and for tests: what minikube is to Kubernetes.
//!
//! Each node is a network namespace with a Docker and an agent of its own; they are joined by a
//! bridge in a namespace that holds nothing else. The machine itself gets one link, so that a
//! browser on it reaches the nodes; its packet filter is never touched.
//!
//! ```text
//!   machine ── lab-<name> ──┐ (10.99.0.1)
//!                           ├── bridge, in namespace wdl-<name>-net (10.99.0.2): Git server
//!   wdl-<name>-n1 ── eth0 ──┤ (10.99.0.11)      dockerd, windlass agent
//!   wdl-<name>-n2 ── eth0 ──┘ (10.99.0.12)      dockerd, windlass agent
//! ```
//!
//! With several links there are as many bridges, each a network of its own (10.100.0.0/24, …), and the
//! nodes are dealt out to them in turn. The namespace that holds the bridges routes between them, as
//! a router between two racks does: no node of one link has a neighbour on another.

mod host;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

pub use host::{CLEAN, Host, LabFault, MARK, run};

/// Where labs stand. On disk: Docker's images and layers go there.
pub const LABS: &str = "/var/tmp/windlass-lab";
/// The first machine of a network is the one that people sit at; nodes come behind these.
pub const FIRST_NODE: u8 = 11;
/// The most links of one lab: beyond 10.102.x.0/24 others' networks may begin.
pub const LINKS_MAX: u8 = 4;
/// The most nodes of one lab; each has a Docker, which takes some 125 MB.
pub const NODES_MAX: u8 = 50;
/// The longest name of a lab: its link on the machine is called after it, and a link's name has at
/// most 15 characters.
const NAME_LEN_MAX: usize = 11;

/// What a lab is made of; kept in `lab.json` in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lab {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// The third number of its network, 10.99.x.0/24.
    pub network: u8,
    /// Over how many links its nodes are spread; the second has 10.100.x.0/24, and so on.
    #[serde(default = "one")]
    pub links: u8,
    /// Its nodes by name, with the last number of their address.
    pub nodes: BTreeMap<String, u8>,
    /// The program its agents run.
    pub program: PathBuf,
    /// The desired repository.
    pub desired: String,
    /// The branch.
    pub branch: String,
    /// The directory with the manifests.
    pub directory: String,
    /// The state store; each node's own where absent.
    #[serde(default)]
    pub state: Option<String>,
    /// Repositories of this machine that the lab's Git server serves; with none there is no server.
    #[serde(default)]
    pub served: Vec<PathBuf>,
    /// Settings of its agents, laid over the lab's own: the path of a field in agent.yaml, and its
    /// value.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

fn one() -> u8 {
    1
}

/// One step of making or ending a lab, for a progress bar.
pub type Progress<'p> = &'p mut dyn FnMut(&str);

impl Lab {
    /// The directory of a lab of that name.
    pub fn dir_of(name: &str) -> PathBuf {
        Path::new(LABS).join(name)
    }

    /// Reads a lab that is there.
    pub fn open(name: &str) -> Result<Self, LabFault> {
        let path = Self::dir_of(name).join("lab.json");
        let text = fs::read_to_string(&path).map_err(|_| {
            LabFault::new(format!("lab {name}"), "there is none; `windlass lab up` makes one")
        })?;
        serde_json::from_str(&text)
            .map_err(|error| LabFault::new(path.display().to_string(), error))
    }

    /// Says what is wrong with a lab's name, or nothing.
    pub fn name_complaint(name: &str) -> Option<String> {
        use crate::kinds::name::NameRule;
        NameRule::Label.complaint(name).or_else(|| {
            (name.len() > NAME_LEN_MAX)
                .then(|| format!("must be no more than {NAME_LEN_MAX} characters"))
        })
    }

    /// Writes down what the lab is made of.
    pub fn save(&self) -> Result<(), LabFault> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(self.dir.join("lab.json"), text))
            .map_err(|error| LabFault::new(format!("writing {}", self.dir.display()), error))
    }

    /// A node's host.
    pub fn host(&self, node: &str) -> Host {
        Host::new(&format!("wdl-{}-{node}", self.name), &self.dir.join(node))
    }

    /// A node's address.
    pub fn address(&self, node: &str) -> Option<Ipv4Addr> {
        self.nodes.get(node).map(|last| self.address_on(self.link_of(*last), *last))
    }

    /// An address on a link.
    fn address_on(&self, link: u8, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99 + link, self.network, last)
    }

    /// The link of the node whose address ends so.
    fn link_of(&self, last: u8) -> u8 {
        last.saturating_sub(FIRST_NODE) % self.links.max(1)
    }

    /// The socket of a node's agent.
    pub fn agent_socket(&self, node: &str) -> PathBuf {
        self.host(node).run_dir().join("agent.sock")
    }

    fn switch(&self) -> String {
        format!("wdl-{}-net", self.name)
    }

    fn link(&self) -> String {
        format!("lab-{}", self.name)
    }

    /// Makes the bridges, and the machine's link to the first, where they are not there already.
    pub fn make_network(&self) -> Result<(), LabFault> {
        let (switch, link) = (self.switch(), self.link());
        let ip = |args: &[&str]| run(Command::new("ip").args(args));
        if !Path::new("/run/netns").join(&switch).exists() {
            ip(&["netns", "add", &switch])?;
            for number in 0..self.links {
                let bridge = format!("br{number}");
                // An address of its own: by default a bridge has the lowest of its ports', and would
                // change it, and be lost to its neighbours, when that node is switched off.
                let mac = format!("02:57:44:4c:{:02x}:{:02x}", self.network, number + 1);
                self.in_switch(&["link", "add", &bridge, "address", &mac, "type", "bridge"])?;
                self.in_switch(&["link", "set", &bridge, "up"])?;
            }
        }
        for number in 0..self.links {
            let address = format!("{}/24", self.router_address(number));
            self.in_switch(&["addr", "replace", &address, "dev", &format!("br{number}")])?;
        }
        if self.links > 1 {
            let namespace = format!("--net=/run/netns/{switch}");
            run(Command::new("nsenter").args([
                &namespace,
                "sysctl",
                "-qw",
                "net.ipv4.ip_forward=1",
            ]))?;
        }
        if !Path::new("/sys/class/net").join(&link).exists() {
            let peer = ["type", "veth", "peer", "name", "machine", "netns", &switch];
            ip(&[["link", "add", &link].as_slice(), peer.as_slice()].concat())?;
            self.in_switch(&["link", "set", "machine", "master", "br0"])?;
            self.in_switch(&["link", "set", "machine", "up"])?;
            let address = format!("{}/24", Ipv4Addr::new(10, 99, self.network, 1));
            ip(&["addr", "add", &address, "dev", &link])?;
            ip(&["link", "set", &link, "up"])?;
            // They go with the link.
            for number in 1..self.links {
                let network = format!("{}/24", self.address_on(number, 0));
                let router = self.router_address(0).to_string();
                ip(&["route", "add", &network, "via", &router, "dev", &link])?;
            }
        }
        Ok(())
    }

    /// Where a link leads to the others. On the first it is the Git server's address too.
    fn router_address(&self, link: u8) -> Ipv4Addr {
        self.address_on(link, 2)
    }

    fn in_switch(&self, args: &[&str]) -> Result<String, LabFault> {
        let namespace = format!("--net=/run/netns/{}", self.switch());
        run(Command::new("nsenter").args([&namespace, "ip"]).args(args))
    }

    /// Makes a node's host, with its cable in the switch, if it is not there already.
    pub fn make_host(&self, node: &str) -> Result<Host, LabFault> {
        let host = self.host(node);
        host.make()?;
        self.plug_in(node, &host)?;
        Ok(host)
    }

    /// Makes a node's host and starts its Docker, if it does not run already.
    pub fn start_docker(&self, node: &str, progress: Progress<'_>) -> Result<(), LabFault> {
        if !self.host(node).netns().exists() {
            progress(&format!("{node}: network"));
        }
        let host = self.make_host(node)?;
        if !host.docker_answers() {
            progress(&format!("{node}: Docker"));
            host.start_docker()?;
        }
        Ok(())
    }

    /// Starts whatever of a node does not run already.
    pub fn start_node(&self, node: &str, progress: Progress<'_>) -> Result<(), LabFault> {
        self.start_docker(node, progress)?;
        if !self.agent_answers(node) {
            progress(&format!("{node}: agent"));
            self.start_agent(node)?;
        }
        Ok(())
    }

    /// Gives a node its cable and its address.
    fn plug_in(&self, node: &str, host: &Host) -> Result<(), LabFault> {
        let Some(last) = self.nodes.get(node) else {
            return Err(LabFault::new(format!("node {node}"), "is not in this lab"));
        };
        let own = self.link_of(*last);
        let address = self.address_on(own, *last);
        let exists = run(host.command("ip").args(["link", "show", "eth0"])).is_ok();
        if exists {
            return Ok(());
        }
        let switch = self.switch();
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", host.name()];
        self.in_switch(&[["link", "add", node].as_slice(), peer.as_slice()].concat())
            .map_err(|fault| LabFault::new(format!("cable of {node} in {switch}"), fault))?;
        self.in_switch(&["link", "set", node, "master", &format!("br{own}")])?;
        self.in_switch(&["link", "set", node, "up"])?;
        run(host.command("ip").args(["addr", "add", &format!("{address}/24"), "dev", "eth0"]))?;
        run(host.command("ip").args(["link", "set", "eth0", "up"]))?;
        for other in (0..self.links).filter(|other| *other != own) {
            let network = format!("{}/24", self.address_on(other, 0));
            let router = self.router_address(own).to_string();
            run(host.command("ip").args(["route", "add", &network, "via", &router]))?;
        }
        Ok(())
    }

    /// Starts a node's agent.
    pub fn start_agent(&self, node: &str) -> Result<std::process::Child, LabFault> {
        let host = self.host(node);
        let config = host.dir().join("agent.yaml");
        let text = self.agent_config(node, &host);
        fs::write(&config, text)
            .map_err(|error| LabFault::new(format!("writing {}", config.display()), error))?;
        let mut command = host.command(&self.program);
        command.args(["agent", "--config"]).arg(&config);
        host.spawn("agent.log", &mut command)
    }

    fn agent_config(&self, node: &str, host: &Host) -> String {
        let path = |path: PathBuf| path.display().to_string();
        // A path is watched; a server must be asked, and here it is no burden.
        let poll = if self.has_server() { "2s" } else { "10s" };
        let mut config = serde_json::json!({
            "node": {"name": node},
            "desired": {
                "url": self.desired,
                "branch": self.branch,
                "directory": self.directory,
                "poll": poll,
            },
            "docker": {"socket": path(host.socket())},
            "dataDir": path(host.dir().join("windlass")),
            "runDir": path(host.run_dir()),
            "api": {"socket": path(self.agent_socket(node))},
        });
        if let Some(state) = &self.state {
            config["state"] = serde_json::json!({"url": state});
        }
        for (path, value) in &self.settings {
            let mut at = &mut config;
            for field in path.split('.') {
                // Whoever goes below a value that is no mapping replaces it.
                if !at.is_object() {
                    *at = serde_json::json!({});
                }
                at = &mut at[field];
            }
            *at = serde_yaml::from_str(value).unwrap_or_else(|_| value.as_str().into());
        }
        serde_yaml::to_string(&config).unwrap_or_default()
    }

    /// Whether a node's agent answers on its socket.
    pub fn agent_answers(&self, node: &str) -> bool {
        std::os::unix::net::UnixStream::connect(self.agent_socket(node)).is_ok()
    }

    /// Takes the power from a node: everything on it ends at once; its disk stays.
    pub fn stop_node(&self, node: &str) -> Result<(), LabFault> {
        self.host(node).power_off()?;
        // The cable's end in the switch goes with the namespace.
        Ok(())
    }

    /// Pulls a node's cable, or plugs it in again.
    pub fn set_cable(&self, node: &str, plugged: bool) -> Result<(), LabFault> {
        self.in_switch(&["link", "set", node, if plugged { "up" } else { "down" }]).map(|_| ())
    }

    /// Loads an image archive into a node's Docker.
    pub fn load_image(&self, node: &str, archive: &Path) -> Result<(), LabFault> {
        let docker = format!("unix://{}", self.host(node).socket().display());
        run(Command::new("docker").args(["-H", &docker, "load", "-q", "-i"]).arg(archive))
            .map(|_| ())
    }

    /// Leaves nothing of the lab: no process, namespace, link, mount, file.
    pub fn down(&self, progress: Progress<'_>) -> Result<(), LabFault> {
        let mut faults = Vec::new();
        for node in self.nodes.keys() {
            progress(&format!("{node}: ending"));
            faults.extend(self.host(node).destroy().err());
        }
        progress("network: ending");
        faults.extend(self.stop_server().err());
        let link = self.link();
        if Path::new("/sys/class/net").join(&link).exists() {
            faults.extend(run(Command::new("ip").args(["link", "delete", &link])).err());
        }
        let switch = self.switch();
        if Path::new("/run/netns").join(&switch).exists() {
            faults.extend(run(Command::new("ip").args(["netns", "delete", &switch])).err());
        }
        if faults.is_empty() {
            fs::remove_dir_all(&self.dir).map_err(|error| {
                LabFault::new(format!("removing {}", self.dir.display()), error)
            })?;
            // Another lab may stand beside it.
            let _ = fs::remove_dir(LABS);
            return Ok(());
        }
        let why: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Err(LabFault::new(format!("lab {}", self.name), why.join("; ")))
    }
}
