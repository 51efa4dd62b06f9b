//! What a first start puts into the API: the kinds, and an Ingestor to try.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use rand::RngExt as _;

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
    /// Somebody changed the sample's Secret.
    #[error(
        "the Secret demo/github-webhook has no key `secret` with text: restore it, or delete the namespace demo and start again"
    )]
    SecretChanged,
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

/// Makes the sample where the namespace `demo` does not exist yet; a sample that was changed or
/// deleted stays as it is. Gives its Secret's value, where the sample is still there.
pub(super) async fn seed(client: &Client) -> Result<Option<String>, Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let failed = |attempt, object: &str| {
        let object = object.to_owned();
        move |source| Error::Sample {
            attempt,
            object,
            source,
        }
    };
    if namespaces
        .get_opt(NAMESPACE)
        .await
        .map_err(failed("read the namespace", NAMESPACE))?
        .is_none()
    {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let post = PostParams::default();
        namespaces
            .create(&post, &namespace)
            .await
            .map_err(failed("create the namespace", NAMESPACE))?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
        secrets
            .create(&post, &new_secret())
            .await
            .map_err(failed("create the Secret", SECRET))?;
        let ingestors: Api<Ingestor> = Api::namespaced(client.clone(), NAMESPACE);
        ingestors
            .create(&post, &ingestor()?)
            .await
            .map_err(failed("create the Ingestor", NAME))?;
    }
    let ingestors: Api<Ingestor> = Api::namespaced(client.clone(), NAMESPACE);
    if ingestors
        .get_opt(NAME)
        .await
        .map_err(failed("read the Ingestor", NAME))?
        .is_none()
    {
        return Ok(None);
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = secrets
        .get(SECRET)
        .await
        .map_err(failed("read the Secret", SECRET))?;
    let value = secret
        .data
        .and_then(|mut data| data.remove(SECRET_KEY))
        .ok_or(Error::SecretChanged)?;
    String::from_utf8(value.0)
        .map(Some)
        .map_err(|_not_text| Error::SecretChanged)
}

fn ingestor() -> Result<Ingestor, Error> {
    serde_saphyr::from_str(INGESTOR).map_err(|error| Error::Malformed(error.to_string()))
}

/// A Secret with 160 random bits, as hexadecimal text.
fn new_secret() -> Secret {
    let bytes: [u8; 20] = rand::rng().random();
    let value: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        string_data: Some([(SECRET_KEY.to_owned(), value)].into()),
        ..Secret::default()
    }
}
