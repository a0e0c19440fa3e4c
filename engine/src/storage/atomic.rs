//! Small files that are replaced whole, and read whole.
//!
//! Owns the one order in which a file may be replaced. Each step, and what a reader finds if power fails after it:
//! 1. a temporary left over is removed: the old file;
//! 2. the new temporary is written: the old file, and a temporary of any content that nobody reads;
//! 3. the temporary is synced: the same, the temporary's content being whole;
//! 4. it is renamed over the file: the old or the new file, both whole;
//! 5. the directory is synced: the new file.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Access, File, Storage, StorageError, read_at, sync, write_at};

/// Replaces the content of the file at `path`, or makes the file: after a crash at any moment it has its old content
/// or `bytes`, and once this returns, `bytes`. `<path>.tmp` is used on the way.
///
/// # Errors
/// What the disk says, naming the step. The file then has its old content or `bytes`; which of them after a power
/// failure, if it was the last step (`sync directory`) that failed, is not known.
pub fn write_atomically(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let (replacement, file) = Replacement::write(storage, path, bytes)?;
    match sync(storage, &file) {
        Ok(()) => replacement.put_in_place(storage),
        Err(source) => {
            let error = StorageError::new("sync", &replacement.temporary, source);
            replacement.discard(storage);
            Err(error)
        }
    }
}

/// A temporary that was written and not synced: the first two steps, for who syncs several files at once.
#[derive(Debug)]
pub(crate) struct Replacement {
    temporary: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Takes steps 1 and 2; the file is what step 3 has to sync.
    pub(crate) fn write(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<(Self, File), StorageError> {
        let temporary = temporary_of(path);
        remove_if_there(storage, &temporary)?;
        let file = storage.open(&temporary, Access::Create)?;
        let replacement = Self { temporary, path: path.to_path_buf() };
        match write_at(storage, &file, 0, bytes) {
            Ok(()) => Ok((replacement, file)),
            Err(source) => {
                let error = StorageError::new("write", &replacement.temporary, source);
                replacement.discard(storage);
                Err(error)
            }
        }
    }

    /// Takes steps 4 and 5, after the file was synced.
    pub(crate) fn put_in_place(self, storage: &dyn Storage) -> Result<(), StorageError> {
        let path = self.path.clone();
        self.rename(storage)?;
        storage.sync_dir(path.parent().unwrap_or(Path::new("")))
    }

    /// Takes step 4, and leaves the sync of the directory to the caller. The file was synced, unless what a power failure
    /// makes of it does not matter.
    pub(crate) fn rename(self, storage: &dyn Storage) -> Result<(), StorageError> {
        storage.rename(&self.temporary, &self.path).inspect_err(|_| self.discard(storage))
    }

    /// An error before this is the one to report; what cannot be removed now is removed by the next replacement.
    fn discard(&self, storage: &dyn Storage) {
        drop(storage.unlink(&self.temporary));
    }
}

/// The whole content of a file, or `None` if there is none of that name. Takes no more memory than the file is long.
///
/// # Errors
/// `FileTooLarge` for more than `limit` bytes, or what the disk says.
pub fn read_file(storage: &dyn Storage, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match storage.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let named = |source| StorageError::new("read", path, source);
    let len = storage.len(&file).map_err(named)?;
    if len > limit {
        return Err(named(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes, at most {limit} allowed"),
        )));
    }
    let mut bytes = zeroed(len).map_err(named)?;
    let read = read_at(storage, &file, 0, &mut bytes).map_err(named)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// `len` zero bytes, or an error where a plain `vec!` would end the process.
pub(super) fn zeroed(len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".tmp");
    name.into()
}

pub(crate) fn remove_if_there(storage: &dyn Storage, path: &Path) -> Result<(), StorageError> {
    match storage.unlink(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
