//! Connections that break, gateways that restart, logs that are replaced.

use std::{sync::Arc, time::Duration};

use zen_fabric::journal::{
    Bucket, Epoch, Fenced, Holder, Source as _, SubscriptionError, remote::view::NoMap,
};

use super::world::{
    Fleet, append, claim, is_unreachable, journal, limit, local, observed, soon, uid, until,
};

fn holder(name: &str) -> Holder {
    Holder(name.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_restarts_is_gone_for_a_moment_only() {
    let fleet = Fleet::new();
    let journal = journal(1);
    let gateway = fleet.gateway(local(&journal)).await;
    let address = gateway.address();
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(address).await;
    let subscription = source.open(holder("core-0#1")).await.unwrap();
    let both = vec![claim(0, 5), claim(1, 6)];
    assert_eq!(subscription.claim(both).await, Ok(Vec::new()));
    let first = append(&journal, 0, b"first".to_vec()).await;
    assert_eq!(soon("ready", subscription.ready()).await, Ok(vec![uid(0)]));

    gateway.stop().await;
    let failed = subscription.commit(&uid(0), vec![observed(first)]).await;
    assert!(is_unreachable(&failed), "{failed:?}");
    assert!(is_unreachable(&subscription.claim(vec![claim(2, 7)]).await));
    let unreached = source.highest_epoch().await;
    assert!(is_unreachable(&unreached), "{unreached:?}");
    assert_eq!(
        subscription.epoch(Bucket::of(&uid(0))),
        Some(Epoch(5)),
        "it is kept"
    );
    // What is let go of meanwhile isn't claimed again; what comes meanwhile is told of afterwards.
    subscription.release(&[Bucket::of(&uid(1))]);
    append(&journal, 0, b"second".to_vec()).await;

    let gateway = fleet
        .gateway_at(
            &address.to_string(),
            local(&journal),
            Arc::new(NoMap::default()),
        )
        .await;
    assert_eq!(
        soon("ready again", subscription.ready()).await,
        Ok(vec![uid(0)]),
        "every queue with records is named"
    );
    let records = subscription
        .fetch(&uid(0), None, limit(10))
        .await
        .unwrap()
        .records;
    assert_eq!(records.len(), 2);
    let ends = records.iter().map(|record| observed(record.id)).collect();
    assert_eq!(subscription.commit(&uid(0), ends).await, Ok(()));
    let tally = journal.tally(&uid(0));
    assert_eq!((tally.observed, tally.backlog), (2, 0));
    let released = subscription.fetch(&uid(1), None, limit(1)).await;
    assert!(
        matches!(released, Err(SubscriptionError::Fenced(_))),
        "{released:?}"
    );
    assert_eq!(gateway.metric("journal_subscriptions", ""), 1);
    drop(subscription);
    until("nothing is held for it", || async {
        gateway.metric("journal_subscriptions", "") == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_replaced_meanwhile_hears_of_it_bucket_by_bucket() {
    let fleet = Fleet::new();
    let journal = journal(2);
    let gateway = fleet.gateway(local(&journal)).await;
    let address = gateway.address();
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(address).await;
    let stale = source.open(holder("core-0#1")).await.unwrap();
    let both = vec![claim(0, 5), claim(1, 5)];
    assert_eq!(stale.claim(both).await, Ok(Vec::new()));
    gateway.stop().await;
    // Another takes one of the two over, while this one can't reach the log.
    let other = journal.subscribe(holder("core-1#1")).unwrap();
    assert_eq!(other.claim(vec![claim(0, 8)]).await, Ok(Vec::new()));
    let record = append(&journal, 0, b"of the other".to_vec()).await;
    let own = append(&journal, 1, b"of its own".to_vec()).await;
    let _gateway = fleet
        .gateway_at(
            &address.to_string(),
            local(&journal),
            Arc::new(NoMap::default()),
        )
        .await;
    let fenced = Fenced {
        bucket: Bucket::of(&uid(0)),
        epoch: Epoch(8),
        holder: holder("core-1#1"),
    };
    let told = soon("the loss is told", stale.ready()).await;
    assert_eq!(told, Err(fenced.clone().into()));
    assert_eq!(stale.epoch(fenced.bucket), None);
    assert_eq!(
        soon("the other flows", stale.ready()).await,
        Ok(vec![uid(1)])
    );
    assert_eq!(stale.commit(&uid(1), vec![observed(own)]).await, Ok(()));
    let late = stale.commit(&uid(0), vec![observed(record)]).await;
    assert_eq!(late, Err(fenced.clone().into()));
    let again = stale.claim(vec![claim(0, 5), claim(0, 8)]).await;
    assert_eq!(again, Ok(vec![fenced]), "an equal epoch is another's");
    assert_eq!(journal.tally(&uid(0)).backlog, 1);
    assert_eq!(stale.claim(vec![claim(0, 9)]).await, Ok(Vec::new()));
    let told = soon("the other hears", other.ready()).await;
    assert!(
        matches!(told, Err(SubscriptionError::Fenced(_))),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_another_source() {
    let fleet = Fleet::new();
    let (old, new) = (journal(3), journal(4));
    let gateway = fleet.gateway(local(&old)).await;
    let address = gateway.address();
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(address).await;
    let subscription = source.open(holder("core-0#1")).await.unwrap();
    assert_eq!(subscription.claim(vec![claim(0, 5)]).await, Ok(Vec::new()));
    gateway.stop().await;
    let _gateway = fleet
        .gateway_at(
            &address.to_string(),
            local(&new),
            Arc::new(NoMap::default()),
        )
        .await;
    assert_eq!(soon("the successor", source.succeeded()).await, new.log());
    let failed = subscription.fetch(&uid(0), None, limit(1)).await;
    assert!(is_unreachable(&failed), "{failed:?}");
    assert!(is_unreachable(&source.open(holder("core-0#1")).await));
    assert_eq!(new.highest_epoch(), Epoch(0), "nothing was claimed there");
    let next = core.connect(address).await;
    assert_eq!(next.log(), new.log());
}

/// The same records again and again through a connection that breaks all the time: each is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn breaks_lose_nothing_and_double_nothing() {
    const RECORDS: usize = 300;
    let fleet = Fleet::new();
    let journal = journal(5);
    let mut gateway = fleet.gateway(local(&journal)).await;
    let address = gateway.address();
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(address).await;
    let subscription = source.open(holder("core-0#1")).await.unwrap();
    assert_eq!(subscription.claim(vec![claim(0, 1)]).await, Ok(Vec::new()));
    for n in 0..RECORDS {
        append(&journal, 0, format!("{n}").into_bytes()).await;
    }
    let working = {
        let subscription = Arc::clone(&subscription);
        tokio::spawn(async move {
            let mut epoch = 1;
            loop {
                let records = match subscription.fetch(&uid(0), None, limit(7)).await {
                    Ok(fetched) if fetched.records.is_empty() => return,
                    Ok(fetched) => fetched.records,
                    Err(SubscriptionError::Unreachable(_)) => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        continue;
                    }
                    Err(error) => panic!("{error:?}"),
                };
                epoch += 1;
                let ends = records.iter().map(|record| observed(record.id)).collect();
                let raised = vec![claim(0, epoch)];
                let (raised, committed) = tokio::join!(
                    subscription.claim(raised),
                    subscription.commit(&uid(0), ends)
                );
                for result in [raised.map(drop), committed] {
                    assert!(result.is_ok() || is_unreachable(&result), "{result:?}");
                }
            }
        })
    };
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        gateway.stop().await;
        gateway = fleet
            .gateway_at(
                &address.to_string(),
                local(&journal),
                Arc::new(NoMap::default()),
            )
            .await;
    }
    soon("all is done", working).await.unwrap();
    let tally = journal.tally(&uid(0));
    let expected = u64::try_from(RECORDS).unwrap();
    assert_eq!((tally.observed, tally.items.observed), (expected, expected));
    assert_eq!((tally.backlog, tally.damaged), (0, 0));
}
