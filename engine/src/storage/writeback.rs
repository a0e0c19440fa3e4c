//! Beginning to write bytes out before anybody waits for them.

#![allow(unsafe_code)]

use super::File;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// Has the kernel start writing the dirty pages of a range (`sync_file_range`), and does not wait for them. What goes
/// wrong with that is told by the sync that follows: only a call that waits takes note of errors.
pub(super) fn begin(file: &File, at: u64, len: u64) {
    let (Ok(at), Ok(len)) = (libc::off64_t::try_from(at), libc::off64_t::try_from(len)) else {
        return;
    };
    // SAFETY: the call takes a descriptor, which is borrowed for its time, and numbers.
    let begun = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), at, len, libc::SYNC_FILE_RANGE_WRITE) };
    // A file system that cannot leaves everything to the sync.
    let _ = begun;
}
