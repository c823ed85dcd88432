//! HTTP in its plainest form over a unix socket: for preparing tests, and as the floor that
//! measurements are compared with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// One connection, used again and again.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

/// A status and a body.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> std::io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<Response> {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> std::io::Result<Response> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json".to_owned())];
        self.send("POST", path, &headers, body.as_bytes())
    }

    pub(crate) fn delete(&mut self, path: &str) -> std::io::Result<Response> {
        self.send("DELETE", path, &[], b"")
    }

    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        self.begin(method, path, headers, body.len())?;
        self.go_on(body)
    }

    /// All of a request but its body.
    pub(crate) fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        length: usize,
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
        self.stream.get_mut().write_all(head.as_bytes())
    }

    /// Its body, and the answer.
    pub(crate) fn go_on(&mut self, body: &[u8]) -> std::io::Result<Response> {
        self.stream.get_mut().write_all(body)?;
        self.receive()
    }

    fn receive(&mut self) -> std::io::Result<Response> {
        let first = self.line()?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| std::io::Error::other(format!("no status in {first:?}")))?;
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            is_chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if is_chunked {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(&size, 16).map_err(std::io::Error::other)?;
                let before = body.len();
                body.resize(before + size, 0);
                self.stream.read_exact(&mut body[before..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if status != 204 && status != 304 {
            body.resize(length.unwrap_or(0), 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(Response { status, body })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// A watch of the API: what it tells, one event after the other.
pub(crate) struct Events(BufReader<UnixStream>);

impl Events {
    /// How long an event may be waited for.
    const WAIT_MAX: Duration = Duration::from_secs(120);

    /// Begins it.
    pub(crate) fn of(socket: &Path, path: &str) -> Self {
        let mut stream = UnixStream::connect(socket).expect("connects");
        stream.set_read_timeout(Some(Self::WAIT_MAX)).expect("a bound");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("asks");
        Self(BufReader::new(stream))
    }

    /// The next event; none at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line in time");
            if line.starts_with('{') {
                return serde_json::from_str(&line).ok();
            }
            if line.trim() == "0" || line.is_empty() {
                return None;
            }
        }
    }
}
