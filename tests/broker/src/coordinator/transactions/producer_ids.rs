//! Producer ids that nobody ever had, a block of them at a time (`RPCProducerIdManager`).

use duramen::KafkaErrorCode;
use kafka_protocol::ResponseError;
use std::{ops::Range, sync::Arc};
use tokio::sync::Mutex;

/// Ids in a block (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const BLOCK: i32 = 1000;

/// Where blocks of producer ids come from.
pub(crate) trait ProducerIds: Send + Sync {
    /// So many ids that were never given to anybody, and never will be again, whatever crashes. May block for as long as the
    /// disk takes.
    fn allocate(&self, count: i32) -> Result<Range<i64>, KafkaErrorCode>;
}

/// The rest of the present block.
pub(super) struct ProducerIdBlock {
    source: Arc<dyn ProducerIds>,
    /// Held while the next block comes: all who ask meanwhile want one of it.
    left: Mutex<Range<i64>>,
}

impl ProducerIdBlock {
    pub(super) fn new(source: Arc<dyn ProducerIds>) -> Self {
        Self { source, left: Mutex::new(0..0) }
    }

    /// An id of its own.
    pub(super) async fn next(&self) -> Result<i64, ResponseError> {
        let mut left = self.left.lock().await;
        if let Some(id) = left.next() {
            return Ok(id);
        }
        let source = Arc::clone(&self.source);
        let block = tokio::task::spawn_blocking(move || source.allocate(BLOCK)).await;
        // Whatever it was that failed, the client may ask again.
        *left = block.ok().and_then(Result::ok).ok_or(ResponseError::CoordinatorLoadInProgress)?;
        left.next().ok_or(ResponseError::UnknownServerError)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicI64, Ordering},
    };

    struct Counting(AtomicI64);

    impl ProducerIds for Counting {
        fn allocate(&self, count: i32) -> Result<Range<i64>, KafkaErrorCode> {
            let first = self.0.fetch_add(i64::from(count), Ordering::Relaxed);
            if first < 0 { Err(KafkaErrorCode::KafkaStorageError) } else { Ok(first..first + i64::from(count)) }
        }
    }

    #[tokio::test]
    async fn every_id_is_given_once_over_the_end_of_a_block() {
        let block = ProducerIdBlock::new(Arc::new(Counting(AtomicI64::new(0))));
        let mut given = BTreeSet::new();
        for _ in 0..2500 {
            assert!(given.insert(block.next().await.unwrap()));
        }
        assert_eq!((given.first(), given.last()), (Some(&0), Some(&2499)));
    }

    #[tokio::test]
    async fn failed_allocation_is_tried_again() {
        let block = ProducerIdBlock::new(Arc::new(Counting(AtomicI64::new(-1000))));
        assert_eq!(block.next().await, Err(ResponseError::CoordinatorLoadInProgress));
        assert_eq!(block.next().await, Ok(0));
    }
}
