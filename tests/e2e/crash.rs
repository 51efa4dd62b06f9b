//! kill -9 under load: what was acknowledged is there, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use zen_fabric::api::{Ingestor, Observation, ingestor::Counters};

use crate::process::{Dev, Sender, until};

/// Enough to meet a kill in every phase, few enough for every test run; `make load-crash` does 50.
const KILLS: u64 = 5;
const SENDERS: u64 = 8;
/// Objects into which the second Ingestor sums its events up.
const SUMS: u64 = 5;

/// What was sent, and what of it acknowledged.
#[derive(Clone, Default)]
struct Ledger {
    /// Ids of the events that become an object each.
    single: BTreeSet<String>,
    /// Events that are summed up, by repository: acknowledged, sent.
    sums: BTreeMap<String, (i64, i64)>,
}

impl Ledger {
    fn acknowledged(&self) -> i64 {
        let sums = self.sums.values().map(|(acknowledged, _)| acknowledged);
        i64::try_from(self.single.len()).unwrap() + sums.sum::<i64>()
    }
}

fn body(repository: &str) -> Bytes {
    format!(r#"{{"ref":"refs/heads/main","repository":{{"full_name":"{repository}"}},"sender":{{"login":"mona"}}}}"#).into()
}

/// Sends distinct deliveries to the two endpoints in turn until told to stop, and notes those that
/// were acknowledged.
async fn load(urls: [String; 2], secret: String, name: String, ledger: Arc<Mutex<Ledger>>) {
    let sender = Sender::new();
    let [single, sum] = urls;
    for n in 0_u64.. {
        let id = format!("{name}-{n}");
        let summed = n % 2 == 1;
        let repository = if summed {
            format!("octo/sum-{}", n % SUMS)
        } else {
            format!("octo/{id}")
        };
        if summed {
            let mut ledger = ledger.lock().unwrap();
            ledger.sums.entry(repository.clone()).or_default().1 += 1;
        }
        let url = if summed { &sum } else { &single };
        let body = body(&repository);
        match sender.github(url, &secret, "push", &id, body).await {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                let mut ledger = ledger.lock().unwrap();
                if summed {
                    ledger.sums.entry(repository).or_default().0 += 1;
                } else {
                    ledger.single.insert(id);
                }
            }
            // The process was killed: this one was not acknowledged, whatever became of it.
            Ok(_) | Err(_) => return,
        }
    }
}

/// An Ingestor as the sample, whose events are summed up by repository.
async fn make_sums(dev: &Dev, url: &str) {
    let mut object = serde_json::to_value(dev.ingestor().await).unwrap();
    object["metadata"] = json!({ "name": "sums", "namespace": "demo" });
    object.as_object_mut().unwrap().remove("status");
    object["spec"]["dedup"] =
        json!({ "strategy": "aggregate", "fields": ["resource"], "window": "24h" });
    let object: Ingestor = serde_json::from_value(object).unwrap();
    let ingestors = dev.ingestors().await;
    let params = PostParams::default();
    ingestors.create(&params, &object).await.unwrap();
    let sender = Sender::new();
    until("its endpoint asks for a signature", async || {
        let answer = sender.github(url, "not it", "push", "-", body("-")).await;
        (answer.unwrap().status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
}

/// The counters of an Ingestor whose events are all done: all that were acknowledged, since its status
/// is still that of the process before until somebody owns it.
async fn drained(dev: &Dev, name: &str, acknowledged: i64) -> Counters {
    let ingestors = dev.ingestors().await;
    until("the backlog is finished", async || {
        let status = ingestors.get(name).await.unwrap().status?;
        let counters = status.counters?;
        let ends =
            counters.observed + counters.filtered + counters.deduplicated + counters.dead_lettered;
        let whole = counters.accepted >= acknowledged && ends == counters.accepted;
        (status.backlog == Some(0) && whole).then_some(counters)
    })
    .await
}

async fn all_observations(dev: &Dev) -> Vec<Observation> {
    let observations = dev.observations().await;
    let mut all = Vec::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = observations.list(&page).await.unwrap();
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_event_is_lost_or_doubled_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    for kill in 0..KILLS {
        let dev = Dev::start(&data).await;
        let (url, secret) = dev.sample().await;
        let sum = format!("{}/hooks/demo/sums", dev.ready.gateway);
        if kill == 0 {
            make_sums(&dev, &sum).await;
        }
        let before = ledger.lock().unwrap().acknowledged();
        let mut senders = tokio::task::JoinSet::new();
        for s in 0..SENDERS {
            senders.spawn(load(
                [url.clone(), sum.clone()],
                secret.clone(),
                format!("{kill}-{s}"),
                Arc::clone(&ledger),
            ));
        }
        until("some events are acknowledged", async || {
            (ledger.lock().unwrap().acknowledged() >= before + 100).then_some(())
        })
        .await;
        // Another moment in each round: from amid the first batches to amid the writing.
        tokio::time::sleep(Duration::from_millis(37 * kill)).await;
        dev.kill();
        while senders.join_next().await.is_some() {}
    }

    let dev = Dev::start(&data).await;
    let ledger = ledger.lock().unwrap().clone();
    let acknowledged = i64::try_from(ledger.single.len()).unwrap();
    let single = drained(&dev, "github", acknowledged).await;
    let acknowledged = ledger.sums.values().map(|(acknowledged, _)| acknowledged);
    let summed = drained(&dev, "sums", acknowledged.sum()).await;
    let mut seen = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for object in all_observations(&dev).await {
        if object.spec.source == "sums" {
            let repository = object.spec.resource.unwrap().name.unwrap();
            let doubled = counts.insert(repository, object.spec.count);
            assert_eq!(doubled, None, "one window, two objects");
            continue;
        }
        let event_id = object.metadata.annotations.unwrap()["zen.io/event-id"].clone();
        let id = event_id.strip_prefix("github/").unwrap().to_owned();
        assert!(seen.insert(id.clone()), "{id} became two Observations");
    }
    let lost: Vec<_> = ledger.single.difference(&seen).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged events are lost: {lost:?}",
        lost.len(),
        ledger.single.len()
    );
    assert_eq!(
        i64::try_from(seen.len()).unwrap(),
        single.observed,
        "the tally is exact"
    );
    assert_eq!(single.accepted, single.observed);
    assert_eq!(
        (single.deduplicated, single.dead_lettered, single.damaged),
        (0, 0, 0)
    );
    for (repository, (acknowledged, sent)) in &ledger.sums {
        let count = counts.get(repository).copied().unwrap_or_default();
        assert!(
            (*acknowledged..=*sent).contains(&count),
            "{repository} counts {count}; {acknowledged} of {sent} were acknowledged"
        );
    }
    assert_eq!(
        counts.values().sum::<i64>(),
        summed.accepted,
        "counts are exact"
    );
    let objects = i64::try_from(counts.len()).unwrap();
    assert_eq!(
        (summed.observed, summed.deduplicated, summed.dead_lettered),
        (objects, summed.accepted - objects, 0)
    );
}
