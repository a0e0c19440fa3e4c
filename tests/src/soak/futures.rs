//! Directories of partitions that were moving here, as Kafka leaves them: named, left alone, gone when they may go.

use duramen::LogManager;
use std::{fs, path::PathBuf};

/// As many stay, so that the soak does not take more memory itself.
const MOST: usize = 3;
const FILE: &str = "00000000000000000000.log";

/// Those that lie in the log directories.
#[derive(Debug, Default)]
pub(super) struct Futures(Vec<(PathBuf, Vec<u8>)>);

impl Futures {
    /// One more, of a partition that is not there or of one that is.
    pub(super) fn add(&mut self, dirs: &[PathBuf], generation: u64) -> Result<(), String> {
        let number = usize::try_from(generation).unwrap();
        let name = format!("{}.{generation:032x}-future", ["topic-0", "soak-5"][number / 2 % 2]);
        let (dir, bytes) = (dirs[number % dirs.len()].join(name), generation.to_be_bytes().repeat(100));
        fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join(FILE), &bytes)).map_err(|error| error.to_string())?;
        self.0.push((dir, bytes));
        Ok(())
    }

    /// The manager names them all, and takes none for a partition; when there are many, the oldest may go.
    pub(super) fn check(&mut self, manager: &LogManager) -> Result<(), String> {
        let mut named: Vec<String> = manager.futures().into_iter().map(|(_, name)| name).collect();
        let mut made: Vec<String> =
            self.0.iter().map(|(dir, _)| dir.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
        named.sort();
        let oldest = made.first().cloned();
        made.sort();
        if named != made || manager.partitions().iter().any(|partition| partition.topic() == "topic") {
            return Err(format!("future directories {named:?} are named, {made:?} are there"));
        }
        if let Some(oldest) = oldest.filter(|_| made.len() > MOST) {
            let is_gone = manager.remove_set_aside(&oldest).map_err(|error| error.to_string())?;
            let (dir, _) = self.0.remove(0);
            if !is_gone || dir.exists() {
                return Err(format!("{oldest} does not go"));
            }
        }
        self.untouched()
    }

    /// Nothing of them has changed.
    pub(super) fn untouched(&self) -> Result<(), String> {
        let is_whole = |(dir, bytes): &(PathBuf, Vec<u8>)| {
            fs::read_dir(dir).is_ok_and(|entries| entries.count() == 1)
                && fs::read(dir.join(FILE)).is_ok_and(|found| found == *bytes)
        };
        match self.0.iter().find(|future| !is_whole(future)) {
            Some((dir, _)) => Err(format!("{} was changed", dir.display())),
            None => Ok(()),
        }
    }
}
