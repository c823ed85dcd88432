//! What systemd is told: that the agent is ready, that it is alive, and in a line how it is.
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use sd_notify::NotifyState;

use crate::view::picture::Picture;

/// Talks to systemd, if it is there.
#[derive(Debug, Default)]
pub(super) struct Notify {
    is_ready: bool,
    status: String,
}

impl Notify {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Called after every look: the process is alive, and this is how it is.
    pub(super) fn pulse(&mut self, picture: &Picture) {
        let status = status(picture);
        let mut states = vec![NotifyState::Watchdog];
        // Ready is who has read the store: from then on its pods are looked after.
        if !self.is_ready && picture.is_known {
            self.is_ready = true;
            states.push(NotifyState::Ready);
        }
        if status != self.status {
            states.push(NotifyState::Status(&status));
        }
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&states);
        self.status = status;
    }
}

fn status(picture: &Picture) -> String {
    let pods = picture.state.pods_of(&picture.node).map_or(0, |pods| pods.len());
    let revision = picture
        .state
        .apps
        .values()
        .find_map(|app| app.head.applied.as_ref())
        .map_or("no revision", |applied| applied.revision.short());
    let health = &picture.health;
    let faults = [
        &health.source_fault,
        &health.load_fault,
        &health.store_fault,
        &health.runtime_fault,
        &health.network_fault,
    ];
    match faults.into_iter().flatten().next() {
        Some(fault) => format!("{revision}, {pods} pods; {fault}"),
        None => format!("{revision}, {pods} pods"),
    }
}
