//! Reading to many sockets at once, by few threads.
//!
//! Each socket gets the whole log, in reads of at most 1 MiB; a thread gives each of its sockets a read in turn.

use super::{append, best, config, partition, raw_append, raw_file, read};
use crate::{
    Failure,
    corpus::Corpus,
    measure::{Plan, Run},
};
use duramen::{Fetch, Isolation, LogReader};
use std::{
    fs::File,
    net::TcpStream,
    path::Path,
    thread::{self, JoinHandle},
    time::Instant,
};

const SOCKETS: usize = 64;
const THREADS: usize = 4;
/// All sockets together get twice what a round of other workloads writes.
const SENT_TIMES: u64 = 2;

/// Sockets, and their peers, each of which tells how many bytes came.
struct Sockets {
    sockets: Vec<TcpStream>,
    peers: Vec<JoinHandle<u64>>,
}

impl Sockets {
    fn open() -> Result<Self, Failure> {
        let pairs = (0..SOCKETS).map(|_| read::socket()).collect::<Result<Vec<_>, _>>()?;
        let (sockets, peers) = pairs.into_iter().unzip();
        Ok(Self { sockets, peers })
    }

    /// Has threads send, each to its own sockets, and waits until everything was received.
    fn send(self, each_bytes: u64, send: impl Fn(&[TcpStream]) -> Result<(), Failure> + Sync) -> Result<Run, Failure> {
        let begun = Instant::now();
        thread::scope(|scope| {
            let chunks = self.sockets.chunks(SOCKETS / THREADS);
            let threads: Vec<_> = chunks.map(|sockets| scope.spawn(|| send(sockets))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a sender panicked")?)
        })?;
        drop(self.sockets);
        for peer in self.peers {
            let taken = peer.join().map_err(|_| "a peer panicked")?;
            if taken != each_bytes {
                return Err(format!("{each_bytes} bytes were sent and {taken} received").into());
            }
        }
        Ok(Run::rate(each_bytes * SOCKETS as u64, begun, 0))
    }
}

fn log_bytes(plan: &Plan) -> u64 {
    SENT_TIMES * plan.bytes / SOCKETS as u64
}

pub(super) fn send(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    let written = append(log, &corpus.gathered, log_bytes(plan), |_| Ok(()))?;
    let (reader, log_end) = (log.reader(), log.offsets().log_end);
    Sockets::open()?.send(written, |sockets| {
        let mut offset = 0;
        while offset < log_end {
            offset = send_next(&reader, offset, sockets)?;
        }
        Ok(())
    })
}

/// Gives each socket the read at an offset; where the next one begins.
fn send_next(reader: &LogReader, offset: i64, sockets: &[TcpStream]) -> Result<i64, Failure> {
    let mut next = offset;
    for socket in sockets {
        next = offset;
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1 << 20, ..Fetch::from(offset) })?;
        let records = fetched.records.filter(|records| !records.is_empty()).ok_or("a read came back empty")?;
        let whole = read::whole_batches(&records, &mut next)?;
        records.prefix(whole).send_all(socket, None)?;
    }
    Ok(next)
}

pub(super) fn send_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, &corpus.gathered, log_bytes(plan), || Ok(()))?;
    let lengths = read::read_lengths(&corpus.gathered, written);
    Sockets::open()?.send(written, |sockets| {
        let mut at = 0;
        for len in &lengths {
            for socket in sockets {
                send_range(&file, at, *len, socket)?;
            }
            at += len;
        }
        Ok(())
    })
}

fn send_range(file: &File, at: u64, len: u64, socket: &TcpStream) -> Result<(), Failure> {
    let (mut at, end) = (i64::try_from(at)?, i64::try_from(at + len)?);
    while at < end {
        let count = usize::try_from(end - at)?;
        nix::sys::sendfile::sendfile(socket, file, Some(&mut at), count)?;
    }
    Ok(())
}
