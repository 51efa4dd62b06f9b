//! A candidate that elects with `kube-leader-election` as its documentation shows, told what to do
//! line by line: `chaos reproduce` starts two and lets them contend on a real API server.
//!
//! ```text
//! rival <kubeconfig> <namespace> <name>
//!
//! stdin   race <lease> <ttl seconds>   one `try_acquire_or_renew`
//!         hold <lease> <ttl seconds>   the same, and its write waits for the next line
//! stdout  ready                        it may be told something
//!         decided                      it has read the Lease and is about to write (`hold` only)
//!         {"won": true, …}             what the crate returned
//! ```
//!
//! Between the read and the write is where anything can come in between, on a machine that is busy or
//! a network that is slow; `hold` makes that moment as long as its parent likes.

use std::{
    io::Write as _,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use kube_leader_election::{LeaseLock, LeaseLockParams, LeaseLockResult};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines, Stdin},
    sync::Mutex,
};
use tower::{BoxError, buffer::BufferLayer, filter::AsyncFilterLayer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match contend().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rival: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the parent says, and whether the next write waits for it.
struct Parent {
    lines: Mutex<Lines<BufReader<Stdin>>>,
    holds: AtomicBool,
}

async fn contend() -> Result<(), BoxError> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_provider| "another crypto provider is installed")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, namespace, name] = arguments.as_slice() else {
        return Err("usage: rival <kubeconfig> <namespace> <name>".into());
    };
    let parent = Arc::new(Parent {
        lines: Mutex::new(BufReader::new(tokio::io::stdin()).lines()),
        holds: AtomicBool::new(false),
    });
    let client = client(kubeconfig, &parent).await?;
    say("ready")?;
    loop {
        let line = parent.lines.lock().await.next_line().await?;
        let Some(line) = line else {
            return Ok(());
        };
        let mut words = line.split(' ');
        let (Some(how), Some(lease), Some(ttl)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("`{line}` is not `race|hold <lease> <ttl>`").into());
        };
        parent.holds.store(how == "hold", Ordering::SeqCst);
        let lock = LeaseLock::new(
            client.clone(),
            namespace,
            LeaseLockParams {
                holder_id: name.clone(),
                lease_name: lease.to_owned(),
                lease_ttl: Duration::from_secs(ttl.parse()?),
            },
        );
        let outcome = match lock.try_acquire_or_renew().await {
            Ok(LeaseLockResult::Acquired(lease)) => told(true, &lease),
            Ok(LeaseLockResult::NotAcquired(lease)) => told(false, &lease),
            Err(error) => json!({ "won": false, "error": error.to_string() }),
        };
        say(&outcome.to_string())?;
    }
}

fn told(won: bool, lease: &k8s_openapi::api::coordination::v1::Lease) -> Value {
    let spec = lease.spec.as_ref();
    json!({
        "won": won,
        "holder": spec.and_then(|spec| spec.holder_identity.clone()),
        "transitions": spec.and_then(|spec| spec.lease_transitions),
        "resourceVersion": lease.metadata.resource_version,
    })
}

/// A client whose writes wait where they are told to.
async fn client(kubeconfig: &str, parent: &Arc<Parent>) -> Result<Client, BoxError> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let parent = Arc::clone(parent);
    let wait = move |request: Request<Body>| {
        let parent = Arc::clone(&parent);
        async move {
            let writes = request.method() != Method::GET;
            if writes && parent.holds.swap(false, Ordering::SeqCst) {
                say("decided")?;
                parent.lines.lock().await.next_line().await?;
            }
            Ok::<_, BoxError>(request)
        }
    };
    Ok(ClientBuilder::try_from(config)?
        // A filter needs a service that can be cloned.
        .with_layer(&BufferLayer::new(1))
        .with_layer(&AsyncFilterLayer::new(wait))
        .build())
}

fn say(line: &str) -> Result<(), BoxError> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
