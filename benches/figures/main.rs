//! What Windlass costs, beside what Docker, the kernel and Git cost by themselves: `make bench`.
//!
//! ```text
//!   agent ──▶ rows ┐
//!   desired ─▶ rows ├─▶ one table on stdout ─▶ docs/BENCHMARKS.md (with WINDLASS_WRITE_DOCS=1)
//!   plan ───▶ rows │
//!   rules ──▶ rows │
//!   load ───▶ rows │
//!   offline ─▶ rows │
//!   coordinator ─▶ │
//!   fleet ──▶ rows ┘
//! ```
//! Floors are measured in the same run as what stands on them, so that a slow machine is slow for both.
//! `cargo bench -- plan rules` measures these parts only, and writes nothing.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to whoever ran it"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(dead_code, reason = "the tests use more of what is shared with them")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod agent;
mod coordinator;
mod desired;
mod fleet;
mod load;
mod offline;
mod plan;
mod row;
mod rules;

use row::Row;

/// A part's name, and how its rows are had.
type Part = (&'static str, fn() -> Vec<Row>);

const PARTS: [Part; 8] = [
    ("agent", agent::rows),
    ("desired", desired::rows),
    ("plan", plan::rows),
    ("rules", rules::rows),
    ("coordinator", coordinator::rows),
    ("load", load::rows),
    ("offline", offline::rows),
    ("fleet", fleet::rows),
];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if asked.iter().any(|arg| arg == coordinator::CHILD) {
        return coordinator::hold();
    }
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|arg| arg == name);
    let machine = row::machine();
    eprintln!("{machine}");
    let mut rows = Vec::new();
    let mut is_whole = true;
    for (name, part) in PARTS {
        let measured = if is_asked(name) { part() } else { Vec::new() };
        is_whole &= !measured.is_empty();
        rows.extend(measured);
    }
    let table = row::table(&rows);
    println!("{machine}\n\n{table}");
    if std::env::var_os("WINDLASS_WRITE_DOCS").is_some_and(|value| value == "1") {
        if is_whole {
            row::write_docs(&machine, &table);
        } else {
            eprintln!("docs/BENCHMARKS.md stays as it is: not every part was measured");
        }
    }
}
