//! From a file to a socket without passing through this process.
//!
//! Owns the loops round `sendfile`: partial sends, interruptions, full sockets, and the file that is shorter than
//! promised. Knows nothing of whether the bytes may still change; that is the caller's to keep.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::sendfile::sendfile64,
    unistd::write,
};

use super::{File, posix};

/// The most asked of one call: the kernel moves less than 2 GiB at a time anyway.
const CHUNK_BYTES: u64 = 1 << 30;

/// Sends up to `len` bytes of `file` from byte position `position` to `socket` and returns how many went: `len`, or
/// fewer if the socket is non-blocking and full. A blocking socket is waited for.
///
/// A peer that has gone is an error, not a signal, provided that the process ignores `SIGPIPE`, as Rust's runtime sees
/// to.
///
/// # Errors
/// `WouldBlock` if the socket is full and nothing was sent; `UnexpectedEof` if the file ends before `position + len`;
/// otherwise what the socket or the disk says, and the connection is then at an unknown place in the bytes.
pub fn send(file: &File, position: u64, len: u64, socket: BorrowedFd<'_>) -> io::Result<u64> {
    let start = libc::off64_t::try_from(position).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
    let mut next = start;
    let mut sent = 0;
    while sent < len {
        let chunk = usize::try_from((len - sent).min(CHUNK_BYTES)).unwrap_or(usize::MAX);
        match sendfile64(socket, file.as_fd(), Some(&mut next), chunk) {
            Ok(0) => return Err(ended_early(position, len, sent)),
            Ok(moved) => sent += u64::try_from(moved).unwrap_or(0),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if sent > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(sent)
}

/// Sends all `len` bytes of `file` from byte position `position` to `socket`, waiting whenever a non-blocking socket
/// is full, but for no longer than `stall_timeout` at a time.
///
/// # Errors
/// `TimedOut` when the peer took nothing for `stall_timeout`; otherwise as [`send`].
pub fn send_all(
    file: &File,
    position: u64,
    len: u64,
    socket: BorrowedFd<'_>,
    stall_timeout: Option<Duration>,
) -> io::Result<()> {
    send_until(len, socket, stall_timeout, |sent| send(file, position + sent, len - sent, socket))
}

/// Sends piece by piece until `len` bytes are sent, waiting whenever a piece finds the socket full. `piece` gets the bytes
/// sent so far and returns how many more went.
pub(crate) fn send_until(
    len: u64,
    socket: BorrowedFd<'_>,
    stall_timeout: Option<Duration>,
    piece: impl Fn(u64) -> io::Result<u64>,
) -> io::Result<()> {
    let mut sent = 0;
    while sent < len {
        match piece(sent) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(socket, stall_timeout)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets the kernel begin to bring bytes of a file into the page cache, and waits for none of them. An advice: what it cannot do
/// the read does.
pub(crate) fn read_ahead(file: &File, position: u64, len: u64) {
    if let (Ok(position), Ok(len)) = (i64::try_from(position), i64::try_from(len)) {
        let _ = posix_fadvise(file.as_fd(), position, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

/// Sends bytes of memory to `socket` and returns how many went, at least one.
///
/// # Errors
/// `WouldBlock` if the socket is full; otherwise what the socket says.
pub fn send_bytes(bytes: &[u8], socket: BorrowedFd<'_>) -> io::Result<u64> {
    loop {
        match write(socket, bytes) {
            Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
            Ok(moved) => return Ok(u64::try_from(moved).unwrap_or(0)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits until the socket takes bytes or has failed, which the next send then reports.
fn wait_writable(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = match timeout {
        Some(timeout) => PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::POLLOUT)], timeout) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn ended_early(position: u64, len: u64, sent: u64) -> io::Error {
    let why = format!("the file ends {sent} bytes after position {position}, {len} were to be sent");
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

/// Fills all of `into` from byte `position` of `file`, past any backend: a slice that was handed out is read so.
///
/// # Errors
/// `UnexpectedEof` when the file ends first, or what the disk says.
pub fn read_exact(file: &File, position: u64, into: &mut [u8]) -> io::Result<()> {
    let wanted = into.len();
    if posix::read_full(file, position, into, 0)? == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
