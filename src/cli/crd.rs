//! `zen-fabric crd`: the `CustomResourceDefinitions`, as a stream or as files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Exit, Failure, Streams};
use crate::api::{CrdFile, crd_files};

/// See [`super::Command::Crd`].
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write one file per kind into this folder instead of printing them
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// A file could not be written; those before it were.
#[derive(Debug, thiserror::Error)]
#[error("write {}", path.display())]
pub struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Prints or writes the definitions.
pub(super) fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let files = crd_files()?;
    match &args.out {
        Some(folder) => {
            for path in write(&files, folder)? {
                writeln!(streams.out, "{}", path.display())?;
            }
        }
        None => streams.out.write_all(stream(&files).as_bytes())?,
    }
    Ok(Exit::Success)
}

/// All definitions as one YAML stream, ready for `kubectl apply -f -`.
#[must_use]
pub fn stream(files: &[CrdFile]) -> String {
    let documents: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
    documents.join("---\n")
}

/// Writes every definition into `folder`, which is made where it isn't there; gives the paths.
///
/// # Errors
/// The first file that could not be written.
pub fn write(files: &[CrdFile], folder: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    files
        .iter()
        .map(|file| {
            let path = folder.join(&file.name);
            fs::write(&path, &file.text).map_err(failed(&path))?;
            Ok(path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_holds_every_definition() {
        let files = crd_files().unwrap();
        let documents: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&stream(&files)).unwrap();
        let kinds: Vec<&str> = documents
            .iter()
            .map(|d| d["spec"]["names"]["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["Ingestor", "Observation", "ShardMap"]);
    }

    #[test]
    fn writing_twice_gives_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let files = crd_files().unwrap();
        let target = folder.path().join("new/crds");
        let first = write(&files, &target).unwrap();
        assert_eq!(write(&files, &target).unwrap(), first);
        for (path, file) in first.iter().zip(&files) {
            assert_eq!(fs::read_to_string(path).unwrap(), file.text);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = write(&[], &file.join("below")).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
