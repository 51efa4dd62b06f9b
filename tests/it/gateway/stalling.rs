//! A disk whose syncs can be held up, and made to fail once.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use zen_fabric::{
    journal::wal::disk::{Disk, DiskFile},
    testing::disk::SimDisk,
};

#[derive(Clone, Debug)]
pub(super) struct Stalling {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    fails: AtomicBool,
}

/// The disk stalls until this is dropped.
pub(super) struct Stalled(Arc<Gate>);

impl Stalling {
    pub(super) fn new() -> Self {
        Self {
            disk: SimDisk::new(1),
            gate: Arc::default(),
        }
    }

    /// From now on no sync ends.
    pub(super) fn stall(&self) -> Stalled {
        *self.gate.shut.lock().unwrap() = true;
        Stalled(self.gate.clone())
    }

    /// The sync that is next to end fails.
    pub(super) fn fail_once(&self) {
        self.gate.fails.store(true, Ordering::SeqCst);
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        *self.0.shut.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

impl Disk for Stalling {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, allocate: u64) -> io::Result<Arc<dyn DiskFile>> {
        let (file, gate) = (self.disk.create(name, allocate)?, self.gate.clone());
        Ok(Arc::new(StallingFile { file, gate }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (file, gate) = (self.disk.open(name)?, self.gate.clone());
        Ok(Arc::new(StallingFile { file, gate }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

#[derive(Debug)]
struct StallingFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for StallingFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }

    fn sync(&self) -> io::Result<()> {
        let mut shut = self.gate.shut.lock().unwrap();
        while *shut {
            shut = self.gate.opened.wait(shut).unwrap();
        }
        drop(shut);
        if self.gate.fails.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("planted"));
        }
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
