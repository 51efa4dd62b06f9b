//! A real Kubernetes API for tests: etcd and kube-apiserver as child processes, nothing else.
//!
//! No controller runs: a deleted namespace stays `Terminating` until
//! [`RealCluster::finalize_namespace`], and nothing collects garbage. Every process is stopped by
//! its own id when the cluster is dropped, and by a watching shell when the test process dies
//! without dropping it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use zen_fabric::testing::cluster::{RealCluster, User};
//! let cluster = RealCluster::start().await?;
//! let client = cluster.client(&User::admin())?;
//! # Ok(()) }
//! ```

mod credentials;
mod janitor;
mod process;
mod tools;
mod user;

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::{Client, Config};
use serde_json::{Value, json};

pub use process::Process;
pub use tools::{Tool, find as find_tool};
pub use user::User;

use janitor::Janitor;

/// A cold start takes about 4 s on an idle machine with two cores; this leaves room for one on
/// which several builds run.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// Often enough that waiting adds little to a start of seconds.
const READY_EVERY: Duration = Duration::from_millis(100);

/// Ports are chosen, then given up, then bound by the program: another may take one in between.
/// Three lost races in a row mean that something else is wrong.
const PORT_ATTEMPTS: u32 = 3;

/// What went wrong with the test bed. Nothing is left running after an error of
/// [`RealCluster::start`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not on this machine.
    #[error(
        "{tool} is neither in $KUBEBUILDER_ASSETS ({assets}) nor in {built}: run `make tools`, \
         which builds it with Go (minutes, once), or set KUBEBUILDER_ASSETS to a folder with etcd, \
         kube-apiserver and kubectl; `make test-fast` leaves out the tests that need it"
    )]
    Missing {
        /// The program's file name.
        tool: &'static str,
        /// What the environment variable says.
        assets: String,
        /// The folder into which the script builds.
        built: PathBuf,
    },
    /// A file, folder or process could not be made.
    #[error("{attempt}")]
    Io {
        /// What was attempted, on which path.
        attempt: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Keys could not be made.
    #[error("make the service account key of the test bed's API server")]
    Key,
    /// A program ended by itself.
    #[error("{tool} ended before it was ready; the end of its log:\n{log}")]
    Ended {
        /// The program's file name.
        tool: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// The API server did not become ready.
    #[error(
        "the API server at {url} is not ready after {READY_WITHIN:?}; the end of its log:\n{log}"
    )]
    NotReady {
        /// Where it should answer.
        url: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// A client could not be made from a kubeconfig that the test bed wrote.
    #[error("make a client from {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server refused what the test bed asked.
    #[error("{attempt}")]
    Api {
        /// What was asked, of which object.
        attempt: String,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    fn io(attempt: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io { attempt, source }
    }
}

/// Whether etcd waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtcdSync {
    /// It does not. A killed etcd loses nothing all the same; only a machine that loses power does.
    #[default]
    Off,
    /// It does, as in production: for measurements.
    On,
}

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether etcd waits for the disk.
    pub etcd_sync: EtcdSync,
    /// Who may log in beside [`User::admin`], [`User::core`], [`User::gateway`] and [`User::nobody`].
    pub users: Vec<User>,
    /// Flags added to the API server's, each `--name=value`.
    pub apiserver_flags: Vec<String>,
}

/// An etcd and a kube-apiserver of one's own, reachable on loopback.
#[derive(Debug)]
pub struct RealCluster {
    url: String,
    users: Vec<User>,
    dir: PathBuf,
    // Order matters: the API server is stopped before its etcd, and the janitor removes the folder
    // after both.
    apiserver: Process,
    etcd: Process,
    janitor: Arc<Janitor>,
}

// === impl RealCluster ===

impl RealCluster {
    /// Starts a cluster with default options and waits until it is ready.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(Options::default()).await
    }

    /// Starts a cluster and waits until it is ready.
    pub async fn start_with(options: Options) -> Result<Self, Error> {
        let mut attempt = 1;
        loop {
            match Self::attempt(&options).await {
                Err(Error::Ended { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("address already in use") =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn attempt(options: &Options) -> Result<Self, Error> {
        let etcd_path = tools::find(Tool::Etcd)?;
        let apiserver_path = tools::find(Tool::KubeApiserver)?;
        let dir = std::env::temp_dir().join(format!("zen-fabric-cluster-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&dir).map_err(Error::io(format!("create {}", dir.display())))?;
        let janitor = Arc::new(Janitor::start(&dir)?);

        let mut users = vec![User::admin(), User::core(), User::gateway(), User::nobody()];
        users.extend(options.users.iter().cloned());
        credentials::write(&dir, &users)?;

        let etcd_url = format!("http://127.0.0.1:{}", free_port()?);
        let port = free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        for user in &users {
            credentials::write_kubeconfig(&dir, &url, user)?;
        }
        let etcd = Process::new(
            etcd_path,
            etcd_args(&dir, &etcd_url, options.etcd_sync),
            dir.join("etcd.log"),
            Arc::clone(&janitor),
        );
        let apiserver = Process::new(
            apiserver_path,
            apiserver_args(&dir, &etcd_url, port, &options.apiserver_flags),
            dir.join("kube-apiserver.log"),
            Arc::clone(&janitor),
        );
        let cluster = Self {
            url,
            users,
            dir,
            apiserver,
            etcd,
            janitor,
        };
        cluster.etcd.start()?;
        cluster.apiserver.start()?;
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// Where the API server answers, `https://127.0.0.1:port`; the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The API server's process, to be stopped, paused and started again.
    pub const fn apiserver(&self) -> &Process {
        &self.apiserver
    }

    /// The process of etcd, to be stopped, paused and started again.
    pub const fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// Another program beside these two, not started yet. However this process ends, it ends with it.
    pub fn process(&self, program: PathBuf, args: Vec<OsString>, log: PathBuf) -> Process {
        Process::new(program, args, log, Arc::clone(&self.janitor))
    }

    /// Everyone who may log in.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// A kubeconfig by which `user` logs in, with mode 0600; removed with the cluster.
    pub fn kubeconfig(&self, user: &User) -> PathBuf {
        credentials::kubeconfig_path(&self.dir, user)
    }

    /// The configuration by which `user` logs in. The client's own retries are off, so that a test
    /// sees every answer.
    pub fn config(&self, user: &User) -> Result<Config, Error> {
        credentials::config(&self.kubeconfig(user))
    }

    /// A client that is `user`, with connections of its own. A client belongs to the runtime in
    /// which it is made: tests that share a cluster make one each.
    pub fn client(&self, user: &User) -> Result<Client, Error> {
        let path = self.kubeconfig(user);
        Client::try_from(self.config(user)?).map_err(|source| Error::Kubeconfig {
            path,
            source: Box::new(source),
        })
    }

    /// Waits until the API server answers `/readyz` with ok, which includes its etcd.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        let poll = async {
            loop {
                for process in [&self.etcd, &self.apiserver] {
                    if !process.is_running() {
                        return Err(Error::Ended {
                            tool: process.name(),
                            log: process.log_tail(),
                        });
                    }
                }
                if self.is_ready().await {
                    return Ok(());
                }
                tokio::time::sleep(READY_EVERY).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, poll)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::NotReady {
                    url: self.url.clone(),
                    log: self.apiserver.log_tail(),
                })
            })
    }

    /// The server makes its certificate as it starts, so the client, too, is made anew each time.
    /// `default` is what a client uses without having asked for it; it comes a moment after readiness.
    async fn is_ready(&self) -> bool {
        let Ok(client) = self.client(&User::admin()) else {
            return false;
        };
        for (path, needle) in [("/readyz", "ok"), ("/api/v1/namespaces/default", "Active")] {
            let Ok(request) = http::Request::get(path).body(Vec::new()) else {
                return false;
            };
            let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request));
            if !matches!(answer.await, Ok(Ok(body)) if body.contains(needle)) {
                return false;
            }
        }
        true
    }

    /// Finishes the deletion of a namespace as the namespace controller, which doesn't run here,
    /// would: takes the `kubernetes` finalizer away. What still lies in the namespace stays behind.
    pub async fn finalize_namespace(&self, name: &str) -> Result<(), Error> {
        let client = self.client(&User::admin())?;
        finalize_namespace(&client, name).await
    }
}

/// [`RealCluster::finalize_namespace`] by a client that may.
pub async fn finalize_namespace(client: &Client, name: &str) -> Result<(), Error> {
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name }, "spec": { "finalizers": [] },
    });
    let attempt = || format!("finalize namespace {name}");
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| Error::Io {
            attempt: attempt(),
            source: std::io::Error::other(error),
        })?;
    client
        .request::<Value>(request)
        .await
        .map(drop)
        .map_err(|source| Error::Api {
            attempt: attempt(),
            source: Box::new(source),
        })
}

fn etcd_args(dir: &Path, url: &str, sync: EtcdSync) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        flag("--data-dir=", &dir.join("etcd")),
        format!("--listen-client-urls={url}").into(),
        format!("--advertise-client-urls={url}").into(),
        // One member talks to no peer; any free port will do.
        "--listen-peer-urls=http://127.0.0.1:0".into(),
        "--log-level=warn".into(),
    ];
    if sync == EtcdSync::Off {
        args.push("--unsafe-no-fsync".into());
    }
    args
}

fn apiserver_args(dir: &Path, etcd_url: &str, port: u16, more: &[String]) -> Vec<OsString> {
    let private = dir.join(credentials::SERVICE_ACCOUNT_KEY);
    let public = dir.join(credentials::SERVICE_ACCOUNT_PUBLIC_KEY);
    let mut args: Vec<OsString> = vec![
        format!("--etcd-servers={etcd_url}").into(),
        format!("--secure-port={port}").into(),
        "--bind-address=127.0.0.1".into(),
        flag("--cert-dir=", &dir.join("certs")),
        flag("--service-account-key-file=", &public),
        flag("--service-account-signing-key-file=", &private),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        flag("--token-auth-file=", &dir.join(credentials::TOKENS)),
        "--authorization-mode=RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        // Would refuse pods for want of service accounts, which a controller makes.
        "--disable-admission-plugins=ServiceAccount".into(),
        // No endpoint of the server's own: nothing in the cluster looks for it.
        "--endpoint-reconciler-type=none".into(),
    ];
    args.extend(more.iter().map(OsString::from));
    args
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

/// A port below the range from which systems hand out ports for outgoing connections (32768 on
/// Linux), so that it is still free when a stopped program is started again.
fn free_port() -> Result<u16, Error> {
    let mut last = std::io::Error::other("no port tried");
    for _ in 0..64 {
        let port = rand::random_range(15_000..32_000);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_listener) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(Error::Io {
        attempt: "find a free port for the test bed".into(),
        source: last,
    })
}
