//! Each sample as users apply it, and its tool's event as it is sent: what is stored is what its golden
//! file says.

use std::{sync::Arc, time::Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Resource,
    api::{ListParams, PostParams},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::Sha256;
use zen_fabric::{
    api::{Ingestor, Observation},
    journal::{IngestorUid, Millis},
    ops::time::{Clock, SystemClock},
    testing::samples::{self, Event},
};

use super::world::{PATIENCE, World, loopback, sign};

const SECRET: &str = "the value of the sample's Secret";

/// The wall clock of the golden files; time passes as always.
#[derive(Debug)]
struct Golden;

impl Clock for Golden {
    fn now(&self) -> Millis {
        crate::samples::ACCEPTED_AT
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

#[derive(Debug, Deserialize)]
struct Expected {
    labels: serde_json::Map<String, Value>,
    spec: Value,
}

/// What is the same wherever the event is processed: the place in the journal is not, nor is what
/// follows from the Ingestor's UID.
fn comparable(labels: Value, mut spec: Value) -> String {
    let mut labels = labels;
    labels.as_object_mut().unwrap().remove("zen.io/event");
    let applied = spec.as_object_mut().unwrap().remove("applied");
    let applied = applied.map(|all| all[0]["index"].clone());
    json!({ "labels": labels, "spec": spec, "index": applied }).to_string()
}

fn golden(name: &str) -> Vec<String> {
    let text = samples::text(&format!("tests/data/events/{name}.golden.yaml"));
    let expected: Vec<Expected> = serde_saphyr::from_str(&text).unwrap();
    let each = expected.into_iter();
    let mut all: Vec<_> = each
        .map(|it| comparable(it.labels.into(), it.spec))
        .collect();
    all.sort();
    all
}

/// Creates what may be there already.
async fn make<K>(api: &Api<K>, object: &Value) -> Option<K>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let object: K = serde_json::from_value(object.clone()).unwrap();
    api.create(&PostParams::default(), &object).await.ok()
}

/// What the sender adds to its event, by the scheme that the sample names.
fn credential(ingestor: &Ingestor, body: &[u8]) -> Vec<(String, String)> {
    let auth = &ingestor.spec.source.webhook.as_ref().unwrap().auth[0];
    if let Some(api_key) = &auth.api_key {
        return vec![(api_key.header.clone(), SECRET.to_owned())];
    }
    let Some(hmac) = &auth.hmac else {
        return vec![("X-Hub-Signature-256".to_owned(), sign(SECRET, body))];
    };
    let time = (crate::samples::ACCEPTED_AT.0 / 1_000).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let prefix = hmac.prefix.clone().unwrap_or_default();
    vec![
        (hmac.header.clone(), format!("{prefix}{hex}")),
        (hmac.timestamp_header.clone().unwrap(), time),
    ]
}

/// Applies a sample with its namespace and Secret, and waits until it is served.
async fn apply(world: &World, name: &str) -> Ingestor {
    let manifest = samples::manifest(name);
    let namespace = manifest["metadata"]["namespace"].as_str().unwrap();
    let named = json!({ "metadata": { "name": namespace } });
    make(&Api::<Namespace>::all(world.client.clone()), &named).await;
    let auth = &manifest["spec"]["source"]["webhook"]["auth"][0];
    let (_, scheme) = auth.as_object().unwrap().iter().next().unwrap();
    let secret = json!({
        "metadata": { "name": scheme["secretRef"]["name"] }, "stringData": { "key": SECRET },
    });
    make(
        &Api::<Secret>::namespaced(world.client.clone(), namespace),
        &secret,
    )
    .await;
    let ingestors: Api<Ingestor> = Api::namespaced(world.client.clone(), namespace);
    let stored = make(&ingestors, &manifest).await.unwrap();
    let uid = IngestorUid(stored.metadata.uid.clone().unwrap().into());
    world.facts(&uid, |facts| facts.serving).await;
    stored
}

async fn send(world: &World, ingestor: &Ingestor, event: &Event) {
    let (metadata, body) = (&ingestor.metadata, event.body());
    let credential = credential(ingestor, &body);
    let headers = event.headers.iter();
    let headers = headers.chain(credential.iter().map(|(name, value)| (name, value)));
    let headers: Vec<_> = headers.map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let namespace = metadata.namespace.as_deref().unwrap();
    let path = format!("/hooks/{namespace}/{}", metadata.name.as_deref().unwrap());
    let answer = world.post(&path, &headers, &body).await;
    assert_eq!(answer.status, 202, "{path}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tools_event_is_stored_as_its_golden_observations() {
    let world = World::at(Arc::new(Golden), loopback()).await;
    world.engine().await;
    for name in samples::SAMPLES {
        let ingestor = apply(&world, name).await;
        send(&world, &ingestor, &samples::event(name)).await;
        let expected = golden(name);
        let namespace = ingestor.metadata.namespace.as_deref().unwrap();
        let observations: Api<Observation> = Api::namespaced(world.client.clone(), namespace);
        let prefix = format!("{}-", ingestor.metadata.name.as_deref().unwrap());
        let stored = async {
            loop {
                let all = observations.list(&ListParams::default()).await.unwrap();
                let ours = all.items.into_iter().filter(|one| {
                    one.metadata
                        .name
                        .as_deref()
                        .is_some_and(|name| name.starts_with(&prefix))
                });
                let mut stored: Vec<_> = ours
                    .map(|one| {
                        let labels = json!(one.metadata.labels.unwrap_or_default());
                        comparable(labels, json!(one.spec))
                    })
                    .collect();
                if stored.len() >= expected.len() {
                    stored.sort();
                    return stored;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let stored = tokio::time::timeout(PATIENCE, stored).await;
        assert_eq!(stored.expect("they are stored"), expected, "{name}");
    }
}
