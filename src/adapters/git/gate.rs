//! A gate before a repository: it lets one key read, and write certain refs.
//!
//! A doorman who reads the address on every parcel. Git itself serves; what a client wants to push it says
//! before anything else, line by line (gitprotocol-pack(5), "Reference Update Request"), and those
//! lines are read here before Git sees them. One that is not allowed refuses the whole push, in the
//! words in which Git would.
//!
//! ```text
//!   client ─▶ lines ─▶ allowed? ─▶ git receive-pack ◀── the rest of the push, as it comes
//!     ▲                   │ no
//!     └── ng refs/heads/main: node n2 may not write this ref
//! ```
//!
//! A server that loses power in the middle of a push leaves the lock of a ref, and Git never removes it:
//! who stands before the repository does, before the next push of that ref.
//!
//! The rule: nothing that the client says reaches Git's command line or environment, and a line of a form
//! that is not known here is refused. The limit: what is *in* a ref that a key may write is not looked
//! at.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::locks;
use crate::kinds::name::NodeName;

/// All lines of one push together: some thousand refs.
const LINES_BYTES_MAX: usize = 1 << 20;
/// The largest pack that is taken: a state store of 1,000 nodes is a tenth of it.
const PACK_BYTES_MAX: u64 = 256 << 20;
/// How long who was refused may go on sending.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// What fits into one packet of a side band.
const BAND_BYTES_MAX: usize = 60_000;
const COORDINATOR: &str = "refs/windlass/coordinator";
const NODES: &str = "refs/windlass/nodes/";
/// What `windlass init` writes to see whether it may.
const PROBE: &str = "refs/windlass/probe/";
const NOTES: &str = "refs/notes/windlass";

/// What a key may write in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nothing.
    Read,
    /// What became of commits.
    Notes,
    /// What a node says of itself; and if it may lead, the fleet's decisions.
    Node {
        /// The node.
        name: NodeName,
        /// Whether it may coordinate.
        leads: bool,
    },
    /// Branches, tags and notes, as people do.
    People,
}

/// What is asked for over ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// To read.
    UploadPack,
    /// To write.
    ReceivePack,
}

/// One line of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Update {
    name: String,
    deletes: bool,
}

impl Rights {
    /// Whether a ref may be changed so, or why not.
    fn judge(&self, update: &Update) -> Result<(), String> {
        let Update { name, deletes } = update;
        if let Self::Node { .. } = self
            && name.strip_prefix(PROBE).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'))
        {
            return Ok(());
        }
        let (is_own, who) = match self {
            Self::Read => (false, "this key".to_owned()),
            Self::Notes => (name == NOTES, "this key".to_owned()),
            Self::Node { name: node, leads } => {
                let own = name.strip_prefix(NODES) == Some(node.as_str());
                (own || (*leads && name == COORDINATOR), format!("node {node}"))
            }
            Self::People => {
                let may = ["refs/heads/", "refs/tags/", "refs/notes/"];
                (may.iter().any(|part| name.starts_with(part)), "this key".to_owned())
            }
        };
        match (is_own, deletes) {
            (false, _) => Err(format!("{who} may not write this ref")),
            (true, true) if *self != Self::People => Err(format!("{who} may not delete this ref")),
            (true, _) => Ok(()),
        }
    }
}

/// What an ssh client has asked for: the service, and the repository by the path that it names.
pub fn read_request(text: &str) -> Result<(Service, String), String> {
    let refused = || format!("{text:?} is not served: only git fetch and git push are");
    let rest =
        text.strip_prefix("git ").or_else(|| text.strip_prefix("git-")).ok_or_else(refused)?;
    let (service, path) = rest.split_once(' ').ok_or_else(refused)?;
    let service = match service {
        "upload-pack" => Service::UploadPack,
        "receive-pack" => Service::ReceivePack,
        _ => return Err(refused()),
    };
    // Git puts it into quotes; what it would have to escape is in no path that is served.
    let inner = path.strip_prefix('\'').and_then(|path| path.strip_suffix('\''));
    let path = inner.unwrap_or(path);
    if path.is_empty() || path.contains(|c: char| c == '\'' || c == '\\' || c.is_whitespace()) {
        return Err(refused());
    }
    Ok((service, path.to_owned()))
}

/// Serves a repository on standard input and output.
pub fn serve(service: Service, repository: &Path, rights: &Rights) -> io::Result<ExitStatus> {
    let mut git = Command::new("git");
    // Nothing that the client's side has set: neither GIT_… nor a home with a configuration.
    git.env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .arg("-c")
        .arg(format!("safe.directory={}", repository.display()))
        .arg("-c")
        .arg(format!("receive.maxInputSize={PACK_BYTES_MAX}"));
    match service {
        Service::UploadPack => git.arg("upload-pack").arg("--strict").arg(repository).status(),
        Service::ReceivePack => push(git.arg("receive-pack").arg(repository), repository, rights),
    }
}

fn push(git: &mut Command, repository: &Path, rights: &Rights) -> io::Result<ExitStatus> {
    let mut child = git.stdin(Stdio::piped()).spawn()?;
    let mut to_git = child.stdin.take().ok_or_else(|| io::Error::other("git has no input"))?;
    // Not Rust's standard input, which reads ahead.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let lines = read_lines(&mut input);
    let judged = lines.as_ref().map_err(ToString::to_string).and_then(|lines| lines.judge(rights));
    let refused = match judged {
        Ok(refused) if refused.is_empty() => {
            if let Ok(lines) = &lines {
                lines.clear_the_way(repository, child.id());
                to_git.write_all(&lines.raw)?;
            }
            // It ends with the process: Git knows when it has all, and the client waits for its word.
            std::thread::spawn(move || io::copy(&mut input, &mut to_git));
            return child.wait();
        }
        Ok(refused) => refused,
        Err(why) => vec![(String::new(), why)],
    };
    // It has read nothing yet, and so has done nothing.
    child.kill()?;
    let status = child.wait()?;
    let mut said = io::stderr().lock();
    for (name, why) in &refused {
        writeln!(
            said,
            "windlass: refused: {name}{}{why}",
            if name.is_empty() { "" } else { ": " }
        )?;
    }
    if let Ok(lines) = &lines {
        io::stdout().write_all(&lines.report(&refused))?;
        io::stdout().flush()?;
        drain(input);
    }
    Ok(status)
}

/// What the client wants changed, and how it wants to be answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    raw: Vec<u8>,
    updates: Vec<Update>,
    wants_report: bool,
    has_side_band: bool,
}

/// Reads up to the flush behind the lines, and not a byte further.
fn read_lines(input: &mut impl Read) -> io::Result<Lines> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut lines = Lines::default();
    loop {
        let mut length = [0; 4];
        match input.read(&mut length[..1])? {
            // Who has nothing to push hangs up.
            0 if lines.updates.is_empty() => return Ok(lines),
            0 => return Err(invalid("the push ends in the middle")),
            _ => input.read_exact(&mut length[1..])?,
        }
        lines.raw.extend(length);
        let digits = std::str::from_utf8(&length)
            .ok()
            .filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let length = digits.and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = match length.ok_or_else(|| invalid("this is no push"))? {
            0 => return Ok(lines),
            length @ 5.. => length - 4,
            _ => return Err(invalid("this is no push")),
        };
        let at = lines.raw.len();
        if at + length > LINES_BYTES_MAX {
            return Err(invalid("too many refs in one push"));
        }
        lines.raw.resize(at + length, 0);
        input.read_exact(&mut lines.raw[at..])?;
        let line = &lines.raw[at..];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (line, wishes) = match line.iter().position(|byte| *byte == 0) {
            Some(end) => (&line[..end], &line[end + 1..]),
            None => (line, &[][..]),
        };
        for wish in wishes.split(|byte| *byte == b' ') {
            lines.wants_report |= wish == b"report-status" || wish == b"report-status-v2";
            lines.has_side_band |= wish == b"side-band-64k";
        }
        let update = std::str::from_utf8(line).ok().and_then(read_update);
        lines.updates.push(update.ok_or_else(|| invalid("this form of push is not served"))?);
    }
}

/// `<old> <new> <ref>`. Certificates of pushes and shallow clones say other things: nobody here sends them.
fn read_update(line: &str) -> Option<Update> {
    let mut words = line.splitn(3, ' ');
    let (old, new, name) = (words.next()?, words.next()?, words.next()?);
    let is_id = |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit());
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_id(old) || !is_id(new) || !is_plain {
        return None;
    }
    Some(Update { name: name.to_owned(), deletes: new.bytes().all(|digit| digit == b'0') })
}

impl Lines {
    /// Removes what a push that was killed has left in the way of this one, which `own` is going to serve.
    fn clear_the_way(&self, repository: &Path, own: u32) {
        let clear = |name: &str| {
            let lock = repository.join(format!("{name}.lock"));
            // Who waits for a slow disk is alive, however long it takes.
            if lock.exists() && !is_in_use(repository, own) {
                locks::clear_if_stale(&lock, locks::STALE_AMONG_OTHERS);
            }
        };
        for update in self.updates.iter().filter(|one| git2::Reference::is_valid_name(&one.name)) {
            clear(&update.name);
            // The branch that HEAD names is moved under a lock of HEAD as well.
            clear("HEAD");
            // A ref that is deleted is taken out of the list of packed ones too.
            if update.deletes {
                clear("packed-refs");
            }
        }
    }

    /// The refs that may not be changed so, and why. One of them refuses all.
    fn judge(&self, rights: &Rights) -> Result<Vec<(String, String)>, String> {
        let judged: Vec<_> = self.updates.iter().map(|one| (one, rights.judge(one))).collect();
        if judged.iter().all(|(_, verdict)| verdict.is_ok()) {
            return Ok(Vec::new());
        }
        let all = judged.into_iter().map(|(update, verdict)| {
            let why = verdict.err().unwrap_or_else(|| "refused with the others".to_owned());
            (update.name.clone(), why)
        });
        Ok(all.collect())
    }

    /// The refusal as Git says it (gitprotocol-pack(5), "Report Status").
    fn report(&self, refused: &[(String, String)]) -> Vec<u8> {
        if !self.wants_report {
            return Vec::new();
        }
        let mut report = packet(b"unpack ok\n");
        for (name, why) in refused {
            report.extend(packet(format!("ng {name} {why}\n").as_bytes()));
        }
        report.extend(b"0000");
        if !self.has_side_band {
            return report;
        }
        let mut banded = Vec::new();
        for piece in report.chunks(BAND_BYTES_MAX) {
            banded.extend(packet(&[&[1], piece].concat()));
        }
        banded.extend(b"0000");
        banded
    }
}

/// Whether some other process works in a repository: each of Git's stands in it. Those of other users are
/// not seen.
fn is_in_use(repository: &Path, own: u32) -> bool {
    let Ok(repository) = repository.canonicalize() else { return true };
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    processes.flatten().any(|process| {
        let name = process.file_name();
        let is_other =
            name.to_str().and_then(|name| name.parse().ok()).is_some_and(|id: u32| id != own);
        let at = || fs::read_link(process.path().join("cwd"));
        is_other && at().is_ok_and(|at| at.starts_with(&repository))
    })
}

fn packet(content: &[u8]) -> Vec<u8> {
    [format!("{:04x}", content.len() + 4).as_bytes(), content].concat()
}

/// Reads the rest of what was refused, until the client hangs up: who is still sending does not read the
/// answer.
fn drain(input: impl Read + Send + 'static) {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut input.take(PACK_BYTES_MAX), &mut io::sink());
        let _ = ended.send(());
    });
    // Who has not hung up by then is left alone.
    let _ = end.recv_timeout(DRAIN_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::Name;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const NONE: &str = "0000000000000000000000000000000000000000";

    #[test]
    fn who_may_write_what() {
        let node = |leads| Rights::Node { name: Name::trusted("n2"), leads };
        for (rights, name, may_write, may_delete) in [
            (node(true), "refs/windlass/nodes/n2", true, false),
            (node(true), "refs/windlass/nodes/n1", false, false),
            (node(true), "refs/windlass/nodes/n2/x", false, false),
            (node(true), "refs/windlass/nodes/n22", false, false),
            (node(true), "refs/windlass/nodes/", false, false),
            (node(true), "refs/windlass/coordinator", true, false),
            (node(false), "refs/windlass/coordinator", false, false),
            (node(true), "refs/windlass/probe/a1b2", true, true),
            (node(true), "refs/windlass/probe/", false, false),
            (node(true), "refs/windlass/probe/../nodes/n1", false, false),
            (node(true), "refs/heads/main", false, false),
            (node(true), "refs/notes/windlass", false, false),
            (node(true), "HEAD", false, false),
            (Rights::Notes, "refs/notes/windlass", true, false),
            (Rights::Notes, "refs/heads/main", false, false),
            (Rights::Read, "refs/heads/main", false, false),
            (Rights::People, "refs/heads/main", true, true),
            (Rights::People, "refs/windlass/coordinator", false, false),
        ] {
            for (deletes, may) in [(false, may_write), (true, may_delete)] {
                let update = Update { name: name.to_owned(), deletes };
                assert_eq!(rights.judge(&update).is_ok(), may, "{rights:?} {update:?}");
            }
        }
    }

    #[test]
    fn only_fetches_and_pushes_are_requests() {
        use Service::{ReceivePack, UploadPack};
        for (text, request) in [
            ("git-upload-pack '/srv/x.git'", Some((UploadPack, "/srv/x.git"))),
            ("git upload-pack '/srv/x.git'", Some((UploadPack, "/srv/x.git"))),
            ("git-receive-pack /srv/x.git", Some((ReceivePack, "/srv/x.git"))),
            ("git-upload-archive '/srv/x.git'", None),
            ("git-receive-pack '/srv/x.git' --help", None),
            ("git-receive-pack --help '/srv/x.git'", None),
            ("git-receive-pack '/srv/x'\\''.git'", None),
            ("git-receive-pack ''", None),
            ("git-receive-pack '/srv/x.git'; sh", None),
            ("git-receive-pack", None),
            ("sh -c git-receive-pack", None),
            ("", None),
        ] {
            let read = read_request(text).ok();
            let read = read.as_ref().map(|(service, path)| (*service, &**path));
            assert_eq!(read, request, "{text}");
        }
    }

    fn lines(texts: &[String]) -> io::Result<Lines> {
        let mut raw: Vec<u8> = texts.iter().flat_map(|text| packet(text.as_bytes())).collect();
        raw.extend(b"0000PACK");
        let mut input = &raw[..];
        let lines = read_lines(&mut input);
        if let Ok(lines) = &lines {
            assert_eq!(input, b"PACK", "what follows is not touched");
            assert_eq!([&lines.raw, input].concat(), raw, "what was read is handed on as it came");
        }
        lines
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        let read = lines(&[
            format!("{OLD} {NEW} refs/windlass/nodes/n2\0 report-status side-band-64k agent=x"),
            format!("{OLD} {NONE} refs/heads/main\n"),
        ]);
        let read = read.expect("a push");
        assert!(read.wants_report && read.has_side_band);
        let update = |name: &str, deletes| Update { name: name.to_owned(), deletes };
        let expected = [update("refs/windlass/nodes/n2", false), update("refs/heads/main", true)];
        assert_eq!(read.updates, expected);
        let rights = Rights::Node { name: Name::trusted("n2"), leads: true };
        let refused = read.judge(&rights).expect("judged");
        assert_eq!(refused.len(), 2, "one line refuses all: {refused:?}");
        let report = String::from_utf8(read.report(&refused)).expect("text");
        assert!(report.contains("ng refs/heads/main node n2 may not write this ref\n"), "{report}");
        assert!(report.contains("ng refs/windlass/nodes/n2 refused with the others\n"), "{report}");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            format!("shallow {OLD}"),
            "push-cert\0report-status".to_owned(),
            format!("{OLD} {NEW}"),
            format!("{OLD} {NEW} refs/heads/a b"),
            format!("{OLD} {NEW} refs/heads/a\n\n"),
            format!("{OLD} 22 refs/heads/a"),
        ] {
            assert!(lines(std::slice::from_ref(&text)).is_err(), "{text:?}");
        }
        for raw in ["0001", "0004", "zzzz", "+012", "003", "0032abc"] {
            assert!(read_lines(&mut raw.as_bytes()).is_err(), "{raw}");
        }
        assert_eq!(read_lines(&mut &b""[..]).expect("nothing to push"), Lines::default());
    }
}
