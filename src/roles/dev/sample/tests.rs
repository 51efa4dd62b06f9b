//! What a start makes of what it finds.

use std::sync::Arc;

use kube::api::DeleteParams;

use super::*;
use crate::{
    embedded::{self, Server},
    ops::{tasks::Tasks, time::SystemClock},
};

struct World {
    client: Client,
    _api: embedded::Handle,
}

impl World {
    async fn new() -> Self {
        let api = Server::in_memory(Arc::new(SystemClock), &Tasks::new());
        let client = api.client();
        install_crds(&client).await.unwrap();
        Self { client, _api: api }
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn ingestors(&self) -> Api<Ingestor> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn seed(&self) -> Option<String> {
        seed(&self.client).await.unwrap()
    }

    async fn stored(&self) -> String {
        let data = self.secrets().get(SECRET).await.unwrap().data.unwrap();
        String::from_utf8(data[SECRET_KEY].0.clone()).unwrap()
    }

    async fn put_secret(&self, value: &str) {
        let value = json!({ "stringData": { SECRET_KEY: value } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(value));
        self.secrets().patch(SECRET, &params, &patch).await.unwrap();
    }
}

#[tokio::test]
async fn a_sample_is_made_once_and_told_at_every_start() {
    let world = World::new().await;
    let told = world.seed().await.unwrap();
    assert_eq!(told, world.stored().await);
    assert_eq!(world.seed().await, Some(told));
}

#[tokio::test]
async fn what_was_deleted_or_changed_stays_so_and_is_no_error() {
    let world = World::new().await;
    let told = world.seed().await.unwrap();
    world.put_secret("somebody's real secret").await;
    assert_eq!(world.seed().await, None, "it is not printed");
    world.put_secret(&told).await;
    assert_eq!(world.seed().await, Some(told));
    let delete = DeleteParams::default();
    world.secrets().delete(SECRET, &delete).await.unwrap();
    assert_eq!(world.seed().await, None);
    assert!(world.secrets().get_opt(SECRET).await.unwrap().is_none());
    world.ingestors().delete(NAME, &delete).await.unwrap();
    assert_eq!(world.seed().await, None);
    assert!(world.ingestors().get_opt(NAME).await.unwrap().is_none());
}

#[tokio::test]
async fn a_sample_that_was_left_half_made_is_completed() {
    let post = PostParams::default();
    for secret_made in [false, true] {
        let world = World::new().await;
        let (namespace, secret) = (new_namespace(), new_secret());
        world.namespaces().create(&post, &namespace).await.unwrap();
        if secret_made {
            world.secrets().create(&post, &secret).await.unwrap();
        }
        let told = world.seed().await.unwrap();
        assert_eq!(told, world.stored().await);
        let made = secret.string_data.unwrap()[SECRET_KEY] == told;
        assert_eq!(made, secret_made, "what was there stays");
        assert!(world.ingestors().get_opt(NAME).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn somebody_elses_namespace_is_left_alone_and_its_secret_is_not_told() {
    let world = World::new().await;
    let post = PostParams::default();
    let mut namespace = new_namespace();
    namespace.metadata.annotations = None;
    world.namespaces().create(&post, &namespace).await.unwrap();
    assert_eq!(world.seed().await, None);
    assert!(world.secrets().get_opt(SECRET).await.unwrap().is_none());
    assert!(world.ingestors().get_opt(NAME).await.unwrap().is_none());
    world.secrets().create(&post, &new_secret()).await.unwrap();
    let theirs = ingestor().unwrap();
    world.ingestors().create(&post, &theirs).await.unwrap();
    assert_eq!(world.seed().await, None);
}
