//! Calls of what the host gave, on threads that others wait for.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls it. A panic ends here, after the host's panic hook has told of it: the thread has others to answer.
pub(in crate::manager) fn contained(call: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(call));
}
