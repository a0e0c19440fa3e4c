//! Memory for large requests, over all connections (`queued.max.request.bytes`).
//!
//! Keeps: a request gets its share before its bytes are read, and gives it back once it was handled; one that is larger than
//! all there is gets all of it.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests up to this many bytes need no share: each connection has at most one.
const FREE_BYTES: usize = 64 << 10;
/// Bytes that one permit stands for: a semaphore counts to 2^29 at least.
const UNIT_BYTES: u64 = 1 << 10;
/// All there is where Kafka knows no limit: a connection can announce 100 MiB and stop there, and so can a thousand.
const DEFAULT_BYTES: u64 = 512 << 20;

/// What large requests may hold together.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

/// A share, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _units: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes: Option<u64>) -> Self {
        let all = units(bytes.unwrap_or(DEFAULT_BYTES)).max(1);
        Self { units: Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX))), all }
    }

    /// Waits until there is enough for a request of so many bytes.
    pub(super) async fn share(&self, bytes: usize) -> Share {
        if bytes <= FREE_BYTES {
            return Share { _units: None };
        }
        let wanted = units(u64::try_from(bytes).unwrap_or(u64::MAX)).min(self.all);
        // It fails only where the semaphore is closed, which nobody does.
        Share { _units: Arc::clone(&self.units).acquire_many_owned(wanted).await.ok() }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(1 << 28)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn large_requests_wait_for_each_other_and_small_ones_for_nobody() {
        let budget = Budget::new(Some(1 << 20));
        let large = budget.share(900 << 10).await;
        drop(budget.share(FREE_BYTES).await);
        assert!(timeout(Duration::from_millis(10), budget.share(200 << 10)).await.is_err());
        drop(large);
        drop(budget.share(200 << 10).await);
    }

    #[tokio::test]
    async fn request_above_all_there_is_gets_all_of_it() {
        let budget = Budget::new(Some(1 << 20));
        let all = budget.share(100 << 20).await;
        assert_eq!(budget.units.available_permits(), 0);
        drop(all);
        assert_eq!(budget.units.available_permits(), 1 << 10);
    }
}
