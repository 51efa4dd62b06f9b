//! The cores of a `dev` process: child processes, of which `dev` plays the kubelet.
//!
//! ```text
//!          ┌────────────── 2 s ──────────────┐
//!          ▼                                 │
//!  spawn ──▶ runs ──▶ writes its ready file  │     one task for each pod
//!            └──▶ ends, whatever ended it ───┘
//! ```
//!
//! Pods have names and UIDs that outlive a restart; who comes back takes the next incarnation by
//! itself. A child's input is a pipe that this process holds open: when this process is gone, however
//! it went, the child reads its end and stops.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
};
use tracing::{info, warn};

use crate::{
    coordination::names::PodName,
    ops::{disk::make_dir, tasks::Tasks, time::Clock},
    roles::{
        core,
        error::{Error, write_failed},
    },
};

/// How long a child that ended stays away: enough to see a takeover, which takes a part of it.
const AWAY: Duration = Duration::from_secs(2);

/// How often a child's ready file is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lines that nobody has printed yet: more are of no use to anyone.
const NOTICES: usize = 64;

/// What all children are told.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// This program.
    pub(super) program: PathBuf,
    /// Flags for all of them, each `--name=value`.
    pub(super) flags: Vec<String>,
    /// A folder of which each gets one of its own.
    pub(super) dir: PathBuf,
    /// What their names begin with; a number follows.
    pub(super) prefix: &'static str,
    /// The clock by which deaths are told.
    pub(super) clock: Arc<dyn Clock>,
}

/// A child, as the ready file lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    /// What it does.
    pub(super) role: &'static str,
    /// Its pod.
    pub(super) name: String,
    /// Its process.
    pub(super) pid: u32,
}

/// Something that the terminal is told.
#[derive(Debug)]
pub(super) enum Notice {
    /// A child ended; it comes back.
    Died {
        /// Which.
        pod: PodName,
        /// Its process.
        pid: u32,
        /// How.
        how: ExitStatus,
        /// When that was seen.
        at: Instant,
    },
    /// A child does its work, under this name.
    Works {
        /// `pod#incarnation`.
        holder: String,
        /// Its process.
        pid: u32,
    },
}

/// The running children.
#[derive(Debug)]
pub(super) struct Children {
    list: Arc<watch::Sender<Vec<Option<Listed>>>>,
    seen: tokio::sync::Mutex<watch::Receiver<Vec<Option<Listed>>>>,
    notices: tokio::sync::Mutex<mpsc::Receiver<Notice>>,
    /// Which have been ready at least once.
    ready: Arc<watch::Sender<BTreeSet<usize>>>,
    count: usize,
    tasks: Tasks,
}

/// One pod.
struct Pod {
    name: PodName,
    index: usize,
    dir: PathBuf,
    command: Vec<String>,
    world: World,
    list: Arc<watch::Sender<Vec<Option<Listed>>>>,
    notices: mpsc::Sender<Notice>,
    ready: Arc<watch::Sender<BTreeSet<usize>>>,
    tasks: Tasks,
}

/// What is read of a child's ready file.
#[derive(Debug, Deserialize)]
struct Ready {
    pid: u32,
    holder: String,
}

impl Children {
    /// Starts `count` of them. `own` gives what one is told beside [`World::flags`].
    ///
    /// # Errors
    /// A folder or file can't be made; nothing runs then.
    pub(super) fn start(
        world: &World,
        count: u16,
        own: impl Fn(&PodName) -> Result<Vec<String>, Error>,
    ) -> Result<Self, Error> {
        let count = usize::from(count);
        let tasks = Tasks::new();
        let list = Arc::new(watch::Sender::new(vec![None; count]));
        let (notices, told) = mpsc::channel(NOTICES);
        let ready = Arc::new(watch::Sender::new(BTreeSet::new()));
        let mut pods = Vec::with_capacity(count);
        for index in 0..count {
            let name = PodName(format!("{}-{index}", world.prefix).into());
            let dir = world.dir.join(&*name.0);
            let uid = uid(&dir)?;
            let mut command = own(&name)?;
            command.extend([
                format!("--pod-name={name}"),
                format!("--pod-uid={uid}"),
                format!("--data-dir={}", dir.display()),
                format!("--ready-file={}", dir.join("ready.json").display()),
                "--until-input-ends".to_owned(),
            ]);
            // What an earlier `dev` has left.
            let log = dir.join("log");
            File::create(&log).map_err(write_failed(&log))?;
            pods.push(Pod {
                name,
                index,
                dir,
                command,
                world: world.clone(),
                list: Arc::clone(&list),
                notices: notices.clone(),
                ready: Arc::clone(&ready),
                tasks: tasks.clone(),
            });
        }
        for pod in pods {
            tasks.spawn("child", pod.run());
        }
        Ok(Self {
            seen: tokio::sync::Mutex::new(list.subscribe()),
            list,
            notices: tokio::sync::Mutex::new(told),
            ready,
            count,
            tasks,
        })
    }

    /// Waits until each has been ready once.
    pub(super) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // Its sender is this very object's.
        ready.wait_for(|ready| ready.len() >= self.count).await.ok();
    }

    /// Those that run now.
    pub(super) fn list(&self) -> Vec<Listed> {
        self.list.borrow().iter().flatten().cloned().collect()
    }

    /// Waits until a child comes or goes.
    pub(super) async fn changed(&self) {
        let mut seen = self.seen.lock().await;
        // Its sender is this very object's.
        seen.changed().await.ok();
    }

    /// The next thing to be told; for ever nothing when all have stopped.
    pub(super) async fn notice(&self) -> Notice {
        match self.notices.lock().await.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }

    /// Waits until a task of this part is gone.
    pub(super) async fn broken(&self) -> &'static str {
        self.tasks.broken().await
    }

    /// SIGTERM to all of them, which drain; what has not ended within `grace` is killed.
    pub(super) async fn stop(&self, grace: Duration) {
        self.tasks.token().cancel();
        if self.tasks.stop(grace).await.is_err() {
            // Dropped with the runtime, and killed with it.
            warn!("cores did not end in time and are killed");
        }
    }
}

impl Pod {
    async fn run(self) {
        let stop = self.tasks.token();
        loop {
            match self.spawn() {
                Ok(mut child) => {
                    let pid = child.id().unwrap_or_default();
                    self.told(Some(pid));
                    let how = self.follow(&mut child, pid).await;
                    self.told(None);
                    if let Some(how) = how {
                        let notice = Notice::Died {
                            pod: self.name.clone(),
                            pid,
                            how,
                            at: self.world.clock.instant(),
                        };
                        // Full: nobody reads the terminal's lines fast enough to miss this one.
                        self.notices.try_send(notice).ok();
                    }
                }
                Err(error) => {
                    warn!(pod = %self.name, %error, "a core can't be started; tried again");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AWAY) => {}
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let ready = self.dir.join("ready.json");
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))?;
        Command::new(&self.world.program)
            .arg("core")
            .args(&self.world.flags)
            .args(&self.command)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for this process, which stops them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Waits for the end of a child; `None`: it was asked for.
    async fn follow(&self, child: &mut Child, pid: u32) -> Option<ExitStatus> {
        let stop = self.tasks.token();
        // Held open as long as the child lives; `wait` would close it.
        let _input = child.stdin.take();
        let mut looking = true;
        loop {
            tokio::select! {
                ended = child.wait() => return ended.ok(),
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK_EVERY), if looking => {
                    if let Some(holder) = self.holder(pid) {
                        looking = false;
                        self.works(holder, pid);
                    }
                }
            }
        }
        terminate(child);
        match child.wait().await {
            Ok(how) => info!(pod = %self.name, %how, "a core stopped"),
            Err(error) => warn!(pod = %self.name, %error, "wait for a core"),
        }
        None
    }

    /// Under which name the child works, once it does.
    fn holder(&self, pid: u32) -> Option<String> {
        let text = fs::read(self.dir.join("ready.json")).ok()?;
        let ready: Ready = serde_json::from_slice(&text).ok()?;
        (ready.pid == pid).then_some(ready.holder)
    }

    /// A first life is told by the process's own being ready.
    fn works(&self, holder: String, pid: u32) {
        if !self
            .ready
            .send_if_modified(|ready| ready.insert(self.index))
        {
            self.notices.try_send(Notice::Works { holder, pid }).ok();
        }
    }

    fn told(&self, pid: Option<u32>) {
        let listed = pid.map(|pid| Listed {
            role: core::ROLE,
            name: self.name.to_string(),
            pid,
        });
        self.list.send_modify(|list| {
            if let Some(slot) = list.get_mut(self.index) {
                *slot = listed;
            }
        });
    }
}

/// SIGTERM: drain, then end.
fn terminate(child: &Child) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
    }
}

/// The UID of the pod whose data directory is `dir`, made at its first start.
pub(super) fn uid(dir: &Path) -> Result<String, Error> {
    make_dir(dir).map_err(write_failed(dir))?;
    let path = dir.join("pod-uid");
    match fs::read_to_string(&path) {
        Ok(uid) if uuid::Uuid::parse_str(uid.trim()).is_ok() => Ok(uid.trim().to_owned()),
        // Half of one, after a power cut: a new Pod.
        Ok(_) | Err(_) => {
            let uid = uuid::Uuid::new_v4().to_string();
            fs::write(&path, &uid).map_err(write_failed(&path))?;
            Ok(uid)
        }
    }
}
