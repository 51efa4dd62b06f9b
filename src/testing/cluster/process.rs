//! A program of the test bed that can be killed, paused and started again.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, janitor::Janitor};

/// Enough for the reason of a failed start, which is in the last lines.
const LOG_TAIL: u64 = 4096;

/// A program with its arguments: running or not, and the same again after a restart.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    janitor: Arc<Janitor>,
    child: Mutex<Option<Child>>,
}

// === impl Process ===

impl Process {
    pub(super) fn new(
        program: PathBuf,
        args: Vec<OsString>,
        log: PathBuf,
        janitor: Arc<Janitor>,
    ) -> Self {
        Self {
            program,
            args,
            log,
            janitor,
            child: Mutex::new(None),
        }
    }

    /// The program's file name.
    pub fn name(&self) -> String {
        self.program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Starts it; nothing happens when it runs. Does not wait until it serves: that is
    /// [`wait_ready`](super::RealCluster::wait_ready).
    pub fn start(&self) -> Result<(), Error> {
        let mut child = self.child();
        if matches!(child.as_mut().map(Child::try_wait), Some(Ok(None))) {
            return Ok(());
        }
        self.reap(&mut child)?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(Error::io(format!("open {}", self.log.display())))?;
        let also_log = log
            .try_clone()
            .map_err(Error::io(format!("share {}", self.log.display())))?;
        let mut started = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also_log)
            // Ctrl-C ends the test process; the janitor then ends this one.
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("start {}", self.program.display())))?;
        if let Err(error) = self.janitor.runs(started.id()) {
            drop(started.kill().and_then(|()| started.wait()));
            return Err(error);
        }
        *child = Some(started);
        Ok(())
    }

    /// Ends it at once by SIGKILL and reaps it, also when paused; nothing happens when it doesn't
    /// run.
    pub fn kill(&self) -> Result<(), Error> {
        self.reap(&mut self.child())
    }

    /// Asks it to end (SIGTERM), which it may do when it likes: [`Process::ended`] tells.
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)
    }

    /// How it ended by itself, or by a signal that didn't come from here; `None` while it runs, and
    /// after [`Process::kill`].
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child()
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Stops the clock for it (SIGSTOP): its connections stay open and nothing answers.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused one go on (SIGCONT).
    pub fn resume(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Whether it runs; a paused one does.
    pub fn is_running(&self) -> bool {
        matches!(self.child().as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Its process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Where it writes what it has to say.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines that it wrote.
    pub fn log_tail(&self) -> String {
        let read = || {
            let mut file = fs::File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log at {}: {error})", self.log.display()))
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let attempt = || format!("send {signal:?} to {}", self.name());
        let mut child = self.child();
        let running = match child.as_mut().map(|child| (child.id(), child.try_wait())) {
            Some((id, Ok(None))) => i32::try_from(id).ok().and_then(Pid::from_raw),
            _ => None,
        };
        let Some(pid) = running else {
            return Err(Error::Io {
                attempt: attempt(),
                source: std::io::Error::other("it does not run"),
            });
        };
        kill_process(pid, signal).map_err(|errno| Error::io(attempt())(errno.into()))
    }

    fn reap(&self, child: &mut Option<Child>) -> Result<(), Error> {
        let Some(mut ended) = child.take() else {
            return Ok(());
        };
        // Told first: once the child is reaped its id may be another's.
        let told = self.janitor.ends(ended.id());
        ended
            .kill()
            .and_then(|()| ended.wait())
            .map_err(Error::io(format!("kill {}", self.program.display())))?;
        told
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The janitor kills what could not be killed here.
        drop(self.kill());
    }
}
