//! The whole path on a real API server, with the gateway and the core each under its own shipped
//! role: a signed webhook becomes an Observation, and where a namespace's Secrets aren't opened to
//! the gateway, the Ingestor says so.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use serde_json::json;
use tempfile::TempDir;
use zen_fabric::{
    engine::start::{self as engine, Engine, Ports},
    gateway::{self, Gateway, Surroundings, sign},
    journal::{
        Journal as _, Local,
        wal::{self, Wal},
    },
    ops::{
        metrics,
        ready::Readiness,
        tasks::Tasks,
        time::{Clock, SystemClock},
    },
    testing::cluster::{RealCluster, User},
};

use crate::{
    bench::{Bench, PATIENCE, names, text},
    identities::{Identities, open_secrets},
};

const BODY: &str = r#"{"repository":{"full_name":"org/repo"}}"#;

/// A gateway and a core in one process, each with its own identity's client.
struct Fabric {
    gateway: gateway::Handle,
    engine: engine::Handle,
    journal: Arc<Wal>,
    tasks: Tasks,
    _folder: TempDir,
}

impl Fabric {
    async fn start(cluster: &RealCluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let opened = Wal::open(folder.path(), wal::Options::default(), Arc::clone(&clock));
        let journal = opened.unwrap();
        let (registry, readiness, tasks) =
            (metrics::registry().unwrap(), Readiness::new(), Tasks::new());
        let gateway = Gateway::start(
            gateway::Options::loopback(),
            Surroundings {
                client: cluster.client(&User::gateway()).unwrap(),
                journal: Arc::<Wal>::clone(&journal),
                clock: Arc::clone(&clock),
                registry: &registry,
                readiness: &readiness,
                tasks: &tasks,
            },
        )
        .await
        .unwrap();
        let engine = Engine::start(
            engine::Options::new("core".to_owned(), 7),
            Ports {
                client: cluster.client(&User::core()).unwrap(),
                clock,
            },
            &registry,
            &readiness,
            &tasks,
        )
        .unwrap();
        let log = Local::new(Arc::<Wal>::clone(&journal), gateway.facts());
        engine.attach(Arc::new(log));
        engine.alone("core").await;
        let waiting = async {
            while !readiness.waiting().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("not ready: {:?}", readiness.waiting()));
        Self {
            gateway,
            engine,
            journal,
            tasks,
            _folder: folder,
        }
    }

    /// Sends a signed push, once.
    async fn send(&self, namespace: &str, delivery: &str) -> StatusCode {
        let request = Request::post(format!("{}/hooks/{namespace}/github", self.gateway.url()))
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", delivery)
            .header(
                "x-hub-signature-256",
                sign::github(b"hunter2-hunter2", BODY.as_bytes()),
            )
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        let http = Http::builder(TokioExecutor::new()).build_http();
        http.request(request).await.unwrap().status()
    }

    async fn stop(self) {
        self.gateway.drain(PATIENCE).await;
        self.engine.drain(PATIENCE).await;
        self.tasks.stop(PATIENCE).await.unwrap();
        self.journal.close().await;
    }
}

/// The reasons and messages of an Ingestor's conditions.
async fn conditions(t: &Bench) -> String {
    let found = t.get(&format!("{}/github", t.zen("ingestors"))).await.ok();
    found["status"]["conditions"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_becomes_an_observation_under_the_shipped_roles() {
    let cluster = RealCluster::start().await.unwrap();
    let they = Identities::new(&cluster).await;
    let t = &they.admin;
    let ingestor = json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor", "metadata": { "name": "github" },
        "spec": {
            "source": { "webhook": { "auth": [{ "github": { "secretRef": { "name": "hook" } } }] } },
            "normalize": {
                "category": { "value": "security" }, "severity": { "value": "high" },
                "eventType": { "expression": "'github_' + headers['x-github-event']" },
                "resource": {
                    "kind": { "value": "Repository" },
                    "name": { "expression": "body.repository.full_name" },
                },
            },
        },
    });
    t.post(&t.zen("ingestors"), &ingestor).await.created();
    let fabric = Fabric::start(&cluster).await;

    // Nobody opened this namespace's Secrets to the gateway: the endpoint stays closed and says why.
    assert_eq!(
        fabric.send(&t.namespace, "d-0").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    t.eventually("the condition names the missing right", async || {
        conditions(t)
            .await
            .contains("SecretForbidden")
            .then_some(())
    })
    .await;

    open_secrets(t).await;
    t.eventually("the event is accepted", async || {
        (fabric.send(&t.namespace, "d-1").await == StatusCode::ACCEPTED).then_some(())
    })
    .await;
    let written = t
        .eventually("the Observation is there", async || {
            let path = format!("{}?labelSelector=zen.io/source", t.zen("observations"));
            let list = t.get(&path).await.ok();
            (!names(&list).is_empty()).then(|| list["items"][0].clone())
        })
        .await;
    assert_eq!(written["spec"]["eventType"], "github_push");
    assert_eq!(written["spec"]["resource"]["name"], "org/repo");
    assert!(text(&written["metadata"]["name"]).starts_with("github-"));

    t.eventually("the status counts it", async || {
        let found = t.get(&format!("{}/github", t.zen("ingestors"))).await.ok();
        let counters = &found["status"]["counters"];
        (counters["accepted"] == 1 && counters["observed"] == 1).then_some(())
    })
    .await;
    t.eventually("the condition is mended", async || {
        (!conditions(t).await.contains("SecretForbidden")).then_some(())
    })
    .await;
    fabric.stop().await;
}
