//! kill -9 under load: what was acknowledged is there, once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use kube::api::ListParams;

use crate::process::{Dev, Sender, until};

/// Enough to meet a kill in every phase, few enough for every test run; `make load-crash` does 50.
const KILLS: u64 = 5;
const SENDERS: u64 = 8;

fn body(id: &str) -> Bytes {
    format!(r#"{{"ref":"refs/heads/main","repository":{{"full_name":"octo/{id}"}},"sender":{{"login":"mona"}}}}"#).into()
}

/// Sends distinct deliveries until told to stop, and notes those that were acknowledged.
async fn load(url: String, secret: String, name: String, ledger: Arc<Mutex<BTreeSet<String>>>) {
    let sender = Sender::new();
    for n in 0_u64.. {
        let id = format!("{name}-{n}");
        match sender.github(&url, &secret, "push", &id, body(&id)).await {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                ledger.lock().unwrap().insert(id);
            }
            // The process was killed: this one was not acknowledged, whatever became of it.
            Ok(_) | Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_event_is_lost_or_doubled_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ledger = Arc::new(Mutex::new(BTreeSet::new()));
    for kill in 0..KILLS {
        let dev = Dev::start(&data).await;
        let (url, secret) = dev.sample().await;
        let mut senders = tokio::task::JoinSet::new();
        for s in 0..SENDERS {
            let (url, secret) = (url.clone(), secret.clone());
            senders.spawn(load(
                url,
                secret,
                format!("{kill}-{s}"),
                Arc::clone(&ledger),
            ));
        }
        let before = ledger.lock().unwrap().len();
        until("some events are acknowledged", async || {
            (ledger.lock().unwrap().len() >= before + 100).then_some(())
        })
        .await;
        // Another moment in each round: from amid the first batches to amid the writing.
        tokio::time::sleep(Duration::from_millis(37 * kill)).await;
        dev.kill();
        while senders.join_next().await.is_some() {}
    }

    let dev = Dev::start(&data).await;
    let drained = until("the backlog is finished", async || {
        let status = dev.ingestor().await.status?;
        let counters = status.counters?;
        let ends =
            counters.observed + counters.filtered + counters.deduplicated + counters.dead_lettered;
        (status.backlog == Some(0) && ends == counters.accepted).then_some(counters)
    })
    .await;

    let acknowledged = ledger.lock().unwrap().clone();
    let observations = dev.observations().await;
    let mut seen = BTreeSet::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = observations.list(&page).await.unwrap();
        for object in list.items {
            let event_id = object.metadata.annotations.unwrap()["zen.io/event-id"].clone();
            let id = event_id.strip_prefix("github/").unwrap().to_owned();
            assert!(seen.insert(id.clone()), "{id} became two Observations");
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let lost: Vec<_> = acknowledged.difference(&seen).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged events are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    assert_eq!(
        i64::try_from(seen.len()).unwrap(),
        drained.observed,
        "the tally is exact"
    );
    assert_eq!(drained.accepted, drained.observed);
    assert_eq!(
        (drained.deduplicated, drained.dead_lettered, drained.damaged),
        (0, 0, 0)
    );
}
