//! Who may connect, and the end of all connections.

use super::{
    budget::Budget,
    connection::{self, Shared},
};
use crate::{api::Broker, trace::note};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long answers under way may take once the broker ends.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long to wait where a connection cannot be taken, because there are too many open files, say.
const REST: Duration = Duration::from_millis(100);

/// Takes connections until the broker ends; returns once all are closed.
pub(crate) async fn serve(listener: TcpListener, broker: Arc<Broker>) {
    let limits = &broker.config.net;
    let budget = Budget::new(limits.queued_max_bytes);
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let peers = Peers::new(limits.max_connections_per_ip);
    let shared = Shared { broker: Arc::clone(&broker), budget };
    let mut connections = JoinSet::new();
    loop {
        // While there is no place, whoever connects waits in the backlog (`ConnectionQuotas.waitForConnectionSlot`).
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            (accepted, place) = next => match accepted {
                Ok((stream, address)) => {
                    let Some(guest) = peers.enter(address.ip()) else {
                        note(format_args!("{address} has too many connections: one more was closed"));
                        continue;
                    };
                    let shared = shared.clone();
                    connections.spawn(async move {
                        converse(stream, address, shared).await;
                        drop((guest, place));
                    });
                }
                Err(error) => {
                    note(format_args!("a connection could not be taken: {error}"));
                    sleep(REST).await;
                }
            },
            Some(ended) = connections.join_next() => note_panic(ended),
            () = broker.stop.wait() => break,
        }
    }
    drop(listener);
    let last_answers = async {
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    };
    if timeout(LAST_ANSWERS, last_answers).await.is_err() {
        note(format_args!("connections that do not take their answers are cut off: {}", connections.len()));
        connections.shutdown().await;
    }
}

async fn converse(stream: TcpStream, address: SocketAddr, shared: Shared) {
    let ended = match prepare(&stream) {
        Ok(()) => connection::serve(stream, address.ip(), shared).await,
        Err(error) => Err(error.into()),
    };
    if let Err(why) = ended
        && why.is_notable()
    {
        note(format_args!("the connection of {address} was closed: {why}"));
    }
}

/// Answers are not held back, and a peer that vanished without a word is noticed in the end (`Acceptor.configureAcceptedSocketChannel`).
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    Ok(setsockopt(stream, sockopt::KeepAlive, &true)?)
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        note(format_args!("a connection's task failed: {error}"));
    }
}

/// How many connections each address has (`max.connections.per.ip`).
#[derive(Debug)]
struct Peers {
    most: usize,
    /// Guards the counts, for a moment at the begin and the end of a connection.
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of an address, until it is dropped.
struct Guest {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Peers {
    fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    fn enter(&self, address: IpAddr) -> Option<Guest> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Guest { address, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_leaves_nothing_behind() {
        let peers = Peers::new(2);
        let (one, two) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = peers.enter(one);
        let second = peers.enter(one);
        assert!(second.is_some() && peers.enter(one).is_none());
        assert!(peers.enter(two).is_some());
        drop(first);
        assert!(peers.enter(one).is_some());
        drop(second);
        assert!(peers.counts.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
