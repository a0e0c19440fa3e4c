//! One operation at a time: what [`Storage::run`] is for many, for callers that have only one.
//!
//! Knows nothing that `run` does not.

use std::io;

use super::{File, Op, Storage};

/// Writes all of `bytes` at byte position `at`.
///
/// # Errors
/// What the disk says; how much was written is then unknown.
pub fn write_at(storage: &dyn Storage, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    run_alone(storage, Op::write(file, at, bytes)).map(|_| ())
}

/// Fills `into` from byte position `at`; returns the number of bytes read, less than its length only at the end of
/// the file.
///
/// # Errors
/// What the disk says.
pub fn read_at(storage: &dyn Storage, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
    run_alone(storage, Op::read(file, at, into))
}

/// Fills all of `into` from byte position `at`.
///
/// # Errors
/// `UnexpectedEof` when the file ends first, or what the disk says.
pub fn read_exact_at(storage: &dyn Storage, file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
    let wanted = into.len();
    match read_at(storage, file, at, into)? {
        read if read == wanted => Ok(()),
        read => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file ends {read} bytes after position {at}, {wanted} were wanted"),
        )),
    }
}

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Copies `len` bytes of a file, from a byte position on, to the begin of another.
///
/// # Errors
/// `UnexpectedEof` when the file ends first, or what the disk says.
pub(crate) fn copy(storage: &dyn Storage, (from, start): (&File, u64), to: &File, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(len).unwrap_or(usize::MAX))];
    let mut copied = 0;
    while copied < len {
        let piece = usize::try_from(len - copied).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = buffer.get_mut(..piece).unwrap_or_default();
        read_exact_at(storage, from, start + copied, bytes)?;
        write_at(storage, to, copied, bytes)?;
        copied += u64::try_from(piece).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// Makes everything written to `file` so far durable.
///
/// # Errors
/// What the disk says; then nothing is known about the unsynced bytes, and a further sync proves nothing.
pub fn sync(storage: &dyn Storage, file: &File) -> io::Result<()> {
    run_alone(storage, Op::sync(file)).map(|_| ())
}

fn run_alone(storage: &dyn Storage, op: Op<'_>) -> io::Result<usize> {
    let mut ops = [op];
    storage.run(&mut ops);
    let [mut op] = ops;
    op.take_result()
}
