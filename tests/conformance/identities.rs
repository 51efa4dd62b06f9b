//! The shipped roles on a real API server: what each of the two identities may do, and what it is
//! refused.

use http::Method;
use serde_json::{Value, json};
use zen_fabric::testing::cluster::{RealCluster, User};

use crate::{
    bench::{Bench, Finisher, Patch, config_map, text},
    kinds::{install, observation},
    real::cluster,
};

const CORE: &str = include_str!("../../deploy/rbac/core.yaml");
const GATEWAY: &str = include_str!("../../deploy/rbac/gateway.yaml");
const SECRETS: &str = include_str!("../../deploy/rbac/secrets.yaml");

/// The shipped files applied as they are; then a bench for each identity, in a namespace of its own
/// with a Secret and an Observation, made by an administrator.
pub(crate) struct Identities {
    pub(crate) admin: Bench,
    core: Bench,
    gateway: Bench,
}

impl Identities {
    pub(crate) async fn new(cluster: &RealCluster) -> Self {
        let admin = Bench::new(client(cluster, &User::admin()), Finisher::Test).await;
        install(&admin).await;
        let system = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "zen-system" },
        });
        make(&admin, "/api/v1/namespaces", &system).await;
        for file in [CORE, GATEWAY] {
            apply(&admin, file, None).await;
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "hook" }, "stringData": { "key": "hunter2-hunter2" },
        });
        admin.post(&admin.core("secrets"), &secret).await.created();
        let mut made = observation(&json!({}));
        made["metadata"]["name"] = "seen".into();
        admin
            .post(&admin.zen("observations"), &made)
            .await
            .created();
        let as_user = async |user: User| {
            let bench = bench_of(&admin, client(cluster, &user));
            // The authorizer reads roles from a cache, which may be behind for a moment.
            bench
                .eventually("the role holds", async || {
                    (bench.get(&bench.zen("ingestors")).await.code == 200).then_some(())
                })
                .await;
            bench
        };
        Self {
            core: as_user(User::core()).await,
            gateway: as_user(User::gateway()).await,
            admin,
        }
    }
}

fn client(cluster: &RealCluster, user: &User) -> kube::Client {
    cluster.client(user).unwrap()
}

/// The same namespace through another client.
pub(crate) fn bench_of(admin: &Bench, client: kube::Client) -> Bench {
    Bench {
        client,
        namespace: admin.namespace.clone(),
        finisher: Finisher::Test,
        kept: None,
    }
}

/// Creates what another test may have created.
pub(crate) async fn make(admin: &Bench, collection: &str, object: &Value) {
    let answer = admin.post(collection, object).await;
    assert!(
        answer.code == 201 || answer.reason() == "AlreadyExists",
        "{answer}"
    );
}

/// Creates every document of a file, in a namespace where it names none.
pub(crate) async fn apply(admin: &Bench, file: &str, namespace: Option<&str>) {
    let documents: Vec<Value> = serde_saphyr::from_multiple(file).unwrap();
    for mut document in documents {
        if let Some(namespace) = namespace {
            document["metadata"]["namespace"] = namespace.into();
        }
        let version = text(&document["apiVersion"]);
        let root = if version.contains('/') { "apis" } else { "api" };
        let scope = match document["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("/namespaces/{namespace}"),
            None => String::new(),
        };
        let plural = format!("{}s", text(&document["kind"]).to_lowercase());
        make(
            admin,
            &format!("/{root}/{version}{scope}/{plural}"),
            &document,
        )
        .await;
    }
}

/// Opens the Secrets of the bench's namespace to the gateway.
pub(crate) async fn open_secrets(admin: &Bench) {
    apply(admin, SECRETS, Some(&admin.namespace)).await;
}

/// Every verb on a kind's objects, each as a request that would succeed for an administrator.
async fn try_every_verb(
    t: &Bench,
    collection: &str,
    name: &str,
    body: &Value,
) -> Vec<(String, u16)> {
    let one = format!("{collection}/{name}");
    let all = collection.replace(&format!("/namespaces/{}", t.namespace), "");
    let empty = json!({});
    let watch = format!("{collection}?watch=true&timeoutSeconds=1");
    let mut answers = vec![
        ("get", t.get(&one).await),
        ("list", t.get(collection).await),
        ("list of all namespaces", t.get(&all).await),
        ("watch", t.get(&watch).await),
        ("create", t.post(collection, body).await),
        ("update", t.put(&one, body).await),
    ];
    for patch in [Patch::Merge, Patch::Json, Patch::Strategic] {
        answers.push(("patch", t.patch(&one, patch, &empty).await));
    }
    answers.push(("delete", t.delete(&one).await));
    answers.push(("deletecollection", t.delete(collection).await));
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = t
        .send(
            Method::PATCH,
            &format!("{one}?fieldManager=test"),
            &headers,
            Some(body.to_string()),
        )
        .await;
    answers.push(("apply", applied));
    answers
        .into_iter()
        .map(|(verb, answer)| {
            assert!(
                !answer.text.contains("hunter2") && !answer.text.contains("aHVudGVyMi1odW50ZXIy"),
                "a refusal shows no secret: {answer}"
            );
            (verb.to_owned(), answer.code)
        })
        .collect()
}

fn all_forbidden(answers: &[(String, u16)]) {
    for (verb, code) in answers {
        assert_eq!(*code, 403, "{verb}: {answers:?}");
    }
}

/// Core is refused every verb on every Secret, also where the gateway may read them.
#[tokio::test]
async fn core_is_refused_every_secret() {
    let they = Identities::new(cluster().await).await;
    open_secrets(&they.admin).await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hook" } });
    let t = &they.core;
    all_forbidden(&try_every_verb(t, &t.core("secrets"), "hook", &secret).await);
    t.get(&format!("{}/hook", t.core("secrets")))
        .await
        .refused(403, "Forbidden")
        .mentioning("User \"system:serviceaccount:zen-system:zen-fabric-core\" cannot get resource \"secrets\"");
    let in_system = "/api/v1/namespaces/zen-system/secrets";
    t.get(in_system).await.refused(403, "Forbidden");
}

/// The gateway is refused every verb on every Observation and its status.
#[tokio::test]
async fn gateway_is_refused_every_observation() {
    let they = Identities::new(cluster().await).await;
    let t = &they.gateway;
    let body = observation(&json!({}));
    all_forbidden(&try_every_verb(t, &t.zen("observations"), "seen", &body).await);
    let status = format!("{}/seen/status", t.zen("observations"));
    t.get(&status).await.refused(403, "Forbidden");
    t.patch(
        &status,
        Patch::Merge,
        &json!({ "status": { "processed": true } }),
    )
    .await
    .refused(403, "Forbidden");
    they.admin
        .get(&format!("{}/seen", t.zen("observations")))
        .await
        .ok();
}

/// The gateway reads Secrets where a RoleBinding says so, and nowhere else; it never writes one.
#[tokio::test]
async fn gateway_reads_secrets_where_bound() {
    let they = Identities::new(cluster().await).await;
    let t = &they.gateway;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hook" } });
    all_forbidden(&try_every_verb(t, &t.core("secrets"), "hook", &secret).await);

    open_secrets(&they.admin).await;
    let one = format!("{}/hook", t.core("secrets"));
    let found = t
        .eventually("the binding holds", async || {
            let answer = t.get(&one).await;
            (answer.code == 200).then(|| answer.json())
        })
        .await;
    assert_eq!(found["data"]["key"], "aHVudGVyMi1odW50ZXIy");
    t.get(&t.core("secrets")).await.ok();
    let mut watch = t.watch(&t.core("secrets"), "").await;
    assert_eq!(watch.names(1).await, ["ADDED hook"]);

    t.get("/api/v1/secrets").await.refused(403, "Forbidden");
    t.get("/api/v1/namespaces/zen-system/secrets")
        .await
        .refused(403, "Forbidden");
    t.patch(
        &one,
        Patch::Merge,
        &json!({ "stringData": { "key": "mine" } }),
    )
    .await
    .refused(403, "Forbidden");
    t.delete(&one).await.refused(403, "Forbidden");
}

/// The gateway writes nothing at all: no Ingestor, no status, no event, no lease.
#[tokio::test]
async fn gateway_writes_nothing() {
    let they = Identities::new(cluster().await).await;
    let t = &they.gateway;
    t.post(&t.core("configmaps"), &config_map("a"))
        .await
        .refused(403, "Forbidden");
    for path in [
        t.zen("ingestors"),
        format!("/apis/events.k8s.io/v1/namespaces/{}/events", t.namespace),
        "/apis/coordination.k8s.io/v1/namespaces/zen-system/leases".to_owned(),
        "/api/v1/namespaces".to_owned(),
    ] {
        t.post(&path, &json!({ "metadata": { "name": "a" } }))
            .await
            .refused(403, "Forbidden");
    }
    t.patch(
        &format!("{}/a/status", t.zen("ingestors")),
        Patch::Merge,
        &json!({}),
    )
    .await
    .refused(403, "Forbidden");
}

/// Core can do what its work needs, and nothing else.
#[tokio::test]
async fn core_does_its_work() {
    let they = Identities::new(cluster().await).await;
    let t = &they.core;
    let observations = t.zen("observations");
    let mut body = observation(&json!({ "a": 1 }));
    body["metadata"]["name"] = "written".into();
    let mut object = t.post(&observations, &body).await.created();
    object["spec"]["count"] = 2.into();
    let one = format!("{observations}/written");
    t.get(&one).await.ok();
    t.put(&one, &object).await.ok();
    t.get(&observations).await.ok();
    t.delete(&one).await.ok();
    t.get("/api/v1/namespaces").await.ok();
    let status = json!({ "status": {} });
    t.patch(
        &format!("{}/a/status", t.zen("ingestors")),
        Patch::Merge,
        &status,
    )
    .await
    .refused(404, "NotFound");

    let seen = format!("{observations}/seen");
    let status = format!("{seen}/status");
    for path in [&seen, &status] {
        t.patch(path, Patch::Merge, &json!({}))
            .await
            .refused(403, "Forbidden");
    }
    t.delete(&observations).await.refused(403, "Forbidden");
    for path in [
        t.zen("ingestors"),
        t.core("configmaps"),
        format!("/apis/events.k8s.io/v1/namespaces/{}/events", t.namespace),
        format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
            t.namespace
        ),
        t.zen("shardmaps"),
    ] {
        t.post(&path, &json!({ "metadata": { "name": "a" } }))
            .await
            .refused(403, "Forbidden");
    }
}

/// Who leads, who lives and who owns what is core's to write, in the fabric's own namespace alone; the
/// gateway reads the map and nothing else of it.
#[tokio::test]
async fn the_fleets_own_objects_are_cores() {
    let they = Identities::new(cluster().await).await;
    let (core, gateway) = (&they.core, &they.gateway);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/zen-system/leases";
    let name = format!("{}-rights", core.namespace);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": name }, "spec": { "holderIdentity": "core-0#1" },
    });
    let mut stored = core.post(leases, &lease).await.created();
    stored["spec"]["holderIdentity"] = "core-0#2".into();
    let one = format!("{leases}/{name}");
    core.put(&one, &stored).await.ok();
    core.get(&one).await.ok();
    core.get(leases).await.ok();
    gateway.get(&one).await.refused(403, "Forbidden");
    core.delete(&one).await.ok();
    core.delete(leases).await.refused(403, "Forbidden");

    let maps = "/apis/zen.watcher.io/v1/namespaces/zen-system/shardmaps";
    core.get(maps).await.ok();
    gateway.get(maps).await.ok();
    let empty = json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "ShardMap", "metadata": { "name": name },
    });
    // The right is there; the schema is what refuses.
    core.post(maps, &empty).await.refused(422, "Invalid");
    gateway.post(maps, &empty).await.refused(403, "Forbidden");
    gateway
        .put(&format!("{maps}/{name}"), &empty)
        .await
        .refused(403, "Forbidden");
    gateway
        .delete(&format!("{maps}/{name}"))
        .await
        .refused(403, "Forbidden");
    core.delete(&format!("{maps}/{name}"))
        .await
        .refused(404, "NotFound");
    core.delete(maps).await.refused(403, "Forbidden");
}

/// Someone whom no role names may do nothing, and someone whom nobody knows is told so.
#[tokio::test]
async fn others_are_kept_out() {
    let they = Identities::new(cluster().await).await;
    let nobody = bench_of(&they.admin, client(cluster().await, &User::nobody()));
    nobody
        .get(&nobody.zen("observations"))
        .await
        .refused(403, "Forbidden");
    let mut config = cluster().await.config(&User::nobody()).unwrap();
    config.auth_info.token = Some("wrong".to_owned().into());
    let stranger = bench_of(&they.admin, kube::Client::try_from(config).unwrap());
    stranger
        .get(&stranger.zen("observations"))
        .await
        .refused(401, "Unauthorized");
}
