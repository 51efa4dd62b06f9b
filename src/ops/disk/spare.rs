//! A file made ahead of need, so that whoever begins a new one waits for no allocation.
//!
//! Its room is allocated, not written: writing it with zeros first, as `PostgreSQL` does
//! (`wal_init_zero`), makes the median sync a third faster and doubles what the disk has to take,
//! which on a disk that is busy costs more than it gives.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    fs::{CWD, FallocateFlags, RenameFlags},
    io::Errno,
};
use tracing::debug;

/// Its name, which no list shows.
pub(super) const NAME: &str = "spare";

/// See the module. At most one file is kept; one that a process left behind is removed by the next.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    ready: Arc<Mutex<Option<(File, u64)>>>,
    ended: AtomicBool,
    making: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spare {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        remove(&path)?;
        Ok(Self {
            path,
            ready: Arc::default(),
            ended: AtomicBool::new(false),
            making: Mutex::default(),
        })
    }

    /// Begins to make one of `len` bytes, on a thread of its own; nothing where there is one, or one is
    /// being made. Where the disk has no room for it there is none, and its room is given back.
    pub(super) fn make(&self, len: u64) {
        let mut making = lock(&self.making);
        let busy = making.as_ref().is_some_and(|thread| !thread.is_finished());
        if busy || self.ended.load(Ordering::Relaxed) || lock(&self.ready).is_some() {
            return;
        }
        let (path, ready) = (self.path.clone(), Arc::clone(&self.ready));
        let work = move || match allocated(&path, len) {
            Ok(file) => *lock(&ready) = Some((file, len)),
            Err(error) => {
                debug!(%error, path = %path.display(), "no file is made ahead");
                drop(remove(&path));
            }
        };
        // Without a thread, files are made when they are needed.
        *making = thread::Builder::new()
            .name("disk-spare".to_owned())
            .spawn(work)
            .ok();
    }

    /// The spare file under its new name, if one of this length is ready; durable after a sync of the
    /// directory.
    ///
    /// # Errors
    /// There is a file of that name; the spare one is kept.
    pub(super) fn take(&self, to: &Path, len: u64) -> io::Result<Option<File>> {
        let mut ready = lock(&self.ready);
        if ready.as_ref().is_none_or(|(_, made)| *made != len) {
            return Ok(None);
        }
        match rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(ready.take().map(|(file, _)| file)),
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            // A file system that can't, or somebody removed it.
            Err(_) => Ok(None),
        }
    }

    /// Waits for one that is being made, and removes it.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = lock(&self.making).take() {
            // A panic on it was reported; the next process removes the file.
            drop(thread.join());
        }
        if lock(&self.ready).take().is_some() {
            drop(remove(&self.path));
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.end();
    }
}

/// An empty file with its room, durable but for its name.
fn allocated(path: &Path, len: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
        // A file system without preallocation: there is nothing to be made ahead.
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    file.sync_all()?;
    Ok(file)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(spare: &Spare, len: u64) {
        spare.make(len);
        let thread = lock(&spare.making).take();
        thread.map_or(Ok(()), JoinHandle::join).unwrap();
    }

    #[test]
    fn it_is_taken_once_and_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let spare = Spare::new(dir.path()).unwrap();
        let to = dir.path().join("1");
        assert!(spare.take(&to, 1_007).unwrap().is_none());
        made(&spare, 1_007);
        assert!(spare.take(&to, 1_000).unwrap().is_none(), "another length");
        let file = spare.take(&to, 1_007).unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1_007);
        assert!(fs::read(&to).unwrap().iter().all(|byte| *byte == 0));
        assert!(spare.take(&to, 1_007).unwrap().is_none());
    }

    #[test]
    fn it_takes_no_name_that_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let spare = Spare::new(dir.path()).unwrap();
        made(&spare, 10);
        let to = dir.path().join("1");
        fs::write(&to, "kept").unwrap();
        assert!(spare.take(&to, 10).is_err());
        assert_eq!(fs::read(&to).unwrap(), b"kept");
        assert!(spare.take(&dir.path().join("2"), 10).unwrap().is_some());
    }

    #[test]
    fn none_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "of an earlier process").unwrap();
        let spare = Spare::new(dir.path()).unwrap();
        assert!(!dir.path().join(NAME).exists());
        made(&spare, 10);
        assert!(dir.path().join(NAME).exists());
        drop(spare);
        assert!(!dir.path().join(NAME).exists());
    }

    #[test]
    fn one_that_is_lost_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let spare = Spare::new(dir.path()).unwrap();
        made(&spare, 10);
        fs::remove_file(dir.path().join(NAME)).unwrap();
        assert!(spare.take(&dir.path().join("1"), 10).unwrap().is_none());
    }
}
