//! Where a fleet is read from: a cluster, or a file.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Client, Resource as _};
use serde_json::Value;

use super::Args;
use crate::{
    api::{Ingestor, ShardMap},
    cli::{Environment, Streams},
    config::{Config, SETTINGS},
    coordination::{
        assign::counted,
        explain,
        layout::Wanted,
        names::Holder,
        outlook::{builds, outlook},
        port::{Object, Record},
        preview::{self, Diff},
        records::{MemberRecord, ShardMapSpec},
        text::{self, Malformed},
        wire::{self, Place},
    },
    journal::{BUCKETS, Bucket, IngestorUid},
    kube::{
        call::{self, Call, JSON},
        client,
        failure::{Failure, Verb},
    },
};

/// Why there is no fleet to look at. Nothing was changed anywhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no kubeconfig: name one with --kubeconfig, or a file with a ShardMap by --file")]
    NoKubeconfig,
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{0:?} is no name of a Kubernetes object")]
    Name(String),
    #[error(
        "there is no ShardMap {namespace}/{name}: the fabric has not started there, or has another name or namespace (--fleet, --namespace); or its kinds are not installed (zen-fabric crd)"
    )]
    NoMap {
        namespace: String,
        name: String,
        #[source]
        source: Box<Failure>,
    },
    #[error("read from the cluster")]
    Call(#[source] Box<Failure>),
    #[error("read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no ShardMap as kubectl writes it", path.display())]
    NotAMap {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the ShardMap can't be read; the leader makes it again when it is deleted")]
    Malformed(#[from] Malformed),
    #[error(
        "{0:?} is neither NAMESPACE/NAME of an Ingestor, nor its UID, nor a bucket from 0 to 1023"
    )]
    NotAKey(String),
    #[error("{key} is looked up in a cluster, and a file has none: give the Ingestor's UID")]
    KeyNeedsCluster { key: String },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Call(Box::new(failure))
    }
}

/// A map, and what is known beside it.
#[derive(Debug)]
pub(super) struct Fleet {
    /// As it is stored.
    pub(super) map: ShardMapSpec,
    /// What member Leases say; empty where they are unknown.
    pub(super) leases: Vec<MemberRecord>,
    /// The number of Ingestors by bucket, where they are known.
    pub(super) loads: Option<BTreeMap<Bucket, u32>>,
}

/// Two assignments side by side, and whether the loads in it are known.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) diff: Diff,
    pub(super) weighed: bool,
}

// === impl Fleet ===

impl Fleet {
    pub(super) fn wanted(&self) -> Wanted {
        let loads = self.loads.clone().unwrap_or_default();
        explain::wanted(&self.outlook(), loads, &builds(&self.leases))
    }

    /// The map with the members that the leader will give it.
    pub(super) fn outlook(&self) -> ShardMapSpec {
        outlook(&self.map, &self.leases)
    }

    pub(super) fn diff(
        &self,
        before: &BTreeMap<Bucket, Holder>,
        after: &BTreeMap<Bucket, Holder>,
    ) -> Judged {
        let none = BTreeMap::new();
        let loads = self.loads.as_ref().unwrap_or(&none);
        self.judged(preview::diff(before, after, loads))
    }

    pub(super) const fn judged(&self, diff: Diff) -> Judged {
        let weighed = self.loads.is_some();
        Judged { diff, weighed }
    }

    /// Who owns what today.
    pub(super) fn current(&self) -> BTreeMap<Bucket, Holder> {
        let owner = |(bucket, grant): (&Bucket, &crate::coordination::records::Grant)| {
            (*bucket, grant.owner.clone())
        };
        self.map.grants.iter().map(owner).collect()
    }
}

/// What was asked about.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) uid: Option<String>,
    pub(super) bucket: Bucket,
}

/// Where to look.
pub(super) enum Source {
    File(PathBuf),
    Cluster { client: Client, place: Place },
}

// === impl Source ===

impl Source {
    pub(super) async fn cluster(args: &Args, environment: &Environment) -> Result<Self, Error> {
        let path = kubeconfig(args, environment).ok_or(Error::NoKubeconfig)?;
        let (client, _) = client::from_kubeconfig(&path).await?;
        let fleet = Config::default().fleet;
        let told = |flag: &Option<String>, setting, default| {
            let text = flag.clone().or_else(|| variable(environment, setting));
            name(&text.unwrap_or(default))
        };
        let place = Place {
            namespace: told(&args.namespace, "namespace", fleet.namespace)?.into(),
            release: told(&args.fleet, "fleet", fleet.name)?.into(),
            owned: false,
        };
        Ok(Self::Cluster { client, place })
    }

    pub(super) async fn fleet(&self, streams: &mut Streams<'_>) -> Result<Fleet, Error> {
        let (client, place) = match self {
            Self::File(path) => return file(path, streams),
            Self::Cluster { client, place } => (client, place),
        };
        let (namespace, name) = (&*place.namespace, &*place.release);
        let uri = format!("{}/{name}", ShardMap::url_path(&(), Some(namespace)));
        let object = format!("shardmap {namespace}/{name}");
        let stored = get(client, object, uri).await.map_err(|source| {
            if source.cause.code() == Some(404) {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                Error::NoMap {
                    namespace,
                    name,
                    source: Box::new(source),
                }
            } else {
                Error::from(source)
            }
        })?;
        let map = text::read(stored.get("spec").unwrap_or(&Value::Null))?;
        // Without them everything can be shown but how much work a bucket is, and of which builds
        // replicas are.
        let mut known = |what, failure: Option<Failure>| {
            if let Some(failure) = failure {
                drop(writeln!(
                    streams.err,
                    "note: without {what}, as to {failure}"
                ));
            }
        };
        let (leases, failure) = split(leases(client, place).await);
        known("the replicas' Leases", failure);
        let (uids, failure) = split(ingestors(client).await);
        known("Ingestors", failure);
        Ok(Fleet {
            map,
            leases: leases.unwrap_or_default(),
            loads: uids.as_ref().map(counted),
        })
    }

    /// The bucket of what was asked about.
    pub(super) async fn key(&self, key: &str) -> Result<Found, Error> {
        let found = |uid: Option<String>, bucket| Found {
            key: key.to_owned(),
            uid,
            bucket,
        };
        if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = key.parse().ok().filter(|n| *n < BUCKETS);
            let number = number.ok_or_else(|| Error::NotAKey(key.to_owned()))?;
            return Ok(found(None, Bucket(number)));
        }
        let uid = match key.split_once('/') {
            Some((namespace, ingestor)) => self.uid(key, namespace, ingestor).await?,
            None => uuid::Uuid::try_parse(key)
                .map_err(|_not_a_uid| Error::NotAKey(key.to_owned()))?
                .to_string(),
        };
        let bucket = Bucket::of(&IngestorUid(uid.as_str().into()));
        Ok(found(Some(uid), bucket))
    }

    async fn uid(&self, key: &str, namespace: &str, ingestor: &str) -> Result<String, Error> {
        let Self::Cluster { client, .. } = self else {
            return Err(Error::KeyNeedsCluster {
                key: key.to_owned(),
            });
        };
        let (namespace, ingestor) = (name(namespace)?, name(ingestor)?);
        let uri = format!("{}/{ingestor}", Ingestor::url_path(&(), Some(&namespace)));
        let object = get(client, format!("ingestor {key}"), uri).await?;
        Ok(uid_of(&object).unwrap_or_default().to_owned())
    }
}

/// A map from a file, or the input for `-`.
pub(super) fn file(path: &Path, streams: &mut Streams<'_>) -> Result<Fleet, Error> {
    let unread = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let not_a_map = |source| Error::NotAMap {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    // More is no map, whatever it is.
    let most = u64::try_from(2 * text::MOST_BYTES).unwrap_or(u64::MAX);
    let read = if path == Path::new("-") {
        streams.input.take(most).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(unread)?;
    let object: Value =
        serde_saphyr::from_str(&text).map_err(|error| not_a_map(Box::from(error.to_string())))?;
    if object.get("kind").and_then(Value::as_str) != Some("ShardMap") {
        return Err(not_a_map("it has no `kind: ShardMap`".into()));
    }
    let map = text::read(object.get("spec").unwrap_or(&Value::Null))?;
    Ok(Fleet {
        map,
        leases: Vec::new(),
        loads: None,
    })
}

/// The flag, then the variables, then where `kubectl` looks.
fn kubeconfig(args: &Args, environment: &Environment) -> Option<PathBuf> {
    let variable = |wanted: &str| named(environment, wanted);
    // KUBECONFIG may name several; what is meant by "current" is in the first.
    let listed = || variable("KUBECONFIG").and_then(|paths| paths.split(':').next());
    let named = variable("ZEN_FABRIC_KUBECONFIG")
        .or_else(listed)
        .map(PathBuf::from);
    let home = || variable("HOME").map(|home| Path::new(home).join(".kube/config"));
    args.kubeconfig.clone().or(named).or_else(home)
}

fn named<'e>(environment: &'e Environment, wanted: &str) -> Option<&'e str> {
    let found = environment.iter().find(|(name, _)| name == wanted);
    found
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// What a setting's variable says: the same that cores and gateways are told by.
fn variable(environment: &Environment, setting: &str) -> Option<String> {
    let setting = SETTINGS.iter().find(|known| known.name == setting)?;
    named(environment, &setting.variable()).map(str::to_owned)
}

/// What there is, and why there is none.
fn split<T>(read: Result<T, Failure>) -> (Option<T>, Option<Failure>) {
    match read {
        Ok(read) => (Some(read), None),
        Err(failure) => (None, Some(failure)),
    }
}

/// A name that may stand in a path.
fn name(text: &str) -> Result<String, Error> {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(Error::Name(text.to_owned()))
    }
}

async fn get(client: &Client, object: String, uri: String) -> Result<Value, Failure> {
    let call = Call {
        verb: Verb::Get,
        object,
        uri,
        content_type: JSON,
        body: Bytes::new(),
    };
    call::send_for(client, call).await
}

/// UIDs of all Ingestors.
async fn ingestors(client: &Client) -> Result<Vec<IngestorUid>, Failure> {
    let path = Ingestor::url_path(&(), None);
    let uid = |object: &Value| Some(IngestorUid(uid_of(object)?.into()));
    list(client, "ingestors of all namespaces", &path, uid).await
}

/// What member Leases of a fleet say. One that can't be read is none: mending it is its pod's affair.
async fn leases(client: &Client, place: &Place) -> Result<Vec<MemberRecord>, Failure> {
    let path = Lease::url_path(&(), Some(&place.namespace));
    let object = format!("leases {}/{}-member-*", place.namespace, place.release);
    let member = |object: &Value| {
        let of = place.lease(object.pointer("/metadata/name")?.as_str()?)?;
        match wire::decode(&of, object).record {
            Record::Member(record) if matches!(of, Object::Member(_)) => Some(record),
            Record::Member(_) | Record::Leader(_) | Record::Map(_) | Record::Malformed(_) => None,
        }
    };
    list(client, &object, &path, member).await
}

/// What `read` finds in the objects of a list, page by page.
async fn list<T>(
    client: &Client,
    object: &str,
    path: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    let mut next = String::new();
    loop {
        let call = Call {
            verb: Verb::List,
            object: object.to_owned(),
            // A page of a thousand Ingestors has a few MiB.
            uri: format!("{path}?limit=1000{next}"),
            content_type: JSON,
            body: Bytes::new(),
        };
        let page: Value = call::send_for(client, call).await?;
        let items = page.get("items").and_then(Value::as_array);
        all.extend(items.into_iter().flatten().filter_map(&read));
        match page.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(more) if !more.is_empty() => next = format!("&continue={}", escaped(more)),
            _ => return Ok(all),
        }
    }
}

fn uid_of(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid").and_then(Value::as_str)
}

/// Continue tokens are base64, whose `+`, `/` and `=` mean something in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
