//! What people break by hand heals, without a bucket that two own under one epoch.

use std::time::{Duration, Instant};

use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use zen_fabric::{api::ShardMap, journal::Epoch};

use super::world::{Fleet, World};

/// The version that all follow.
fn version(fleet: &Fleet<'_>) -> u64 {
    fleet.of("core-0").handle.snapshot().version
}

async fn healed(fleet: &Fleet<'_>, what: &str, before: u64) {
    let begun = Instant::now();
    let gates = || fleet.log.open_gates().len() == fleet.replicas.len();
    let newer = || {
        let shots = fleet
            .replicas
            .values()
            .map(|replica| replica.handle.snapshot());
        shots.into_iter().all(|shot| shot.version > before)
    };
    fleet.until("a newer map is followed", newer).await;
    let took = begun.elapsed();
    fleet.settled().await;
    println!("{what}: healed after {took:?}");
    // Two seconds on a machine of its own.
    assert!(took < Duration::from_secs(15), "{what}: {took:?}");
    assert!(gates());
    fleet.log.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_old_map_is_made_again_above_what_anybody_remembers() {
    let world = World::new().await;
    let mut fleet = world.fleet("maps");
    fleet.remembers = Some(Epoch(5_000));
    fleet.start_all(3).await;
    let maps = world.maps();
    let old = maps.get("maps").await.unwrap();

    let before = version(&fleet);
    maps.delete("maps", &DeleteParams::default()).await.unwrap();
    healed(&fleet, "ShardMap deleted", before.max(5_000)).await;

    let before = version(&fleet);
    maps.delete("maps", &DeleteParams::default()).await.unwrap();
    let restored = ShardMap::new("maps", old.spec.clone());
    // The leader may be faster; then the backup isn't taken.
    drop(maps.create(&PostParams::default(), &restored).await);
    healed(&fleet, "old ShardMap restored", before).await;

    let before = version(&fleet);
    maps.delete("maps", &DeleteParams::default()).await.unwrap();
    let leases = world.leases();
    leases
        .delete("maps-leader", &DeleteParams::default())
        .await
        .unwrap();
    healed(&fleet, "ShardMap and leader Lease deleted", before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_leader_lease_is_taken_again_and_nothing_moves() {
    let world = World::new().await;
    let mut fleet = world.fleet("leases");
    fleet.start_all(3).await;
    let owners = fleet.log.owners();
    let leases = world.leases();
    let uid = leases.get("leases-leader").await.unwrap().uid();
    leases
        .delete("leases-leader", &DeleteParams::default())
        .await
        .unwrap();
    let begun = Instant::now();
    loop {
        let found = leases.get_opt("leases-leader").await.unwrap();
        if found.is_some_and(|lease| lease.uid() != uid && fleet.leader().is_some()) {
            break;
        }
        assert!(begun.elapsed() < super::world::PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("leader Lease deleted: taken after {:?}", begun.elapsed());
    fleet.settled().await;
    let pods = |owners: std::collections::BTreeMap<
        _,
        (zen_fabric::coordination::names::Holder, Epoch),
    >| {
        owners
            .into_values()
            .map(|(owner, _)| owner)
            .collect::<Vec<_>>()
    };
    assert_eq!(pods(fleet.log.owners()), pods(owners));
    fleet.log.check(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_lease_names_a_foreign_incarnation_goes_on_as_the_next() {
    let world = World::new().await;
    let mut fleet = world.fleet("foreign");
    fleet.start_all(3).await;
    let leases = world.leases();
    let edit = json!({"spec": {"holderIdentity": "core-1#7"}});
    leases
        .patch(
            "foreign-member-core-1",
            &PatchParams::default(),
            &Patch::Merge(&edit),
        )
        .await
        .unwrap();
    let next = "core-1#8".parse().unwrap();
    let took = fleet
        .until("it goes on", || fleet.log.lives().contains(&next))
        .await;
    println!("member Lease edited: the next incarnation after {took:?}");
    fleet.settled().await;

    // Unreadable, it is replaced.
    let edit = json!({"metadata": {"annotations": {"zen.io/life": "Undead"}}});
    leases
        .patch(
            "foreign-member-core-2",
            &PatchParams::default(),
            &Patch::Merge(&edit),
        )
        .await
        .unwrap();
    let begun = Instant::now();
    loop {
        let lease = leases.get("foreign-member-core-2").await.unwrap();
        if lease.annotations()["zen.io/life"] == "Live" {
            break;
        }
        assert!(begun.elapsed() < super::world::PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fleet.settled().await;
    fleet.log.check(&[]);
}
