//! What the documents say of the program is what the program does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use windlass::desired::support::{self, Verdict};
use windlass::kinds::registry::{KINDS, Support};

/// Set to 1, it writes the documents anew instead of comparing them.
const WRITE: &str = "WINDLASS_WRITE_DOCS";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn must_be(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os(WRITE).is_some_and(|value| value == "1") {
        std::fs::write(&path, text).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{} is out of date: run the tests with {WRITE}=1", path.display());
}

fn kinds_table(text: &mut String) {
    text.push_str("| kind | apiVersion | what happens to it |\n|---|---|---|\n");
    for info in KINDS {
        let what = match info.support {
            Support::Runs => "carried out".to_owned(),
            Support::Shown => {
                format!("accepted with a warning: {}", support::consequence(info.kind))
            }
            Support::Refused => format!("refused: {}", support::refusal(info.kind)),
            Support::Made => "made by Windlass, for you to look at".to_owned(),
        };
        let group = if info.group.is_empty() { String::new() } else { format!("{}/", info.group) };
        let _ = writeln!(text, "| {} | {group}{} | {what} |", info.name, info.version);
    }
}

fn fields_table(text: &mut String) {
    let mut types: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for field in support::fields() {
        let (runs, rest) = types.entry(field.definition).or_default();
        let but = if field.except.is_empty() {
            String::new()
        } else {
            format!(" (but for {})", field.except.join(", "))
        };
        match field.verdict {
            Verdict::Runs => runs.push(field.field),
            Verdict::Shown => rest.push(format!("`{}` is shown: {}", field.field, field.sentence)),
            Verdict::Warned => {
                rest.push(format!("`{}` warns: {}{but}", field.field, field.sentence));
            }
            Verdict::Refused => {
                rest.push(format!("`{}` is refused: {}{but}", field.field, field.sentence));
            }
            Verdict::Dropped => rest.push(format!("`{}` is left out", field.field)),
        }
    }
    text.push_str("| type | carried out | not simply carried out |\n|---|---|---|\n");
    for (name, (mut runs, rest)) in types {
        runs.sort_unstable();
        let _ = writeln!(text, "| {name} | {} | {} |", runs.join(" "), rest.join("<br>"));
    }
}

#[test]
fn the_table_of_what_is_supported_is_true() {
    let mut text = "# What is supported, kind by kind and field by field\n\n\
        Made from the list by which manifests are judged (`src/desired/support.rs`); a test compares \
        them. What is missing here is not known to Kubernetes and is refused with the nearest right \
        name.\n\n"
        .to_owned();
    kinds_table(&mut text);
    text.push('\n');
    fields_table(&mut text);
    must_be("docs/SUPPORT.md", &text);
}

#[test]
fn the_shipped_configuration_is_one_that_the_agent_takes() {
    let path = root().join("systemd/agent.yaml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let scratch = crate::support::scratch("agent-yaml");
    let refused = windlass::cli::config::load(&path, "n1", "0").expect_err("no repository yet");
    assert_eq!(refused.complaints, ["desired.url: is missing"]);
    let filled = scratch.path().join("agent.yaml");
    std::fs::write(&filled, text.replace("url: \"\"", "url: /srv/desired.git")).expect("written");
    let loaded = windlass::cli::config::load(&filled, "n1", "0").expect("nothing is wrong with it");
    // Every default that the file shows is the default.
    let bare = scratch.path().join("bare.yaml");
    std::fs::write(&bare, "desired: {url: /srv/desired.git}\n").expect("written");
    let bare = windlass::cli::config::load(&bare, "n1", "0").expect("enough");
    assert_eq!(format!("{:?}", loaded.agent), format!("{:?}", bare.agent));
    assert_eq!(format!("{:?}", loaded.file), format!("{:?}", bare.file));
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let verify = std::process::Command::new("systemd-analyze").arg("--version").output();
    if !verify.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED the_unit_is_one_that_systemd_takes: systemd-analyze is missing");
        return;
    }
    let text =
        std::fs::read_to_string(root().join("systemd/windlass.service")).expect("it is there");
    let scratch = crate::support::scratch("unit");
    let unit = scratch.path().join("windlass.service");
    // The program is not installed where tests run.
    std::fs::write(&unit, text.replace("/usr/local/bin/windlass", "/bin/true")).expect("written");
    let output = std::process::Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It also looks at units of the machine that ours wants; only what is said of ours counts.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("windlass")).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn what_happens_when_parts_of_a_fleet_fail_is_tested_row_by_row() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let page = read("docs/FLEET.md");
    let files = std::fs::read_dir(root().join("tests/e2e")).expect("it is there").flatten();
    let files = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let tests: String = files
        .filter(|name| name.starts_with("fleet"))
        .map(|name| read(&format!("tests/e2e/{name}")))
        .collect();
    let rows = page.lines().filter(|line| line.ends_with("` |"));
    let named = rows.filter_map(|row| row.trim_end_matches("` |").rsplit('`').next());
    let named: std::collections::BTreeSet<&str> = named.collect();
    let names = tests.lines().scan(false, |is_test, line| {
        let was_test = std::mem::replace(is_test, line == "#[test]");
        Some(line.strip_prefix("fn ").filter(|_| was_test).and_then(|line| line.split('(').next()))
    });
    assert_eq!(named, names.flatten().collect());
}
