//! Removing the directory of a log that is gone, or was never whole.

use crate::{
    format::names::FileName,
    storage::{EntryKind, Storage, StorageError, remove_if_there},
};
use std::{io::ErrorKind, path::Path};

/// Removes the files that a log makes, the oldest first, and the directory unless something else lies in it: that stays. Whether the directory is
/// gone; none of it is durable before the next sync of the log directory.
pub(crate) fn remove_directory(storage: &dyn Storage, dir: &Path) -> Result<bool, StorageError> {
    let mut entries = match storage.list(dir) {
        Err(error) if error.is_not_found() => return Ok(true),
        entries => entries?,
    };
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    for entry in entries {
        if entry.kind == EntryKind::File && FileName::parse(&entry.name.to_string_lossy()) != FileName::Foreign {
            remove_if_there(storage, &dir.join(&entry.name))?;
        }
    }
    match storage.remove_dir(dir) {
        Err(error) if error.source.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        removed => removed.map(|()| true),
    }
}
