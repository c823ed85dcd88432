//! A registry on a host's loopback: Debian's docker-registry.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::time::Duration;

use base64::Engine as _;
use serde_json::json;

use super::host::{Host, may_run};

/// Who may use a locked registry. The letters are chosen: in base64 they give `+` and `/`.
pub(crate) const USER: &str = "team";
/// See [`USER`].
pub(crate) const PASSWORD: &str = "s3cret?~>>??";
/// bcrypt of [`PASSWORD`]; docker-registry takes nothing else.
const HTPASSWD: &str = "team:$2b$04$Ta9L.KCY3s/qkRr126QtdO.VoZbdLvXacKLDscrteK/SYkx/H33Eu\n";

/// A registry. It ends when it is dropped, or with its host.
pub(crate) struct Registry<'a> {
    host: &'a Host,
    process: Child,
    /// Where Docker finds it: `127.0.0.1:<port>`.
    pub(crate) address: String,
    is_locked: bool,
}

impl<'a> Registry<'a> {
    /// Starts a registry that wants a password, or none. None where this machine has no registry.
    pub(crate) fn start(host: &'a Host, port: u16, is_locked: bool) -> Option<Self> {
        if !may_run(&["docker-registry"]) {
            return None;
        }
        let dir = host.dir().join(format!("registry-{port}"));
        std::fs::create_dir_all(&dir).expect("made");
        std::fs::write(dir.join("htpasswd"), HTPASSWD).expect("written");
        let config = json!({
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.join("data")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
            "auth": if is_locked {
                json!({"htpasswd": {"realm": "lab", "path": dir.join("htpasswd")}})
            } else {
                json!({})
            },
        });
        let config_file = dir.join("config.yml");
        std::fs::write(&config_file, config.to_string()).expect("written");
        let mut command = host.command("docker-registry");
        command.arg("serve").arg(&config_file);
        let process = host.spawn(&format!("registry-{port}.log"), &mut command);
        let registry = Self { host, process, address: format!("127.0.0.1:{port}"), is_locked };
        let address = registry.address.clone();
        for _ in 0..200 {
            let is_up = host.inside(|| std::net::TcpStream::connect(&address).is_ok());
            if is_up {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the registry does not answer");
    }

    /// Opens a second, narrow way to this registry, of so many bytes a second; its address. Its
    /// threads end with the test process.
    pub(crate) fn narrow_way(&self, port: u16, bytes_per_s: u32) -> String {
        let namespace = File::open(self.host.netns()).expect("the namespace is there");
        let (address, target) = (format!("127.0.0.1:{port}"), self.address.clone());
        let listens = address.clone();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("the namespace can be entered");
            let listener = TcpListener::bind(&listens).expect("the port is free");
            tell.send(()).expect("the test waits");
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let ends = (client.try_clone(), server.try_clone());
                let (Ok(to_client), Ok(to_server)) = ends else { continue };
                std::thread::spawn(move || trickle(client, to_server, u32::MAX));
                std::thread::spawn(move || trickle(server, to_client, bytes_per_s));
            }
        });
        told.recv().expect("it listens");
        address
    }

    /// Pushes an image of the host under this registry's `name`, and forgets it on the host. Returns
    /// its digest.
    pub(crate) fn push(&self, image: &str, name: &str, tag: &str) -> String {
        let repository = format!("{}/{name}", self.address);
        let mut plain = self.host.plain();
        let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
        plain.post(&path, &json!(null)).expect("answers").expect(201);
        let auth = if self.is_locked {
            json!({"username": USER, "password": PASSWORD, "serveraddress": self.address})
        } else {
            json!({})
        };
        let auth = base64::engine::general_purpose::URL_SAFE.encode(auth.to_string());
        let headers = [("X-Registry-Auth", auth)];
        let path = format!("/images/{repository}/push?tag={tag}");
        let pushed = plain.send("POST", &path, &headers, b"").expect("answers").expect(200);
        assert!(!pushed.text().contains("errorDetail"), "{}", pushed.text());
        let text = pushed.text();
        let digest = text
            .split("digest: ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("no digest in {text}"));
        let path = format!("/images/{repository}:{tag}");
        plain.delete(&path).expect("answers").expect(200);
        digest.to_owned()
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Passes on what comes, no faster than this.
fn trickle(mut from: TcpStream, mut to: TcpStream, bytes_per_s: u32) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        let count = u32::try_from(count).unwrap_or_default();
        std::thread::sleep(Duration::from_secs(1) * count / bytes_per_s);
    }
    let _ = to.shutdown(Shutdown::Write);
}
