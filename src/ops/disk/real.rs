//! The machine's disk.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{fs::FallocateFlags, io::Errno};

use super::{Disk, DiskFile, make_dir};

/// A directory that this process alone uses: a lock file keeps others out while it lives.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    handle: File,
    /// Held, not read: the lock goes with the file.
    lock: Mutex<Option<File>>,
}

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenDirError {
    /// Another process has it.
    #[error("{} is in use by another process: stop it, or name another directory", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("cannot use the directory {}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl RealDisk {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// The directory is in use, or can't be made, opened or synced.
    #[expect(
        clippy::same_name_method,
        reason = "opens the directory; the trait's opens a file in it"
    )]
    pub fn open(dir: &Path) -> Result<Self, OpenDirError> {
        let failed = |source| OpenDirError::Io {
            dir: dir.to_owned(),
            source,
        };
        make_dir(dir).map_err(failed)?;
        let lock = private(OpenOptions::new().create(true).truncate(false))
            .open(dir.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenDirError::InUse {
                    dir: dir.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let handle = File::open(dir).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            handle,
            lock: Mutex::new(Some(lock)),
        })
    }
}

/// What is made is its owner's alone: events and Secrets are in it.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(0o600)
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str, allocate: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = private(OpenOptions::new().create_new(true)).open(self.dir.join(name))?;
        if allocate == 0 {
            return Ok(Arc::new(RealFile { file }));
        }
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, allocate) {
            // A file system without preallocation: the file grows as it is written.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(Arc::new(RealFile { file })),
            Err(error) => {
                fs::remove_file(self.dir.join(name))?;
                Err(error.into())
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = private(&mut OpenOptions::new()).open(self.dir.join(name))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn release(&self) {
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + u64::try_from(done).unwrap_or(u64::MAX);
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
