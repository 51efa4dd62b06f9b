//! Folders that a power cut doesn't take away, and files that are whole or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Makes a folder where there is none, with those above it, its owner's alone; and makes their entries
/// durable: what is synced in a folder is gone if the folder is.
///
/// # Errors
/// The system's, with what it was asked for in the folder's place.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    make(dir, |parent| File::open(parent)?.sync_all())
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// The system's; what was there before is left as it was.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    // Left over from a crash, with who knows which mode.
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn make(dir: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut at = dir;
    while !at.as_os_str().is_empty() && !at.is_dir() {
        missing.push(at.to_owned());
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    for level in missing.iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(level) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && level.is_dir() => {}
            made => made?,
        }
        sync(parent_of(level))?;
    }
    if missing.is_empty() {
        // Who made it may not have come to this.
        sync(parent_of(dir))?;
    }
    Ok(())
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => dir,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_that_is_made_is_synced_in_the_one_above_it() {
        let temporary = tempfile::tempdir().unwrap();
        let base = temporary.path();
        let synced = |dir: &Path| {
            let mut synced = Vec::new();
            make(dir, |parent| {
                synced.push(parent.strip_prefix(base).unwrap().to_owned());
                Ok(())
            })
            .unwrap();
            assert!(dir.is_dir());
            synced
        };
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(synced(&base.join("a/b/c")), paths(&["", "a", "a/b"]));
        assert_eq!(synced(&base.join("a/b/c")), paths(&["a/b"]));
        assert_eq!(synced(&base.join("a/d")), paths(&["a"]));
        make_dir(&base.join("e/f")).unwrap();
        assert!(base.join("e/f").is_dir());
    }

    #[test]
    fn what_stands_in_a_folder_s_place_is_not_touched() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("a");
        fs::write(&file, "someone else's").unwrap();
        make_dir(&file).unwrap_err();
        make_dir(&file.join("b")).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "someone else's");
    }
}
