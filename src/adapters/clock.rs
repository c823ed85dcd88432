//! The one place that reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::kinds::time::{Elapsed, Now, Wall};

/// Reads both clocks of this machine.
#[allow(clippy::disallowed_methods)] // This is where `Now` comes from.
pub fn now() -> Now {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        // A clock before 1970: a machine that lost its battery.
        Err(error) => i64::try_from(error.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    Now { elapsed: Elapsed::new(since_boot), wall: Wall::from_millis(wall) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_only_goes_forward() {
        let before = now();
        let after = now();
        assert!(after.elapsed >= before.elapsed);
        assert!(before.elapsed.since_boot() > Duration::ZERO);
        assert!(before.wall.seconds() > 1_700_000_000, "or this machine's clock is wrong");
    }
}
