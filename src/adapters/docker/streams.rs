//! What people look at and type into: logs, `exec -it`, `attach`.

use std::fmt::Write as _;
use std::pin::Pin;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    ResizeContainerTTYOptions, ResizeExecOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWrite};

use super::wire::Unframer;
use super::{Docker, fault};
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::runtime::{TAIL_BYTES_MAX, TAIL_LINES_MAX};

/// One read of a stream.
const READ_BYTES: usize = 8 * 1024;
/// How long a process that has closed its output may take to end before it is said to run on.
const END_STEPS_MAX: u32 = 100;
const END_STEP: std::time::Duration = std::time::Duration::from_millis(20);

/// Which of a process' outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Output as it comes.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<(Which, Bytes), Fault>> + Send>>;

/// What of a container's log is wanted.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only lines since then.
    pub since: Option<Wall>,
    /// Put the time before each line (RFC 3339, nanoseconds).
    pub timestamps: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            follow: false,
            tail: None,
            since: None,
            timestamps: false,
            stdout: true,
            stderr: true,
        }
    }
}

impl LogOptions {
    fn query(&self) -> String {
        let mut query = format!(
            "follow={}&timestamps={}&stdout={}&stderr={}",
            self.follow, self.timestamps, self.stdout, self.stderr
        );
        // Writing to a String cannot fail.
        if let Some(lines) = self.tail {
            let _ = write!(query, "&tail={lines}");
        }
        if let Some(since) = self.since {
            let (seconds, millis) = (since.seconds(), since.millis().rem_euclid(1000));
            let _ = write!(query, "&since={seconds}.{millis:03}000000");
        }
        query
    }
}

/// A process that is being talked to. Dropping it closes the connection, not the process.
pub struct Session {
    /// What it says. Ends when it does.
    pub output: Pieces,
    /// What is said to it; shutting it down closes its standard input. None where none was asked
    /// for.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// For the terminal and the end.
    pub control: Control,
}

/// The other hand on a [`Session`].
#[derive(Clone)]
pub struct Control {
    docker: Docker,
    process: Process,
}

#[derive(Clone, Debug)]
enum Process {
    /// A program run beside the container's own.
    Exec(String),
    /// The container's own.
    Container(String),
}

impl Control {
    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Docker's number of the exec or of the container.
    pub(super) fn id(&self) -> &str {
        match &self.process {
            Process::Exec(id) | Process::Container(id) => id,
        }
    }

    /// Tells the terminal its size.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), Fault> {
        let client = self.docker.client().await?;
        let (w, h) = (i32::from(columns), i32::from(rows));
        let answer = match &self.process {
            Process::Exec(id) => client.resize_exec(id, ResizeExecOptions { h, w }).await,
            Process::Container(id) => {
                let options = ResizeContainerTTYOptions { h, w };
                client.resize_container_tty(id, options).await
            }
        };
        answer.map_err(|error| self.docker.fault(&error).while_doing("resizing a terminal"))
    }

    /// Its exit code. To be asked after the output has ended; none if it runs on nevertheless.
    pub async fn exit_code(&self) -> Result<Option<i64>, Fault> {
        match &self.process {
            Process::Exec(id) => {
                for _ in 0..END_STEPS_MAX {
                    if let Some(code) = self.docker.exec_exit_code(id).await? {
                        return Ok(Some(code));
                    }
                    tokio::time::sleep(END_STEP).await;
                }
                Ok(None)
            }
            Process::Container(id) => {
                let client = self.docker.client().await?;
                let mut wait =
                    std::pin::pin!(client.wait_container(id, None::<WaitContainerOptions>));
                let bound = END_STEP * END_STEPS_MAX;
                match tokio::time::timeout(bound, wait.next()).await {
                    Ok(Some(Ok(end))) => Ok(Some(end.status_code)),
                    Ok(Some(Err(bollard::errors::Error::DockerContainerWaitError {
                        code,
                        ..
                    }))) => Ok(Some(code)),
                    Ok(Some(Err(error))) => Err(self.docker.fault(&error)),
                    Ok(None) | Err(_) => Ok(None),
                }
            }
        }
    }
}

impl Docker {
    /// A container's log.
    pub async fn logs(&self, id: &str, options: &LogOptions) -> Result<Pieces, Fault> {
        // 20.10 does not say in its answer whether there is a terminal.
        let tty = has_tty(&self.found(id).await?);
        let path = format!("/containers/{}/logs?{}", segment(id)?, options.query());
        let response = self.request(Builder::new(), &path, Vec::new()).await?;
        Ok(body_pieces(response.into_body(), Unframer::new(tty)))
    }

    /// Returns the end of a container's log.
    pub(super) async fn tail(&self, id: &str) -> Result<String, Fault> {
        let options = LogOptions { tail: Some(TAIL_LINES_MAX), ..LogOptions::default() };
        let mut pieces = self.logs(id, &options).await?;
        let mut end: Vec<u8> = Vec::new();
        while let Some(piece) = pieces.next().await {
            end.extend_from_slice(&piece?.1);
            // A line may be of any length: no more than what is wanted is kept.
            end.drain(..end.len().saturating_sub(TAIL_BYTES_MAX));
        }
        Ok(String::from_utf8_lossy(&end).into_owned())
    }

    /// Runs a program in a container, to be talked to.
    pub async fn exec_stream(
        &self,
        id: &str,
        command: &[String],
        tty: bool,
        stdin: bool,
    ) -> Result<Session, Fault> {
        let exec = self.create_exec(id, command, tty, stdin).await?;
        let path = format!("/exec/{}/start", segment(&exec)?);
        let body = json!({"Detach": false, "Tty": tty}).to_string();
        self.converse(&path, body.into_bytes(), tty, stdin, Process::Exec(exec)).await
    }

    /// Talks to a container's own process.
    pub async fn attach(&self, id: &str, stdin: bool) -> Result<Session, Fault> {
        let tty = has_tty(&self.found(id).await?);
        let path = format!(
            "/containers/{}/attach?stream=true&stdin={stdin}&stdout=true&stderr=true",
            segment(id)?
        );
        self.converse(&path, Vec::new(), tty, stdin, Process::Container(id.into())).await
    }

    async fn converse(
        &self,
        path: &str,
        body: Vec<u8>,
        tty: bool,
        stdin: bool,
        process: Process,
    ) -> Result<Session, Fault> {
        let request = Builder::new()
            .method(Method::POST)
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp");
        let response = self.request(request, path, body).await?;
        let connection = hyper::upgrade::on(response)
            .await
            .map_err(|error| Fault::transient(format!("Docker: {error}")))?;
        let (reader, writer) = tokio::io::split(TokioIo::new(connection));
        // Kept with the reader where nobody writes: dropping half of it closes nothing.
        let input: Option<Pin<Box<dyn AsyncWrite + Send>>> =
            stdin.then(|| Box::pin(writer) as Pin<Box<dyn AsyncWrite + Send>>);
        Ok(Session {
            output: reader_pieces(reader, Unframer::new(tty)),
            input,
            control: Control { docker: self.clone(), process },
        })
    }

    async fn found(&self, id: &str) -> Result<ContainerInspectResponse, Fault> {
        let client = self.client().await?;
        match client.inspect_container(id, None).await {
            Ok(found) => Ok(found),
            Err(error) if fault::status(&error) == Some(404) => {
                Err(Fault::not_found(format!("container {id} is gone")))
            }
            Err(error) => Err(self.fault(&error)),
        }
    }
}

fn has_tty(found: &ContainerInspectResponse) -> bool {
    found.config.as_ref().and_then(|config| config.tty).unwrap_or(false)
}

/// An id as part of a path: Docker's are hexadecimal, so anything else is not one.
pub(super) fn segment(id: &str) -> Result<&str, Fault> {
    let is_plain = !id.is_empty()
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if is_plain { Ok(id) } else { Err(Fault::not_found(format!("{id:?} is no container"))) }
}

fn body_pieces(body: Incoming, unframer: Unframer) -> Pieces {
    Box::pin(futures_util::stream::try_unfold(
        (body, unframer),
        |(mut body, mut unframer)| async move {
            loop {
                if let Some(piece) = unframer.next_piece() {
                    return Ok(Some((piece, (body, unframer))));
                }
                match body.frame().await {
                    Some(Ok(frame)) => {
                        if let Some(bytes) = frame.data_ref() {
                            unframer.push(bytes);
                        }
                    }
                    Some(Err(error)) => {
                        return Err(Fault::transient(format!("Docker: {error}")));
                    }
                    None => return Ok(None),
                }
            }
        },
    ))
}

fn reader_pieces<R>(reader: R, unframer: Unframer) -> Pieces
where
    R: tokio::io::AsyncRead + Unpin + Send + 'static,
{
    let buffer = vec![0; READ_BYTES];
    Box::pin(futures_util::stream::try_unfold(
        (reader, unframer, buffer),
        |(mut reader, mut unframer, mut buffer)| async move {
            loop {
                if let Some(piece) = unframer.next_piece() {
                    return Ok(Some((piece, (reader, unframer, buffer))));
                }
                match reader.read(&mut buffer).await {
                    Ok(0) => return Ok(None),
                    Ok(count) => unframer.push(&buffer[..count]),
                    Err(error) => return Err(Fault::transient(format!("Docker: {error}"))),
                }
            }
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options_are_said_as_docker_reads_them() {
        assert_eq!(
            LogOptions::default().query(),
            "follow=false&timestamps=false&stdout=true&stderr=true"
        );
        let options = LogOptions {
            follow: true,
            tail: Some(10),
            since: Some(Wall::from_millis(1_700_000_000_042)),
            timestamps: true,
            stderr: false,
            ..LogOptions::default()
        };
        assert_eq!(
            options.query(),
            "follow=true&timestamps=true&stdout=true&stderr=false&tail=10&since=1700000000.000000000"
        );
    }

    #[test]
    fn only_ids_become_paths() {
        assert!(segment("0123abc").is_ok());
        for id in ["", "../x", "a/b", "a?b", "a b"] {
            assert!(segment(id).is_err(), "{id:?}");
        }
    }
}
