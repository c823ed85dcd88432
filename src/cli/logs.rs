//! `windlass logs`: what containers print.

use bytes::{Buf as _, Bytes, BytesMut};
use clap::Args;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use super::client::{Client, TEXT, segment, with_query};
use super::config::parse_duration;
use super::fault::Failure;
use super::pods;
use crate::kinds::registry::Kind;

/// So many logs are followed at once; each is a connection.
const FOLLOWED_MAX: usize = 50;
/// Lines that wait to be printed.
const LINES_MAX: usize = 1000;
/// A line without end is printed in pieces of this length.
const LINE_BYTES_MAX: usize = 1 << 20;
/// With a selector kubectl shows only so many lines of each container.
const TAIL_OF_MANY: i64 = 10;

/// Arguments of `windlass logs`.
#[derive(Args, Debug)]
pub(super) struct Logs {
    /// POD, pod/NAME, or deploy/NAME
    #[arg(value_name = "POD", required_unless_present = "selector")]
    pod: Option<String>,
    /// Container
    #[arg(value_name = "CONTAINER", conflicts_with = "container")]
    second: Option<String>,
    /// Container
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pods with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "pod")]
    selector: Option<String>,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// The container that ran before this one
    #[arg(short, long)]
    previous: bool,
    /// Only lines of the last 10s, 5m, 1h
    #[arg(long, value_name = "DURATION", conflicts_with = "since_time")]
    since: Option<String>,
    /// Only lines since then: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since_time: Option<String>,
    /// Only so many lines from the end; -1 for all
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    tail: Option<i64>,
    /// Put the time before each line
    #[arg(long)]
    timestamps: bool,
    /// All containers of the pod
    #[arg(long, conflicts_with = "container")]
    all_containers: bool,
    /// All pods of a Deployment, not only one
    #[arg(long)]
    all_pods: bool,
    /// Put pod and container before each line
    #[arg(long)]
    prefix: bool,
}

/// One container's log.
struct Log {
    path: String,
    prefix: String,
}

pub(super) async fn run(args: &Logs, context: &mut Context) -> Result<(), Failure> {
    let since = since(args)?;
    let pods = pods_of(args, context).await?;
    let logs: Vec<Log> = pods.iter().flat_map(|pod| logs_of(args, &since, pod, context)).collect();
    if args.follow && logs.len() > 1 {
        return follow_all(logs, context).await;
    }
    for log in logs {
        print(&log, context).await?;
    }
    Ok(())
}

async fn pods_of(args: &Logs, context: &Context) -> Result<Vec<Value>, Failure> {
    match (&args.pod, &args.selector) {
        (Some(word), _) if args.all_pods => pods::of(word, context).await,
        (Some(word), _) => Ok(vec![pods::one_of(word, context).await?]),
        (None, Some(selector)) => {
            let pods = pods::selected(selector, context).await?;
            if pods.is_empty() {
                let namespace = &context.namespace;
                super::out::talk(&format!("No resources found in {namespace} namespace.\n"));
            }
            Ok(pods)
        }
        (None, None) => Err(Failure::usage("name a pod")),
    }
}

/// The logs of a pod that are asked for.
fn logs_of(args: &Logs, since: &str, pod: &Value, context: &Context) -> Vec<Log> {
    let containers = match args.container.as_ref().or(args.second.as_ref()) {
        Some(container) => vec![container.clone()],
        None if args.all_containers => pods::containers(pod),
        None => vec![pods::default_container(pod)],
    };
    containers.iter().map(|container| log(args, since, pod, container, context)).collect()
}

/// `--since` in seconds; empty where it is not given.
fn since(args: &Logs) -> Result<String, Failure> {
    let Some(text) = &args.since else {
        return Ok(String::new());
    };
    let since =
        parse_duration(text).map_err(|fault| Failure::usage(format!("--since: {fault}")))?;
    // Less than a second would be none at all.
    Ok(since.as_secs().max(1).to_string())
}

fn log(args: &Logs, since: &str, pod: &Value, container: &str, context: &Context) -> Log {
    let name = pods::name(pod);
    let tail = args.tail.or(args.selector.as_ref().map(|_| TAIL_OF_MANY));
    let tail = tail.filter(|tail| *tail >= 0).map_or_else(String::new, |tail| tail.to_string());
    let flag = |is_set: bool| if is_set { "true" } else { "" };
    let parameters = [
        ("container", container),
        ("follow", flag(args.follow)),
        ("previous", flag(args.previous)),
        ("sinceSeconds", since),
        ("sinceTime", args.since_time.as_deref().unwrap_or_default()),
        ("tailLines", &tail),
        ("timestamps", flag(args.timestamps)),
    ];
    let pods = super::target::collection(Kind::Pod, Some(&context.namespace));
    let path = with_query(&format!("{pods}/{}/log", segment(name)), &parameters);
    let prefix = if args.prefix { format!("[pod/{name}/{container}] ") } else { String::new() };
    Log { path, prefix }
}

async fn print(log: &Log, context: &mut Context) -> Result<(), Failure> {
    let mut pieces = context.client.stream(&log.path, TEXT).await?;
    if log.prefix.is_empty() {
        while let Some(piece) = pieces.next().await? {
            context.out.bytes(&piece)?;
        }
        return Ok(());
    }
    let mut lines = Lines::default();
    while let Some(piece) = pieces.next().await? {
        lines.push(&piece);
        while let Some(line) = lines.next(false) {
            context.out.bytes(&prefixed(&log.prefix, &line))?;
        }
    }
    match lines.next(true) {
        Some(line) => context.out.bytes(&prefixed(&log.prefix, &line)),
        None => Ok(()),
    }
}

/// Follows several logs at once, line by line. One that fails does not end the others.
async fn follow_all(logs: Vec<Log>, context: &mut Context) -> Result<(), Failure> {
    if logs.len() > FOLLOWED_MAX {
        return Err(Failure::hinted(
            format!("{} logs are too many to follow at once", logs.len()),
            format!("at most {FOLLOWED_MAX}; choose fewer pods with -l, or one container with -c"),
        ));
    }
    let (sender, mut lines) = mpsc::channel(LINES_MAX);
    let mut tasks = JoinSet::new();
    for log in logs {
        let (client, sender) = (context.client.clone(), sender.clone());
        tasks.spawn(async move { follow(&log, &client, &sender).await });
    }
    drop(sender);
    while let Some(line) = lines.recv().await {
        context.out.bytes(&line)?;
    }
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(failure)) = ended {
            failure.say();
            outcome = Err(Failure::Code(1));
        }
    }
    outcome
}

async fn follow(log: &Log, client: &Client, sender: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
    let mut pieces = client.stream(&log.path, TEXT).await?;
    let mut lines = Lines::default();
    loop {
        let piece = pieces.next().await?;
        let is_end = piece.is_none();
        lines.push(&piece.unwrap_or_default());
        while let Some(line) = lines.next(is_end) {
            // Nobody prints any more: the program ends.
            if sender.send(prefixed(&log.prefix, &line)).await.is_err() {
                return Ok(());
            }
        }
        if is_end {
            return Ok(());
        }
    }
}

fn prefixed(prefix: &str, line: &[u8]) -> Bytes {
    [prefix.as_bytes(), line].concat().into()
}

/// Pieces of text on their way to become lines.
#[derive(Default)]
struct Lines(BytesMut);

impl Lines {
    fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next whole line, its end included; the last one may lack that.
    fn next(&mut self, is_end: bool) -> Option<Bytes> {
        if let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            return Some(self.0.split_to(end + 1).freeze());
        }
        let is_due = self.0.len() > LINE_BYTES_MAX || (is_end && self.0.has_remaining());
        is_due.then(|| {
            let mut line = self.0.split();
            line.extend_from_slice(b"\n");
            line.freeze()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["a", "b\nc\n\nd", "e"] {
            lines.push(piece.as_bytes());
            seen.extend(std::iter::from_fn(|| lines.next(false)));
        }
        seen.extend(lines.next(true));
        assert_eq!(seen, ["ab\n", "c\n", "\n", "de\n"]);
        assert_eq!(lines.next(true), None);
    }
}
