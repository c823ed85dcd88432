//! How far pulls have come, for whoever shows it.

use std::collections::BTreeMap;

use bollard::models::CreateImageInfo;
use tokio::sync::watch;

use crate::ports::runtime::{PullProgress, Pulls};

/// What is shown.
pub(super) struct Board {
    pulls: watch::Sender<Pulls>,
}

impl Default for Board {
    fn default() -> Self {
        Self { pulls: watch::Sender::new(Pulls::new()) }
    }
}

impl Board {
    pub(super) fn subscribe(&self) -> watch::Receiver<Pulls> {
        self.pulls.subscribe()
    }

    /// Puts a pull on the board, which waits at first; it is taken off when the line is dropped.
    pub(super) fn line(&self, image: &str) -> Line {
        self.pulls.send_modify(|pulls| {
            let queued = PullProgress { is_queued: true, ..PullProgress::default() };
            pulls.insert(image.to_owned(), queued);
        });
        Line { image: image.to_owned(), pulls: self.pulls.clone() }
    }
}

/// One pull's line on the board.
pub(crate) struct Line {
    image: String,
    pulls: watch::Sender<Pulls>,
}

impl Line {
    pub(crate) fn write(&self, progress: PullProgress) {
        self.pulls.send_if_modified(|pulls| {
            let before = pulls.insert(self.image.clone(), progress);
            before != Some(progress)
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.pulls.send_modify(|pulls| {
            pulls.remove(&self.image);
        });
    }
}

/// Adds up what Docker tells of each layer.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: BTreeMap<String, Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    bytes_done: u64,
    bytes_total: Option<u64>,
    is_in_place: bool,
}

impl Layers {
    /// Takes one message of Docker's.
    pub(super) fn take(&mut self, message: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&message.id, &message.status) else {
            return;
        };
        let detail = message.progress_detail.as_ref();
        let bytes = |amount: Option<i64>| amount.and_then(|bytes| u64::try_from(bytes).ok());
        match status.as_str() {
            "Pulling fs layer" | "Waiting" => {
                self.layer(id);
            }
            "Downloading" => {
                let layer = self.layer(id);
                layer.bytes_done = bytes(detail.and_then(|d| d.current)).unwrap_or(0);
                let total = bytes(detail.and_then(|d| d.total)).unwrap_or(0);
                layer.bytes_total = Some(total.max(layer.bytes_done));
            }
            // Unpacking is told in bytes of its own, which are not to be added.
            "Verifying Checksum" | "Download complete" | "Extracting" => self.layer(id).has_come(),
            "Pull complete" | "Already exists" => {
                let layer = self.layer(id);
                layer.has_come();
                layer.is_in_place = true;
            }
            _ => {}
        }
    }

    fn layer(&mut self, id: &str) -> &mut Layer {
        self.layers.entry(id.to_owned()).or_default()
    }

    pub(super) fn sum(&self) -> PullProgress {
        self.layers.values().fold(PullProgress::default(), |sum, layer| PullProgress {
            is_queued: false,
            bytes_done: sum.bytes_done + layer.bytes_done,
            bytes_total: sum.bytes_total + layer.bytes_total.unwrap_or(0),
            layers_done: sum.layers_done + u32::from(layer.is_in_place),
            layers_total: sum.layers_total + 1,
            layers_unsized: sum.layers_unsized + u32::from(layer.bytes_total.is_none()),
        })
    }
}

impl Layer {
    /// A small layer may come without a word about its size.
    fn has_come(&mut self) {
        self.bytes_done = *self.bytes_total.get_or_insert(self.bytes_done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    fn message(id: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn layers_add_up() {
        let mut layers = Layers::default();
        let table = [
            (message("latest", "Pulling from library/x", 0, 0), None),
            (message("a", "Pulling fs layer", 0, 0), None),
            (message("a", "Downloading", 50, 100), Some(50)),
            (message("b", "Waiting", 0, 0), None),
            (message("b", "Downloading", 0, 100), Some(25)),
            (message("a", "Download complete", 0, 0), Some(50)),
            (message("a", "Extracting", 1, 300), Some(50)),
            (message("c", "Already exists", 0, 0), Some(50)),
            (message("b", "Pull complete", 0, 0), Some(100)),
        ];
        for (message, percent) in table {
            layers.take(&message);
            assert_eq!(layers.sum().percent(), percent, "{message:?}");
        }
        let sum = layers.sum();
        assert_eq!((sum.layers_done, sum.layers_total, sum.layers_unsized), (2, 3, 0));
    }

    #[test]
    fn a_line_is_wiped_when_its_pull_ends() {
        let board = Board::default();
        let seen = board.subscribe();
        let line = board.line("x");
        assert!(seen.borrow().get("x").is_some_and(|pull| pull.is_queued));
        line.write(PullProgress { bytes_done: 1, bytes_total: 2, ..PullProgress::default() });
        assert_eq!(seen.borrow().get("x").and_then(PullProgress::percent), Some(50));
        drop(line);
        assert!(seen.borrow().is_empty());
    }
}
