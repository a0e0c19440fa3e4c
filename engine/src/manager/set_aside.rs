//! Directories of partitions that are none of the log directory's: strays, and partitions that were moving here.
//!
//! They are named and left alone until the host says that they may go.

use super::{LogDirectory, LogManager, OpenError};
use crate::{
    format::names::{DirectoryKind, DirectoryName},
    log::removal::remove_directory,
    types::TopicPartition,
};
use std::path::{Path, PathBuf};

impl LogDirectory {
    /// Removes a directory that [`DirectoryReport::stray`](crate::DirectoryReport::stray) or
    /// [`DirectoryReport::future`](crate::DirectoryReport::future) names, with the files that a log makes; whether it is gone.
    /// One in which something else lies stays, with that. A crash on the way leaves a part, to be removed by another call.
    ///
    /// # Errors
    /// [`OpenError::UnknownDirectory`] for any other name; [`OpenError::Storage`].
    pub fn remove_set_aside(&mut self, name: &str) -> Result<bool, OpenError> {
        let is_listed = self.report.stray.iter().chain(&self.report.future).any(|known| known == name);
        // Only names that the directory's listing gave, so never a partition's own, and nothing outside.
        let is_set_aside = DirectoryName::parse(name)
            .is_ok_and(|name| matches!(name.kind, DirectoryKind::Stray | DirectoryKind::Future));
        if !is_listed || !is_set_aside {
            return Err(OpenError::UnknownDirectory { name: name.to_owned() });
        }
        let is_gone = remove_directory(&*self.storage, Path::new(name))?;
        if is_gone {
            self.report.stray.retain(|known| known != name);
            self.report.future.retain(|known| known != name);
        }
        Ok(is_gone)
    }
}

impl LogManager {
    /// Takes a partition that the cluster's metadata does not place here out of its directory, but keeps its files; see
    /// [`LogDirectory::set_aside_as_stray`]. Tickets without an answer get [`crate::WaitError::Closed`].
    ///
    /// ```
    /// use duramen::{LogConfig, LogManager, ManagerOptions, TopicPartition};
    /// # let dir = tempfile::tempdir()?;
    /// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// let orders = TopicPartition::new("orders", 0)?;
    /// manager.get_or_create(&orders, &LogConfig::default())?;
    /// manager.set_aside_as_stray(&orders)?;
    /// let (path, name) = manager.strays().remove(0);
    /// assert!(path.join(&name).exists() && manager.partitions().is_empty());
    /// assert!(manager.remove_set_aside(&name)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`LogManager::delete`].
    pub fn set_aside_as_stray(&self, partition: &TopicPartition) -> Result<(), OpenError> {
        self.take_away(partition, false, |home| home.set_aside_as_stray(partition))
    }

    /// The directories of stray partitions: log directory and name. They are left alone.
    #[must_use]
    pub fn strays(&self) -> Vec<(PathBuf, String)> {
        self.set_aside(|home| &home.report().stray)
    }

    /// The directories of partitions that were moving from one log directory to another, as Kafka leaves them: log directory
    /// and name. They are left alone.
    #[must_use]
    pub fn futures(&self) -> Vec<(PathBuf, String)> {
        self.set_aside(|home| &home.report().future)
    }

    fn set_aside(&self, names: impl Fn(&LogDirectory) -> &Vec<String>) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for directory in &self.directories {
            if let Some(home) = directory.home().as_ref() {
                found.extend(names(home).iter().map(|name| (directory.path.clone(), name.clone())));
            }
        }
        found
    }

    /// Removes a directory that [`LogManager::strays`] or [`LogManager::futures`] names; see
    /// [`LogDirectory::remove_set_aside`]. Of two log directories with the same name, the first one's.
    ///
    /// # Errors
    /// As [`LogDirectory::remove_set_aside`].
    pub fn remove_set_aside(&self, name: &str) -> Result<bool, OpenError> {
        for directory in &self.directories {
            match directory.home().as_mut().map(|home| home.remove_set_aside(name)) {
                None | Some(Err(OpenError::UnknownDirectory { .. })) => {}
                Some(result) => return result,
            }
        }
        Err(OpenError::UnknownDirectory { name: name.to_owned() })
    }
}
