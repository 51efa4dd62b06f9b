//! What people break: Leases and the ShardMap deleted, restored from a backup, edited by hand.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use zen_fabric::{
    coordination::{names::Holder, records::MemberState},
    journal::BUCKETS,
};

use super::{BREATH, Options, restart};
use crate::{
    api::{LEASES, SHARDMAPS},
    bed::FLEET,
    check::Checked,
    clock::millis,
    error::{Error, Result},
    history::{What, read},
    outcome::{Bar, Measured, Outcome},
    report::acceptance::names,
    run::{Mark, Run},
    samples::Samples,
};

/// How long a fleet may take before it counts as not healed.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A pod that there is not.
const NOBODY: &str = "nobody";

/// An incarnation that no pod of a run has reached.
const FAR: u64 = 900;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    LeaderLeaseDeleted,
    MemberLeaseDeleted,
    MapDeleted,
    LeaseAndMapDeleted,
    LeaseAndMapRestored,
    LeaderLeaseEdited,
    MemberLeaseEdited,
    MapEdited,
}

const ALL: [Broken; 8] = [
    Broken::LeaderLeaseDeleted,
    Broken::MemberLeaseDeleted,
    Broken::MapDeleted,
    Broken::LeaseAndMapDeleted,
    Broken::LeaseAndMapRestored,
    Broken::LeaderLeaseEdited,
    Broken::MemberLeaseEdited,
    Broken::MapEdited,
];

/// Objects as they were, to be restored.
struct Backup {
    lease: Value,
    map: Value,
}

/// Each of them, several times.
pub(super) async fn operator(options: &Options) -> Result<Outcome> {
    let mut run = Run::start(options.setup("operator", 3)).await?;
    run.hypothesis(
        "What is deleted is made again at numbers above all that anybody remembers; what is edited is put right by the leader. \
         Owners go on meanwhile, epochs never fall, and it takes no more than 2 s.",
    );
    let backup = Backup::take(&run).await?;
    // So that the backup is old: epochs and versions have gone on.
    let place = run.follower()?;
    let moment = run.fleet.core(place)?.kill()?;
    run.mark_at(
        moment,
        format!("kill -9 core-{place}: the backup is old from here"),
    );
    restart(&mut run, place).await?;

    let mut healed = Checked::new("every break heals");
    let mut all = Samples::default();
    for _round in 0..options.pick(3, 1) {
        for broken in ALL {
            let before = run.now()?;
            backup.do_to(&mut run, broken).await?;
            run.mark_at(before.at, format!("{broken:?}"));
            let took = heals(&run, &before, broken).await;
            healed.look(
                took.is_none()
                    .then(|| format!("{broken:?}: not within {HEALED_WITHIN:?}")),
            );
            if let Some(took) = took {
                run.note(format!("{broken:?}: healed after {took:.0} ms"));
                all.add(took);
            }
            run.settled().await?;
            run.pass(BREATH).await?;
        }
    }
    run.measured(Measured::of(names::HEALED, "ms", &all).asked(Bar::most(2000.0)));
    run.checked(healed);
    run.finish().await
}

fn lease() -> String {
    format!("{FLEET}-leader")
}

fn member(pod: &str) -> String {
    format!("{FLEET}-member-{pod}")
}

// === impl Backup ===

impl Backup {
    async fn take(run: &Run) -> Result<Self> {
        let system = run.bed.system();
        let found = (
            system.get(LEASES, &lease()).await?,
            system.get(SHARDMAPS, FLEET).await?,
        );
        let (Some(lease), Some(map)) = found else {
            return Err(Error::new(
                "back up the leader Lease and the ShardMap: one of them is not there",
            ));
        };
        Ok(Self { lease, map })
    }

    async fn do_to(&self, run: &mut Run, broken: Broken) -> Result<()> {
        let place = run.follower()?;
        let pod = run.fleet.core(place)?.name().to_owned();
        let system = run.bed.system();
        match broken {
            Broken::LeaderLeaseDeleted => system.delete(LEASES, &lease()).await,
            Broken::MemberLeaseDeleted => system.delete(LEASES, &member(&pod)).await,
            Broken::MapDeleted => system.delete(SHARDMAPS, FLEET).await,
            Broken::LeaseAndMapDeleted => {
                system.delete(LEASES, &lease()).await?;
                system.delete(SHARDMAPS, FLEET).await
            }
            Broken::LeaseAndMapRestored => {
                // As `kubectl replace --force` does.
                system.delete(LEASES, &lease()).await?;
                system.delete(SHARDMAPS, FLEET).await?;
                let map = system.create(SHARDMAPS, &anew(&self.map)).await;
                // The fleet may have been faster: then there is nothing to restore, and it is refused.
                if let Ok(map) = map {
                    run.history.lock().disown(read::version(&map));
                }
                drop(run.bed.system().create(LEASES, &anew(&self.lease)).await);
                Ok(())
            }
            Broken::LeaderLeaseEdited => {
                let patch = json!({ "spec": { "holderIdentity": format!("{NOBODY}#7") } });
                system.merge(LEASES, &lease(), &patch).await.map(drop)
            }
            Broken::MemberLeaseEdited => {
                let patch = json!({ "spec": { "holderIdentity": format!("{pod}#{FAR}") } });
                system.merge(LEASES, &member(&pod), &patch).await.map(drop)
            }
            Broken::MapEdited => {
                let map = system.get(SHARDMAPS, FLEET).await?;
                let map = map.ok_or_else(|| Error::new("edit the ShardMap: there is none"))?;
                let edited = system.replace(SHARDMAPS, &swapped(map)).await?;
                run.history.lock().disown(read::version(&edited));
                Ok(())
            }
        }
    }
}

/// An object as it is made again: without what the server gave it.
fn anew(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in [
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            metadata.remove(field);
        }
    }
    object
}

/// A map in which the first two owners have changed places, under the epochs that they had, at the next
/// version: what a hand in a hurry makes of it.
fn swapped(mut map: Value) -> Value {
    let version = map
        .pointer("/spec/version")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    if let Some(place) = map.pointer_mut("/spec/version") {
        *place = json!(version + 1);
    }
    let owner = |map: &Value, place: usize| {
        map.pointer(&format!("/spec/assignments/{place}/owner"))
            .cloned()
    };
    let owners: BTreeMap<usize, Value> = [(0, owner(&map, 1)), (1, owner(&map, 0))]
        .into_iter()
        .filter_map(|(place, owner)| Some((place, owner?)))
        .collect();
    for (place, owner) in owners {
        if let Some(found) = map.pointer_mut(&format!("/spec/assignments/{place}/owner")) {
            *found = owner;
        }
    }
    map
}

/// Milliseconds until the map is sound, a live one leads, and every key is acted on.
async fn heals(run: &Run, before: &Mark, broken: Broken) -> Option<f64> {
    let sound = async {
        // Until the watch has told of it, what it last told looks sound.
        while !is_told(run, before, broken) || !is_sound(run, before) {
            if before.at.passed() > HEALED_WITHIN {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Some(millis(before.at.passed()))
    };
    let (sound, acted) = tokio::join!(sound, run.all_acted_on(before, HEALED_WITHIN));
    let acted = acted.last.filter(|_| acted.left.is_empty())?;
    Some(sound?.max(acted))
}

/// Whether the API server has told of what was done.
fn is_told(run: &Run, before: &Mark, broken: Broken) -> bool {
    let history = run.history.lock();
    let since = history.since(before.at);
    since.map(|told| &told.what).any(|what| match broken {
        Broken::LeaderLeaseDeleted => *what == What::LeaderGone,
        Broken::LeaderLeaseEdited => {
            matches!(what, What::Leader { holder: Some(holder), .. } if &*holder.pod.0 == NOBODY)
        }
        Broken::MemberLeaseDeleted => matches!(what, What::MemberGone { .. }),
        Broken::MemberLeaseEdited => {
            matches!(what, What::Member { holder, .. } if holder.incarnation == FAR)
        }
        Broken::MapDeleted | Broken::LeaseAndMapDeleted | Broken::LeaseAndMapRestored => {
            *what == What::MapGone
        }
        Broken::MapEdited => matches!(what, What::Map(map) if map.version > before.map.version),
    })
}

/// By what the API server has told: a readable map of the fleet's own hand, whose buckets all lie with
/// live members, and a leader among them.
fn is_sound(run: &Run, before: &Mark) -> bool {
    let history = run.history.lock();
    let (Some(map), Some(leader)) = (history.map(), history.leader()) else {
        return false;
    };
    let own = history
        .maps()
        .last()
        .is_some_and(|(_, last)| last.version == map.version);
    let live: Vec<Holder> = map
        .holders()
        .filter(|(_, member)| member.state == MemberState::Active)
        .map(|(holder, _)| holder)
        .collect();
    own && map.version >= before.map.version
        && live.contains(&leader)
        && map.grants.len() == usize::from(BUCKETS)
        && map.grants.values().all(|grant| live.contains(&grant.owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_swaps_two_owners() {
        let map = json!({ "spec": { "version": 7, "assignments": [
            { "owner": "a#1", "epochs": { "1": "0" } },
            { "owner": "b#1", "epochs": { "2": "1" } },
        ] } });
        let swapped = swapped(map);
        assert_eq!(swapped["spec"]["version"], 8);
        assert_eq!(swapped["spec"]["assignments"][0]["owner"], "b#1");
        assert_eq!(swapped["spec"]["assignments"][1]["owner"], "a#1");
    }

    #[test]
    fn what_is_restored_is_without_what_the_server_gave() {
        let object = json!({ "metadata": { "name": "x", "uid": "u", "resourceVersion": "1" } });
        assert_eq!(anew(&object), json!({ "metadata": { "name": "x" } }));
    }
}
