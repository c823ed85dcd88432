//! How long to wait before trying again.
//!
//! Kubernetes': a container that ended is started again at once, then after 10 s, doubling to
//! 5 minutes; ten minutes of good run wipe the slate (`MaxContainerBackOff`,
//! `backOffPeriod`, `kuberuntime_manager.doBackOff`). The same steps serve images.

use std::time::Duration;

use crate::kinds::time::Elapsed;

/// The first wait.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);
/// A run this long counts as good.
const GOOD_RUN: Duration = Duration::from_secs(600);

/// The wait before the next start, given the wait that stood before this one, which start this was
/// (0 for the first) and how long it ran.
pub(crate) fn restart_delay(before: Duration, attempt: u32, ran: Duration) -> Duration {
    if ran >= GOOD_RUN || attempt == 0 {
        return Duration::ZERO;
    }
    if before.is_zero() { FIRST } else { (before * 2).min(LONGEST) }
}

/// Something that failed and is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// How often in a row.
    pub(crate) count: u32,
    /// When it last failed.
    pub(crate) at: Elapsed,
    /// One word for people.
    pub(crate) reason: String,
    /// One sentence for people.
    pub(crate) message: String,
    /// Whether it is to be tried again at once.
    pub(crate) is_forgiven: bool,
}

impl Trouble {
    /// Once more.
    pub(crate) fn again(before: Option<&Self>, at: Elapsed, reason: &str, message: String) -> Self {
        let count = before.map_or(0, |trouble| trouble.count).saturating_add(1);
        Self { count, at, reason: reason.to_owned(), message, is_forgiven: false }
    }

    /// When to try again with Kubernetes' steps.
    pub(crate) fn retry_at(&self) -> Elapsed {
        if self.is_forgiven { self.at } else { self.at + doubled(FIRST, self.count, LONGEST) }
    }

    /// What stood in the way may be gone: to be tried again at once. The next failure waits as long
    /// as it would have without this.
    pub(crate) fn forgive(&mut self, now: Elapsed) {
        self.at = now;
        self.is_forgiven = true;
    }

    /// When to try again where the cause is ours and likely short: 200 ms, doubling to 30 s.
    pub(crate) fn retry_soon_at(&self) -> Elapsed {
        self.at + doubled(Duration::from_millis(200), self.count, Duration::from_secs(30))
    }
}

fn doubled(first: Duration, count: u32, longest: Duration) -> Duration {
    let power = count.saturating_sub(1).min(16);
    (first * 2_u32.saturating_pow(power)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crashing_container_waits_as_in_kubernetes() {
        let mut waits = Vec::new();
        let mut before = Duration::ZERO;
        for attempt in 0..9 {
            before = restart_delay(before, attempt, Duration::from_secs(1));
            waits.push(before.as_secs());
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        let after_good_run = restart_delay(LONGEST, 9, Duration::from_secs(600));
        assert_eq!(after_good_run, Duration::ZERO);
    }

    #[test]
    fn image_pulls_wait_longer_each_time() {
        let mut trouble = None;
        let mut waits = Vec::new();
        for _ in 0..7 {
            let next =
                Trouble::again(trouble.as_ref(), Elapsed::default(), "ErrImagePull", String::new());
            waits.push(next.retry_at().since(Elapsed::default()).as_secs());
            trouble = Some(next);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn what_is_forgiven_is_tried_at_once_and_not_forgotten() {
        let at = |seconds| Elapsed::default() + Duration::from_secs(seconds);
        let failed = |before: Option<&Trouble>, seconds| {
            Trouble::again(before, at(seconds), "ErrImagePull", String::new())
        };
        let mut trouble = failed(Some(&failed(None, 0)), 10);
        assert_eq!(trouble.retry_at(), at(30));
        trouble.forgive(at(12));
        assert_eq!(trouble.retry_at(), at(12));
        assert_eq!(failed(Some(&trouble), 13).retry_at(), at(53), "the third wait");
    }
}
