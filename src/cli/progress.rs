//! What a person sees while something takes its time: a line that renews itself on a terminal, a line
//! now and then otherwise. All of it on standard error.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::out::talk;
use crate::adapters::clock;
use crate::kinds::time::Elapsed;

/// Whatever is over by then needs no word.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the line renews itself.
const STEP: Duration = Duration::from_millis(100);
/// How often there is a line where lines stay.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How wide the bar is.
const BAR: usize = 30;
/// Takes a line that renews itself off the screen.
const WIPE: &str = "\r\x1b[K";

/// Waits for something, and says so if it takes long.
pub(super) async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let is_terminal = std::io::stderr().is_terminal();
    let began = clock::now().elapsed;
    let mut has_line = false;
    loop {
        let pause = if !has_line {
            PATIENCE
        } else if is_terminal {
            STEP
        } else {
            LINE_EVERY
        };
        if let Ok(done) = tokio::time::timeout(pause, &mut work).await {
            if has_line && is_terminal {
                talk(WIPE);
            }
            return done;
        }
        let seconds = clock::now().elapsed.since(began).as_secs();
        if is_terminal {
            talk(&format!("{WIPE}{what} … {seconds} s"));
        } else {
            talk(&format!("{what} … {seconds} s\n"));
        }
        has_line = true;
    }
}

/// A bar for work whose end is known.
pub(super) struct Bar {
    what: &'static str,
    total: usize,
    is_terminal: bool,
    began: Elapsed,
    shown: Elapsed,
    has_line: bool,
}

impl Bar {
    /// A bar that shows nothing yet.
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        let began = clock::now().elapsed;
        let is_terminal = std::io::stderr().is_terminal();
        Self { what, total, is_terminal, began, shown: began, has_line: false }
    }

    /// So much is done.
    pub(super) fn at(&mut self, done: usize) {
        let now = clock::now().elapsed;
        let step = if self.is_terminal { STEP } else { LINE_EVERY };
        if now.since(self.began) < PATIENCE || now.since(self.shown) < step {
            return;
        }
        self.shown = now;
        self.has_line = true;
        let line = line(self.what, done, self.total);
        if self.is_terminal {
            talk(&format!("{WIPE}{line}"));
        } else {
            talk(&format!("{line}\n"));
        }
    }

    /// Takes the bar off the screen.
    pub(super) fn end(self) {
        if self.has_line && self.is_terminal {
            talk(WIPE);
        }
    }
}

/// Work whose steps have names: each is worth a line, even a short one.
#[derive(Debug)]
pub(super) struct Steps {
    done: usize,
    total: usize,
    is_terminal: bool,
    said: String,
}

impl Steps {
    /// So many steps.
    pub(super) fn new(total: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { done: 0, total, is_terminal, said: String::new() }
    }

    /// The next step begins.
    pub(super) fn step(&mut self, what: &str) {
        let (done, total) = (self.done, self.total);
        self.reach(done, total, what);
        self.done = done + 1;
    }

    /// So much is done, of so much.
    pub(super) fn reach(&mut self, done: usize, total: usize, what: &str) {
        (self.done, self.total) = (done, total);
        if self.is_terminal {
            talk(&format!("{WIPE}{}  {what}", line("", done, total).trim_start()));
        } else if self.said != what {
            talk(&format!("{what}\n"));
            what.clone_into(&mut self.said);
        }
    }

    /// All is done.
    pub(super) fn end(self, what: &str) {
        talk(&format!("{}{what}\n", if self.is_terminal { WIPE } else { "" }));
    }
}

fn line(what: &str, done: usize, total: usize) -> String {
    let full = (BAR * done).checked_div(total).unwrap_or(BAR).min(BAR);
    let bar: String = (0..BAR).map(|at| if at < full { '#' } else { '.' }).collect();
    format!("{what} [{bar}] {done} of {total}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        assert_eq!(line("x", 0, 2), format!("x [{}] 0 of 2", ".".repeat(BAR)));
        assert_eq!(line("x", 1, 2), format!("x [{}{}] 1 of 2", "#".repeat(15), ".".repeat(15)));
        assert_eq!(line("x", 0, 0), format!("x [{}] 0 of 0", "#".repeat(BAR)));
    }
}
