//! Rows, and the one table they become.

use std::path::Path;
use std::time::Duration;

use windlass::adapters::clock;

/// What an amount is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Shown as milliseconds below one.
    Seconds,
    Megabytes,
    MegabytesADay,
    Kilobytes,
    Plain,
    /// Of one core.
    Percent,
}

/// One figure.
pub(crate) struct Row {
    what: String,
    unit: Unit,
    here: f64,
    floor: Option<f64>,
    target: f64,
    /// In words, as it was measured.
    kubernetes: &'static str,
}

impl Row {
    /// A figure, told as soon as it is known; some take minutes.
    pub(crate) fn new(what: impl Into<String>, unit: Unit, here: f64, target: f64) -> Self {
        let row = Self { what: what.into(), unit, here, floor: None, target, kubernetes: "" };
        eprintln!("{}: {}", row.what, unit.text(here));
        row
    }

    /// The same of a time.
    pub(crate) fn time(what: impl Into<String>, here: Duration, target_s: f64) -> Self {
        Self::new(what, Unit::Seconds, here.as_secs_f64(), target_s)
    }

    /// What others cost by themselves, in the same run.
    pub(crate) fn floor(self, floor: Duration) -> Self {
        Self { floor: Some(floor.as_secs_f64()), ..self }
    }

    /// What Kubernetes needs on such a machine.
    pub(crate) fn kubernetes(self, words: &'static str) -> Self {
        Self { kubernetes: words, ..self }
    }

    fn cells(&self) -> [String; 5] {
        let missed = if self.here > self.target { " (missed)" } else { "" };
        [
            self.what.clone(),
            self.unit.text(self.here),
            self.floor.map(|floor| self.unit.text(floor)).unwrap_or_default(),
            format!("{}{missed}", self.unit.text(self.target)),
            self.kubernetes.to_owned(),
        ]
    }
}

impl Unit {
    fn text(self, amount: f64) -> String {
        match self {
            Self::Seconds if amount < 0.01 => format!("{:.1} ms", amount * 1e3),
            Self::Seconds if amount < 1.0 => format!("{:.0} ms", amount * 1e3),
            Self::Seconds => format!("{amount:.2} s"),
            Self::Megabytes => format!("{amount:.0} MB"),
            Self::MegabytesADay => format!("{amount:.0} MB a day"),
            Self::Kilobytes => format!("{amount:.1} kB"),
            Self::Plain => format!("{amount:.1}"),
            Self::Percent => format!("{amount:.2} %"),
        }
    }
}

/// The rows as an aligned table, which is Markdown too.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["what", "here", "floor", "target", "Kubernetes"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(Row::cells));
    let width =
        |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let line = |cells: &[String; 5]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule = widths.map(|width| "-".repeat(width + 2)).join("|");
    let mut text = line(&lines[0]);
    text.push_str(&format!("|{rule}|\n"));
    text.extend(lines[1..].iter().map(line));
    text
}

/// Which machine this is, and how busy it was to begin with.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let version = |program: &str| {
        let output = std::process::Command::new(program).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let number = words.map(|word| word.trim_start_matches('v')).find(|word| {
            word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.')
        });
        number.unwrap_or("?").to_owned()
    };
    let today = clock::now().wall.to_string();
    let day = today.split('T').next().unwrap_or_default();
    let os = read("/etc/os-release");
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?");
    let load = read("/proc/loadavg");
    format!(
        "{day}, {} cores, {}, kernel {}, Docker {}, iptables {}, Git {}; load {} when it began.",
        std::thread::available_parallelism().map_or(1, usize::from),
        os.trim_matches('"'),
        read("/proc/sys/kernel/osrelease").trim(),
        version("dockerd"),
        version("iptables").trim(),
        version("git").trim(),
        load.split(' ').next().unwrap_or("?"),
    )
}

const BEGIN: &str = "<!-- make bench writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Puts the table in its place in docs/BENCHMARKS.md.
pub(crate) fn write_docs(machine: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/BENCHMARKS.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (_, after) = rest.split_once(END).expect("the place has an end");
    let page = format!("{before}{BEGIN}{machine}\n\n{table}{END}{after}");
    std::fs::write(&path, page).expect("the page can be written");
    eprintln!("written to {}", path.display());
}
