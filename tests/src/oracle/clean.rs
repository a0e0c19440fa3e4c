//! One pass of the cleaner.

use super::{
    Answer, Driver,
    answers::{self, Failure},
    request::Request,
};
use duramen::{CleanerControl, CleanerOptions};
use serde_json::json;

impl Driver {
    /// Cleans what may be cleaned from the end of the last pass on, whatever the dirty ratio.
    pub(super) fn clean(&mut self, request: &Request) -> Answer {
        let (now_ms, checkpoint) = (self.now_ms, self.cleaner_checkpoint);
        let bytes = |field: &str, otherwise: i64| {
            Ok::<_, Failure>(usize::try_from(request.optional(field)?.unwrap_or(otherwise)).unwrap_or(0))
        };
        let options = CleanerOptions {
            dedupe_buffer_bytes: bytes("dedupe_buffer_bytes", 1 << 20)?,
            io_buffer_bytes: bytes("io_buffer_bytes", 512 << 10)?,
            ..CleanerOptions::default()
        };
        let log = self.log()?;
        let target = log.log_to_clean(checkpoint, now_ms)?;
        let mut answer = answers::fields([
            ("first_dirty_offset", json!(target.first_dirty_offset)),
            ("first_uncleanable_offset", json!(target.first_uncleanable_offset)),
            ("clean_bytes", json!(target.clean_bytes)),
            ("cleanable_bytes", json!(target.cleanable_bytes)),
            ("cleaned", json!(target.cleanable_bytes > 0)),
        ]);
        if target.cleanable_bytes == 0 {
            return Ok(answer);
        }
        let stats = log.clean(&target, &options, now_ms, &mut |_| CleanerControl::Continue)?;
        self.cleaner_checkpoint = Some(stats.end_offset);
        answer.extend(answers::fields([
            ("end_offset", json!(stats.end_offset)),
            ("map_messages_read", json!(stats.map_messages_read)),
            ("messages_read", json!(stats.messages_read)),
            ("messages_written", json!(stats.messages_written)),
            ("invalid_messages", json!(stats.invalid_messages)),
            ("bytes_read", json!(stats.bytes_read)),
            ("bytes_written", json!(stats.bytes_written)),
        ]));
        Ok(answer)
    }
}
