//! Tallies and facts, and the spec in force.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;
use zen_fabric::{
    api::SpecDigest,
    journal::{
        Holder, IngestorUid, Local, Source as _,
        facts::{FactSource, Facts},
        remote::pb,
    },
};

use super::world::{Fleet, append, claim, journal, observed, soon, uid, until};

/// What a gateway knows, as the test says.
#[derive(Debug, Default)]
struct Known {
    facts: Mutex<BTreeMap<IngestorUid, Facts>>,
    changes: watch::Sender<u64>,
}

impl Known {
    fn set(&self, n: usize, facts: Option<Facts>) {
        let mut all = self.facts.lock().unwrap();
        match facts {
            Some(facts) => all.insert(uid(n), facts),
            None => all.remove(&uid(n)),
        };
        drop(all);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl FactSource for Known {
    fn facts(&self, ingestor: &IngestorUid) -> Option<Facts> {
        self.facts.lock().unwrap().get(ingestor).cloned()
    }

    fn all(&self) -> Vec<(IngestorUid, Facts)> {
        let all = self.facts.lock().unwrap();
        all.iter()
            .map(|(uid, facts)| (uid.clone(), facts.clone()))
            .collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn serving(generation: i64) -> Facts {
    Facts {
        generation: Some(generation),
        serving: true,
        endpoint: Some("https://in.example/hooks/a".to_owned()),
        ..Facts::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_first_and_then_what_changes() {
    let fleet = Fleet::new();
    let journal = journal(21);
    let known = Arc::new(Known::default());
    let record = append(&journal, 0, b"one".to_vec()).await;
    known.set(0, Some(serving(1)));
    let facts = Arc::clone(&known) as Arc<dyn FactSource>;
    let local = Arc::new(Local::new(Arc::clone(&journal), facts));
    let gateway = fleet.gateway(local).await;
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(gateway.address()).await;
    assert_eq!(source.tallies(), [(uid(0), journal.tally(&uid(0)))]);
    assert_eq!(source.facts(&uid(0)), Some(serving(1)));
    assert_eq!(source.all_facts(), [(uid(0), serving(1))]);
    let spec = source.spec_in_force(&uid(0)).await.unwrap();
    assert_eq!((spec.digest, &*spec.text), (SpecDigest::of("{}"), "{}"));
    assert_eq!(source.spec_in_force(&uid(1)).await, None);

    let mut changes = source.changes();
    known.set(0, Some(serving(2)));
    known.set(1, Some(serving(7)));
    soon("facts change", changes.changed()).await.unwrap();
    until("both are known", || async {
        source.facts(&uid(0)) == Some(serving(2)) && source.facts(&uid(1)) == Some(serving(7))
    })
    .await;
    known.set(0, None);
    until("it is forgotten", || async {
        source.facts(&uid(0)).is_none()
    })
    .await;

    let subscription = source.open(Holder("core-0#1".into())).await.unwrap();
    assert_eq!(subscription.claim(vec![claim(0, 3)]).await, Ok(Vec::new()));
    assert_eq!(source.highest_epoch().await.unwrap().0, 3);
    subscription
        .commit(&uid(0), vec![observed(record)])
        .await
        .unwrap();
    until("the tally follows", || async {
        source.tallies() == [(uid(0), journal.tally(&uid(0)))]
    })
    .await;
    journal.forget(&uid(0)).await.unwrap();
    until("nothing is left of it", || async {
        source.tallies().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_changes_nothing_is_sent_and_much_is_told_at_once() {
    let fleet = Fleet::new();
    let journal = journal(22);
    let known = Arc::new(Known::default());
    let facts = Arc::clone(&known) as Arc<dyn FactSource>;
    let local = Arc::new(Local::new(Arc::clone(&journal), facts));
    let gateway = fleet.gateway(local).await;
    let core = fleet.core(None).await;
    let mut bare = core.bare(gateway.address());
    let watching = bare.watch(pb::WatchRequest {}).await.unwrap();
    let mut standings = watching.into_inner();
    let first = standings.message().await.unwrap().unwrap();
    assert!(first.complete && first.ingestors.is_empty(), "{first:?}");
    assert_eq!(first.log, journal.log().0);
    let quiet = tokio::time::timeout(Duration::from_millis(1_500), standings.message()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    for n in 0..200 {
        append(&journal, 0, format!("{n}").into_bytes()).await;
    }
    let mut messages = 0;
    loop {
        let next = soon("the tally", standings.message())
            .await
            .unwrap()
            .unwrap();
        messages += 1;
        assert!(next.complete && next.ingestors.len() == 1, "{next:?}");
        if next.ingestors[0].tally.as_ref().unwrap().requests == 200 {
            break;
        }
    }
    // 200 appends on a disk in memory take far less than 40 times 200 ms.
    assert!(messages < 40, "{messages}");
}
