//! What a cleaning would take of a log, in words and numbers.

use duramen::{Log, LogConfig, LogToClean};
use serde_json::{Value, json};

use crate::output;

/// What a cleaning would take, and why it is or is not due.
pub(crate) struct Verdict {
    pub(crate) to_clean: LogToClean,
    pub(crate) why: String,
}

impl Verdict {
    pub(crate) fn on(log: &Log, to_clean: LogToClean) -> Self {
        Self { why: why(log, &to_clean, &log.config()), to_clean }
    }

    /// Whether there is anything to clean, due or not.
    pub(crate) fn has_cleanable(&self) -> bool {
        self.to_clean.cleanable_bytes > 0
    }

    pub(crate) fn json(&self) -> Value {
        let to_clean = &self.to_clean;
        json!({
            "first_dirty_offset": to_clean.first_dirty_offset,
            "first_uncleanable_offset": to_clean.first_uncleanable_offset, "clean_bytes": to_clean.clean_bytes,
            "cleanable_bytes": to_clean.cleanable_bytes, "dirty_ratio": to_clean.cleanable_ratio(),
            "compaction_delay_ms": to_clean.compaction_delay_ms, "is_due": to_clean.is_eligible, "why": self.why,
        })
    }
}

fn why(log: &Log, to_clean: &LogToClean, config: &LogConfig) -> String {
    if to_clean.cleanable_bytes == 0 {
        return nothing_because(log, to_clean);
    }
    let (ratio, least) = (to_clean.cleanable_ratio(), config.min_cleanable_dirty_ratio);
    if to_clean.compaction_delay_ms > 0 {
        return format!("max.compaction.lag.ms has passed by {}", output::duration(to_clean.compaction_delay_ms));
    }
    let compared = if to_clean.is_eligible { "exceeds" } else { "does not exceed" };
    let text = format!("dirty ratio {ratio:.2} {compared} min.cleanable.dirty.ratio {least}");
    if to_clean.is_eligible { text } else { format!("{text}, and max.compaction.lag.ms has not passed") }
}

fn nothing_because(log: &Log, to_clean: &LogToClean) -> String {
    let (offsets, active_base) = (log.offsets(), log.reader().log_end().segment_base_offset);
    if to_clean.first_dirty_offset >= active_base {
        return format!("nothing is dirty below the active segment {active_base}");
    }
    if offsets.last_stable >= active_base {
        return "every dirty segment has records younger than min.compaction.lag.ms".to_owned();
    }
    let what = if offsets.last_stable < offsets.high_watermark {
        format!("the last stable offset {}", offsets.last_stable)
    } else {
        format!("the high watermark {}", offsets.high_watermark)
    };
    format!("{what} lies in the first dirty segment: nothing below it can be cleaned")
}
