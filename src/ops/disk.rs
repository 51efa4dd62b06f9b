//! The disk as logs see it: one flat directory of files, reached through a trait so that crashes and
//! failures can be simulated.

use std::{fmt, io, sync::Arc};

mod folder;
mod real;

pub use folder::{make_dir, write_private};
pub use real::{OpenDirError, RealDisk};

/// A directory of files. Creating, renaming and removing is durable after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + fmt::Debug + 'static {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates a file that must not exist, with room for `allocate` bytes; its length is 0 or `allocate`.
    fn create(&self, name: &str, allocate: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, in place of the file that has it. Atomic; durable after
    /// [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; open handles can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renamings and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// The log is closed; another process may have the directory.
    fn release(&self) {}
}

/// An open file.
#[expect(
    clippy::len_without_is_empty,
    reason = "a file's length, which can fail"
)]
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Writes all of `bytes` at `offset`; on an error any part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads into `into`; fewer bytes only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes everything written durable. After an error the unsynced part may be lost or not, for ever.
    fn sync(&self) -> io::Result<()>;
    /// Sets the length.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// The length.
    fn len(&self) -> io::Result<u64>;
}
