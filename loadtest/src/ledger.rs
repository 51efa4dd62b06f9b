//! The ledger: every acknowledged id, eight bytes each, in a file that is only appended to.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// Where acknowledged ids are noted.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: BufWriter<File>,
    path: PathBuf,
    count: u64,
}

impl Ledger {
    /// A new, empty one.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(path)?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 16, file),
            path: path.to_owned(),
            count: 0,
        })
    }

    /// Notes an id.
    pub(crate) fn acknowledged(&mut self, id: u64) -> io::Result<()> {
        self.count += 1;
        self.file.write_all(&id.to_le_bytes())
    }

    /// How many were noted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Hands what was noted to the kernel; the generator itself is never killed.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Everything that was noted.
    pub(crate) fn ids(&mut self) -> io::Result<BTreeSet<u64>> {
        self.flush()?;
        Self::read(&self.path)
    }

    /// Everything that a file holds.
    pub(crate) fn read(path: &Path) -> io::Result<BTreeSet<u64>> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|id| u64::from_le_bytes(*id))
            .collect())
    }
}
