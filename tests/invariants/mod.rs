//! The house as its sentences say: what the sources themselves can prove. The other invariants of
//! the crate's front page are proved where they can be broken: in the simulation, the planner's and
//! the node's tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor. `view` is the uppermost room of its floor and shows the values of the others.
const FLOORS: &[(&str, u32)] = &[
    ("kinds", 0),
    ("ports", 1),
    ("desired", 10),
    ("state", 10),
    ("plan", 20),
    ("node", 20),
    ("net", 20),
    ("view", 25),
    ("agent", 30),
    ("adapters", 40),
    ("sim", 40),
    ("cli", 50),
];

/// Rooms that touch nothing. `agent` is one of them: what it wants done it says.
const PURE: &[&str] =
    &["kinds", "ports", "desired", "state", "plan", "node", "net", "view", "agent"];

/// What a pure room may not even name: a clock, the disk, the network, tasks, chance, hash order.
const BANNED: &[&str] = &[
    "SystemTime",
    "Instant",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "tokio",
    "getrandom",
    "rand::",
    "HashMap",
    "HashSet",
    "RandomState",
    "bollard",
    "git2",
    "rtnetlink",
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file of a room that is not a test, without comments and without its tests.
fn code_of(room: &str) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    collect(&sources().join(room), &mut files);
    files
}

fn collect(directory: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).expect("a room is a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "tests" {
            collect(&path, files);
        } else if name.ends_with(".rs") && !name.starts_with("tests") {
            let text = fs::read_to_string(&path).expect("a source is text");
            files.insert(path, code(&text));
        }
    }
}

/// The code of a file: comments, and everything from its test module on, are left out.
fn code(text: &str) -> String {
    let lines = text.lines();
    let before_tests = lines.take_while(|line| !line.starts_with("mod tests {"));
    let code = before_tests.map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

#[test]
fn pure_rooms_know_no_clock_disk_network_task_or_hash_order() {
    let mut found = Vec::new();
    for room in PURE {
        for (path, code) in code_of(room) {
            for word in BANNED.iter().filter(|word| names(&code, word)) {
                found.push(format!("{} names {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whether code names a thing, as a word of its own.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !is_part(before) && (word.ends_with(':') || !is_part(after))
    })
}

#[test]
fn a_room_imports_only_from_floors_below() {
    let floor = |room: &str| FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
    let mut found = Vec::new();
    for (room, own) in FLOORS {
        for (path, code) in code_of(room) {
            let other = imports(&code).into_iter().filter(|import| import != room);
            for import in other {
                match floor(&import) {
                    Some(theirs) if theirs < *own => {}
                    Some(_) => found.push(format!("{} imports {import}", path.display())),
                    None => found.push(format!("{}: no floor for {import}", path.display())),
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The rooms that code names, as `crate::room`.
fn imports(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
    };
    code.split("crate::").skip(1).map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_room_has_its_floor() {
    let lib = fs::read_to_string(sources().join("lib.rs")).expect("the front page");
    let rooms: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(rooms, FLOORS.iter().map(|(room, _)| *room).collect());
}

#[test]
fn every_invariant_has_a_test_of_its_name() {
    let lib = fs::read_to_string(sources().join("lib.rs")).expect("the front page");
    let mut tests = String::new();
    for directory in [sources(), sources().with_file_name("tests")] {
        every_text(&directory, &mut tests);
    }
    let mut count = 0;
    for sentence in sentences(&lib) {
        count += 1;
        let name = format!("fn {sentence}(");
        assert!(tests.contains(&name), "no test is called {sentence}");
    }
    assert_eq!(count, 11);
}

/// The invariants as names of tests.
fn sentences(lib: &str) -> Vec<String> {
    let list = lib.lines().filter_map(|line| line.strip_prefix("//! - "));
    list.map(|sentence| {
        let words = sentence.to_lowercase().replace([',', '.', '`'], "");
        words.split_whitespace().collect::<Vec<_>>().join("_")
    })
    .collect()
}

fn every_text(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            every_text(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("a source is text"));
        }
    }
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    /// Longer files want to be two.
    const LINES_MAX: usize = 700;
    let mut long = Vec::new();
    for (room, _) in FLOORS {
        for path in code_of(room).into_keys() {
            let lines = fs::read_to_string(&path).expect("a source is text").lines().count();
            if lines > LINES_MAX {
                long.push(format!("{}: {lines}", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}
