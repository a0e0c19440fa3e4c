//! Appending a batch without keeping a thread of the runtime.

use super::{Refusal, prepare::Prepared};
use duramen::{Append, AppendAsLeader, Durability, KafkaErrorCode, TryAppendError};
use tokio::time::{Instant, timeout_at};

/// Appends a batch; waits, but not beyond the deadline, while the log directory has as much on its way to the disk as it may
/// have. The write itself, to memory or to the page cache, is done on the thread of the runtime, and so is a roll with its
/// sync: to hand the thread's other tasks over costs more than most writes, and rolls are rare.
pub(super) async fn append(
    prepared: Prepared,
    durability: Durability,
    now_ms: i64,
    deadline: Instant,
) -> Result<Append, Refusal> {
    let Prepared { hosted, mut batch, guard } = prepared;
    let leader = AppendAsLeader::new(hosted.leader_epoch, now_ms).with_guard(guard);
    loop {
        match hosted.partition.try_append_as_leader(batch, leader, durability) {
            Ok(append) => return Ok(append),
            Err(TryAppendError::Failed(error)) => return Err(Refusal::from(error)),
            Err(TryAppendError::Busy(again)) => batch = again,
        }
        let room = hosted.partition.room(batch.bytes().len())?;
        match timeout_at(deadline, room).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Refusal::new(error.kafka_error_code(), error)),
            // Nothing was appended: a producer that tries again puts nothing in twice.
            Err(_) => return Err(Refusal::from(KafkaErrorCode::RequestTimedOut)),
        }
    }
}
