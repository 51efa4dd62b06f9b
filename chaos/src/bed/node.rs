//! One process of the fleet: started, killed, paused, drained, and started again as a kubelet would.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use zen_fabric::testing::cluster::{Process, RealCluster};

use crate::{
    clock::At,
    error::{Attempt as _, Error, Result},
};

/// A start takes well below a second; more on a machine that is busy on purpose.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// How often a ready file or an end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Clock ticks of `/proc`, which Linux fixes at 100 a second for user space.
const TICKS: f64 = 100.0;

/// See the module.
#[derive(Debug)]
pub struct Node {
    name: String,
    process: Process,
    ready_file: PathBuf,
    ready: Value,
    /// Whether it should run: an end while it should is one of its own.
    wanted: bool,
    /// CPU seconds of its former lives.
    spent: f64,
}

// === impl Node ===

impl Node {
    /// A process that is not started yet, with its files in `dir`.
    pub fn new(
        cluster: &RealCluster,
        binary: &Path,
        dir: &Path,
        name: &str,
        mut args: Vec<OsString>,
    ) -> Self {
        let ready_file = dir.join(format!("{name}.ready.json"));
        let mut flag = OsString::from("--ready-file=");
        flag.push(&ready_file);
        args.push(flag);
        let log = dir.join(format!("{name}.log"));
        Self {
            name: name.to_owned(),
            process: cluster.process(binary.to_owned(), args, log),
            ready_file,
            ready: Value::Null,
            wanted: false,
            spent: 0.0,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it, and does not wait.
    pub fn begin(&mut self) -> Result<()> {
        // What an earlier life has said.
        drop(fs::remove_file(&self.ready_file));
        self.ready = Value::Null;
        self.wanted = true;
        self.process.start().attempt(format!("start {}", self.name))
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let begun = At::now();
        loop {
            let text = fs::read_to_string(&self.ready_file);
            if let Some(ready) = text.ok().and_then(|text| serde_json::from_str(&text).ok()) {
                self.ready = ready;
                return Ok(());
            }
            if let Some(status) = self.process.ended() {
                return Err(Error::new(format!(
                    "{} ended with {status} before it was ready:\n{}",
                    self.name,
                    self.process.log_tail()
                )));
            }
            if begun.passed() > READY_WITHIN {
                return Err(Error::new(format!(
                    "{} is not ready after {READY_WITHIN:?}:\n{}",
                    self.name,
                    self.process.log_tail()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What its ready file says under this name.
    pub fn says(&self, what: &str) -> Result<&str> {
        let found = self.ready.get(what).and_then(Value::as_str);
        found.ok_or_else(|| {
            Error::new(format!(
                "find `{what}` in the ready file of {}: {}",
                self.name, self.ready
            ))
        })
    }

    /// kill -9; when that was.
    pub fn kill(&mut self) -> Result<At> {
        self.wanted = false;
        self.spent += self.running_cpu();
        let moment = At::now();
        self.process.kill().attempt(format!("kill {}", self.name))?;
        Ok(moment)
    }

    /// SIGSTOP; when that was.
    pub fn pause(&self) -> Result<At> {
        let moment = At::now();
        self.process
            .pause()
            .attempt(format!("stop {}", self.name))?;
        Ok(moment)
    }

    /// SIGCONT; when that was.
    pub fn resume(&self) -> Result<At> {
        let moment = At::now();
        self.process
            .resume()
            .attempt(format!("continue {}", self.name))?;
        Ok(moment)
    }

    /// SIGTERM, and waits for the end; how long it took.
    pub async fn drain(&mut self, within: Duration) -> Result<Duration> {
        let asked = self.ask()?;
        self.end(asked, within).await
    }

    /// SIGTERM; when that was.
    pub fn ask(&mut self) -> Result<At> {
        self.wanted = false;
        let moment = At::now();
        self.process
            .terminate()
            .attempt(format!("ask {} to end", self.name))?;
        Ok(moment)
    }

    /// Waits until one that was asked has ended; how long it took.
    pub async fn end(&mut self, begun: At, within: Duration) -> Result<Duration> {
        let cpu = self.running_cpu();
        loop {
            if let Some(status) = self.process.ended() {
                self.spent += cpu;
                if status.success() {
                    return Ok(begun.passed());
                }
                return Err(Error::new(format!(
                    "{} drained with {status}:\n{}",
                    self.name,
                    self.process.log_tail()
                )));
            }
            if begun.passed() > within {
                return Err(Error::new(format!(
                    "{} did not end within {within:?} of SIGTERM:\n{}",
                    self.name,
                    self.process.log_tail()
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How it ended by itself, if it did, which nobody asked for.
    pub fn died(&self) -> Option<String> {
        let status = self.wanted.then(|| self.process.ended()).flatten()?;
        Some(format!(
            "{} ended by itself with {status}:\n{}",
            self.name,
            self.process.log_tail()
        ))
    }

    /// Whether it should run.
    pub const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Its process while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// CPU seconds that it has used, over all its lives.
    pub fn cpu(&self) -> f64 {
        self.spent + self.running_cpu()
    }

    fn running_cpu(&self) -> f64 {
        let Some(pid) = self.process.id() else {
            return 0.0;
        };
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Fields 14 and 15 of proc(5); the second field may hold spaces.
        let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks = fields.split(' ').skip(11).take(2);
        ticks
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum::<f64>()
            / TICKS
    }
}
