//! What a run makes in the API, and what it finds there at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, ObjectMeta, PostParams},
};
use zen_fabric::api::{Ingestor, Observation, annotations};

use crate::{
    generator::{Id, Target, now},
    profile::Profile,
};

/// The secret that signs; it guards nothing but this run.
pub(crate) const SECRET: &str = "a secret of the load test";

/// Objects of a page; what `kubectl` asks for too.
const PAGE: u32 = 500;

/// How long an endpoint may take to serve after its Ingestor was made.
const SERVING_WITHIN: Duration = Duration::from_secs(30);

/// How often an endpoint is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// What went wrong with the API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{attempt}")]
    Api {
        attempt: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("{path} does not serve after {SERVING_WITHIN:?}: it answers {last}")]
    NotServing { path: String, last: String },
    #[error("ask an endpoint")]
    Probe(#[from] std::io::Error),
}

fn failed(attempt: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let attempt = attempt.into();
    move |source| Error::Api {
        attempt,
        source: Box::new(source),
    }
}

/// The namespace and the Secret that every Ingestor of the profile names.
pub(crate) async fn prepare(client: &Client, profile: &Profile) -> Result<(), Error> {
    let name = profile.namespace();
    namespace(client, name).await?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some("load".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "secret".to_owned(),
            ByteString(SECRET.as_bytes().to_vec()),
        )])),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), name);
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .map_err(failed(format!("make the Secret {name}/load")))?;
    Ok(())
}

/// Makes a namespace.
pub(crate) async fn namespace(client: &Client, name: &str) -> Result<(), Error> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .map_err(failed(format!("make the namespace {name}")))?;
    Ok(())
}

/// Makes an Ingestor and gives its UID.
pub(crate) async fn ingestor(client: &Client, ingestor: &Ingestor) -> Result<String, Error> {
    let namespace = ingestor.namespace().unwrap_or_default();
    let api: Api<Ingestor> = Api::namespaced(client.clone(), &namespace);
    let made = api
        .create(&PostParams::default(), ingestor)
        .await
        .map_err(failed(format!(
            "make the Ingestor {namespace}/{}",
            ingestor.name_any()
        )))?;
    Ok(made.uid().unwrap_or_default())
}

/// Sets or takes away an Ingestor's pace.
pub(crate) async fn pace(
    client: &Client,
    profile: &Profile,
    name: &str,
    max_per_minute: Option<u32>,
) -> Result<(), Error> {
    let api: Api<Ingestor> = Api::namespaced(client.clone(), profile.namespace());
    let patch = serde_json::json!({
        "spec": { "output": { "observation": { "maxPerMinute": max_per_minute } } }
    });
    api.patch(
        name,
        &kube::api::PatchParams::default(),
        &kube::api::Patch::Merge(&patch),
    )
    .await
    .map_err(failed(format!("change the pace of {name}")))?;
    Ok(())
}

/// The endpoint's path.
pub(crate) fn path(profile: &Profile, name: &str) -> String {
    format!("/hooks/{}/{name}", profile.namespace())
}

/// Waits until every path asks for a signature, which is when it serves.
pub(crate) async fn serving(target: &Target, paths: &[String]) -> Result<Duration, Error> {
    let begun = now();
    let mut probe = crate::probe::Probe::open(target)?;
    let mut left: Vec<&String> = paths.iter().collect();
    loop {
        let mut last = String::new();
        let mut still = Vec::new();
        for path in left {
            let status = probe.status(path)?;
            if status != 401 {
                last = status.to_string();
                still.push(path);
            }
        }
        let waited = now().saturating_duration_since(begun);
        let Some(first) = still.first() else {
            return Ok(waited);
        };
        if waited > SERVING_WITHIN {
            return Err(Error::NotServing {
                path: (*first).clone(),
                last,
            });
        }
        left = still;
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Every Observation of a namespace, page by page.
pub(crate) async fn observations(
    client: &Client,
    namespace: &str,
    mut each: impl FnMut(&Observation),
) -> Result<u64, Error> {
    let api: Api<Observation> = Api::namespaced(client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut count = 0;
    loop {
        let page = api
            .list(&params)
            .await
            .map_err(failed(format!("list the Observations of {namespace}")))?;
        for observation in &page {
            count += 1;
            each(observation);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(count),
        }
    }
}

/// What the objects of one Ingestor of strategy `event` say of a run.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Deliveries that have an object.
    pub(crate) ids: BTreeSet<u64>,
    /// Deliveries that have more than one.
    pub(crate) doubled: u64,
    /// Objects of no delivery of this run.
    pub(crate) foreign: u64,
    /// By repository: the sum of `count` of the aggregate Ingestor's objects.
    pub(crate) sums: BTreeMap<String, u64>,
}

/// Reads every object of the run: those of `single` one by one, those of `aggregate` as sums.
pub(crate) async fn find(
    client: &Client,
    namespace: &str,
    run: u32,
    aggregate: &str,
) -> Result<Found, Error> {
    let mut found = Found::default();
    observations(client, namespace, |observation| {
        if observation.spec.source == aggregate {
            let repository = observation
                .spec
                .resource
                .as_ref()
                .and_then(|resource| resource.name.clone())
                .unwrap_or_default();
            let count = u64::try_from(observation.spec.count).unwrap_or_default();
            *found.sums.entry(repository).or_default() += count;
            return;
        }
        let id = observation
            .annotations()
            .get(annotations::EVENT_ID)
            .and_then(|text| Id::number_of(run, text));
        match id {
            Some(id) if found.ids.insert(id) => {}
            Some(_) => found.doubled += 1,
            None => found.foreign += 1,
        }
    })
    .await?;
    Ok(found)
}
