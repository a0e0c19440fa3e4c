//! Responses onto a socket: bytes by writing, ranges of files by `sendfile`.
//!
//! Keeps: a peer that takes nothing for `max_idle` loses its connection; a large response is sent in pieces, with a chance for
//! other tasks of the thread between them.
//!
//! `sendfile` waits for the disk where a file's pages are not in memory, and keeps its thread meanwhile. Consumers read what was
//! written lately, for the most part, and that is in memory; for others a piece bounds how long the thread is kept at a time.
//! To give each piece to a thread that may be kept would cost every consumer more than that costs a few.

use crate::protocol::Reply;
use bytes::{Buf, Bytes};
use duramen::FileSlice;
use nix::{
    libc,
    sys::socket::{self, MsgFlags},
};
use std::{io, os::fd::AsRawFd, time::Duration};
use tokio::{io::Interest, net::TcpStream, task::yield_now, time::timeout};

/// Bytes of a file that are sent before other tasks have their turn.
const PIECE_BYTES: u64 = 1 << 20;

/// Sends all of a response.
///
/// # Errors
/// What the socket or the disk says; `TimedOut` where the peer took nothing for `max_idle`.
pub(super) async fn send(stream: &TcpStream, reply: Reply, max_idle: Option<Duration>) -> io::Result<()> {
    let Reply { mut bytes, slices } = reply;
    let mut taken = 0;
    for (at, slice) in slices {
        let before = bytes.split_to(at.saturating_sub(taken).min(bytes.len()));
        taken = at;
        send_bytes(stream, before, MsgFlags::from_bits_retain(libc::MSG_MORE), max_idle).await?;
        send_slice(stream, &slice, max_idle).await?;
    }
    send_bytes(stream, bytes, MsgFlags::empty(), max_idle).await
}

/// With `MSG_MORE` the bytes wait for those that follow them, so that a packet holds both.
async fn send_bytes(
    stream: &TcpStream,
    mut bytes: Bytes,
    flags: MsgFlags,
    max_idle: Option<Duration>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let write = || Ok(socket::send(stream.as_raw_fd(), &bytes, flags | MsgFlags::MSG_NOSIGNAL)?);
        let sent = patient(max_idle, stream.async_io(Interest::WRITABLE, write)).await?;
        bytes.advance(sent);
    }
    Ok(())
}

async fn send_slice(stream: &TcpStream, slice: &FileSlice, max_idle: Option<Duration>) -> io::Result<()> {
    let mut sent = 0;
    while sent < slice.len() {
        let piece = slice.prefix(sent.saturating_add(PIECE_BYTES));
        sent += patient(max_idle, stream.async_io(Interest::WRITABLE, || piece.send_to(stream, sent))).await?;
        yield_now().await;
    }
    Ok(())
}

async fn patient<T>(max_idle: Option<Duration>, sending: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match max_idle {
        Some(max_idle) => timeout(max_idle, sending).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        None => sending.await,
    }
}
