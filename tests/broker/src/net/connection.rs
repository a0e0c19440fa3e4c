//! One connection: requests in, one after the other, and their responses out, in the same order.
//!
//! Two halves in one task. The first reads a request and has it handled; the second sends what comes of it. A produce request
//! whose batches are appended and not durable yet does not keep the next request from being read; any other is answered and its
//! answer sent before (Kafka, too, reads nothing meanwhile). So a peer that does not read its answers is read from no more, and
//! holds the records of at most one of them.

use super::{
    budget::{Budget, Share},
    send::send,
};
use crate::{
    api::{self, Broker, Outcome},
    protocol::{FrameError, Frames, Malformed, Reply, RequestHeader},
};
use bytes::Bytes;
use std::{io, net::IpAddr, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

/// Requests of a connection whose answers are due. Producers have five on their way.
const ANSWERS_DUE: usize = 8;

/// Why a connection ended before its peer or the broker ended it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The socket failed, or the peer took nothing.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The size of a request is impossible.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A request cannot be understood, or its response not be written.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A request is refused without an answer.
    #[error("{0}")]
    Refused(String),
    /// Nothing happened for `connections.max.idle.ms`.
    #[error("nothing happened for {0:?}")]
    Idle(Duration),
}

impl Ended {
    /// Whether it is worth a line: peers that go away are not.
    pub(super) fn is_notable(&self) -> bool {
        match self {
            Self::Io(error) => !matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            ),
            Self::Idle(_) => false,
            _ => true,
        }
    }
}

/// An answer that is due: there, or to come.
enum Due {
    Now(Reply),
    Later(Pin<Box<dyn Future<Output = Result<Reply, Malformed>> + Send>>),
}

/// A due answer, and the permit that is given back when it was sent.
type Queued = (Due, OwnedSemaphorePermit);

/// What a connection needs of the broker.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) broker: Arc<Broker>,
    pub(super) budget: Budget,
}

/// Serves a connection until its peer closes it or the broker ends; then no more request is read, and the answers that are due
/// are sent.
///
/// # Errors
/// [`Ended`] where it is cut off.
pub(super) async fn serve(stream: TcpStream, peer: IpAddr, shared: Shared) -> Result<(), Ended> {
    let max_idle = shared.broker.config.net.max_idle;
    let (queue, queued) = mpsc::channel(ANSWERS_DUE);
    let reading = read_requests(&stream, peer, &shared, queue);
    let sending = send_answers(&stream, queued, max_idle);
    // An error of one ends the other too: nothing of the connection can be trusted any more.
    tokio::try_join!(reading, sending).map(|_| ())
}

async fn read_requests(
    stream: &TcpStream,
    peer: IpAddr,
    shared: &Shared,
    queue: mpsc::Sender<Queued>,
) -> Result<(), Ended> {
    let Shared { broker, budget } = shared;
    let client_host = format!("/{peer}");
    let room = Arc::new(Semaphore::new(ANSWERS_DUE));
    let mut frames = Frames::new(broker.config.net.request_max_bytes);
    loop {
        let next = tokio::select! {
            next = next_request(stream, &mut frames, budget, broker.config.net.max_idle) => next?,
            () = broker.stop.wait() => None,
        };
        let Some((mut request, share)) = next else { return Ok(()) };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let header = RequestHeader::take(&mut request)?;
        let outcome = api::handle(broker, header, &client_host, request).await;
        drop(share);
        let (due, may_go_on) = match outcome {
            Outcome::Answer(reply) => (Due::Now(reply), false),
            Outcome::Later(reply) => (Due::Later(reply), true),
            Outcome::Nothing => continue,
            Outcome::Close(why) => return Err(Ended::Refused(why)),
        };
        if queue.send((due, permit)).await.is_err() {
            return Ok(());
        }
        if !may_go_on {
            // All permits are there once every answer was sent.
            let all = u32::try_from(ANSWERS_DUE).unwrap_or(u32::MAX);
            drop(room.acquire_many(all).await);
        }
    }
}

/// The next whole request and its share of memory; `None` where the peer has closed the connection.
async fn next_request(
    stream: &TcpStream,
    frames: &mut Frames,
    budget: &Budget,
    max_idle: Option<Duration>,
) -> Result<Option<(Bytes, Share)>, Ended> {
    let mut share = None;
    loop {
        if let (None, Some(size)) = (&share, frames.size()?) {
            share = Some(budget.share(size).await);
        }
        if let Some(frame) = frames.next()? {
            let share = match share {
                Some(share) => share,
                None => budget.share(frame.len()).await,
            };
            return Ok(Some((frame, share)));
        }
        // The buffer is made only when there is something to put into it.
        idle_at_most(max_idle, stream.readable()).await??;
        match stream.try_read_buf(frames.spare()?) {
            Ok(0) if frames.is_within_frame() => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => frames.rest(),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn idle_at_most<T>(max_idle: Option<Duration>, waiting: impl Future<Output = T>) -> Result<T, Ended> {
    match max_idle {
        Some(max_idle) => timeout(max_idle, waiting).await.map_err(|_| Ended::Idle(max_idle)),
        None => Ok(waiting.await),
    }
}

async fn send_answers(
    stream: &TcpStream,
    mut queued: mpsc::Receiver<Queued>,
    max_idle: Option<Duration>,
) -> Result<(), Ended> {
    while let Some((due, permit)) = queued.recv().await {
        let reply = match due {
            Due::Now(reply) => reply,
            Due::Later(reply) => reply.await?,
        };
        send(stream, reply, max_idle).await?;
        drop(permit);
    }
    Ok(())
}
