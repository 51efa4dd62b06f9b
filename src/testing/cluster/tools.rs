//! Where the programs are: `$KUBEBUILDER_ASSETS`, then `target/tools`, then for kubectl the path.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::Error;

/// A program that the test bed runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    KubeApiserver,
    /// kubectl.
    Kubectl,
}

// === impl Tool ===

impl Tool {
    /// The program's file name.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::Kubectl => "kubectl",
        }
    }
}

/// Where `tool` is on this machine.
///
/// # Errors
/// A sentence that says what to install.
pub fn find(tool: Tool) -> Result<PathBuf, Error> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    find_in(
        tool,
        std::env::var_os("KUBEBUILDER_ASSETS"),
        &built,
        std::env::var_os("PATH"),
    )
}

fn find_in(
    tool: Tool,
    assets: Option<OsString>,
    built: &Path,
    path: Option<OsString>,
) -> Result<PathBuf, Error> {
    let mut folders: Vec<PathBuf> = assets.iter().map(PathBuf::from).collect();
    folders.push(built.to_owned());
    if tool == Tool::Kubectl
        && let Some(path) = path
    {
        folders.extend(std::env::split_paths(&path));
    }
    folders
        .into_iter()
        .map(|folder| folder.join(tool.file_name()))
        .find(|program| program.is_file())
        .ok_or_else(|| Error::Missing {
            tool: tool.file_name(),
            assets: assets.map_or_else(
                || "not set".to_owned(),
                |assets| assets.to_string_lossy().into_owned(),
            ),
            built: built.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(program: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(program), "").unwrap();
        folder
    }

    #[test]
    fn the_environment_goes_before_what_was_built() {
        let (assets, built) = (folder_with("etcd"), folder_with("etcd"));
        let found = find_in(Tool::Etcd, Some(assets.path().into()), built.path(), None);
        assert_eq!(found.unwrap(), assets.path().join("etcd"));
    }

    #[test]
    fn a_program_missing_from_the_environment_may_have_been_built() {
        let (assets, built) = (folder_with("etcd"), folder_with("kube-apiserver"));
        let found = find_in(
            Tool::KubeApiserver,
            Some(assets.path().into()),
            built.path(),
            None,
        );
        assert_eq!(found.unwrap(), built.path().join("kube-apiserver"));
    }

    #[test]
    fn only_kubectl_is_taken_from_the_path() {
        let (built, path) = (tempfile::tempdir().unwrap(), folder_with("kubectl"));
        std::fs::write(path.path().join("etcd"), "").unwrap();
        let search = Some(path.path().into());
        let kubectl = find_in(Tool::Kubectl, None, built.path(), search.clone());
        assert_eq!(kubectl.unwrap(), path.path().join("kubectl"));
        find_in(Tool::Etcd, None, built.path(), search).unwrap_err();
    }

    #[test]
    fn a_missing_program_is_an_error_that_says_what_to_do() {
        let built = tempfile::tempdir().unwrap();
        let error = find_in(Tool::KubeApiserver, None, built.path(), None).unwrap_err();
        let said = error.to_string();
        for part in [
            "kube-apiserver",
            "make tools",
            "KUBEBUILDER_ASSETS",
            "make test-fast",
            "not set",
        ] {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
    }
}
