//! The machine and the commit.

use std::{fs, path::Path, process::Command};

use crate::outcome::Taken;

const UNKNOWN: &str = "unknown";

/// Now, here, with this program.
#[must_use]
pub fn taken(binary: &Path) -> Taken {
    let build = binary.parent().and_then(Path::file_name);
    Taken {
        at: crate::clock::wall(),
        commit: commit(),
        machine: format!(
            "{}, {}, {}",
            processor(),
            memory(),
            output("uname", &["-sr"])
        ),
        build: build.map_or_else(
            || UNKNOWN.to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
    }
}

/// The commit, and whether there are changes beside it.
fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let changes = output(
        "git",
        &[
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ".",
            ":!docs",
        ],
    );
    if changes.is_empty() || changes == UNKNOWN {
        commit
    } else {
        format!("{commit} with changes")
    }
}

fn output(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or(UNKNOWN, |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    format!("{model}, {cores} cores")
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or_else(|| UNKNOWN.to_owned(), |kib| format!("{} GiB", kib >> 20))
}
