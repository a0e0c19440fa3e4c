//! What becomes of gathered bytes.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use super::*;
use crate::storage::{Access, Posix};
use std::io::ErrorKind;
use std::path::Path;

const PIECE: usize = DIRECT_BYTES;

struct Home {
    dir: tempfile::TempDir,
    disk: Posix,
    file: Arc<File>,
    tail: Tail,
    pool: Arc<BufferPool>,
    mark: u64,
    bytes: Vec<u8>,
}

/// A tail that begins behind `begin` bytes of the file.
fn home(begin: usize, limit: usize) -> Home {
    let dir = tempfile::tempdir().unwrap();
    let disk = Posix::open(dir.path()).unwrap();
    let file = Arc::new(disk.open(Path::new("log"), Access::Create).unwrap());
    let bytes = vec![1; begin];
    storage::write_at(&disk, &file, 0, &bytes).unwrap();
    Home { dir, disk, file, tail: Tail::default(), pool: BufferPool::new(limit), mark: 7, bytes }
}

impl Home {
    fn append(&mut self, len: usize) -> Result<Vec<u64>, NoMemory> {
        let new: Vec<u8> = (0..len).map(|n| u8::try_from((self.bytes.len() + n) % 251).unwrap()).collect();
        let (full, _) = self.tail.append(
            self.bytes.len() as u64,
            &new,
            &Gather { pool: &self.pool, piece_bytes: PIECE, mark: self.mark },
        )?;
        self.bytes.extend(new);
        Ok(full)
    }

    fn write(&self, start: u64) {
        let write = self.tail.begin_write(start, &self.file, &self.file).unwrap();
        let written = storage::write_at(&self.disk, &write.file, write.at, write.bytes());
        self.tail.end_write(start, &written);
    }

    /// What a reader finds from a position on, in file and memory.
    fn read(&self, position: usize) -> Vec<u8> {
        let parts = self.tail.parts(position as u64);
        let split = parts.first().map_or(self.bytes.len(), |part| part.start as usize).max(position);
        let mut found = self.file();
        found.truncate(split);
        found.drain(..position.min(found.len()));
        for part in parts {
            let skip = position.saturating_sub(part.start as usize);
            found.extend(&part.buffer.filled()[skip..]);
        }
        found
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("log")).unwrap()
    }
}

#[test]
fn appended_bytes_are_read_from_memory_until_and_after_they_are_written() {
    let mut home = home(100, 64 * PIECE);
    assert_eq!(home.append(500).unwrap(), []);
    assert_eq!(home.append(3 * PIECE).unwrap(), [100, 4096, 8192]);
    assert_eq!(home.file().len(), 100);
    for position in [0, 99, 100, 101, 4096, 9000] {
        assert_eq!(home.read(position), home.bytes[position..]);
    }
    home.write(8192);
    home.write(100);
    home.write(4096);
    assert_eq!(home.read(0), home.bytes);
    assert!(home.tail.begin_write(100, &home.file, &home.file).is_none(), "it is written");
    assert_eq!(home.tail.release_oldest(), PIECE);
    home.tail.release();
    assert_eq!(home.tail.parts(0).len(), 1, "only the piece that is being filled is left");
    assert_eq!(home.read(0), home.bytes);
}

#[test]
fn spilled_tail_is_whole_in_the_file_and_can_be_released_and_begun_anew() {
    let mut home = home(0, 64 * PIECE);
    for len in [10, PIECE, 1, 3 * PIECE - 11, 5] {
        home.append(len).unwrap();
        home.tail.spill_before(&home.disk, &home.file, u64::MAX, 0).unwrap();
        assert_eq!(home.file(), home.bytes);
        assert!(home.tail.is_in_file());
    }
    home.tail.release();
    assert!(home.tail.parts(0).is_empty());
    assert_eq!(home.pool.in_use(), 0);
    home.append(PIECE).unwrap();
    assert_eq!(home.read(0), home.bytes);
}

#[test]
fn piece_that_went_through_the_page_cache_in_part_goes_that_way_to_its_end() {
    let mut home = home(0, 64 * PIECE);
    let direct = Arc::new(home.disk.open(Path::new("log"), Access::Write).unwrap());
    home.append(10).unwrap();
    home.tail.spill_before(&home.disk, &home.file, u64::MAX, 0).unwrap();
    assert_eq!(home.append(2 * PIECE - 10).unwrap(), [0, 4096]);
    let first = home.tail.begin_write(0, &direct, &home.file).unwrap();
    assert!(Arc::ptr_eq(&first.file, &home.file) && first.range == (10..PIECE) && first.at == 10);
    let second = home.tail.begin_write(4096, &direct, &home.file).unwrap();
    assert!(Arc::ptr_eq(&second.file, &direct) && second.range == (0..PIECE));
}

#[test]
fn append_without_memory_changes_nothing() {
    let mut home = home(0, 2 * PIECE);
    assert_eq!(home.append(2 * PIECE + 1), Err(NoMemory));
    assert!(home.tail.parts(0).is_empty());
    assert_eq!(home.append(PIECE + 1).unwrap(), [0]);
    assert_eq!(home.append(PIECE), Err(NoMemory));
    assert_eq!(home.read(0), home.bytes);
    home.write(0);
    home.tail.release_oldest();
    home.append(PIECE).unwrap();
    assert_eq!(home.read(0), home.bytes);
}

#[test]
fn spill_waits_for_a_piece_in_flight_and_fails_with_it_unless_the_disk_was_full() {
    for failure in [None, Some(ErrorKind::StorageFull), Some(ErrorKind::Other)] {
        let mut home = home(0, 64 * PIECE);
        home.append(PIECE + 1).unwrap();
        let write = home.tail.begin_write(0, &home.file, &home.file).unwrap();
        let fails = failure == Some(ErrorKind::Other);
        std::thread::scope(|scope| {
            let spilling = scope.spawn(|| home.tail.spill_before(&home.disk, &home.file, u64::MAX, 0));
            let result = match failure {
                Some(kind) => Err(kind.into()),
                None => storage::write_at(&home.disk, &write.file, write.at, write.bytes()),
            };
            home.tail.end_write(0, &result);
            assert_eq!(spilling.join().unwrap().is_err(), fails);
        });
        assert_eq!(home.file() == home.bytes, !fails);
        assert_eq!(home.read(0), home.bytes, "what could not be written is still read from memory");
    }
}

#[test]
fn spill_before_a_mark_leaves_younger_pieces_alone() {
    let mut home = home(0, 64 * PIECE);
    home.append(PIECE + 10).unwrap();
    home.mark = 9;
    home.append(PIECE).unwrap();
    assert_eq!(home.tail.oldest_mark(), Some(7));
    home.tail.spill_before(&home.disk, &home.file, 8, 12).unwrap();
    assert_eq!(home.file(), home.bytes[..2 * PIECE], "the second piece was begun at 7, the third at 9");
    assert_eq!(home.tail.oldest_mark(), Some(9));
    home.tail.spill_before(&home.disk, &home.file, 10, 12).unwrap();
    assert_eq!((home.file(), home.tail.oldest_mark()), (home.bytes.clone(), None));
    home.mark = 15;
    home.append(1).unwrap();
    assert_eq!(home.tail.oldest_mark(), Some(12), "what follows a spill is marked as the spill said");
}

#[test]
fn release_waits_for_a_spill_that_is_writing() {
    let mut home = home(0, 64 * PIECE);
    home.append(10).unwrap();
    let claim = home.tail.claim_oldest(u64::MAX, 0).unwrap().unwrap();
    std::thread::scope(|scope| {
        let releasing = scope.spawn(|| {
            home.tail.spill_before(&home.disk, &home.file, u64::MAX, 0).unwrap();
            home.tail.release();
            storage::read_at(&home.disk, &home.file, 0, &mut [0; 10]).unwrap()
        });
        let written = storage::write_at(&home.disk, &home.file, claim.at(), claim.bytes());
        home.tail.end_spill(&claim, &written);
        assert_eq!(releasing.join().unwrap(), 10);
    });
    assert!(home.tail.parts(0).is_empty());
}
