//! What a first start puts into the API: the kinds, and an Ingestor to try.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use rand::RngExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::api::{self, Ingestor};

/// Where the sample lives.
pub(super) const NAMESPACE: &str = "demo";
/// The sample's name, and so the last part of its URL.
pub(super) const NAME: &str = "github";
/// The Secret that the sample names.
const SECRET: &str = "github-webhook";
const SECRET_KEY: &str = "secret";
/// The sample as users would apply it.
const INGESTOR: &str = include_str!("../../../examples/quickstart.yaml");

/// How long an API server may take to serve a new kind; a real one takes about a second.
const ESTABLISH_WITHIN: Duration = Duration::from_secs(30);

/// Why the API could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kind could not be installed.
    #[error("cannot install the kind {name}")]
    Install {
        /// The CRD's name.
        name: String,
        /// What the API server answered.
        #[source]
        source: kube::Error,
    },
    /// A kind was installed, but is not served.
    #[error(
        "the kind {name} was installed, but the API server does not serve it after {ESTABLISH_WITHIN:?}"
    )]
    NotEstablished {
        /// The CRD's name.
        name: String,
    },
    /// The kinds are not there, and installing them was not asked for.
    #[error(
        "the API server does not know the kind {name}: install it with `zen-fabric crd | kubectl apply -f -`, or start with --install-crds"
    )]
    NotInstalled {
        /// The CRD's name.
        name: String,
    },
    /// The sample could not be made or read.
    #[error("cannot {attempt} {object}")]
    Sample {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        object: String,
        /// What the API server answered.
        #[source]
        source: kube::Error,
    },
    /// The sample in this binary is wrong.
    #[error("the sample Ingestor of this build is not valid YAML: {0}")]
    Malformed(String),
}

/// Makes every kind known, or brings it up to this build's version, and waits until all are served.
pub(super) async fn install_crds(client: &Client) -> Result<(), Error> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for mut crd in api::crds() {
        let name = crd.name_any();
        let install = |source| Error::Install {
            name: name.clone(),
            source,
        };
        match crds.get_opt(&name).await.map_err(install)? {
            None => crds
                .create(&PostParams::default(), &crd)
                .await
                .map_err(install)?,
            Some(existing) => {
                crd.metadata.resource_version = existing.metadata.resource_version;
                crds.replace(&name, &PostParams::default(), &crd)
                    .await
                    .map_err(install)?
            }
        };
        let established = await_condition(crds.clone(), &name, is_crd_established());
        match tokio::time::timeout(ESTABLISH_WITHIN, established).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Error::NotEstablished { name }),
        }
    }
    Ok(())
}

/// Fails with the remedy where a kind is missing.
pub(super) async fn require_crds(client: &Client) -> Result<(), Error> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api::crds() {
        let name = crd.name_any();
        let found = crds.get_opt(&name).await.map_err(|source| Error::Install {
            name: name.clone(),
            source,
        })?;
        if found.is_none() {
            return Err(Error::NotInstalled { name });
        }
    }
    Ok(())
}

/// How far the sample has come, on its namespace: without it, the namespace is somebody else's.
const PROGRESS: &str = "zen.io/dev-sample";
/// Parts may be missing, for the process that made the namespace was cut off.
const BEGUN: &str = "begun";
/// Every part has been made; what is missing was deleted.
const MADE: &str = "made";

/// On the Secret: the digest of the value that `dev` has made. Another value is somebody else's.
const DIGEST: &str = "zen.io/dev-sample-sha256";

/// Makes the sample where the namespace `demo` does not exist yet, or was left half-made; a sample
/// that was changed or deleted stays as it is. Gives the value of its Secret, where the sample is
/// there and the value is one that was made here.
pub(super) async fn seed(client: &Client) -> Result<Option<String>, Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces
        .get_opt(NAMESPACE)
        .await
        .map_err(failed("read the namespace", NAMESPACE))?;
    let namespace = match found {
        Some(namespace) => namespace,
        None => namespaces
            .create(&PostParams::default(), &new_namespace())
            .await
            .map_err(failed("create the namespace", NAMESPACE))?,
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let ingestors: Api<Ingestor> = Api::namespaced(client.clone(), NAMESPACE);
    match namespace.annotations().get(PROGRESS).map(String::as_str) {
        Some(MADE) => {}
        Some(BEGUN) => {
            ensure(&secrets, SECRET, new_secret()).await?;
            ensure(&ingestors, NAME, ingestor()?).await?;
            let made = json!({ "metadata": { "annotations": { PROGRESS: MADE } } });
            namespaces
                .patch(NAMESPACE, &PatchParams::default(), &Patch::Merge(made))
                .await
                .map_err(failed("annotate the namespace", NAMESPACE))?;
        }
        // Nothing of it is ours, nor is its Secret to be printed.
        Some(_) | None => return Ok(None),
    }
    let sample = ingestors.get_opt(NAME).await;
    if sample.map_err(failed("read the Ingestor", NAME))?.is_none() {
        return Ok(None);
    }
    let secret = secrets.get_opt(SECRET).await;
    let secret = secret.map_err(failed("read the Secret", SECRET))?;
    Ok(secret.and_then(value_made_here))
}

/// Makes a namespace where there is none of its name: the fleet's own objects lie there.
pub(super) async fn ensure_namespace(client: &Client, name: &str) -> Result<(), Error> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    ensure(&Api::all(client.clone()), name, namespace).await
}

/// Creates the object where there is none of its name.
async fn ensure<K>(api: &Api<K>, name: &str, object: K) -> Result<(), Error>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let found = api.get_opt(name).await;
    if found.map_err(failed("read", name))?.is_none() {
        let created = api.create(&PostParams::default(), &object).await;
        created.map_err(failed("create", name))?;
    }
    Ok(())
}

fn failed(attempt: &'static str, object: &str) -> impl FnOnce(kube::Error) -> Error {
    let object = format!("{object} of the sample in {NAMESPACE}");
    move |source| Error::Sample {
        attempt,
        object,
        source,
    }
}

fn new_namespace() -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            annotations: Some([(PROGRESS.to_owned(), BEGUN.to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// The value of the sample's Secret, unless somebody has put another there.
fn value_made_here(secret: Secret) -> Option<String> {
    let digest = secret.annotations().get(DIGEST).cloned()?;
    let value = secret.data?.remove(SECRET_KEY)?;
    let text = String::from_utf8(value.0).ok()?;
    (digest_of(&text) == digest).then_some(text)
}

fn digest_of(value: &str) -> String {
    hex(&Sha256::digest(value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ingestor() -> Result<Ingestor, Error> {
    serde_saphyr::from_str(INGESTOR).map_err(|error| Error::Malformed(error.to_string()))
}

/// A Secret with 160 random bits, as hexadecimal text.
fn new_secret() -> Secret {
    let bytes: [u8; 20] = rand::rng().random();
    let value = hex(&bytes);
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            annotations: Some([(DIGEST.to_owned(), digest_of(&value))].into()),
            ..ObjectMeta::default()
        },
        string_data: Some([(SECRET_KEY.to_owned(), value)].into()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests;
