//! A disk in memory that keeps what was written apart from what was synced.
//!
//! A crash loses any subset of the unsynced writes, sector by sector, and any subset of the unsynced
//! creations, renamings and removals: a file that was made and removed again may be back, with what was synced
//! in it. A failed sync drops what it should have made durable, as Linux does: the pages are clean
//! afterwards, the next sync succeeds, and what it says is not true of them. A failed sync of the
//! directory may have made durable what was done first.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::seeded::Seeded;
use crate::ops::disk::{Disk, DiskFile};

/// What a disk writes whole.
const SECTOR: usize = 512;

/// When the disk fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Percentage of syncs that fail with EIO.
    pub sync: u64,
    /// Percentage of writes that fail with EIO, part of them written.
    pub write: u64,
    /// Percentage of creations that fail with EIO.
    pub create: u64,
    /// After so many reads each further one fails with EIO.
    pub reads: Option<u64>,
    /// So many reads give zeros: as of a sector that can be read the second time.
    pub blank: u64,
    /// After so many operations everything fails, as in a process whose machine loses power.
    pub crash_after: Option<u64>,
    /// How many bytes fit; beyond it is ENOSPC.
    pub capacity: Option<u64>,
}

/// See the module. Clones share the disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    sim: Arc<Mutex<Sim>>,
}

#[derive(Clone, Debug)]
struct Sim {
    choices: Seeded,
    faults: Faults,
    operations: u64,
    /// Counts crashes; handles from before one are dead.
    life: u64,
    /// The directory as the process sees it, as it is durable, and what lies between the two.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<Entry>,
    files: BTreeMap<u64, File>,
    next_file: u64,
}

/// A change of the directory.
#[derive(Clone, Debug)]
enum Entry {
    Created(String, u64),
    Removed(String),
    Renamed(String, String, u64),
}

impl Entry {
    fn apply(self, to: &mut BTreeMap<String, u64>) {
        match self {
            Self::Created(name, file) => drop(to.insert(name, file)),
            Self::Removed(name) => drop(to.remove(&name)),
            Self::Renamed(from, name, file) => {
                to.remove(&from);
                to.insert(name, file);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                if let Some(place) = to.get_mut(*offset..end) {
                    place.copy_from_slice(bytes);
                }
            }
            Self::Truncate { len } => to.resize(*len, 0),
        }
    }

    /// What of it a power cut leaves: all, nothing, or some sectors.
    fn survive(&self, choices: &mut Seeded, to: &mut Vec<u8>) {
        match (self, choices.below(4)) {
            (_, 0) => {}
            (Self::Write { offset, bytes }, 1 | 2) => {
                let mut at = *offset;
                let end = offset + bytes.len();
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    let sector = bytes.get(at - offset..next - offset).unwrap_or_default();
                    if choices.chance(60) {
                        Self::Write {
                            offset: at,
                            bytes: sector.to_vec(),
                        }
                        .apply(to);
                    }
                    at = next;
                }
            }
            _ => self.apply(to),
        }
    }
}

impl SimDisk {
    /// An empty disk whose choices follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let sim = Sim {
            choices: Seeded::new(seed),
            faults: Faults::default(),
            operations: 0,
            life: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            files: BTreeMap::new(),
            next_file: 0,
        };
        Self {
            sim: Arc::new(Mutex::new(sim)),
        }
    }

    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.sim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn fork(&self) -> Self {
        let sim = self.sim().clone();
        Self {
            sim: Arc::new(Mutex::new(sim)),
        }
    }

    /// Sets when it fails; `crash_after` counts from now.
    pub fn set_faults(&self, faults: Faults) {
        let mut sim = self.sim();
        sim.faults = faults;
        sim.operations = 0;
    }

    /// Whether `crash_after` has come.
    #[must_use]
    pub fn is_down(&self) -> bool {
        let sim = self.sim();
        sim.faults
            .crash_after
            .is_some_and(|after| sim.operations >= after)
    }

    /// The power is cut and comes again: what was not synced survives or not. Faults are over.
    pub fn crash(&self) {
        let mut guard = self.sim();
        let sim = &mut *guard;
        sim.life += 1;
        sim.faults = Faults::default();
        sim.operations = 0;
        let mut names = sim.durable_names.clone();
        for entry in std::mem::take(&mut sim.unsynced_names) {
            if sim.choices.chance(50) {
                entry.apply(&mut names);
            }
        }
        for file in sim.files.values_mut() {
            let mut left = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                change.survive(&mut sim.choices, &mut left);
            }
            file.current.clone_from(&left);
            file.durable = left;
        }
        sim.files
            .retain(|file, _| names.values().any(|kept| kept == file));
        sim.durable_names.clone_from(&names);
        sim.names = names;
    }

    /// Flips one bit of a file, durably; false where it has no such byte.
    pub fn damage(&self, name: &str, offset: usize) -> bool {
        let mut guard = self.sim();
        let sim = &mut *guard;
        let Some(file) = sim.names.get(name).and_then(|file| sim.files.get_mut(file)) else {
            return false;
        };
        let mut hit = false;
        for bytes in [&mut file.current, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 0x10;
                hit = true;
            }
        }
        hit
    }

    /// The files and their lengths.
    #[must_use]
    pub fn files(&self) -> Vec<(String, usize)> {
        let sim = self.sim();
        let files = sim
            .names
            .iter()
            .filter_map(|(name, file)| Some((name.clone(), sim.files.get(file)?.current.len())));
        files.collect()
    }

    /// Bytes of a file as the process sees them.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let sim = self.sim();
        let file = sim.names.get(name).and_then(|file| sim.files.get(file));
        file.map(|file| file.current.clone()).unwrap_or_default()
    }
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("simulated: {what}"))
}

impl Sim {
    /// Every operation passes here.
    fn enter(&mut self, life: Option<u64>) -> io::Result<()> {
        if life.is_some_and(|life| life != self.life) {
            return Err(failed("a handle from before the crash"));
        }
        if self
            .faults
            .crash_after
            .is_some_and(|after| self.operations >= after)
        {
            return Err(failed("no power"));
        }
        self.operations += 1;
        Ok(())
    }

    fn used(&self) -> u64 {
        let bytes = |file: &u64| self.files.get(file).map_or(0, |file| file.current.len());
        u64::try_from(self.names.values().map(bytes).sum::<usize>()).unwrap_or(u64::MAX)
    }

    fn room(&self, more: u64) -> io::Result<()> {
        match self.faults.capacity {
            Some(capacity) if self.used() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut sim = self.sim();
        sim.enter(None)?;
        Ok(sim.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, allocate: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut sim = self.sim();
        sim.enter(None)?;
        if sim.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let percent = sim.faults.create;
        if sim.choices.chance(percent) {
            return Err(failed("create"));
        }
        sim.room(allocate)?;
        let id = sim.next_file;
        sim.next_file += 1;
        let zeros = vec![0; size(allocate)];
        sim.files.insert(
            id,
            File {
                current: zeros.clone(),
                durable: zeros,
                unsynced: Vec::new(),
            },
        );
        sim.names.insert(name.to_owned(), id);
        let created = Entry::Created(name.to_owned(), id);
        sim.unsynced_names.push(created);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            life: sim.life,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut sim = self.sim();
        sim.enter(None)?;
        let id = *sim.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            life: sim.life,
        }))
    }

    fn rename(&self, from: &str, name: &str) -> io::Result<()> {
        let mut guard = self.sim();
        let sim = &mut *guard;
        sim.enter(None)?;
        let id = sim.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        sim.names.insert(name.to_owned(), id);
        let renamed = Entry::Renamed(from.to_owned(), name.to_owned(), id);
        sim.unsynced_names.push(renamed);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut sim = self.sim();
        sim.enter(None)?;
        sim.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        sim.unsynced_names.push(Entry::Removed(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut guard = self.sim();
        let sim = &mut *guard;
        sim.enter(None)?;
        let fails = sim.choices.chance(sim.faults.sync);
        let done = if fails {
            sim.choices.index(sim.unsynced_names.len() + 1)
        } else {
            sim.unsynced_names.len()
        };
        for entry in sim.unsynced_names.drain(..done) {
            entry.apply(&mut sim.durable_names);
        }
        if fails {
            Err(failed("sync of the directory"))
        } else {
            Ok(())
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: u64,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Sim, u64) -> io::Result<T>) -> io::Result<T> {
        let mut sim = self.disk.sim();
        sim.enter(Some(self.life))?;
        work(&mut sim, self.id)
    }
}

fn file(sim: &mut Sim, id: u64) -> io::Result<&mut File> {
    sim.files
        .get_mut(&id)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|sim, id| {
            let len = u64::try_from(file(sim, id)?.current.len()).unwrap_or(u64::MAX);
            let end = offset + u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let percent = sim.faults.write;
            let result = if sim.choices.chance(percent) {
                Err(failed("write"))
            } else {
                sim.room(end.saturating_sub(len))
            };
            let written = if result.is_ok() {
                bytes.len()
            } else {
                sim.choices.index(bytes.len())
            };
            let change = Change::Write {
                offset: size(offset),
                bytes: bytes.get(..written).unwrap_or_default().to_vec(),
            };
            let file = file(sim, id)?;
            change.apply(&mut file.current);
            file.unsynced.push(change);
            result
        })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|sim, id| {
            if let Some(reads) = &mut sim.faults.reads {
                *reads = reads.checked_sub(1).ok_or_else(|| failed("read"))?;
            }
            let blank = sim.faults.blank > 0;
            sim.faults.blank = sim.faults.blank.saturating_sub(1);
            let file = file(sim, id)?;
            let rest = file.current.get(size(offset)..).unwrap_or_default();
            let len = rest.len().min(into.len());
            if let (Some(into), Some(from)) = (into.get_mut(..len), rest.get(..len)) {
                into.copy_from_slice(from);
                if blank {
                    into.fill(0);
                }
            }
            Ok(len)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|sim, id| {
            let percent = sim.faults.sync;
            let fails = sim.choices.chance(percent);
            let mut choices = sim.choices.clone();
            let file = file(sim, id)?;
            for change in std::mem::take(&mut file.unsynced) {
                if fails {
                    change.survive(&mut choices, &mut file.durable);
                } else {
                    change.apply(&mut file.durable);
                }
            }
            sim.choices = choices;
            if fails { Err(failed("sync")) } else { Ok(()) }
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|sim, id| {
            let change = Change::Truncate { len: size(len) };
            let file = file(sim, id)?;
            change.apply(&mut file.current);
            file.unsynced.push(change);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|sim, id| Ok(u64::try_from(file(sim, id)?.current.len()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests;
