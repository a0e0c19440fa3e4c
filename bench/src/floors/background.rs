//! A second thread of the model, for what would hold up its ring: `syncfs`, and new extents for files.

use crate::Failure;
use nix::fcntl::{FallocateFlags, fallocate};
use std::{
    collections::HashSet,
    fs::File,
    io,
    sync::{Arc, mpsc},
    thread,
};

/// What the thread is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// Sync the file system that the first file is on.
    SyncFileSystem,
    /// Give a file new extents instead of its own.
    Renew { file: usize, bytes: u64 },
}

/// The thread, and what it was asked for and has not done.
pub(super) struct Background {
    jobs: Option<mpsc::Sender<Job>>,
    done: mpsc::Receiver<io::Result<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    renewing: HashSet<usize>,
    syncing: bool,
}

impl Background {
    pub(super) fn start(files: Vec<Arc<File>>) -> Self {
        let (jobs, received) = mpsc::channel();
        let (report, done) = mpsc::channel();
        let thread = thread::spawn(move || {
            for job in received {
                if report.send(carry_out(job, &files)).is_err() {
                    return;
                }
            }
        });
        Self { jobs: Some(jobs), done, thread: Some(thread), renewing: HashSet::new(), syncing: false }
    }

    pub(super) fn begin(&mut self, job: Job) -> Result<(), Failure> {
        match job {
            Job::SyncFileSystem => self.syncing = true,
            Job::Renew { file, .. } => drop(self.renewing.insert(file)),
        }
        let jobs = self.jobs.as_ref().ok_or("the second thread has ended")?;
        Ok(jobs.send(job)?)
    }

    /// Whether a sync is under way.
    pub(super) fn is_syncing(&mut self) -> Result<bool, Failure> {
        while let Ok(done) = self.done.try_recv() {
            self.note(done?);
        }
        Ok(self.syncing)
    }

    pub(super) fn wait_for_sync(&mut self) -> Result<(), Failure> {
        while self.syncing {
            let done = self.done.recv()??;
            self.note(done);
        }
        Ok(())
    }

    pub(super) fn wait_until_renewed(&mut self, file: usize) -> Result<(), Failure> {
        while self.renewing.contains(&file) {
            let done = self.done.recv()??;
            self.note(done);
        }
        Ok(())
    }

    fn note(&mut self, done: Job) {
        match done {
            Job::SyncFileSystem => self.syncing = false,
            Job::Renew { file, .. } => drop(self.renewing.remove(&file)),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It can only have failed by a panic, which it has printed.
            drop(thread.join());
        }
    }
}

fn carry_out(job: Job, files: &[Arc<File>]) -> io::Result<Job> {
    match job {
        Job::SyncFileSystem => {
            if let Some(file) = files.first() {
                nix::unistd::syncfs(file)?;
            }
        }
        Job::Renew { file, bytes } => {
            if let Some(file) = files.get(file) {
                file.set_len(0)?;
                fallocate(file, FallocateFlags::empty(), 0, i64::try_from(bytes).map_err(io::Error::other)?)?;
            }
        }
    }
    Ok(job)
}
