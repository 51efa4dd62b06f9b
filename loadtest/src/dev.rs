//! A `zen-fabric dev` process under load: started on free ports, stopped by its own id.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;

use crate::generator::now;

/// A start takes well below a second; on a busy machine, behind a long recovery, more.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// How often the ready file is looked for, which is also the precision of a start's time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A drain takes at most the server's grace period.
const STOP_WITHIN: Duration = Duration::from_secs(45);

/// What `--ready-file` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ready {
    pub(crate) gateway: String,
    pub(crate) kubeconfig: PathBuf,
}

/// Why a process could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no {}: build it with `cargo build --release --bin zen-fabric`, or name it with --binary", .0.display())]
    NoBinary(PathBuf),
    #[error("{attempt}")]
    Io {
        attempt: String,
        #[source]
        source: io::Error,
    },
    #[error("zen-fabric dev ended with {status} before it accepted events:\n{output}")]
    Ended { status: String, output: String },
    #[error("zen-fabric dev does not accept events after {READY_WITHIN:?}:\n{output}")]
    NotReady { output: String },
    #[error("zen-fabric dev did not stop within {STOP_WITHIN:?} of SIGTERM")]
    NotStopped,
    #[error("use {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("`{0}` is no address of a gateway on this machine")]
    Address(String),
}

fn failed(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let attempt = attempt.into();
    move |source| Error::Io { attempt, source }
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    pub(crate) binary: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) flags: BTreeMap<String, String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Dev {
    child: Child,
    pub(crate) ready: Ready,
    pub(crate) data_dir: PathBuf,
    /// From the start of the process to the ready file.
    pub(crate) started_in: Duration,
}

impl Start {
    /// With one more flag.
    pub(crate) fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.insert(name.to_owned(), value.into());
        self
    }

    /// Starts it and waits until it accepts events.
    pub(crate) async fn run(&self) -> Result<Dev, Error> {
        let ready_file = self.data_dir.with_extension("ready.json");
        let output = self.data_dir.with_extension("log");
        match fs::remove_file(&ready_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(format!("remove {}", ready_file.display()))(error));
            }
            Ok(()) | Err(_) => {}
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&output)
            .map_err(failed(format!("write {}", output.display())))?;
        let also = log.try_clone().map_err(failed("share the log"))?;
        let begun = now();
        let mut child = self
            .command(&ready_file)
            .stdin(Stdio::null())
            .stdout(also)
            .stderr(log)
            .spawn()
            .map_err(failed(format!("start {}", self.binary.display())))?;
        loop {
            if let Some(ready) = read(&ready_file).and_then(|text| serde_json::from_str(&text).ok())
            {
                return Ok(Dev {
                    child,
                    ready,
                    data_dir: self.data_dir.clone(),
                    started_in: now().saturating_duration_since(begun),
                });
            }
            if let Some(status) = child.try_wait().map_err(failed("look after the process"))? {
                return Err(Error::Ended {
                    status: status.to_string(),
                    output: tail(&output),
                });
            }
            if now().saturating_duration_since(begun) > READY_WITHIN {
                // Nothing else ends it: it is not in a `Dev` yet.
                drop(child.kill());
                drop(child.wait());
                return Err(Error::NotReady {
                    output: tail(&output),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn command(&self, ready_file: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("dev")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--ready-file")
            .arg(ready_file)
            .args([
                "--gateway-port",
                "0",
                "--admin-port",
                "0",
                "--log-filter",
                "warn",
            ]);
        if !self.flags.contains_key("kubeconfig") {
            command.args(["--api-port", "0"]);
        }
        // What one process does is measured; what several cost is the business of chaos/.
        if !self.flags.contains_key("replicas") {
            command.args(["--replicas", "1"]);
        }
        for (name, value) in &self.flags {
            command.arg(format!("--{name}={value}"));
        }
        command.envs(&self.environment);
        command
    }
}

impl Dev {
    /// kill -9, and waits for the end.
    pub(crate) fn kill(mut self) -> Result<(), Error> {
        self.child.kill().map_err(failed("kill -9 the process"))?;
        self.child.wait().map_err(failed("wait for its end"))?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|errno| failed("stop the process")(errno.into()))?;
        let begun = now();
        while now().saturating_duration_since(begun) < STOP_WITHIN {
            if self
                .child
                .try_wait()
                .map_err(failed("wait for its end"))?
                .is_some()
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Error::NotStopped)
    }

    /// Where the gateway listens.
    pub(crate) fn gateway(&self) -> Result<SocketAddr, Error> {
        let url = &self.ready.gateway;
        let (_, address) = url
            .split_once("://")
            .ok_or_else(|| Error::Address(url.clone()))?;
        address
            .trim_end_matches('/')
            .parse()
            .map_err(|_not_one| Error::Address(url.clone()))
    }

    /// A client of the API that the process uses.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        client(&self.ready.kubeconfig).await
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<u64, Error> {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = fs::read_to_string(&path).map_err(failed(format!("read {path}")))?;
        let pages: u64 = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .unwrap_or_default();
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Ok(pages.saturating_mul(page))
    }

    /// CPU time, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Error> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(failed(format!("read {path}")))?;
        // Fields 14 and 15 of proc(5), in ticks of 10 ms; the second may hold spaces.
        let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        Ok(fields
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum::<f64>()
            / 100.0)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client with a kubeconfig; several requests at once, none retried behind our back.
pub(crate) async fn client(path: &Path) -> Result<Client, Error> {
    let wrong = |source: Box<dyn std::error::Error + Send + Sync>| Error::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| wrong(error.into()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(error.into()))?;
    zen_fabric::kube::client::from_config(config).map_err(|error| wrong(error.into()))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The last lines that the process wrote.
fn tail(path: &Path) -> String {
    let text = read(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    lines.get(from..).unwrap_or_default().join("\n")
}
