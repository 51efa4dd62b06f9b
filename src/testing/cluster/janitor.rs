//! Stops the processes and removes the folder when the test process ends, however it ends.
//!
//! A shell reads from a pipe whose other end only this process holds. Each line names a process
//! that began or ended; the end of the pipe, which comes even after SIGKILL, makes the shell kill
//! what still runs and remove the folder. It needs no privilege and, unlike a parent-death signal,
//! does not fire when merely the thread that started a child ends.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use super::Error;

/// `$1` is the folder. A killed process can outlive the signal by a moment, and one that its new
/// parent never reaps counts as alive for ever: the wait for it is bounded.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
running=
while read -r verb pid; do
    case $verb in
    run) running="$running $pid" ;;
    end) rest=; for p in $running; do [ "$p" = "$pid" ] || rest="$rest $p"; done; running=$rest ;;
    esac
done
if [ -n "$running" ]; then
    kill -9 $running 2>/dev/null
    n=0
    while kill -0 $running 2>/dev/null && [ $n -lt 20 ]; do n=$((n + 1)); sleep 0.1; done
fi
rm -rf -- "$1"
"#;

/// The watching shell and the pipe to it.
#[derive(Debug)]
pub(super) struct Janitor {
    shell: Mutex<Child>,
    pipe: Mutex<Option<ChildStdin>>,
}

// === impl Janitor ===

impl Janitor {
    /// Watches over `dir` from now on.
    pub(super) fn start(dir: &Path) -> Result<Self, Error> {
        let mut shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("zen-fabric-test-janitor")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's process group, such as Ctrl-C, must not reach the one that
            // cleans up after it.
            .process_group(0)
            .spawn()
            .map_err(Error::io("start /bin/sh to clean up after the test bed"))?;
        let pipe = shell.stdin.take();
        Ok(Self {
            shell: Mutex::new(shell),
            pipe: Mutex::new(pipe),
        })
    }

    /// Process `pid` runs.
    pub(super) fn runs(&self, pid: u32) -> Result<(), Error> {
        self.tell("run", pid)
    }

    /// Process `pid` is about to be reaped: from then on its id may be another's.
    pub(super) fn ends(&self, pid: u32) -> Result<(), Error> {
        self.tell("end", pid)
    }

    fn tell(&self, verb: &str, pid: u32) -> Result<(), Error> {
        self.pipe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map_or(Ok(()), |pipe| writeln!(pipe, "{verb} {pid}"))
            .map_err(Error::io("tell the test bed's janitor about a process"))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(
            self.pipe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        // Nothing can be done about a shell that can't be waited for; it works all the same.
        drop(
            self.shell
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep")
            .arg("600")
            .process_group(0)
            .spawn()
            .unwrap()
    }

    #[test]
    fn the_end_of_the_pipe_kills_what_runs_and_removes_the_folder() {
        let dir = tempfile::tempdir().unwrap().keep();
        let (mut left, mut ended) = (sleeper(), sleeper());
        let janitor = Janitor::start(&dir).unwrap();
        janitor.runs(left.id()).unwrap();
        janitor.runs(ended.id()).unwrap();
        janitor.ends(ended.id()).unwrap();

        drop(janitor); // closes the pipe, as the kernel does for a process that dies

        assert!(!left.wait().unwrap().success());
        assert!(!dir.exists());
        assert_eq!(
            ended.try_wait().unwrap(),
            None,
            "a process that was said to have ended is not touched"
        );
        ended.kill().unwrap();
        ended.wait().unwrap();
    }
}
