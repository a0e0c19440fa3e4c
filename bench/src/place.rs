//! Where to measure: below a directory, or on a file system made for it.

use crate::{
    Failure,
    loopback::{FileSystem, Mounted},
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Options of every measurement.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlaceArgs {
    /// Where to write: a directory on the disk to be measured (default: the current one)
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measure on a new file system of this kind, on a loop device over a file in that directory: needs root
    #[arg(long)]
    fs: Option<FileSystem>,
    /// Size of that file system
    #[arg(long, default_value_t = 24, requires = "fs")]
    fs_gib: u64,
}

/// A directory of our own, which is deleted, and what was made for it.
#[derive(Debug)]
pub(crate) struct Place {
    // In this order they are dropped.
    scratch: TempDir,
    _mounted: Option<Mounted>,
}

impl Place {
    pub(crate) fn open(args: &PlaceArgs) -> Result<Self, Failure> {
        // Absolute, since a peer changes the current directory.
        let home = args.dir.clone().unwrap_or_else(|| PathBuf::from(".")).canonicalize()?;
        let mounted = args.fs.map(|kind| Mounted::new(kind, args.fs_gib, &home)).transpose()?;
        let below = mounted.as_ref().map_or(home.as_path(), Mounted::path);
        Ok(Self { scratch: TempDir::with_prefix_in("duramen-bench-", below)?, _mounted: mounted })
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }
}
