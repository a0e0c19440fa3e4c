//! How the trace tells that an operation succeeded.

use duramen::storage::{Entry, File};

/// How a success reads in the trace.
pub(super) trait Outcome {
    fn outcome(&self) -> String {
        "ok".into()
    }
}

impl Outcome for () {}
impl Outcome for File {}

impl Outcome for usize {
    fn outcome(&self) -> String {
        self.to_string()
    }
}

impl Outcome for u64 {
    fn outcome(&self) -> String {
        self.to_string()
    }
}

impl Outcome for Vec<Entry> {
    fn outcome(&self) -> String {
        format!("{} entries", self.len())
    }
}

impl Outcome for i64 {
    fn outcome(&self) -> String {
        self.to_string()
    }
}
