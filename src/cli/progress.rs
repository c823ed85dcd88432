//! How far long work has come: a bar on a terminal, lines otherwise.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// How far something has come; shown on standard error.
pub struct Progress {
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
    said: String,
}

impl Progress {
    /// Work of so many steps.
    pub fn new(steps: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps as u64);
            // The template is ours and right; the default would do as well.
            if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, said: String::new() }
    }

    /// A step begins.
    pub fn step(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(what.to_owned());
                bar.inc(1);
            }
            None => self.line(what),
        }
    }

    /// So much is done, of so much.
    pub fn reach(&mut self, done: usize, of: usize, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
                bar.set_message(what.to_owned());
            }
            None => self.line(what),
        }
    }

    /// All is done.
    pub fn end(mut self, what: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.line(what);
    }

    fn line(&mut self, what: &str) {
        if self.said != what {
            super::complain(what);
            what.clone_into(&mut self.said);
        }
    }
}
