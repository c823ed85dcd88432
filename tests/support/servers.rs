//! Real Git servers, each with keys and configuration of its own, gone with their owner. They listen
//! on loopback, or on another address of the namespace of the thread that starts them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use super::{must_run, scratch, skip};

/// Whether the servers are installed.
pub(crate) fn have_servers(test: &str) -> bool {
    ["/usr/sbin/sshd", "/usr/sbin/nginx", "/usr/sbin/fcgiwrap"]
        .iter()
        .all(|program| Path::new(program).exists() || skip(test, &format!("{program} is missing")))
}

/// A process that ends with its owner.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self(child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Servers that fork end their children on TERM; KILL follows for those that don't end.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..50 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where servers listen that only their own machine asks.
const LOOPBACK: &str = "127.0.0.1";

pub(crate) fn free_port() -> u16 {
    free_port_of(LOOPBACK)
}

fn free_port_of(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn await_port(address: &str, port: u16) {
    for _ in 0..250 {
        if TcpStream::connect((address, port)).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nothing answers on {address}:{port}");
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("writes");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("sets the mode");
}

/// `git daemon`: anybody may read and write.
pub(crate) struct GitDaemon {
    _daemon: Daemon,
    pub(crate) port: u16,
}

impl GitDaemon {
    pub(crate) fn start(root: &Path) -> Self {
        let port = free_port();
        let daemon = Daemon::start(
            Command::new("/usr/lib/git-core/git-daemon")
                .args(["--reuseaddr", "--listen=127.0.0.1", "--export-all"])
                .args(["--enable=receive-pack", "--informative-errors"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", root.display()))
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_GLOBAL", "/dev/null"),
        );
        await_port(LOOPBACK, port);
        Self { _daemon: daemon, port }
    }

    pub(crate) fn url(&self, repo: &str) -> String {
        format!("git://127.0.0.1:{}/{repo}", self.port)
    }
}

/// OpenSSH, with host keys of two types and one client key.
pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    daemon: Option<Daemon>,
    address: String,
    pub(crate) port: u16,
    user: String,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::start_at(LOOPBACK)
    }

    /// Starts one on this address, in the namespace of this thread.
    pub(crate) fn start_at(address: &str) -> Self {
        Self::make(address, "ForceCommand serve")
    }

    /// Starts one where each key has what `authorized_keys` says, and clients may set every variable.
    pub(crate) fn start_by_keys() -> Self {
        Self::make(LOOPBACK, "AcceptEnv *")
    }

    fn make(address: &str, more: &str) -> Self {
        let dir = scratch("wgit-sshd-");
        let port = free_port_of(address);
        let at = |name: &str| dir.path().join(name).display().to_string();
        for (kind, name) in [
            ("ed25519", "host_ed25519"),
            ("rsa", "host_rsa"),
            ("ed25519", "client"),
            ("ed25519", "stranger"),
        ] {
            must_run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", &at(name)]);
        }
        must_run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "open sesame", "-f", &at("locked")]);
        let keys: String = ["client.pub", "locked.pub"]
            .iter()
            .map(|name| fs::read_to_string(at(name)).expect("a key"))
            .collect();
        write(&dir.path().join("authorized_keys"), &keys, 0o600);
        // The account's own shell files may cost more than git.
        write(
            &dir.path().join("serve"),
            "#!/bin/sh\nunset BASH_ENV ENV\nexport GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null\nexec git-shell -c \"$SSH_ORIGINAL_COMMAND\"\n",
            0o755,
        );
        let config = format!(
            "ListenAddress {address}\nPort {port}\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             MaxStartups 200\nMaxSessions 200\n{}\n",
            at("host_ed25519"),
            at("host_rsa"),
            at("authorized_keys"),
            at("pid"),
            more.replace("serve", &at("serve")),
        );
        write(&dir.path().join("config"), &config, 0o600);
        // Debian's sshd wants this directory, which the package makes at boot.
        let _ = fs::create_dir_all("/run/sshd");
        let user = must_run("id", &["-un"]);
        let mut server = Self { user, dir, daemon: None, address: address.to_owned(), port };
        server.run();
        server
    }

    /// Starts it again where it was, in the namespace of this thread.
    pub(crate) fn run(&mut self) {
        let config = self.file("config");
        let mut sshd = Command::new("/usr/sbin/sshd");
        self.daemon = Some(Daemon::start(sshd.args(["-D", "-e", "-f"]).arg(config)));
        await_port(&self.address, self.port);
    }

    /// Stops it; keys and port are kept.
    pub(crate) fn stop(&mut self) {
        self.daemon = None;
    }

    pub(crate) fn url(&self, repo: &Path) -> String {
        format!("ssh://{}@{}:{}{}", self.user, self.address, self.port, repo.display())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A line for known_hosts with one of the server's keys.
    pub(crate) fn known_host(&self, key: &str) -> String {
        let key = fs::read_to_string(self.file(&format!("{key}.pub"))).expect("a key");
        format!("[{}]:{} {key}", self.address, self.port)
    }

    /// Writes a known_hosts file.
    pub(crate) fn known_hosts(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        write(&path, text, 0o600);
        path
    }
}

/// `git http-backend` behind nginx and fcgiwrap: http and https, with and without a password.
pub(crate) struct Httpd {
    dir: tempfile::TempDir,
    nginx: Option<Daemon>,
    _fcgi: Daemon,
    address: String,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
}

impl Httpd {
    pub(crate) fn start(root: &Path) -> Self {
        Self::start_at(LOOPBACK, root)
    }

    /// Starts one on this address, in the namespace of this thread.
    pub(crate) fn start_at(address: &str, root: &Path) -> Self {
        let dir = scratch("wgit-httpd-");
        let (port, tls_port) = (free_port_of(address), free_port_of(address));
        let at = |name: &str| dir.path().join(name).display().to_string();
        let hash = must_run("openssl", &["passwd", "-apr1", "s3cret"]);
        write(&dir.path().join("htpasswd"), &format!("fleet:{hash}\n"), 0o644);
        write(&dir.path().join("password"), "fleet:s3cret\n", 0o600);
        write(&dir.path().join("wrong"), "fleet:hunter2\n", 0o600);
        must_run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN={address}"),
                "-addext",
                &format!("subjectAltName=IP:{address}"),
                "-keyout",
                &at("tls.key"),
                "-out",
                &at("tls.crt"),
            ],
        );
        let backend = format!(
            "fastcgi_pass unix:{};\n\
             fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;\n\
             fastcgi_param GIT_HTTP_EXPORT_ALL 1;\nfastcgi_param GIT_PROJECT_ROOT {};\n\
             fastcgi_param GIT_CONFIG_NOSYSTEM 1;\nfastcgi_param GIT_CONFIG_GLOBAL /dev/null;\n\
             fastcgi_param REMOTE_USER $remote_user;\nfastcgi_param REQUEST_METHOD $request_method;\n\
             fastcgi_param QUERY_STRING $query_string;\nfastcgi_param CONTENT_TYPE $content_type;\n\
             fastcgi_param CONTENT_LENGTH $content_length;\nfastcgi_param PATH_INFO $1;\n\
             fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;\n\
             fastcgi_buffering off;\n",
            at("fcgi.sock"),
            root.display(),
        );
        let config = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {pid};\nerror_log {log};\n\
             events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n\
             client_max_body_size 0;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\n\
             fastcgi_temp_path {dir}/f;\nuwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
             server {{\nlisten {address}:{port};\nlisten {address}:{tls_port} ssl;\n\
             ssl_certificate {crt};\nssl_certificate_key {key};\n\
             location ~ ^/open(/.*)$ {{\n{backend}}}\n\
             location ~ ^/git(/.*)$ {{\nauth_basic fleet;\nauth_basic_user_file {users};\n{backend}}}\n\
             location /moved/ {{ rewrite ^/moved/(.*)$ /git/$1 redirect; }}\n\
             location /away/ {{ rewrite ^/away/(.*)$ http://localhost:{port}/git/$1 redirect; }}\n\
             location /denied/ {{ return 403; }}\n\
             location /broken/ {{ return 503; }}\n\
             location / {{ return 404; }}\n}}\n}}\n",
            pid = at("pid"),
            log = at("log"),
            dir = dir.path().display(),
            crt = at("tls.crt"),
            key = at("tls.key"),
            users = at("htpasswd"),
        );
        write(&dir.path().join("nginx.conf"), &config, 0o644);
        let fcgi = Daemon::start(
            Command::new("/usr/sbin/fcgiwrap")
                .args(["-c", "16", "-s"])
                .arg(format!("unix:{}", at("fcgi.sock"))),
        );
        for _ in 0..250 {
            if dir.path().join("fcgi.sock").exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let address = address.to_owned();
        let mut server = Self { dir, nginx: None, _fcgi: fcgi, address, port, tls_port };
        server.run();
        server
    }

    /// Starts it again where it was, in the namespace of this thread.
    pub(crate) fn run(&mut self) {
        let config = self.file("nginx.conf");
        let mut nginx = Command::new("/usr/sbin/nginx");
        self.nginx = Some(Daemon::start(nginx.arg("-c").arg(config)));
        await_port(&self.address, self.port);
        await_port(&self.address, self.tls_port);
    }

    /// Stops it; keys, passwords and ports are kept.
    pub(crate) fn stop(&mut self) {
        self.nginx = None;
    }

    /// An address; `place` is `open`, `git` (with a password), `moved`, `away`
    /// (moved to another host), `denied`, `broken`.
    pub(crate) fn url(&self, place: &str, repo: &str) -> String {
        format!("http://{}:{}/{place}/{repo}", self.address, self.port)
    }

    pub(crate) fn tls_url(&self, place: &str, repo: &str) -> String {
        format!("https://{}:{}/{place}/{repo}", self.address, self.tls_port)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Accepts connections and never says a word.
pub(crate) struct Silent {
    listener: TcpListener,
}

impl Silent {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let other = listener.try_clone().expect("clones");
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in other.incoming() {
                let Ok(stream) = stream else { return };
                held.push(stream);
            }
        });
        Self { listener }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }
}

/// A wire between a client and a server that can be cut.
pub(crate) struct Wire {
    port: u16,
    cut: Arc<AtomicU8>,
    carried: Arc<AtomicUsize>,
}

/// How a wire is cut.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// It is whole.
    None = 0,
    /// What the server answers to a push is lost, and the connection with it.
    Answer = 1,
    /// The same, and nobody can connect from then on.
    AnswerAndAll = 2,
    /// Nobody can connect.
    All = 3,
}

impl Wire {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cut = Arc::new(AtomicU8::new(0));
        let state = Arc::clone(&cut);
        let carried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&carried);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if state.load(Ordering::SeqCst) == Cut::All as u8 {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                join(&client, &server, &state, &count);
            }
        });
        Self { port, cut, carried }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes went over it, both ways.
    #[allow(dead_code, reason = "a benchmark counts them")]
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst) as u64
    }

    pub(crate) fn cut(&self, how: Cut) {
        self.cut.store(how as u8, Ordering::SeqCst);
    }
}

/// A request for refs is short; what follows it in a push is the push.
const REQUEST_BYTES: usize = 200;

fn join(client: &TcpStream, server: &TcpStream, cut: &Arc<AtomicU8>, carried: &Arc<AtomicUsize>) {
    let (there, back) = (Arc::clone(carried), Arc::clone(carried));
    let asked = Arc::new(AtomicUsize::new(0));
    let clone = |stream: &TcpStream| stream.try_clone().expect("clones");
    let (mut from, mut to, count) = (clone(client), clone(server), Arc::clone(&asked));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            count.fetch_add(n, Ordering::SeqCst);
            there.fetch_add(n, Ordering::SeqCst);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to, cut) = (clone(server), clone(client), Arc::clone(cut));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            back.fetch_add(n, Ordering::SeqCst);
            let how = cut.load(Ordering::SeqCst);
            if asked.load(Ordering::SeqCst) > REQUEST_BYTES && how != 0 {
                if how == Cut::AnswerAndAll as u8 {
                    cut.store(Cut::All as u8, Ordering::SeqCst);
                }
                break;
            }
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
