//! The store on disk: a snapshot, and behind it the changes since.
//!
//! One file holds both. Changes are written and synced by a thread of its own: while it syncs, the
//! next ones gather, and one fdatasync makes them all durable (group commit). When the file has
//! grown to a multiple of what lives in it, a new one is begun with a snapshot and put in its
//! place by a rename; a crash at any moment leaves one whole file.
//!
//! A record is its length, a CRC-32C of what follows, and the change. Recovery reads up to the
//! first record that is not whole and cuts the rest: an unsynced tail, which nobody was told of.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
};

use bytes::Bytes;

use super::{
    service::Api,
    store::{Change, Store},
};

const MAGIC: &[u8; 16] = b"zen-fabric-api1\n";
const NAME: &str = "objects.log";
const NEXT: &str = "objects.next";

/// A file below this size is never compacted: it is read in a few milliseconds.
const COMPACT_FROM: u64 = 8 * 1024 * 1024;
/// How many times its live content a file may be: the cost of writing it anew is then a fraction
/// of what was written anyway.
const COMPACT_FACTOR: u64 = 4;

/// The largest record that is believed: an object is at most a request's body, doubled by
/// defaults, and a key.
const MAX_RECORD: usize = 16 * 1024 * 1024;

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
    /// Encoded records. Bounded by the requests in flight, each of which waits for its own.
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

fn header(revision: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&revision.to_le_bytes());
    header
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
            if pending.shelves.last() != Some(&change.shelf) {
                pending.shelves.push(Arc::clone(&change.shelf));
            }
        }
        drop(pending);
        if !changes.is_empty() {
            self.shared.wake.notify_one();
        }
        Ok(())
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

// === records ===

fn encode(buffer: &mut Vec<u8>, change: &Change) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&change.revision.to_le_bytes());
    for text in [&*change.shelf, &*change.key] {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        buffer.extend_from_slice(&length.to_le_bytes());
        buffer.extend_from_slice(text.as_bytes());
    }
    match &change.object {
        Some(object) => {
            buffer.push(1);
            buffer.extend_from_slice(object);
        }
        None => buffer.push(0),
    }
    let (sum, length) = {
        let payload = buffer.get(start.saturating_add(8)..).unwrap_or_default();
        (
            crc32c::crc32c(payload),
            u32::try_from(payload.len()).unwrap_or(u32::MAX),
        )
    };
    let head = length.to_le_bytes().into_iter().chain(sum.to_le_bytes());
    for (slot, byte) in buffer.iter_mut().skip(start).zip(head) {
        *slot = byte;
    }
}

/// Puts the whole records into the store; gives the last version and where the whole part ends.
fn replay(bytes: &Bytes, store: &mut Store) -> Option<(u64, usize)> {
    let total = bytes.len();
    let mut rest = bytes
        .strip_prefix(MAGIC.as_slice())
        .map(|rest| bytes.slice_ref(rest))?;
    let mut revision = u64::from_le_bytes(take(&mut rest, 8)?.as_ref().try_into().ok()?);
    let mut whole = total.saturating_sub(rest.len());
    while let Some(change) = decode(&mut rest) {
        revision = revision.max(change.revision);
        // An object of its own: a slice would keep the whole file in memory.
        let change = Change {
            object: change.object.map(|object| Bytes::copy_from_slice(&object)),
            ..change
        };
        store.restore(change);
        whole = total.saturating_sub(rest.len());
    }
    if whole < total {
        tracing::warn!(bytes = total - whole, "cut the torn tail of the object log");
    }
    Some((revision, whole))
}

fn decode(rest: &mut Bytes) -> Option<Change> {
    let mut ahead = rest.clone();
    let length = take_u32(&mut ahead)?;
    let sum = take_u32(&mut ahead)?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_RECORD)?;
    let mut payload = take(&mut ahead, length)?;
    if crc32c::crc32c(&payload) != sum {
        return None;
    }
    let revision = u64::from_le_bytes(take(&mut payload, 8)?.as_ref().try_into().ok()?);
    let shelf = take_text(&mut payload)?;
    let key = take_text(&mut payload)?;
    let there = take(&mut payload, 1)?;
    *rest = ahead;
    Some(Change {
        revision,
        shelf: shelf.into(),
        key: key.into(),
        object: (there.as_ref() == [1]).then_some(payload),
    })
}

fn take(rest: &mut Bytes, count: usize) -> Option<Bytes> {
    (rest.len() >= count).then(|| rest.split_to(count))
}

fn take_u32(rest: &mut Bytes) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.as_ref().try_into().ok()?))
}

fn take_text(rest: &mut Bytes) -> Option<String> {
    let length = usize::try_from(take_u32(rest)?).ok()?;
    String::from_utf8(take(rest, length)?.to_vec()).ok()
}

#[cfg(test)]
mod tests;
