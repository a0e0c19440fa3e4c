//! The bytes of a whole file, read-only: through a map where the kernel grants one, else copied to the heap.
//!
//! Owns the check that a file is as long as it is said to be before any of it is mapped: touching a map beyond the end
//! of its file is a signal, not an error. Knows nothing of what the bytes mean.

#![allow(unsafe_code)]

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
};

use memmap2::{Mmap, MmapOptions};
use nix::sys::stat::fstat;

use super::{File, atomic::zeroed, posix::read_full};

/// The first bytes of a file that is never shortened nor changed while this lives, such as the index of a sealed
/// segment.
/// The file may be renamed or removed meanwhile.
///
/// # Example
/// ```
/// use std::path::Path;
/// use duramen::storage::{Access, MappedFile, Posix, Storage, write_at};
///
/// let dir = std::env::temp_dir().join(format!("duramen-doc-map-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// let disk = Posix::open(&dir)?;
/// let file = disk.open(Path::new("index"), Access::Create)?;
/// write_at(&disk, &file, 0, b"12345678")?;
/// assert_eq!(MappedFile::open(&file, 8)?.as_slice(), b"12345678");
/// assert!(MappedFile::open(&file, 9).is_err());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MappedFile(Bytes);

enum Bytes {
    Map(Mmap),
    Heap(Vec<u8>),
}

impl MappedFile {
    /// Maps the first `len` bytes of `file`; reads them into memory if a map is refused (no more address space, too
    /// many maps, a file system without them).
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter than `len`, `OutOfMemory`, or what the disk says.
    pub fn open(file: &File, len: u64) -> io::Result<Self> {
        let real_len = u64::try_from(fstat(file.as_fd())?.st_size).unwrap_or(0);
        if real_len < len {
            return Err(too_short(real_len, len));
        }
        if len == 0 {
            return Ok(Self(Bytes::Heap(Vec::new()))); // the kernel refuses to map nothing
        }
        match map(file, len) {
            Ok(map) => Ok(Self(Bytes::Map(map))),
            Err(_) => copy(file, len),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Bytes::Map(map) => map,
            Bytes::Heap(bytes) => bytes,
        }
    }

    /// Whether the bytes are a map rather than a copy.
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(self.0, Bytes::Map(_))
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile").field("len", &self.as_slice().len()).field("is_map", &self.is_map()).finish()
    }
}

fn map(file: &File, len: u64) -> io::Result<Mmap> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: the file is at least `len` bytes long, as checked, and files given to `MappedFile::open` are not written
    // nor cut while they are mapped: the engine replaces sealed files whole, by renaming, under the directory's lock.
    unsafe { MmapOptions::new().len(len).map(file.as_fd().as_raw_fd()) }
}

fn copy(file: &File, len: u64) -> io::Result<MappedFile> {
    let mut bytes = zeroed(len)?;
    let read = read_full(file, 0, &mut bytes, 0)?;
    if read < bytes.len() {
        return Err(too_short(u64::try_from(read).unwrap_or(0), len));
    }
    Ok(MappedFile(Bytes::Heap(bytes)))
}

fn too_short(real_len: u64, len: u64) -> io::Error {
    let why = format!("the file has {real_len} bytes, {len} were expected");
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}
