//! A cluster with everything that a fleet needs: the real API server, the shipped kinds, roles and
//! policies, and one identity per process, as a kubelet would hand it out.

mod certificates;
pub mod fleet;
pub mod identity;
pub mod node;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use zen_fabric::{
    api::crds,
    testing::cluster::{EtcdSync, Options, RealCluster, User},
};

use crate::{
    api::{Answer, INGESTORS, Kind, OBSERVATIONS, Objects, SHARDMAPS, eventually, name_of},
    error::{Attempt as _, Result},
    ledger::{Key, Makes},
};

/// Where the fleet lives: the namespace that the shipped roles and the policy name.
pub const SYSTEM: &str = "zen-system";

/// Where the Ingestors are.
pub const LOAD: &str = "load";

/// The fleet's name.
pub const FLEET: &str = "zen";

/// The secret that signs; it guards nothing but a run.
pub const SECRET: &str = "a secret of the chaos runs";

/// How long the API server may take to serve what was just made: a second, more on a busy machine.
const SERVED_WITHIN: Duration = Duration::from_mins(1);

/// Secrets.
const SECRETS: Kind = ("v1", "secrets");

/// See the module.
#[derive(Debug)]
pub struct Bed {
    cluster: RealCluster,
    system: Objects,
    load: Objects,
    dir: PathBuf,
}

// === impl Bed ===

impl Bed {
    /// Starts it. Logs and everything else that a run leaves behind go into `dir`.
    pub async fn start(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).attempt(format!("make {}", dir.display()))?;
        // As in production: an etcd that doesn't wait for its disk would make every figure better.
        let options = Options {
            etcd_sync: EtcdSync::On,
            ..Options::default()
        };
        let cluster = RealCluster::start_with(options)
            .await
            .attempt("start an API server")?;
        let client = cluster.client(&User::admin()).attempt("log in")?;
        let system = Objects::new(client, SYSTEM);
        let bed = Self {
            load: system.within(LOAD),
            system,
            cluster,
            dir: dir.to_owned(),
        };
        bed.install().await?;
        Ok(bed)
    }

    /// The processes of the API server and of etcd.
    pub const fn cluster(&self) -> &RealCluster {
        &self.cluster
    }

    /// The fleet's namespace, as an administrator.
    pub const fn system(&self) -> &Objects {
        &self.system
    }

    /// The namespace of the Ingestors, as an administrator.
    pub const fn load(&self) -> &Objects {
        &self.load
    }

    /// Where a run's files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    async fn install(&self) -> Result<()> {
        for crd in crds() {
            let crd = serde_json::to_value(crd).attempt("write down a kind")?;
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            self.system.ensure(path, &crd).await?;
        }
        self.system.make_namespace().await?;
        self.load.make_namespace().await?;
        for kind in [INGESTORS, OBSERVATIONS] {
            served(&self.load, kind).await?;
        }
        served(&self.system, SHARDMAPS).await?;
        for path in shipped("deploy/rbac")? {
            let text = read(&path)?;
            self.load.apply(&text).await?;
        }
        for path in shipped("deploy/admission")? {
            let text = read(&path)?;
            self.system.apply(&text).await?;
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "load" }, "stringData": { "secret": SECRET },
        });
        self.load.create(SECRETS, &secret).await?;
        self.fenced().await
    }

    /// Waits until the policy holds: it comes into force a moment after it is made.
    async fn fenced(&self) -> Result<()> {
        let probe = ingestor("probe", Makes::Each);
        self.load.create(INGESTORS, &probe).await?;
        let path = format!("{}/probe/status?dryRun=All", self.load.path(INGESTORS));
        let body = json!({
            "status": { "owner": { "holder": "nobody#1", "podUID": "none", "epoch": 0 } },
        });
        eventually("the admission policy holds", SERVED_WITHIN, async || {
            let merge = Some(("application/merge-patch+json", &body));
            let answer = self.load.send(Method::PATCH, &path, merge).await;
            Ok(matches!(answer, Answer::Refused(403, _)).then_some(()))
        })
        .await?;
        self.load.delete(INGESTORS, "probe").await
    }

    /// Makes the Ingestors under load: so many that make one Observation of each event, and so many
    /// that count.
    pub async fn ingestors(&self, each: usize, sums: usize) -> Result<Vec<Key>> {
        let kinds = (0..each)
            .map(|n| (format!("key-{n}"), Makes::Each))
            .chain((0..sums).map(|n| (format!("sum-{n}"), Makes::Sums)));
        let mut keys = Vec::new();
        for (name, makes) in kinds {
            let made = self.load.create(INGESTORS, &ingestor(&name, makes)).await?;
            let uid = made.pointer("/metadata/uid").and_then(Value::as_str);
            keys.push(Key {
                uid: uid.unwrap_or_default().to_owned(),
                name,
                makes,
            });
        }
        Ok(keys)
    }
}

/// Waits until a kind can be listed.
async fn served(objects: &Objects, kind: Kind) -> Result<()> {
    let what = format!("{} are served", kind.1);
    eventually(&what, SERVED_WITHIN, async || {
        let answer = objects.send(Method::GET, &objects.path(kind), None).await;
        Ok(matches!(answer, Answer::Done(_)).then_some(()))
    })
    .await
}

/// The manifests of a folder of this repository, as they are shipped.
fn shipped(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let entries = fs::read_dir(&folder).attempt(format!("read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).attempt(format!("read {}", path.display()))
}

/// An Ingestor that takes GitHub's deliveries.
fn ingestor(name: &str, makes: Makes) -> Value {
    let dedup = match makes {
        Makes::Each => json!({ "strategy": "event" }),
        Makes::Sums => json!({ "strategy": "aggregate", "fields": ["resource"], "window": "24h" }),
    };
    json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
        "metadata": { "name": name, "namespace": LOAD },
        "spec": {
            "source": { "webhook": {
                "auth": [{ "github": { "secretRef": { "name": "load" } } }],
                "rateLimit": { "requestsPerSecond": 1_000_000, "burst": 1_000_000 },
            }},
            "normalize": {
                "category": { "value": "operations" },
                "eventType": { "expression": "'github_' + headers['x-github-event']" },
                "severity": { "value": "info" },
                "resource": {
                    "kind": { "value": "Repository" },
                    "name": { "expression": "body.repository.full_name" },
                },
            },
            "dedup": dedup,
        },
    })
}

/// The objects of the load that are stored now, by name: what a run ends with.
pub async fn stored(objects: &Objects, mut each: impl FnMut(&str, &Value)) -> Result<usize> {
    let path = objects.path(OBSERVATIONS);
    let mut query = "?limit=500".to_owned();
    let mut count = 0;
    loop {
        let page = objects
            .send(Method::GET, &format!("{path}{query}"), None)
            .await
            .done(format!("list {path}"))?;
        for item in page
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            count += 1;
            each(name_of(item), item);
        }
        let next = page.pointer("/metadata/continue").and_then(Value::as_str);
        match next.filter(|next| !next.is_empty()) {
            Some(next) => query = format!("?limit=500&continue={next}"),
            None => return Ok(count),
        }
    }
}
