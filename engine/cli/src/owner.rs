//! Whether somebody has a log directory open, without taking its lock.

use duramen::format::names;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use std::{fs::File, path::Path};

/// Whether the lock of the log directory is held, by Kafka or by this engine.
#[allow(clippy::cast_possible_truncation)] // the constants are 0 to 2; libc gives them the wrong width
pub(crate) fn is_there(home: &Path) -> bool {
    let Ok(lock) = File::open(home.join(names::LOCK)) else { return false };
    let mut asked = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0, // to the end
        l_pid: 0, // as it has to be
    };
    fcntl(&lock, FcntlArg::F_OFD_GETLK(&mut asked)).is_ok() && asked.l_type != libc::F_UNLCK as libc::c_short
}
