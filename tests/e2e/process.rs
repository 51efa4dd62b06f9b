//! A `zen-fabric dev` process under test: started on free ports, stopped by its own id.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config, config::Kubeconfig};
use serde::Deserialize;
use sha2::Sha256;
use zen_fabric::api::{Ingestor, Observation};

/// Long enough for a debug build on a busy machine; nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What `--ready-file` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    pub(crate) gateway: String,
    pub(crate) admin: String,
    pub(crate) kubeconfig: PathBuf,
}

/// A child process, as the ready file lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Child {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// A running process; killed when dropped.
pub(crate) struct Dev {
    child: process::Child,
    ready_file: PathBuf,
    pub(crate) ready: Ready,
    output: PathBuf,
}

impl Dev {
    /// Starts on `data` and waits until events are accepted.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    pub(crate) async fn start_with(data: &Path, flags: &[&str]) -> Self {
        Self::start_in(data, flags, &[]).await
    }

    pub(crate) async fn start_in(
        data: &Path,
        flags: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let log = append(data, true);
        Self::start_to(data, flags, environment, log.into()).await
    }

    /// With this in place of the file to which the output goes; what is logged goes there still.
    pub(crate) async fn start_to(
        data: &Path,
        flags: &[&str],
        environment: &[(&str, &Path)],
        stdout: Stdio,
    ) -> Self {
        let ready_file = data.with_extension("ready.json");
        let output = data.with_extension("out");
        let _ = fs::remove_file(&ready_file);
        let flags = [&["--api-port=0"], flags].concat();
        let mut child = spawn_to(data, &flags, environment, stdout);
        let ready = until("the process accepts events", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the process ended with {status}:\n{}", read(&output));
            }
            serde_json::from_str::<Ready>(&read(&ready_file)).ok()
        })
        .await;
        assert_eq!(ready.pid, child.id());
        Self {
            child,
            ready_file,
            ready,
            output,
        }
    }

    /// The children that the ready file lists now.
    pub(crate) fn children(&self) -> Vec<Child> {
        #[derive(Deserialize)]
        struct Listed {
            children: Vec<Child>,
        }
        let listed: Listed = serde_json::from_str(&read(&self.ready_file)).unwrap();
        assert!(listed.children.iter().all(|child| child.role == "core"));
        listed.children
    }

    /// What the process has printed so far.
    pub(crate) fn output(&self) -> String {
        read(&self.output)
    }

    /// kill -9, and waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end after [`Dev::terminate`].
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the process ends", async || child.try_wait().unwrap()).await
    }

    /// A client with the kubeconfig that the process has written.
    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.ready.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// The sample endpoint's URL and secret.
    pub(crate) async fn sample(&self) -> (String, String) {
        let secrets: Api<Secret> = Api::namespaced(self.client().await, "demo");
        let secret = secrets.get("github-webhook").await.unwrap();
        let value = secret.data.unwrap().into_values().next().unwrap();
        (
            format!("{}/hooks/demo/github", self.ready.gateway),
            String::from_utf8(value.0).unwrap(),
        )
    }

    pub(crate) async fn observations(&self) -> Api<Observation> {
        Api::namespaced(self.client().await, "demo")
    }

    pub(crate) async fn ingestors(&self) -> Api<Ingestor> {
        Api::namespaced(self.client().await, "demo")
    }

    pub(crate) async fn ingestor(&self) -> Ingestor {
        self.ingestors().await.get("github").await.unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of the process ---\n{}", self.output());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process on `data` and free ports; its output and its ready file lie beside.
pub(crate) fn spawn(data: &Path, flags: &[&str], environment: &[(&str, &Path)]) -> process::Child {
    spawn_to(data, flags, environment, append(data, true).into())
}

/// The file to which a process writes. Output and log are two writers: each appends.
fn append(data: &Path, anew: bool) -> fs::File {
    let path = data.with_extension("out");
    if anew {
        fs::File::create(&path).unwrap();
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}

fn spawn_to(
    data: &Path,
    flags: &[&str],
    environment: &[(&str, &Path)],
    stdout: Stdio,
) -> process::Child {
    let log = append(data, false);
    Command::new(env!("CARGO_BIN_EXE_zen-fabric"))
        .arg("dev")
        .args(["--data-dir".as_ref(), data.as_os_str()])
        .args([
            "--ready-file".as_ref(),
            data.with_extension("ready.json").as_os_str(),
        ])
        .args(["--gateway-port=0", "--admin-port=0"])
        .args(flags)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(log)
        .spawn()
        .unwrap()
}

pub(crate) fn read(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(path) {
        file.read_to_string(&mut text).unwrap();
    }
    text
}

/// Asks every 20 ms until there is an answer; fails after [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited {PATIENCE:?} in vain until {what}"),
    }
}

/// An HTTP answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A sender.
#[derive(Clone)]
pub(crate) struct Sender(HttpClient<HttpConnector, Full<Bytes>>);

impl Sender {
    pub(crate) fn new() -> Self {
        Self(HttpClient::builder(TokioExecutor::new()).build_http())
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.send(Request::get(url).body(Full::default()).unwrap())
            .await
            .unwrap()
    }

    /// POSTs `body` as GitHub does.
    pub(crate) async fn github(
        &self,
        url: &str,
        secret: &str,
        event: &str,
        delivery: &str,
        body: Bytes,
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let request = Request::post(url)
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature(secret, &body))
            .body(Full::new(body))
            .unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, hyper_util::client::legacy::Error> {
        let (parts, body) = self.0.request(request).await?.into_parts();
        let body = body
            .collect()
            .await
            .map(|all| all.to_bytes())
            .unwrap_or_default();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}

/// GitHub's signature of `body`.
pub(crate) fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256={hex}")
}
