//! The time, as records have it and as time-outs need it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A clock that runs evenly beside the one on the wall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    /// Both show the same now.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), started_ms: wall_ms() }
    }

    /// The time in ms, as on the wall when the clock was started, and since then at an even pace: sessions do not end because
    /// somebody set the machine's clock.
    pub(crate) fn steady_ms(&self) -> i64 {
        let since_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_ms.saturating_add(since_ms)
    }

    /// The moment at which [`Clock::steady_ms`] is `at_ms`.
    pub(crate) fn instant(&self, at_ms: i64) -> Instant {
        let after_ms = u64::try_from(at_ms.saturating_sub(self.started_ms)).unwrap_or(0);
        // A deadline that no instant can tell is never reached.
        self.started.checked_add(Duration::from_millis(after_ms)).unwrap_or_else(|| self.started + NEVER)
    }
}

const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The time on the wall, in ms since 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
