//! The store on disk: a snapshot, and behind it the changes since.
//!
//! One file holds both. Changes are written and synced by a thread of its own: while it syncs, the
//! next ones gather, and one fdatasync makes them all durable (group commit). When the file has
//! grown to a multiple of what lives in it, a new one is begun with a snapshot and put in its
//! place by a rename; a crash at any moment leaves one whole file.
//!
//! A record is its length, a CRC-32C of what follows, and the change. Recovery reads up to the
//! first record that is not whole and cuts the rest: an unsynced tail, which nobody was told of.

mod record;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
};

use self::record::{encode, header, replay};
use super::{
    service::Api,
    store::{Change, Store},
};

const NAME: &str = "objects.log";
const NEXT: &str = "objects.next";

/// A file below this size is never compacted: it is read in a few milliseconds.
const COMPACT_FROM: u64 = 8 * 1024 * 1024;
/// How many times its live content a file may be: the cost of writing it anew is then a fraction
/// of what was written anyway.
const COMPACT_FACTOR: u64 = 4;

/// What may wait for the disk: some seconds of writing for a slow one.
const MAX_PENDING: usize = 64 * 1024 * 1024;

/// Why the log can't be used. Nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder can't be used.
    #[error("{attempt} {path}")]
    Disk {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another process: stop it, or name another data directory")]
    InUse(PathBuf),
    /// The file is of something else.
    #[error("{0} is not an object log of this version: move it away to begin anew")]
    Foreign(PathBuf),
}

/// Takes changes and makes them durable.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    /// Encoded records. Over [`MAX_PENDING`] requests are answered 429 until the disk has caught up.
    buffer: Vec<u8>,
    revision: u64,
    shelves: Vec<Arc<str>>,
    closed: bool,
    failed: Option<Arc<str>>,
}

/// An opened log, before its thread runs.
#[derive(Debug)]
pub(super) struct Opened {
    folder: PathBuf,
    file: File,
    size: u64,
    /// Holds the lock while it lives.
    _lock: File,
}

// === impl Opened ===

impl Opened {
    /// Opens the log in `folder` and puts what it holds into the store. Gives the version up to
    /// which it goes.
    pub(super) fn open(folder: &Path, store: &mut Store) -> Result<(Self, u64), Error> {
        let disk = |attempt, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Disk {
                attempt,
                path,
                source,
            }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(disk("make the folder", folder))?;
        let lock_path = folder.join("lock");
        let lock = private(OpenOptions::new().create(true).truncate(false))
            .open(&lock_path)
            .map_err(disk("open", &lock_path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_held| Error::InUse(folder.to_owned()))?;
        let path = folder.join(NAME);
        let mut file = private(OpenOptions::new().create(true).truncate(false))
            .open(&path)
            .map_err(disk("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(disk("read", &path))?;
        let (revision, whole) = if bytes.is_empty() {
            (0, 0)
        } else {
            replay(&bytes.into(), store).ok_or_else(|| Error::Foreign(path.clone()))?
        };
        let mut size = u64::try_from(whole).unwrap_or(u64::MAX);
        if size == 0 {
            file.write_all(&header(store.revision()))
                .map_err(disk("write", &path))?;
            size = u64::try_from(header(0).len()).unwrap_or(0);
        }
        file.set_len(size)
            .map_err(disk("cut the torn tail of", &path))?;
        file.seek(SeekFrom::End(0))
            .map_err(disk("seek in", &path))?;
        file.sync_all().map_err(disk("sync", &path))?;
        sync_folder(folder).map_err(disk("sync", folder))?;
        let opened = Self {
            folder: folder.to_owned(),
            file,
            size,
            _lock: lock,
        };
        Ok((opened, revision))
    }

    /// Makes changes durable before the thread runs.
    pub(super) fn write(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut buffer = Vec::new();
        for change in changes {
            encode(&mut buffer, change);
        }
        self.append(&buffer).map_err(|source| Error::Disk {
            attempt: "write",
            path: self.folder.join(NAME),
            source,
        })
    }

    fn append(&mut self, buffer: &[u8]) -> io::Result<()> {
        self.file.write_all(buffer)?;
        self.file.sync_data()?;
        self.size = self
            .size
            .saturating_add(u64::try_from(buffer.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Begins a new file with a snapshot.
    fn rewrite(&mut self, revision: u64, objects: &[Change]) -> io::Result<()> {
        let path = self.folder.join(NEXT);
        let mut file = private(OpenOptions::new().create(true).truncate(true)).open(&path)?;
        let mut size = 0_u64;
        let mut buffer = header(revision);
        for change in objects {
            encode(&mut buffer, change);
            if buffer.len() >= 1024 * 1024 {
                file.write_all(&buffer)?;
                size = size.saturating_add(u64::try_from(buffer.len()).unwrap_or(0));
                buffer.clear();
            }
        }
        file.write_all(&buffer)?;
        size = size.saturating_add(u64::try_from(buffer.len()).unwrap_or(0));
        file.sync_all()?;
        fs::rename(&path, self.folder.join(NAME))?;
        sync_folder(&self.folder)?;
        self.file = file;
        self.size = size;
        Ok(())
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    // Secrets are in it.
    options.read(true).write(true).mode(0o600)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

// === impl Log ===

impl Log {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                pending: Mutex::default(),
                wake: Condvar::new(),
            }),
            thread: Mutex::new(None),
        }
    }

    /// Runs the thread that writes.
    pub(super) fn run(&self, opened: Opened, api: &Arc<Api>) -> io::Result<()> {
        let (shared, api) = (Arc::clone(&self.shared), Arc::downgrade(api));
        let thread = std::thread::Builder::new()
            .name("embedded-log".to_owned())
            .spawn(move || shared.run(opened, &api))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Queues changes; they are durable when the API publishes their version.
    pub(super) fn append(&self, changes: &[Change]) -> Result<(), Arc<str>> {
        let mut pending = self.shared.lock();
        if let Some(why) = &pending.failed {
            return Err(Arc::clone(why));
        }
        if pending.closed {
            return Err("the server is stopping".into());
        }
        for change in changes {
            encode(&mut pending.buffer, change);
            pending.revision = change.revision;
            for concerned in change.concerns() {
                if pending.shelves.last() != Some(&concerned) {
                    pending.shelves.push(concerned);
                }
            }
        }
        drop(pending);
        if !changes.is_empty() {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Whether so much waits for the disk that nothing more should be taken.
    pub(super) fn is_behind(&self) -> bool {
        self.shared.lock().buffer.len() > MAX_PENDING
    }

    /// Why nothing can be made durable any more.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.shared.lock().failed.clone()
    }

    /// Writes what is queued and ends the thread.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the object log panicked");
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut opened: Opened, api: &Weak<Api>) {
        let mut live = opened.size;
        while let Some((buffer, revision, shelves)) = self.take() {
            let done = opened.append(&buffer).and_then(|()| {
                if let Some(api) = api.upgrade() {
                    api.publish(revision, &shelves);
                }
                if opened.size > COMPACT_FROM.max(live.saturating_mul(COMPACT_FACTOR)) {
                    self.compact(&mut opened, api)?;
                    live = opened.size;
                }
                Ok(())
            });
            if let Err(error) = done {
                tracing::error!(%error, folder = %opened.folder.display(), "the object log failed");
                self.lock().failed = Some(error.to_string().into());
                if let Some(api) = api.upgrade() {
                    api.fail();
                }
                return;
            }
        }
    }

    /// What is queued; none when the log is closed and all is written.
    fn take(&self) -> Option<(Vec<u8>, u64, Vec<Arc<str>>)> {
        let mut pending = self.lock();
        loop {
            if !pending.buffer.is_empty() {
                let buffer = std::mem::take(&mut pending.buffer);
                let mut shelves = std::mem::take(&mut pending.shelves);
                shelves.sort();
                shelves.dedup();
                return Some((buffer, pending.revision, shelves));
            }
            if pending.closed {
                return None;
            }
            pending = self
                .wake
                .wait(pending)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn compact(&self, opened: &mut Opened, api: &Weak<Api>) -> io::Result<()> {
        let Some(api) = api.upgrade() else {
            return Ok(());
        };
        let (revision, objects, shelves) = api.snapshot(|| {
            // While the store is held, nothing is added: what is queued is in the snapshot.
            let mut pending = self.lock();
            pending.buffer.clear();
            std::mem::take(&mut pending.shelves)
        });
        opened.rewrite(revision, &objects)?;
        api.publish(revision, &shelves);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
