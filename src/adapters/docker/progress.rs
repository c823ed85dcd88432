//! How far pulls have come, for whoever shows it.

use std::collections::BTreeMap;

use bollard::models::CreateImageInfo;
use tokio::sync::watch;

/// Pulls under way, by the image's complete name.
pub type Pulls = BTreeMap<String, PullProgress>;

/// How far a pull has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Bytes that have come.
    pub bytes_done: u64,
    /// Bytes there are, as far as Docker knows yet: layers are announced one by one.
    pub bytes_total: u64,
}

impl PullProgress {
    /// Of a hundred; none until anything is known.
    pub fn percent(&self) -> Option<u8> {
        let percent =
            (self.bytes_done.min(self.bytes_total) * 100).checked_div(self.bytes_total)?;
        u8::try_from(percent).ok()
    }
}

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

    /// Puts a pull on the board; it is taken off when the line is dropped.
    pub(super) fn line(&self, image: &str) -> Line {
        self.pulls.send_modify(|pulls| {
            pulls.insert(image.to_owned(), PullProgress::default());
        });
        Line { image: image.to_owned(), pulls: self.pulls.clone() }
    }
}

/// One pull's line on the board.
pub(super) struct Line {
    image: String,
    pulls: watch::Sender<Pulls>,
}

impl Line {
    pub(super) fn write(&self, progress: PullProgress) {
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
    layers: BTreeMap<String, PullProgress>,
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
            "Downloading" => {
                let layer = self.layers.entry(id.clone()).or_default();
                layer.bytes_done = bytes(detail.and_then(|d| d.current)).unwrap_or(0);
                layer.bytes_total =
                    bytes(detail.and_then(|d| d.total)).unwrap_or(0).max(layer.bytes_done);
            }
            // Unpacking is told in bytes of its own, which are not to be added.
            "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete" => {
                if let Some(layer) = self.layers.get_mut(id) {
                    layer.bytes_done = layer.bytes_total;
                }
            }
            _ => {}
        }
    }

    pub(super) fn sum(&self) -> PullProgress {
        self.layers.values().fold(PullProgress::default(), |sum, layer| PullProgress {
            bytes_done: sum.bytes_done + layer.bytes_done,
            bytes_total: sum.bytes_total + layer.bytes_total,
        })
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
            (message("a", "Downloading", 50, 100), Some(50)),
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
    }

    #[test]
    fn a_line_is_wiped_when_its_pull_ends() {
        let board = Board::default();
        let seen = board.subscribe();
        let line = board.line("x");
        line.write(PullProgress { bytes_done: 1, bytes_total: 2 });
        assert_eq!(seen.borrow().get("x").and_then(PullProgress::percent), Some(50));
        drop(line);
        assert!(seen.borrow().is_empty());
    }
}
