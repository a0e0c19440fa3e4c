//! What makes things durable on a simulated disk.

use std::{io, os::fd::AsFd};

use duramen::storage::File;

use super::{Fault, content::Survivors, file::write_fully, state::State};

impl State {
    /// A write after which its own bytes, and the length that they need, survive.
    pub(super) fn write_durable(
        &mut self,
        file: &File,
        at: u64,
        bytes: &[u8],
        fault: Option<Fault>,
    ) -> io::Result<usize> {
        let written = self.write(file, at, bytes, fault)?;
        let node = self.node_of(file)?;
        self.file_mut(node)?.content.sync_last_write();
        Ok(written)
    }

    pub(super) fn sync_all(&mut self, fault: Option<Fault>) -> io::Result<()> {
        match fault {
            None => {
                self.files.values_mut().for_each(|file| file.content.sync());
                self.names.sync_all();
                Ok(())
            }
            Some(Fault::DropPages { errno, .. }) => {
                self.files.values_mut().for_each(|file| file.content.drop_unsynced_data());
                Err(errno.into())
            }
            Some(fault) => Err(self.fail(fault)),
        }
    }

    pub(super) fn sync(&mut self, file: &File, fault: Option<Fault>) -> io::Result<usize> {
        let node = self.node_of(file)?;
        let model = self.file_mut(node)?;
        match fault {
            None => {
                model.content.sync();
                Ok(0)
            }
            Some(Fault::DropPages { errno, evict }) => {
                model.content.drop_unsynced_data();
                if evict {
                    write_fully(file.as_fd(), 0, &model.content.image(Survivors::All))?;
                }
                Err(errno.into())
            }
            Some(fault) => Err(self.fail(fault)),
        }
    }
}
