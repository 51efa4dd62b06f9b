//! The shipped admission policy on a real API server, with one pod-bound identity per replica: what a
//! replica may write, and that one which has lost its epoch writes nothing.

use serde_json::{Value, json};
use zen_fabric::testing::cluster::{RealCluster, User};

use crate::{
    bench::{Answer, Bench, Finisher, Patch, text, unique},
    identities::{apply, bench_of, make},
    kinds::install,
    real::cluster,
};

const CORE: &str = include_str!("../../deploy/rbac/core.yaml");
const FENCE: &str = include_str!("../../deploy/admission/fence.yaml");
const TABLE: &str = include_str!("../data/kinds/ingestor.yaml");
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

/// A pod of `core`, and a client with the token that its kubelet would have fetched.
struct Replica {
    bench: Bench,
    pod: String,
    uid: String,
}

// === impl Replica ===

impl Replica {
    async fn new(admin: &Bench, cluster: &RealCluster) -> Self {
        let pod = unique("core");
        let pods = "/api/v1/namespaces/zen-system/pods";
        let body = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod },
            "spec": {
                "serviceAccountName": "zen-fabric-core",
                "containers": [{ "name": "core", "image": "core" }],
            },
        });
        let made = admin.post(pods, &body).await.created();
        let uid = text(&made["metadata"]["uid"]);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid } },
        });
        let account = "/api/v1/namespaces/zen-system/serviceaccounts/zen-fabric-core/token";
        let token = admin.post(account, &request).await.created();
        let mut config = cluster.config(&User::nobody()).unwrap();
        config.auth_info.token = Some(text(&token["status"]["token"]).into());
        let bench = bench_of(admin, kube::Client::try_from(config).unwrap());
        bench
            .eventually("the role holds", async || {
                (bench.get(&bench.zen("ingestors")).await.code == 200).then_some(())
            })
            .await;
        Self { bench, pod, uid }
    }

    fn owner(&self, epoch: u64) -> Value {
        json!({ "holder": format!("{}#1", self.pod), "podUID": self.uid, "epoch": epoch })
    }

    async fn write(&self, ingestor: &str, status: &Value) -> Answer {
        write(&self.bench, ingestor, status).await
    }
}

async fn write(bench: &Bench, ingestor: &str, status: &Value) -> Answer {
    let path = format!("{}/{ingestor}/status", bench.zen("ingestors"));
    bench
        .patch(&path, Patch::Merge, &json!({ "status": status }))
        .await
}

/// The shipped policy, and its binding, held to the bench's namespace under a name of its own: other
/// tests write as `core` without a pod.
async fn apply_fence(admin: &Bench) {
    let [policy, mut binding]: [Value; 2] = serde_saphyr::from_multiple(FENCE)
        .unwrap()
        .try_into()
        .unwrap();
    let policies = format!("{POLICIES}/validatingadmissionpolicies");
    make(admin, &policies, &policy).await;
    let strict = format!("{policies}?dryRun=All&fieldValidation=Strict");
    let mut again = policy;
    again["metadata"]["name"] = unique("fence").into();
    let answer = admin.post(&strict, &again).await;
    assert_eq!(answer.warnings(), Vec::<String>::new());
    answer.created();
    binding["metadata"]["name"] = unique("fence").into();
    binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] =
        json!({ "kubernetes.io/metadata.name": admin.namespace });
    let bindings = format!("{POLICIES}/validatingadmissionpolicybindings");
    admin.post(&bindings, &binding).await.created();
}

struct World {
    admin: Bench,
    one: Replica,
    two: Replica,
    ingestor: String,
}

/// Two replicas under the policy, in force, and an Ingestor.
async fn world() -> World {
    let cluster = cluster().await;
    let admin = Bench::new(cluster.client(&User::admin()).unwrap(), Finisher::Test).await;
    install(&admin).await;
    let system =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "zen-system" } });
    make(&admin, "/api/v1/namespaces", &system).await;
    apply(&admin, CORE, None).await;
    apply_fence(&admin).await;
    let mut ingestor: Value = serde_saphyr::from_str::<Value>(TABLE).unwrap()["base"].take();
    let name = unique("fenced");
    ingestor["metadata"]["name"] = name.clone().into();
    admin
        .post(&admin.zen("ingestors"), &ingestor)
        .await
        .created();
    // Policies come into force a moment after they are created.
    let stranger = json!({ "owner": { "holder": "nobody#1", "podUID": "none", "epoch": 0 } });
    let path = format!("{}/{name}/status?dryRun=All", admin.zen("ingestors"));
    admin
        .eventually("the policy holds", async || {
            let body = json!({ "status": stranger });
            (admin.patch(&path, Patch::Merge, &body).await.code == 403).then_some(())
        })
        .await;
    World {
        one: Replica::new(&admin, cluster).await,
        two: Replica::new(&admin, cluster).await,
        admin,
        ingestor: name,
    }
}

const NOT_OWNER: &str = "the replica that writes is not status.owner";
const NOT_ITSELF: &str = "status.owner names another pod than the one that writes";

/// From the first claim to the late writes of the one that has lost, and back.
#[tokio::test]
async fn a_replica_that_lost_its_epoch_writes_nothing() {
    let World {
        admin,
        one,
        two,
        ingestor,
    } = world().await;
    let refused = |answer: Answer, why: &str| {
        answer.refused(403, "Forbidden").mentioning(why);
    };

    // Nobody has claimed it: without `owner`, nobody writes.
    refused(
        one.write(&ingestor, &json!({ "backlog": 1 })).await,
        NOT_OWNER,
    );
    // One claims it, and writes with and without saying so again.
    let mine = json!({ "owner": one.owner(5), "backlog": 1 });
    one.write(&ingestor, &mine).await.ok();
    one.write(&ingestor, &json!({ "backlog": 2 })).await.ok();
    // Two doesn't write what is one's: not silently, not as one, not as itself at the same epoch.
    refused(
        two.write(&ingestor, &json!({ "backlog": 9 })).await,
        NOT_OWNER,
    );
    refused(
        two.write(&ingestor, &json!({ "owner": one.owner(6) }))
            .await,
        NOT_ITSELF,
    );
    two.write(&ingestor, &json!({ "owner": two.owner(5) }))
        .await
        .refused(422, "Invalid")
        .mentioning("a later owner has written");
    // Two takes over at the next epoch.
    let theirs = json!({ "owner": two.owner(6), "backlog": 3 });
    two.write(&ingestor, &theirs).await.ok();
    // What one still sends is refused, with `owner` at the old epoch, with none, and with its removal.
    one.write(&ingestor, &mine)
        .await
        .refused(422, "Invalid")
        .mentioning("its epoch never falls");
    refused(
        one.write(&ingestor, &json!({ "backlog": 9 })).await,
        NOT_OWNER,
    );
    let without = one
        .write(&ingestor, &json!({ "owner": null, "backlog": 9 }))
        .await;
    assert!(matches!(without.code, 403 | 422), "{without}");
    // Nor may it hand the Ingestor to anybody.
    refused(
        one.write(&ingestor, &json!({ "owner": two.owner(7) }))
            .await,
        NOT_ITSELF,
    );

    let path = format!("{}/{ingestor}", admin.zen("ingestors"));
    let stored = admin.get(&path).await.ok();
    assert_eq!(stored["status"]["owner"], two.owner(6));
    assert_eq!(stored["status"]["backlog"], 3);

    // One is given it again, later.
    one.write(&ingestor, &json!({ "owner": one.owner(8) }))
        .await
        .ok();
}

/// The name of the pod is not enough: one that was made anew under the same name has another UID.
#[tokio::test]
async fn a_pod_is_its_uid() {
    let World {
        one, two, ingestor, ..
    } = world().await;
    let mut owner = one.owner(1);
    owner["podUID"] = two.uid.clone().into();
    one.write(&ingestor, &json!({ "owner": owner }))
        .await
        .refused(403, "Forbidden")
        .mentioning(NOT_ITSELF);
    let mut owner = one.owner(1);
    owner["holder"] = format!("{}-b#1", one.pod).into();
    one.write(&ingestor, &json!({ "owner": owner }))
        .await
        .refused(403, "Forbidden")
        .mentioning(NOT_ITSELF);
}

/// An administrator writes what else is there, and makes nobody the owner.
#[tokio::test]
async fn an_administrator_leaves_the_owner() {
    let World {
        admin,
        one,
        ingestor,
        ..
    } = world().await;
    write(&admin, &ingestor, &json!({ "backlog": 1 }))
        .await
        .ok();
    write(&admin, &ingestor, &json!({ "owner": one.owner(1) }))
        .await
        .refused(403, "Forbidden")
        .mentioning(NOT_ITSELF);
    one.write(&ingestor, &json!({ "owner": one.owner(1) }))
        .await
        .ok();
    write(&admin, &ingestor, &json!({ "backlog": 2 }))
        .await
        .ok();
    let gone = write(&admin, &ingestor, &json!({ "owner": null })).await;
    assert!(matches!(gone.code, 403 | 422), "{gone}");
    // Its spec is everybody's whom a role lets, and touches no owner.
    let path = format!("{}/{ingestor}", admin.zen("ingestors"));
    let after = admin
        .patch(
            &path,
            Patch::Merge,
            &json!({ "spec": { "enabled": false } }),
        )
        .await
        .ok();
    assert_eq!(after["status"]["owner"], one.owner(1));
}
