//! Dead letters.

use super::{Bench, DAY, Limits, Storage, accepted, all, ended, keyed, later, uid};
use crate::journal::{
    AppendError, End, Ended, Event, IngestorUid, Items, Letter, LetterId, Origin, RecordId,
};

fn buried(record: RecordId, indexes: &[u32]) -> Ended {
    let letters = indexes.iter().map(|index| Letter {
        index: *index,
        reason: "KeyReused".into(),
        message: format!("item {index} is not like the first"),
    });
    let items = Items {
        dead_lettered: u32::try_from(indexes.len()).unwrap(),
        observed: 1,
        ..Items::default()
    };
    Ended {
        items,
        letters: letters.collect(),
        ..ended(record, End::DeadLettered)
    }
}

async fn bury(bench: &Bench<'_>, ingestor: &IngestorUid, body: &str, indexes: &[u32]) -> RecordId {
    let event = keyed(bench.event(ingestor, body), body, DAY);
    let record = accepted(bench.journal().append(event).await.unwrap());
    let subscription = bench.subscribe().await;
    subscription
        .commit(ingestor, vec![buried(record, indexes)])
        .await
        .unwrap();
    record
}

pub(super) async fn a_dead_letter_holds_the_event_whole(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let event = keyed(bench.event(&a, "one"), "one", DAY);
    let first = bury(&bench, &a, "one", &[0, 4]).await;
    later(storage.clock(), DAY);
    let second = bury(&bench, &a, "two", &[0]).await;
    for round in 0..3 {
        let letters = bench.journal().letters(None, 10).await;
        let ids: Vec<LetterId> = letters.iter().map(|letter| letter.id).collect();
        let id = |record, index| LetterId { record, index };
        assert_eq!(ids, [id(first, 0), id(first, 4), id(second, 0)], "{round}");
        let whole = bench.journal().letter(ids[1]).await.unwrap();
        assert_eq!(whole.event, event);
        assert_eq!(whole.summary(), letters[1]);
        assert_eq!(letters[1].letter, buried(first, &[4]).letters[0]);
        assert!(!letters[1].replayed);
        let page: Vec<LetterId> = bench
            .journal()
            .letters(Some(ids[0]), 1)
            .await
            .iter()
            .map(|letter| letter.id)
            .collect();
        assert_eq!(page, [ids[1]]);
        assert_eq!(
            bench
                .journal()
                .letter(ids[2])
                .await
                .map(|letter| letter.event.body),
            Some("two".into())
        );
        assert_eq!(bench.journal().letter(id(first, 1)).await, None);
        let tally = bench.tally(&a);
        assert_eq!(
            (
                tally.dead_lettered,
                tally.items.dead_lettered,
                tally.items.observed
            ),
            (2, 3, 2)
        );
        assert_eq!(bench.journal().stats().letters, 3);
        bench.crash();
    }
}

pub(super) async fn a_dead_letter_is_replayed_once(storage: &dyn Storage) {
    let mut bench = Bench::new(storage);
    let a = uid("a");
    bench.spec(&a).await;
    let record = bury(&bench, &a, "one", &[0, 1]).await;
    let letter = bench
        .journal()
        .letter(LetterId { record, index: 1 })
        .await
        .unwrap();
    let event = Event {
        origin: Origin::Replay { letter: letter.id },
        key: None,
        ..letter.event
    };
    let both = [
        bench.journal().replay(event.clone(), false),
        bench.journal().replay(event.clone(), false),
    ];
    let both = futures::future::join_all(both).await;
    let replay = both[0].clone().unwrap();
    assert_eq!(
        both[1],
        Err(AppendError::AlreadyReplayed),
        "two at the same moment"
    );
    for round in 0..2 {
        let again = bench.journal().replay(event.clone(), false).await;
        assert_eq!(again, Err(AppendError::AlreadyReplayed), "{round}");
        let marks: Vec<bool> = bench
            .journal()
            .letters(None, 9)
            .await
            .iter()
            .map(|letter| letter.replayed)
            .collect();
        assert_eq!(marks, [false, true], "{round}");
        let subscription = bench.subscribe().await;
        let records = all(subscription.as_ref(), &a).await;
        assert_eq!(
            (records.len(), records[0].id, &records[0].event),
            (1, replay, &event)
        );
        bench.crash();
    }
    bench.journal().replay(event, true).await.unwrap();
    let tally = bench.tally(&a);
    assert_eq!((tally.requests, tally.replays, tally.backlog), (1, 2, 2));
}

pub(super) async fn the_oldest_dead_letters_leave(storage: &dyn Storage) {
    let limits = Limits {
        letter_bytes: 5000,
        ..Limits::default()
    };
    let bench = Bench::with(storage, limits);
    let a = uid("a");
    bench.spec(&a).await;
    let mut records = Vec::new();
    for n in 0..8 {
        records.push(bury(&bench, &a, &format!("{n}{}", "x".repeat(900)), &[0]).await);
        later(storage.clock(), DAY);
    }
    let kept = bench.journal().letters(None, 100).await;
    assert!(!kept.is_empty() && kept.len() < 5, "{}", kept.len());
    assert_eq!(
        kept.last().map(|letter| letter.id.record),
        records.last().copied()
    );
    let evicted = bench.journal().stats().letters_evicted;
    assert_eq!(usize::try_from(evicted).unwrap() + kept.len(), 8);
    assert_eq!(bench.tally(&a).dead_lettered, 8, "they are still counted");
    later(storage.clock(), DAY * 8);
    bury(&bench, &a, "new", &[0]).await;
    assert_eq!(
        bench.journal().letters(None, 100).await.len(),
        1,
        "a week is over"
    );
}
