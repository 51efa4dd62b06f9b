//! `zen-fabric ring` as its users meet it: against an API server, and from files.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use zen_fabric::{
    api::{Ingestor, ShardMap, crds},
    coordination::{
        names::{Holder, PodName},
        port::{Moment, Object, Record},
        records::{Life, MemberRecord},
        wire::{Place, Seconds},
    },
    embedded::{Options, Server},
    ops::{tasks::Tasks, time::SystemClock},
    testing::samples,
};

use crate::command::zen_fabric;

/// An embedded API with three replicas' map and an Ingestor, and a folder with its kubeconfig.
struct World {
    folder: tempfile::TempDir,
    client: Client,
    tasks: Tasks,
}

// === impl World ===

impl World {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let options = Options {
            data_dir: None,
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            clock: Arc::new(SystemClock),
        };
        let handle = Server::start(options, &tasks).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        handle
            .write_kubeconfig(folder.path().join("kubeconfig"))
            .unwrap();
        let client = handle.client();
        for crd in crds() {
            let api: Api<_> = Api::all(client.clone());
            api.create(&PostParams::default(), &crd).await.unwrap();
        }
        for name in ["zen-system", "team-a"] {
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
            api.create(
                &PostParams::default(),
                &serde_json::from_value(namespace).unwrap(),
            )
            .await
            .unwrap();
        }
        Self {
            folder,
            client,
            tasks,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn store(&self, map: &Value) {
        let api: Api<ShardMap> = Api::namespaced(self.client.clone(), "zen-system");
        let map: ShardMap = serde_json::from_value(map.clone()).unwrap();
        api.create(&PostParams::default(), &map).await.unwrap();
    }

    /// A member Lease of `release`.
    async fn lease(&self, release: &str, record: MemberRecord) {
        let place = Place {
            namespace: "zen-system".into(),
            release: release.into(),
            owned: false,
        };
        let object = Object::Member(record.holder.pod.clone());
        let lease = place.encode(&object, &Record::Member(record), Seconds(15));
        let lease: Lease = serde_json::from_value(lease.unwrap()).unwrap();
        let api: Api<Lease> = Api::namespaced(self.client.clone(), "zen-system");
        api.create(&PostParams::default(), &lease).await.unwrap();
    }

    async fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.run_with(&[], args).await
    }

    async fn run_with(&self, more: &[(&str, &str)], args: &[&str]) -> (i32, String, String) {
        let path = self.file("kubeconfig");
        let mut environment = vec![("KUBECONFIG", path.to_str().unwrap())];
        environment.extend(more);
        let args: Vec<&str> = ["ring"].iter().chain(args).copied().collect();
        zen_fabric(&args, &environment, "").await
    }

    fn end(self) {
        self.tasks.token().cancel();
    }
}

/// Three replicas; the third has nothing yet.
fn map() -> Value {
    json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "ShardMap",
        "metadata": { "name": "zen-fabric", "namespace": "zen-system" },
        "spec": {
            "term": 3, "version": 41, "leader": "core-1#2", "buckets": 1024,
            "members": [
                { "name": "core-0", "incarnation": 1, "zone": "a", "weight": 100, "state": "Active" },
                { "name": "core-1", "incarnation": 2, "zone": "b", "weight": 100, "state": "Active" },
                { "name": "core-2", "incarnation": 5, "weight": 100, "state": "Active" },
            ],
            "assignments": [
                { "owner": "core-0#1", "epochs": { "7": "0-400", "9": "401-511" } },
                { "owner": "core-1#2", "epochs": { "12": "512-1023" } },
            ],
            "moves": [{ "buckets": "3-4", "from": "core-0#1", "to": "core-2#5", "since": 41, "stage": "Ask" }],
        },
    })
}

fn written(folder: &tempfile::TempDir, name: &str, map: &Value) -> String {
    let path = folder.path().join(name);
    fs::write(&path, serde_saphyr::to_string(map).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn parsed(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reads_the_cluster_of_a_kubeconfig() {
    let world = World::new().await;
    let (code, _, err) = world.run(&["show"]).await;
    assert_eq!(code, 1);
    assert!(
        err.contains("there is no ShardMap zen-system/zen-fabric"),
        "{err}"
    );

    world.store(&map()).await;
    let mut ingestor: Ingestor = serde_json::from_value(samples::manifest("quickstart")).unwrap();
    ingestor.metadata.namespace = Some("team-a".into());
    ingestor.metadata.name = Some("github".into());
    let api: Api<Ingestor> = Api::namespaced(world.client.clone(), "team-a");
    let made = api.create(&PostParams::default(), &ingestor).await.unwrap();
    let uid = made.metadata.uid.unwrap();

    let (code, out, err) = world.run(&["show"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with(
            "Version 41 of term 3, written by core-1#2; 1024 of 1024 buckets owned, 2 moving."
        ),
        "{out}"
    );
    assert!(
        out.contains("3-4 from core-0#1 to core-2#5 since version 41: its owner is asked"),
        "{out}"
    );
    let (_, out, _) = world.run(&["show", "-o", "json"]).await;
    let shown = parsed(&out);
    let ingestors = shown["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["ingestors"].as_u64().unwrap());
    assert_eq!(ingestors.sum::<u64>(), 1);
    assert_eq!(shown["replicas"][0]["buckets"], "0-511");
    assert_eq!(shown["moves"][0]["stage"], "Ask");

    let (code, by_name, err) = world.run(&["explain", "team-a/github", "-o", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let (_, by_uid, _) = world.run(&["explain", &uid, "-o", "json"]).await;
    let (by_name, by_uid) = (parsed(&by_name), parsed(&by_uid));
    assert_eq!(by_name["uid"], uid);
    assert_eq!(by_name["bucket"], by_uid["bucket"]);
    let (_, text, _) = world.run(&["explain", "team-a/github"]).await;
    assert!(
        text.starts_with(&format!(
            "Key:     team-a/github lies in bucket {}",
            by_name["bucket"]
        )),
        "{text}"
    );
    assert!(
        text.contains("Owner:   core-") && text.contains("Why:     "),
        "{text}"
    );

    let (code, _, err) = world.run(&["explain", "team-a/nobody"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("get ingestor team-a/nobody: 404"), "{err}");
    let (_, out, _) = world.run(&["diff", "-o", "json"]).await;
    // Everybody may have a third and a tenth of it; two buckets are under way already.
    assert!(
        parsed(&out)["replicas"]["core-2#5"]["after"]["buckets"]
            .as_u64()
            .unwrap()
            > 200,
        "{out}"
    );
    world.end();
}

/// A replica of this build, Ready, in zone `c`, with half the usual weight.
fn replica(pod: &str, incarnation: u64, build: &str) -> MemberRecord {
    MemberRecord {
        holder: Holder {
            pod: PodName(pod.into()),
            incarnation,
        },
        claim: 1,
        pod_uid: "4b1c2f6e".into(),
        address: "127.0.0.1:1".into(),
        region: "local".into(),
        zone: "c".into(),
        weight: 50,
        build: build.into(),
        protocol: 1,
        ready: true,
        draining: false,
        seen: 41,
        renewals: 1,
        renewed: Moment(0),
        life: Life::Live,
        challenge: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_knows_of_builds_and_of_who_joins_what_the_leader_knows() {
    let world = World::new().await;
    world.store(&map()).await;
    let (_, before, err) = world.run(&["preview", "--add", "1", "-o", "json"]).await;
    assert_eq!(err, "");
    let after = |out: &str, holder: &str| {
        parsed(out)["replicas"][holder]["after"]["buckets"]
            .as_u64()
            .unwrap_or_default()
    };
    assert!(after(&before, "core-3#1") > 200, "{before}");

    for (pod, incarnation) in [("core-0", 1), ("core-1", 2), ("core-2", 5)] {
        let record = replica(pod, incarnation, "1.0.0");
        world.lease("zen-fabric", record).await;
    }
    world
        .lease("zen-fabric", replica("core-9", 1, "1.0.0"))
        .await;
    world.lease("other", replica("core-8", 1, "2.0.0")).await;
    let (_, out, err) = world.run(&["show"]).await;
    assert_eq!(err, "");
    assert!(
        out.contains("core-0#1  a     100     Active  1.0.0  512"),
        "{out}"
    );
    assert!(
        out.contains("core-9#1  c     50      Joins   1.0.0  0"),
        "{out}"
    );
    assert!(!out.contains("core-8"), "another fleet's: {out}");
    let (_, out, _) = world.run(&["diff", "-o", "json"]).await;
    let half = after(&out, "core-9#1");
    assert!((100..200).contains(&half), "half a share: {out}");

    // While an update rolls, the leader moves nothing for balance.
    let api: Api<Lease> = Api::namespaced(world.client.clone(), "zen-system");
    let name = "zen-fabric-member-core-9";
    api.delete(name, &DeleteParams::default()).await.unwrap();
    world
        .lease("zen-fabric", replica("core-9", 1, "1.0.1"))
        .await;
    let (_, out, _) = world.run(&["diff", "-o", "json"]).await;
    assert_eq!(after(&out, "core-9#1"), 0, "{out}");
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleet_and_namespace_are_those_of_the_environment_unless_flags_say_others() {
    let world = World::new().await;
    let mut other = map();
    other["metadata"] = json!({ "name": "blue", "namespace": "team-a" });
    let api: Api<ShardMap> = Api::namespaced(world.client.clone(), "team-a");
    let other: ShardMap = serde_json::from_value(other).unwrap();
    api.create(&PostParams::default(), &other).await.unwrap();
    let told = [
        ("ZEN_FABRIC_FLEET", "blue"),
        ("ZEN_FABRIC_NAMESPACE", "team-a"),
    ];
    let (code, out, err) = world.run_with(&told, &["show"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let flags: [&[&str]; 2] = [
        &["show", "--fleet", "green"],
        // As it was called.
        &["show", "--name", "green"],
    ];
    for args in flags {
        let (code, _, err) = world.run_with(&told, args).await;
        assert_eq!(code, 1);
        assert!(err.contains("there is no ShardMap team-a/green"), "{err}");
    }
    let args = ["show", "--namespace", "zen-system"];
    let (_, _, err) = world.run_with(&told, &args).await;
    assert!(err.contains("no ShardMap zen-system/blue"), "{err}");
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_nobody_knows_are_no_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let today = written(&folder, "today.yaml", &map());
    let run = async |args: &[&str]| {
        let all: Vec<&str> = ["ring"].iter().chain(args).copied().collect();
        let (code, out, err) = zen_fabric(&all, &[], "").await;
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        out
    };
    let json = ["--file", &today, "-o", "json"];
    let shown = parsed(&run(&[&["show"][..], &json].concat()).await);
    let first = &shown["replicas"][0];
    for field in ["ingestors", "bound", "build"] {
        assert!(
            first[field].is_null() && first.get(field).is_some(),
            "{field}: {first}"
        );
    }
    let explained = parsed(&run(&[&["explain", "7"][..], &json].concat()).await);
    assert!(explained["choices"][0]["load"].is_null(), "{explained}");
    assert!(explained["choices"][0]["bound"].is_null(), "{explained}");
    let text = run(&["explain", "7", "--file", &today]).await;
    assert!(text.contains(", carries - of at most -"), "{text}");
    let preview = parsed(&run(&[&["preview", "--add", "1"][..], &json].concat()).await);
    assert!(preview["moved"]["ingestors"].is_null(), "{preview}");
    assert!(preview["moves"][0]["ingestors"].is_null(), "{preview}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_map_is_told_with_its_field() {
    let world = World::new().await;
    let mut odd = map();
    odd["spec"]["assignments"][1]["epochs"] = json!({ "12": "3,512-1023" });
    world.store(&odd).await;
    let (code, out, err) = world.run(&["show"]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("spec.assignments[1].epochs[12]: bucket 3 is also core-0#1's"),
        "{err}"
    );
    world.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reads_files() {
    let folder = tempfile::tempdir().unwrap();
    let today = written(&folder, "today.yaml", &map());
    let mut next = map();
    next["spec"]["version"] = 42.into();
    next["spec"]["assignments"] = json!([
        { "owner": "core-0#1", "epochs": { "7": "0-2,5-511" } },
        { "owner": "core-1#2", "epochs": { "12": "512-1023" } },
        { "owner": "core-2#5", "epochs": { "42": "3-4" } },
    ]);
    next["spec"]["moves"] = json!([]);
    let later = written(&folder, "later.yaml", &next);

    let (code, out, _) = zen_fabric(&["ring", "diff", &today, &later], &[], "").await;
    assert_eq!(code, 0);
    assert!(out.starts_with("2 buckets with - Ingestors move.\n\ncore-0#1 → core-2#5: 2 buckets with - Ingestors: 3-4\n"), "{out}");
    let (_, same, _) = zen_fabric(&["ring", "diff", &today, "--file", &today], &[], "").await;
    assert!(same.starts_with("Nothing moves."), "{same}");

    let (_, out, _) = zen_fabric(
        &["ring", "show", "--file", "-"],
        &[],
        &fs::read_to_string(&today).unwrap(),
    )
    .await;
    assert!(
        out.contains("core-2#5  -     100     Active  -      0        -          -"),
        "{out}"
    );
    let (_, out, _) = zen_fabric(&["ring", "explain", "3", "--file", &today], &[], "").await;
    assert!(
        out.starts_with(
            "Bucket:  3\nOwner:   core-0#1, since version 7.\nWhy:     it is on its way to core-2#5"
        ),
        "{out}"
    );

    for (change, says) in [
        (["--without", "core-1"], "core-1#2 → core-0#1"),
        (["--add", "1"], "→ core-3#1"),
        (["--zone-down", "a"], "core-0#1 → core-"),
    ] {
        let args: Vec<&str> = ["ring", "preview", "--file", &today]
            .into_iter()
            .chain(change)
            .collect();
        let (code, out, err) = zen_fabric(&args, &[], "").await;
        assert_eq!((code, err.as_str()), (0, ""), "{change:?}");
        assert!(out.contains(says), "{change:?}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let today = written(&folder, "today.yaml", &map());
    let other = written(&folder, "other.yaml", &json!({ "kind": "ConfigMap" }));
    let gone = folder.path().join("gone.yaml");
    let gone = gone.to_str().unwrap();
    let rows: [(&[&str], i32, &str); 12] = [
        (&["show", "--file", gone], 1, "read "),
        (&["show", "--file", &other], 1, "it has no `kind: ShardMap`"),
        (&["show"], 1, "no kubeconfig: name one with --kubeconfig"),
        (&["show", "--kubeconfig", gone], 1, "read the kubeconfig"),
        (
            &["show", "--file", &today, "--kubeconfig", gone],
            2,
            "cannot be used with",
        ),
        (
            &["explain", "1024", "--file", &today],
            1,
            "nor a bucket from 0 to 1023",
        ),
        (
            &["explain", "no-uid", "--file", &today],
            1,
            "is neither NAMESPACE/NAME",
        ),
        (
            &["explain", "a/b", "--file", &today],
            1,
            "give the Ingestor's UID",
        ),
        (
            &["preview", "--file", &today],
            2,
            "--without <POD>|--add <NUMBER>|--zone-down <ZONE>",
        ),
        (
            &[
                "preview",
                "--add",
                "1",
                "--zone-down",
                "a",
                "--file",
                &today,
            ],
            2,
            "cannot be used with",
        ),
        (
            &["preview", "--without", "core-9", "--file", &today],
            1,
            "there are: core-0, core-1, core-2",
        ),
        (
            &["preview", "--add", "0", "--file", &today],
            2,
            "0 is not in 1..=100",
        ),
    ];
    for (args, code, says) in rows {
        let all: Vec<&str> = ["ring"].iter().chain(args).copied().collect();
        let (exit, out, err) = zen_fabric(&all, &[], "").await;
        assert_eq!((exit, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}
