//! What the process asks the kernel for, for itself.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Keeps what is in memory, secrets among it, out of core dumps.
///
/// The limit stops cores that the kernel writes to a file. Those that it pipes to a program don't
/// mind the limit: on Linux the process is marked as not dumpable, which also keeps out debuggers of
/// its own user.
///
/// # Errors
/// When the kernel refuses.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
