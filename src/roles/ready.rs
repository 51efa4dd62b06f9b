//! `--ready-file`: JSON with the addresses, written when the process does what it is for.

use std::{fs, io, path::Path};

use serde::Serialize;

use super::error::{Error, write_failed};

/// Removes what an earlier process has said; whoever waits for the file waits for this one.
pub(super) fn forget(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_failed(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes what `--ready-file` says, where there is one; whoever reads it never reads half of it.
pub(super) fn write(path: Option<&Path>, ready: &impl Serialize) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_vec_pretty(ready).map_err(io::Error::from)?;
    let beside = path.with_extension("new");
    fs::write(&beside, text).map_err(write_failed(&beside))?;
    fs::rename(&beside, path).map_err(write_failed(path))
}
