//! Reading in order, to a socket, and at scattered offsets.

use super::{CORPUS_SHARE, append, best, config, partition, raw_append, raw_file};
use crate::{
    Failure,
    corpus::Corpus,
    measure::{Plan, Run},
};
use duramen::{Fetch, Isolation};
use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::Instant,
};

/// A socket whose peer takes everything; and the peer, which tells how many bytes came.
pub(super) fn socket() -> Result<(TcpStream, thread::JoinHandle<u64>), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    let taker = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut taken = 0;
        while let Ok(read @ 1..) = peer.read(&mut buffer) {
            taken += read as u64;
        }
        taken
    });
    Ok((stream, taker))
}

pub(super) fn send(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    let written = append(log, &corpus.gathered, plan.bytes, |_| Ok(()))?;
    let (reader, log_end) = (log.reader(), log.offsets().log_end);
    let (socket, taker) = socket()?;
    let begun = Instant::now();
    let mut offset = 0;
    let mut sent = 0;
    while offset < log_end {
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1 << 20, ..Fetch::from(offset) })?;
        let Some(records) = fetched.records.filter(|records| !records.is_empty()) else {
            break;
        };
        let whole = whole_batches(&records, &mut offset)?;
        records.prefix(whole).send_all(&socket, None)?;
        sent += whole;
    }
    drop(socket);
    let taken = taker.join().map_err(|_| "the peer failed")?;
    if (sent, taken) != (written, written) {
        return Err(format!("{written} bytes were written, {sent} sent and {taken} received").into());
    }
    Ok(Run::rate(sent, begun, 0))
}

/// Bytes of the whole batches in a slice, by their headers; moves `offset` behind them, as a consumer does.
pub(super) fn whole_batches(records: &duramen::FileSlice, offset: &mut i64) -> Result<u64, Failure> {
    let mut at = 0;
    let mut header = [0; duramen::format::batch::HEADER_SIZE];
    while at + (header.len() as u64) <= records.len() {
        records.read_at(&mut header, at)?;
        let decoded = duramen::format::batch::BatchHeader::decode(&header)?;
        let size = decoded.size() as u64;
        if at + size > records.len() {
            break;
        }
        at += size;
        *offset = decoded.next_offset();
    }
    Ok(at)
}

pub(super) fn send_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, &corpus.gathered, plan.bytes, || Ok(()))?;
    let (socket, taker) = socket()?;
    let begun = Instant::now();
    let mut at = 0;
    for len in read_lengths(&corpus.gathered, written) {
        let end = at + i64::try_from(len)?;
        while at < end {
            let count = usize::try_from(end - at)?;
            nix::sys::sendfile::sendfile(&socket, &file, Some(&mut at), count)?;
        }
    }
    drop(socket);
    let taken = taker.join().map_err(|_| "the peer failed")?;
    if taken != written {
        return Err(format!("{written} bytes were written and {taken} received").into());
    }
    Ok(Run::rate(written, begun, 0))
}

/// What reads of at most 1 MiB find: as many whole batches as fit, but one at least.
pub(super) fn read_lengths(batches: &[Vec<u8>], written: u64) -> Vec<u64> {
    let mut lengths = Vec::new();
    let (mut len, mut left) = (0, written);
    for batch in batches.iter().cycle() {
        if left == 0 {
            break;
        }
        let size = batch.len() as u64;
        if len > 0 && len + size > 1 << 20 {
            lengths.push(len);
            len = 0;
        }
        len += size;
        left -= size;
    }
    lengths.push(len);
    lengths
}

pub(super) fn look_up(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    append(log, &corpus.originals, plan.bytes / CORPUS_SHARE, |_| Ok(()))?;
    let (reader, log_end) = (log.reader(), log.offsets().log_end);
    let begun = Instant::now();
    for n in 0..LOOK_UPS {
        let offset = i64::try_from(n * STRIDE)? % log_end;
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1, ..Fetch::from(offset) })?;
        if fetched.start.is_none_or(|start| start.offset > offset) {
            return Err(format!("offset {offset} was not found").into());
        }
    }
    Ok(Run::operations(LOOK_UPS, begun, 0))
}

/// Look-ups of a round.
const LOOK_UPS: u64 = 100_000;
/// A stride that visits a whole log in no order.
const STRIDE: u64 = 7_919;

/// The floor of a look-up: one read of 4 KiB at a place that is known.
pub(super) fn look_up_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, &corpus.originals, plan.bytes / CORPUS_SHARE, || Ok(()))?;
    let mut piece = [0; 4096];
    let begun = Instant::now();
    for n in 0..LOOK_UPS {
        let read = file.read_at(&mut piece, n * STRIDE * 64 % (written - 4096))?;
        std::hint::black_box(read);
    }
    Ok(Run::operations(LOOK_UPS, begun, 0))
}
