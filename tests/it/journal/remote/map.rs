//! Who may claim: the certificate's pod, and what the gateway's view of the map says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use zen_fabric::journal::{
    Bucket, Epoch, Fenced, Holder, Source as _, SubscriptionError,
    remote::view::{MapView, Named},
};

use super::world::{
    Fleet, append, claim, is_unreachable, journal, limit, local, observed, soon, uid,
};

/// A map that the test writes.
#[derive(Debug, Default)]
struct Written {
    named: Mutex<BTreeMap<Bucket, Named>>,
    changes: watch::Sender<u64>,
}

impl Written {
    fn write(&self, n: usize, version: u64, holder: &str, epoch: u64) {
        let named = Named {
            version,
            holder: Holder(holder.into()),
            epoch: Epoch(epoch),
        };
        self.named
            .lock()
            .unwrap()
            .insert(Bucket::of(&uid(n)), named);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl MapView for Written {
    fn bucket(&self, bucket: Bucket) -> Option<Named> {
        self.named.lock().unwrap().get(&bucket).cloned()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn held(n: usize, epoch: u64, holder: &str) -> Fenced {
    Fenced {
        bucket: Bucket::of(&uid(n)),
        epoch: Epoch(epoch),
        holder: Holder(holder.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_names_another_refuses_and_ends_a_claim() {
    let fleet = Fleet::new();
    let journal = journal(11);
    let map = Arc::new(Written::default());
    let view = Arc::clone(&map) as Arc<dyn MapView>;
    let gateway = fleet.gateway_at("127.0.0.1:0", local(&journal), view).await;
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(gateway.address()).await;
    let subscription = source.open(Holder("core-0#1".into())).await.unwrap();
    // Newer and another's; older; newer and its own.
    map.write(0, 7, "core-1#1", 6);
    map.write(1, 6, "core-1#1", 6);
    map.write(2, 9, "core-0#1", 7);
    let claimed = subscription
        .claim(vec![claim(0, 7), claim(1, 7), claim(2, 7)])
        .await;
    assert_eq!(claimed, Ok(vec![held(0, 6, "core-1#1")]));
    assert_eq!(subscription.epoch(Bucket::of(&uid(0))), None);
    assert_eq!(journal.highest_epoch(), Epoch(7));
    assert_eq!(gateway.metric("journal_refused_total", "map"), 1);
    let record = append(&journal, 1, b"one".to_vec()).await;
    assert_eq!(soon("ready", subscription.ready()).await, Ok(vec![uid(1)]));
    // A newer map names another for what is held under a lower epoch: it ends here too, before the
    // other has claimed anything.
    map.write(1, 8, "core-2#1", 8);
    let told = soon("the claim ends", subscription.ready()).await;
    assert_eq!(told, Err(held(1, 8, "core-2#1").into()));
    let late = subscription.commit(&uid(1), vec![observed(record)]).await;
    assert!(
        matches!(late, Err(SubscriptionError::Fenced(_))),
        "{late:?}"
    );
    assert_eq!(
        subscription.epoch(Bucket::of(&uid(2))),
        Some(Epoch(7)),
        "the rest stays"
    );
    let kept = subscription.fetch(&uid(2), None, limit(1)).await;
    assert_eq!(kept.unwrap().records, []);
    // The map that it was waiting for comes.
    map.write(1, 12, "core-0#1", 12);
    assert_eq!(subscription.claim(vec![claim(1, 12)]).await, Ok(Vec::new()));
    assert_eq!(
        subscription.commit(&uid(1), vec![observed(record)]).await,
        Ok(())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_of_another_pod_than_the_certificate_is_refused() {
    let fleet = Fleet::new();
    let journal = journal(12);
    let gateway = fleet.gateway(local(&journal)).await;
    let core = fleet.core(Some("core-0")).await;
    let source = core.connect(gateway.address()).await;
    let refused = source.open(Holder("core-1#1".into())).await;
    assert!(is_unreachable(&refused), "{refused:?}");
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("core-0") && why.contains("core-1"), "{why}");
    assert_eq!(gateway.metric("journal_refused_total", "holder"), 1);
    assert!(source.open(Holder("core-0#7".into())).await.is_ok());
    // One certificate for all pods names none.
    let any = fleet.core(None).await.connect(gateway.address()).await;
    assert!(any.open(Holder("core-1#1".into())).await.is_ok());
}
