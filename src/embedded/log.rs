//! The store on disk: a snapshot, and behind it the changes since.
//!
//! One file holds both. Changes are written and synced by a thread of its own: while it syncs, the
//! next ones gather, and one fdatasync makes them all durable (group commit). When the file has
//! grown to a multiple of what lives in it, a new one is begun with a snapshot and put in its
//! place by a rename; a crash at any moment leaves one whole file.
//!
//! A record is its length, a CRC-32C of what follows, and the change; before each batch stands a mark,
//! written when all before it was durable. Recovery reads up to the first record that is not whole
//! and cuts the rest: an unsynced tail, which nobody was told of. Where a mark comes behind it, it is
//! no tail but damage, and nothing is touched.

mod record;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::record::{MARK_LENGTH, Unreadable, encode, header, mark, replay};
use super::{
    service::Api,
    store::{Change, Store},
};
use crate::ops::disk::{Disk, DiskFile, OpenDirError, RealDisk};

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
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] OpenDirError),
    /// The file is of something else.
    #[error("{0} is not an object log of this version: move it away to begin anew")]
    Foreign(PathBuf),
    /// Something in the middle can't be read.
    #[error(
        "{path} is damaged at byte {at}, and holds more behind it: put a copy back, or move it away to begin anew"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: usize,
    },
}

/// Takes changes and makes them durable.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
    broken: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    /// A mark's room and encoded records. Over [`MAX_PENDING`] requests are answered 429 until the disk has caught up.
    buffer: Vec<u8>,
    revision: u64,
    shelves: Vec<Arc<str>>,
    closed: bool,
    failed: Option<Arc<str>>,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A smaller file is never compacted.
    pub compact_from: u64,
    /// A planted mistake that the crash test must find.
    #[cfg(feature = "testing")]
    pub mistake: Option<Mistake>,
}

/// A planted mistake.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Changes are not synced.
    NoSync,
    /// Changes are shown before they are synced.
    ShowEarly,
    /// A new file takes the old one's place before it is synced.
    RenameEarly,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            compact_from: COMPACT_FROM,
            #[cfg(feature = "testing")]
            mistake: None,
        }
    }
}

/// An opened log, before its thread runs.
#[derive(Debug)]
pub(super) struct Opened {
    disk: Arc<dyn Disk>,
    /// Where that is, for messages.
    folder: PathBuf,
    file: Arc<dyn DiskFile>,
    size: u64,
    settings: Settings,
}

// === impl Opened ===

impl Opened {
    /// Opens the log in `folder` and puts what it holds into the store. Gives the version up to
    /// which it goes.
    pub(super) fn open(folder: &Path, store: &mut Store) -> Result<(Self, u64), Error> {
        let disk = Arc::new(RealDisk::open(folder)?);
        Self::on(disk, folder, Settings::default(), store)
    }

    /// As [`Opened::open`], on any disk.
    pub(super) fn on(
        disk: Arc<dyn Disk>,
        folder: &Path,
        settings: Settings,
        store: &mut Store,
    ) -> Result<(Self, u64), Error> {
        let path = folder.join(NAME);
        let failed = |attempt| {
            let path = path.clone();
            move |source| Error::Disk {
                attempt,
                path,
                source,
            }
        };
        let names = disk.list().map_err(failed("list the folder of"))?;
        if names.iter().any(|name| name == NEXT) {
            // It never took its place.
            disk.remove(NEXT)
                .map_err(failed("remove what was to follow"))?;
        }
        let file = if names.iter().any(|name| name == NAME) {
            disk.open(NAME)
        } else {
            disk.create(NAME, 0)
        };
        let file = file.map_err(failed("open"))?;
        let bytes = read(file.as_ref()).map_err(failed("read"))?;
        // All zero: it was made, and its beginning never reached the disk.
        let (revision, whole) = if bytes.iter().all(|byte| *byte == 0) {
            (0, 0)
        } else {
            replay(&bytes, store).map_err(|why| match why {
                Unreadable::Foreign => Error::Foreign(path.clone()),
                Unreadable::Damaged(at) => Error::Damaged {
                    path: path.clone(),
                    at,
                },
            })?
        };
        let header = header(store.revision());
        let whole = if whole == 0 {
            &header
        } else {
            bytes.get(..whole).unwrap_or_default()
        };
        let size = length(whole);
        // What was written last may be in memory alone, and a sync that follows a failed one writes
        // nothing: so it is written again.
        let again = whole.len().saturating_sub(2 * MAX_PENDING);
        let unsure = whole.get(again..).unwrap_or_default();
        file.write_at(size - length(unsure), unsure)
            .map_err(failed("write"))?;
        file.truncate(size)
            .map_err(failed("cut the torn tail of"))?;
        file.sync().map_err(failed("sync"))?;
        disk.sync_dir().map_err(failed("sync the folder of"))?;
        let opened = Self {
            disk,
            folder: folder.to_owned(),
            file,
            size,
            settings,
        };
        Ok((opened, revision))
    }

    /// Makes changes durable before the thread runs.
    pub(super) fn write(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut buffer = vec![0; MARK_LENGTH];
        for change in changes {
            encode(&mut buffer, change);
        }
        self.append(&mut buffer).map_err(|source| Error::Disk {
            attempt: "write",
            path: self.folder.join(NAME),
            source,
        })
    }

    /// Writes a batch, in front of which there is room for its mark.
    fn append(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(room) = buffer.first_chunk_mut() {
            *room = mark(self.size);
        }
        self.file.write_at(self.size, buffer)?;
        #[cfg(feature = "testing")]
        if self.is(Mistake::NoSync) {
            self.size += length(buffer);
            return Ok(());
        }
        self.file.sync()?;
        self.size += length(buffer);
        Ok(())
    }

    #[cfg(feature = "testing")]
    fn is(&self, mistake: Mistake) -> bool {
        self.settings.mistake == Some(mistake)
    }

    /// Puts a new file with a snapshot in place of this one; false: it couldn't be made, and all is as
    /// it was.
    ///
    /// # Errors
    /// Which of the two a power cut leaves is not known.
    fn rewrite(&mut self, revision: u64, objects: &[Change]) -> io::Result<bool> {
        let made = self
            .snapshot(revision, objects)
            .and_then(|made| self.disk.rename(NEXT, NAME).map(|()| made));
        let (file, size) = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, folder = %self.folder.display(), "the object log can't be compacted; it is tried again");
                // Half of it may be there, and takes room; a start removes it too.
                drop(self.disk.remove(NEXT));
                return Ok(false);
            }
        };
        self.disk.sync_dir()?;
        (self.file, self.size) = (file, size);
        Ok(true)
    }

    /// A new file with a snapshot, and how long it is.
    fn snapshot(&self, revision: u64, objects: &[Change]) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let file = self.disk.create(NEXT, 0)?;
        let mut size = 0;
        let mut buffer = header(revision);
        for change in objects {
            encode(&mut buffer, change);
            if buffer.len() >= 1024 * 1024 {
                file.write_at(size, &buffer)?;
                size += length(&buffer);
                buffer.clear();
            }
        }
        // It takes its place when all of it is durable.
        let end = mark(size + length(&buffer));
        buffer.extend_from_slice(&end);
        file.write_at(size, &buffer)?;
        size += length(&buffer);
        #[cfg(feature = "testing")]
        if !self.is(Mistake::RenameEarly) {
            file.sync()?;
        }
        #[cfg(not(feature = "testing"))]
        file.sync()?;
        Ok((file, size))
    }
}

fn read(file: &dyn DiskFile) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

// === impl Log ===

impl Log {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                pending: Mutex::default(),
                wake: Condvar::new(),
            }),
            broken: CancellationToken::new(),
            thread: Mutex::new(None),
        }
    }

    /// Cancelled when nothing can be made durable any more.
    pub(super) fn broken(&self) -> CancellationToken {
        self.broken.clone()
    }

    /// Runs the thread that writes.
    pub(super) fn run(&self, opened: Opened, api: &Arc<Api>) -> io::Result<()> {
        let (shared, api) = (Arc::clone(&self.shared), Arc::downgrade(api));
        let broken = self.broken.clone();
        let thread = std::thread::Builder::new()
            .name("embedded-log".to_owned())
            .spawn(move || shared.run(opened, &api, &broken))?;
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
        if !changes.is_empty() && pending.buffer.is_empty() {
            pending.buffer.resize(MARK_LENGTH, 0);
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
        // Whoever waits for a version that nobody will write any more is told so.
        self.shared
            .lock()
            .failed
            .get_or_insert_with(|| "the server is stopping".into());
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut opened: Opened, api: &Weak<Api>, broken: &CancellationToken) {
        let least = opened.settings.compact_from;
        let next = |live: u64| least.max(live.saturating_mul(COMPACT_FACTOR));
        let mut compact_at = next(opened.size);
        while let Some((mut buffer, revision, shelves)) = self.take() {
            #[cfg(feature = "testing")]
            if opened.is(Mistake::ShowEarly)
                && let Some(api) = api.upgrade()
            {
                api.publish(revision, &shelves);
            }
            let done = opened.append(&mut buffer).and_then(|()| {
                if let Some(api) = api.upgrade() {
                    api.publish(revision, &shelves);
                }
                if opened.size > compact_at {
                    let done = self.compact(&mut opened, api)?;
                    // Where it failed, not with every write again.
                    compact_at = if done {
                        next(opened.size)
                    } else {
                        opened.size.saturating_add(least)
                    };
                }
                Ok(())
            });
            if let Err(error) = done {
                tracing::error!(%error, folder = %opened.folder.display(), "the object log failed");
                self.lock().failed = Some(error.to_string().into());
                broken.cancel();
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

    fn compact(&self, opened: &mut Opened, api: &Weak<Api>) -> io::Result<bool> {
        let Some(api) = api.upgrade() else {
            return Ok(true);
        };
        let (revision, objects, (mut queued, shelves)) = api.snapshot(|| {
            // While the store is held, nothing is added: what is queued is in the snapshot.
            let mut pending = self.lock();
            let queued = std::mem::take(&mut pending.buffer);
            (queued, std::mem::take(&mut pending.shelves))
        });
        let done = opened.rewrite(revision, &objects)?;
        if !done && !queued.is_empty() {
            opened.append(&mut queued)?;
        }
        api.publish(revision, &shelves);
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
