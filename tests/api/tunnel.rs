//! Ports forwarded over one line: by hand, frame by frame, and by `windlass port-forward`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};
use tokio_tungstenite::tungstenite::Message;
use windlass::kinds::registry::Kind;

use super::server::{Served, serve, serve_with};
use super::talk::open;
use crate::cli::windlass;
use crate::support::servers::free_port;

/// Nothing takes longer.
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Something in a pod that listens: it says back what it is told, and, when that has ended, `bye`.
pub(super) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"bye");
            });
        }
    });
    address
}

/// Connections of this process with that port, at either end.
pub(super) fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let port = format!(":{port:04X} ");
    let established = table.lines().filter(|line| line.contains(&port) && line.contains(" 01 "));
    // While others come and go a line may be read twice, under another number.
    let ends = established.filter_map(|line| line.split_once(": ")?.1.split_once(" 01 "));
    ends.map(|(ends, _)| ends.to_owned()).collect::<BTreeSet<_>>().len()
}

#[track_caller]
pub(super) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let is_in_time = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        is_so()
    });
    assert!(is_in_time, "{what}");
}

fn path(served: &Served) -> String {
    let pod = served.named(Kind::Pod, "web-").name;
    format!("/api/v1/namespaces/shop/pods/{pod}/portforward")
}

/// SPDY by hand: its own bytes, so that both can't be wrong in the same way.
struct Hand {
    line: UnixStream,
    has_headers: bool,
}

/// What comes.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Reply(u32),
    Data(u32, Vec<u8>, bool),
    Reset(u32),
    Ping(u32),
    Farewell,
}

impl Hand {
    fn connect(served: &Served) -> Self {
        Self::ask(served).expect("there is room")
    }

    /// None if there is no room for one more.
    fn ask(served: &Served) -> Option<Self> {
        let mut line = UnixStream::connect(&served.socket).expect("connects");
        line.set_read_timeout(Some(WAIT_MAX)).expect("set");
        let path = path(served);
        write!(
            line,
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\
             Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
        )
        .expect("asks");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            line.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if head.starts_with("http/1.1 429 ") {
            return None;
        }
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("upgrade: spdy/3.1\r\n"), "{head}");
        assert!(head.contains("x-stream-protocol-version: portforward.k8s.io\r\n"), "{head}");
        Some(Self { line, has_headers: false })
    }

    fn control(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let frame = [&[0x80, 3, 0, kind, flags], &length[1..], payload].concat();
        self.line.write_all(&frame).expect("says");
    }

    /// SYN_STREAM, its headers in pieces that zlib need not compress.
    fn open(&mut self, stream: u32, kind: &str, port: u16, request: &str) {
        let mut plain = vec![0, 0, 0, 3];
        let pairs = [("streamtype", kind), ("port", &port.to_string()), ("requestid", request)];
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend([0, 0, 0, u8::try_from(text.len()).expect("short")]);
            plain.extend(text.as_bytes());
        }
        let length = u16::try_from(plain.len()).expect("short");
        let mut payload = [&stream.to_be_bytes()[..], &[0; 6]].concat();
        if !std::mem::replace(&mut self.has_headers, true) {
            payload.extend([0x78, 0x20, 0xe3, 0xc6, 0xa7, 0xc2]);
        }
        payload.push(0);
        payload.extend(length.to_le_bytes());
        payload.extend((!length).to_le_bytes());
        payload.extend(plain);
        payload.extend([0, 0, 0, 0xff, 0xff]);
        self.control(1, 0, &payload);
    }

    fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        let head = [&stream.to_be_bytes()[..], &[u8::from(ends)], &length[1..]].concat();
        self.line.write_all(&head).expect("says");
        self.line.write_all(bytes).expect("says");
    }

    fn hear(&mut self) -> Heard {
        let mut head = [0; 8];
        self.line.read_exact(&mut head).expect("goes on");
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four"));
        let length = number(&[0, head[5], head[6], head[7]]);
        let mut payload = vec![0; usize::try_from(length).expect("fits")];
        self.line.read_exact(&mut payload).expect("goes on");
        if head[0] & 0x80 == 0 {
            return Heard::Data(number(&head[..4]), payload, head[4] & 1 == 1);
        }
        assert_eq!(head[..3], [0x80, 3, 0]);
        match head[3] {
            2 => Heard::Reply(number(&payload[..4])),
            3 => Heard::Reset(number(&payload[..4])),
            6 => Heard::Ping(number(&payload[..4])),
            7 => Heard::Farewell,
            other => panic!("a frame of type {other}"),
        }
    }

    /// All that comes on two streams until both have ended.
    fn hear_both(&mut self, data: u32, errors: u32) -> (Vec<u8>, String) {
        let (mut said, mut complaint, mut ended) = (Vec::new(), Vec::new(), 0);
        while ended < 2 {
            match self.hear() {
                Heard::Data(stream, bytes, ends) => {
                    ended += usize::from(ends);
                    if stream == data {
                        said.extend(bytes);
                    } else {
                        assert_eq!(stream, errors);
                        complaint.extend(bytes);
                    }
                }
                Heard::Reply(stream) => assert!(stream == data || stream == errors),
                other => panic!("{other:?}"),
            }
        }
        (said, String::from_utf8(complaint).expect("text"))
    }
}

#[test]
fn a_connection_is_two_streams_and_each_side_may_end_first() {
    let served = serve();
    let port = echo().port();
    let mut hand = Hand::connect(&served);
    hand.open(1, "error", port, "0");
    hand.data(1, b"", true);
    hand.open(3, "data", port, "0");
    hand.data(3, b"hello", false);
    hand.data(3, b", pod", true);
    assert_eq!(hand.hear_both(3, 1), (b"hello, podbye".to_vec(), String::new()));
    wait("the connection ends", || connections(port) == 0);
    hand.control(6, 0, &[0, 0, 0, 9]);
    assert_eq!(hand.hear(), Heard::Ping(9));
    // The next one on the same line, its streams the other way round, beside settings and windows.
    hand.control(4, 0, &[0; 4]);
    hand.open(5, "data", port, "1");
    hand.control(9, 0, &[0, 0, 0, 5, 0, 0, 16, 0]);
    hand.open(7, "error", port, "1");
    hand.data(5, b"again", true);
    assert_eq!(hand.hear_both(5, 7).0, b"againbye");
    hand.control(7, 0, &[0; 8]);
    assert_eq!(hand.hear(), Heard::Farewell);
    assert_eq!(hand.line.read(&mut [0]).expect("reads"), 0, "the line ends");
}

#[test]
fn where_nobody_listens_is_said_as_kubelet_says_it() {
    let served = serve();
    let port = free_port();
    let mut hand = Hand::connect(&served);
    hand.open(1, "error", port, "0");
    hand.open(3, "data", port, "0");
    let (said, complaint) = hand.hear_both(3, 1);
    assert!(said.is_empty());
    let pod = served.named(Kind::Pod, "web-").name;
    let begin = format!("error forwarding port {port} to pod {pod}, uid ");
    assert!(complaint.starts_with(&begin), "{complaint}");
    assert!(complaint.contains("refused"), "{complaint}");
    // What is no request is refused, and the line goes on.
    hand.open(5, "noise", port, "1");
    assert_eq!(hand.hear(), Heard::Reset(5));
    hand.open(7, "error", 0, "1");
    assert_eq!(hand.hear(), Heard::Reset(7));
    hand.open(13, "error", port, &"1".repeat(200));
    assert_eq!(hand.hear(), Heard::Reset(13));
    let port = echo().port();
    hand.open(9, "error", port, "2");
    hand.open(11, "data", port, "2");
    hand.data(11, b"", true);
    assert_eq!(hand.hear_both(11, 9).0, b"bye");
}

#[test]
fn a_client_that_is_killed_leaves_nothing() {
    let served = serve();
    let port = echo().port();
    let mut hand = Hand::connect(&served);
    for (stream, request) in [(1, "0"), (5, "1")] {
        hand.open(stream, "error", port, request);
        hand.open(stream + 2, "data", port, request);
        hand.data(stream + 2, b"x", false);
    }
    // Reset: one of the two ends at once, the other stays.
    wait("two connections", || connections(port) == 4);
    hand.control(3, 0, &[0, 0, 0, 3, 0, 0, 0, 5]);
    wait("one connection", || connections(port) == 2);
    drop(hand);
    wait("no connection", || connections(port) == 0);
    // Nor does nonsense.
    let mut hand = Hand::connect(&served);
    hand.open(1, "error", port, "0");
    hand.open(3, "data", port, "0");
    wait("a connection", || connections(port) == 2);
    hand.line.write_all(b"\x80\x09nonsense").expect("says");
    wait("no connection", || connections(port) == 0);
}

#[test]
fn who_takes_back_what_he_began_finds_room() {
    let served = serve();
    let port = echo().port();
    let mut hand = Hand::connect(&served);
    for stream in (1..).step_by(2).take(1000) {
        hand.open(stream, "error", port, &stream.to_string());
        let words = [stream.to_be_bytes(), 5_u32.to_be_bytes()].concat();
        hand.control(3, 0, &words);
        assert_eq!(hand.hear(), Heard::Reply(stream));
    }
    hand.open(5001, "error", port, "last");
    hand.open(5003, "data", port, "last");
    hand.data(5003, b"hello", true);
    assert_eq!(hand.hear_both(5003, 5001).0, b"hellobye");
}

/// Something in a pod that talks on when nobody speaks to it any more, and tells when it can't.
fn talker() -> (u16, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, cut_off) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody");
        while let Ok(1..) = stream.read(&mut [0; 100]) {}
        while stream.write_all(b"word ").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = sender.send(());
    });
    (port, cut_off)
}

#[test]
fn who_has_said_all_may_still_hang_up() {
    let served = serve();
    let (port, cut_off) = talker();
    let mut hand = Hand::connect(&served);
    hand.open(1, "error", port, "0");
    hand.open(3, "data", port, "0");
    hand.data(3, b"go on", true);
    while !matches!(hand.hear(), Heard::Data(3, words, false) if words.starts_with(b"word")) {}
    hand.control(3, 0, &[0, 0, 0, 3, 0, 0, 0, 5]);
    cut_off.recv_timeout(WAIT_MAX).expect("the pod's program hears of it");
}

#[test]
fn places_are_given_back() {
    let served = serve_with(windlass::adapters::api::Limits { streams: 1, ..Default::default() });
    for _ in 0..3 {
        let mut hand = None;
        wait("a place", || {
            hand = Hand::ask(&served);
            hand.is_some()
        });
        assert!(Hand::ask(&served).is_none(), "there is one place");
    }
}

#[test]
fn a_session_ends_with_its_pod() {
    let served = serve();
    let port = echo().port();
    let mut hand = Hand::connect(&served);
    hand.open(1, "error", port, "0");
    hand.open(3, "data", port, "0");
    hand.data(3, b"x", false);
    wait("a connection", || connections(port) == 2);
    served.show(|picture| picture.state.pods.clear());
    while hand.hear() != Heard::Farewell {}
    wait("no connection", || connections(port) == 0);
}

#[test]
fn channels_are_for_clients_without_spdy() {
    let served = serve();
    let (port, none) = (echo().port(), free_port());
    served.runtime.block_on(async {
        let query = format!("portforward?ports={port}&ports={none}");
        let mut socket = open(&served, &query, "v4.channel.k8s.io").await;
        let mut said = [const { Vec::new() }; 4];
        socket.send(Message::Binary(b"\x00hello".to_vec().into())).await.expect("sends");
        let hear = async {
            while said[0].len() < 7 || said[3].len() < 3 {
                let Some(Ok(Message::Binary(bytes))) = socket.next().await else { continue };
                said[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        };
        tokio::time::timeout(WAIT_MAX, hear).await.expect("comes");
        assert_eq!(said[0], [&port.to_le_bytes()[..], b"hello"].concat());
        assert_eq!(said[1], port.to_le_bytes());
        assert_eq!(said[2], none.to_le_bytes());
        let complaint = String::from_utf8_lossy(&said[3][2..]);
        assert!(
            complaint.starts_with(&format!("error forwarding port {none} to pod")),
            "{complaint}"
        );
        socket.close(None).await.expect("closes");
    });
    wait("no connection", || connections(port) == 0);
}

/// Headers with which somebody asks.
type Asking<'h> = Vec<(&'h str, String)>;

#[test]
fn what_can_not_be_forwarded_is_refused_by_a_status() {
    let served = serve();
    let web = path(&served);
    let big =
        format!("/api/v1/namespaces/shop/pods/{}/portforward", served.named(Kind::Pod, "big").name);
    let spdy = |language: &str| {
        vec![
            ("Connection", "Upgrade".to_owned()),
            ("Upgrade", "SPDY/3.1".to_owned()),
            ("X-Stream-Protocol-Version", language.to_owned()),
        ]
    };
    let websocket = |language: &str| {
        vec![
            ("Connection", "Upgrade".to_owned()),
            ("Upgrade", "websocket".to_owned()),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
            ("Sec-WebSocket-Protocol", language.to_owned()),
        ]
    };
    let none = "/api/v1/namespaces/shop/pods/none/portforward".to_owned();
    let zero = format!("{web}?ports=0");
    let table: [(&str, Asking<'_>, u16, &str); 7] = [
        (&web, vec![], 400, "needs an upgrade"),
        (&web, spdy("v4.channel.k8s.io"), 403, "portforward.k8s.io"),
        (&web, websocket("v5.channel.k8s.io"), 400, "SPDY/3.1+portforward.k8s.io"),
        (&web, websocket("v4.channel.k8s.io"), 400, "\"ports\" is required"),
        (&zero, websocket("v4.channel.k8s.io"), 400, "unable to parse '0'"),
        (&none, spdy("portforward.k8s.io"), 404, "pods \"none\" not found"),
        (&big, spdy("portforward.k8s.io"), 400, "pod big has no node yet"),
    ];
    for (path, headers, code, says) in table {
        for method in ["GET", "POST"] {
            let answer = served.connect().send(method, path, &headers, b"").expect("an answer");
            let status = answer.expect(code).json();
            let said = status["message"].as_str().unwrap_or_default();
            assert!(said.contains(says), "{method} {path}: {said}");
        }
    }
}

/// A program that forwards, and what it prints.
pub(crate) struct Forwarding {
    child: Child,
    lines: mpsc::Receiver<String>,
    printed: Vec<String>,
}

impl Forwarding {
    /// Begins.
    pub(crate) fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("runs");
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, printed: Vec::new() }
    }

    /// Where a port of the pod is reached.
    #[track_caller]
    pub(crate) fn place(&mut self, port: u16) -> SocketAddr {
        let is_it = |line: &String| {
            line.starts_with("Forwarding from 127.0.0.1:") && line.ends_with(&format!(" -> {port}"))
        };
        let line = loop {
            if let Some(line) = self.printed.iter().find(|line| is_it(line)) {
                break line;
            }
            self.wait_for("Forwarding from ");
        };
        line.split_whitespace().nth(2).expect("an address").parse().expect("an address")
    }

    /// Waits for a line that holds this.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(WAIT_MAX);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in {:#?}", self.printed));
            self.printed.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut code = None;
        wait("it ends", || {
            code = self.child.try_wait().expect("is ours");
            code.is_some()
        });
        code.expect("ended").code()
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        // One that has ended needs none; until it is waited for its number is no other's.
        let _ = nix::sys::signal::kill(pid, signal);
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // What runs below `timeout` hears of an end that is asked for, not of a forced one.
        self.signal(Signal::SIGTERM);
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends so much to an echo and takes it back, both at once; it must be the same.
pub(crate) fn there_and_back(at: SocketAddr, length: usize) {
    let mut stream = TcpStream::connect(at).expect("connects");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("set");
    let mut state = 1_u64;
    let sent: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect();
    let digest = Sha256::digest(&sent);
    let mut mouth = stream.try_clone().expect("clones");
    let says = std::thread::spawn(move || {
        mouth.write_all(&sent).expect("says");
        mouth.shutdown(Shutdown::Write).expect("ends");
    });
    let mut back = Vec::with_capacity(length + 3);
    stream.read_to_end(&mut back).expect("hears");
    says.join().expect("ends");
    assert!(back.len() >= length, "{} of {length} bytes", back.len());
    assert_eq!(Sha256::digest(&back[..length]), digest, "other bytes came back");
}

fn port_forward(served: &Served, words: &str) -> Command {
    let mut command = windlass(&["port-forward", "-n", "shop"]);
    command.args(words.split_whitespace()).env("WINDLASS_SOCKET", &served.socket);
    command
}

#[test]
fn windlass_forwards_until_it_is_told_to_stop() {
    let served = serve();
    let (port, none) = (echo().port(), free_port());
    let pod = served.named(Kind::Pod, "web-").name;
    let words = format!("{pod} :{port} :{none}");
    let mut forwarding = Forwarding::start(port_forward(&served, &words));
    let (at, none_at) = (forwarding.place(port), forwarding.place(none));
    there_and_back(at, 20_000_000);
    forwarding.wait_for(&format!("Handling connection for {}", at.port()));
    // Several at once.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| there_and_back(at, 300_000));
        }
    });
    // The end of what is said reaches the pod, and its answer comes after it.
    let mut stream = TcpStream::connect(at).expect("connects");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("set");
    stream.write_all(b"x").expect("says");
    stream.shutdown(Shutdown::Write).expect("ends");
    let mut back = String::new();
    stream.read_to_string(&mut back).expect("hears");
    assert_eq!(back, "xbye");
    // Where nobody listens, it is said, and the rest goes on.
    let mut stream = TcpStream::connect(none_at).expect("connects");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("set");
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    forwarding.wait_for(&format!("error forwarding port {none} to pod {pod}, uid "));
    there_and_back(at, 1000);
    let _left_open = TcpStream::connect(at).expect("connects");
    wait("a connection", || connections(port) == 2);
    forwarding.interrupt();
    assert_eq!(forwarding.code(), Some(0));
    wait("no connection", || connections(port) == 0);
}

#[test]
fn windlass_says_what_became_of_the_pod() {
    let served = serve();
    let words = format!("deploy/web :{}", echo().port());
    let mut forwarding = Forwarding::start(port_forward(&served, &words));
    forwarding.wait_for("Forwarding from ");
    served.show(|picture| picture.state.pods.clear());
    forwarding.wait_for("error: lost connection to pod web-");
    assert_eq!(forwarding.code(), Some(1));
}
