//! One engine and the buckets that it is given and that are taken from it, in several logs.

use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zen_fabric::{
    api::Ingestor,
    embedded::faults::{Fault, On, Verb},
    engine::start::Notice,
    journal::{BUCKETS, Bucket, Epoch, IngestorUid, Journal as _, wal::Wal},
    ops::time::Clock as _,
};

use super::{
    link::{Link, State},
    replica::Replica,
    rig::{Rig, event, local, uid},
};

const UP: State = State::Up(Duration::ZERO);

fn all() -> impl Iterator<Item = Bucket> {
    (0..BUCKETS).map(Bucket)
}

fn push() -> Value {
    json!({ "kind": "push" })
}

fn counting() -> Value {
    json!({ "dedup": { "strategy": "aggregate", "fields": ["eventType"], "window": "24h" } })
}

/// So slow that something can happen meanwhile.
fn paced(per_minute: u32) -> Value {
    json!({ "output": { "observation": { "maxPerMinute": per_minute } } })
}

/// `count` events of an Ingestor in a log, at once, with ids that begin with `id`.
async fn append(rig: &Rig, journal: &Wal, ingestor: &Ingestor, id: &str, count: usize) {
    let uid = uid(ingestor);
    let spec = rig.accept_in(journal, ingestor, &uid).await;
    let one = |n: usize| {
        let id = format!("{id}{n}");
        rig.append_in(journal, event(rig.clock.now(), &uid, spec, &id, &push()))
    };
    join_all((0..count).map(one)).await;
}

async fn done(rig: &Rig, journal: &Wal, uid: &IngestorUid) {
    rig.until("the backlog is finished", || async {
        journal.tally(uid).backlog == 0
    })
    .await;
}

/// Three logs behind links, an Ingestor, and a replica that owns all of them.
struct Bench {
    rig: Rig,
    journals: [Arc<Wal>; 3],
    links: [Link; 3],
    ingestor: Ingestor,
    uid: IngestorUid,
    bucket: Bucket,
}

impl Bench {
    async fn new(spec: Value) -> Self {
        let rig = Rig::new().await;
        let journals = [
            Arc::clone(&rig.journal),
            rig.another_journal(11),
            rig.another_journal(12),
        ];
        let links = journals
            .each_ref()
            .map(|journal| Link::to(local(Arc::clone(journal) as _)));
        let ingestor = rig.ingestor("github", spec).await;
        let uid = uid(&ingestor);
        let bucket = Bucket::of(&uid);
        Self {
            rig,
            journals,
            links,
            ingestor,
            uid,
            bucket,
        }
    }

    fn replica(&mut self, name: &str) -> Replica {
        let replica = Replica::new(&mut self.rig, name);
        for link in &self.links {
            replica.engine.attach(Arc::new(link.clone()));
        }
        replica
    }

    async fn append(&self, log: usize, id: &str, count: usize) {
        append(&self.rig, &self.journals[log], &self.ingestor, id, count).await;
    }

    async fn done(&self, log: usize) {
        done(&self.rig, &self.journals[log], &self.uid).await;
    }

    fn backlog(&self, log: usize) -> u64 {
        self.journals[log].tally(&self.uid).backlog
    }

    /// What the observations count.
    async fn counted(&self) -> u64 {
        let all = self.rig.observations().await;
        let counts = all.iter().map(|one| u64::try_from(one.spec.count).unwrap());
        counts.sum()
    }

    fn ends(&self) -> u64 {
        let tallies = self.journals.iter().map(|one| one.tally(&self.uid));
        tallies
            .map(|tally| tally.observed + tally.deduplicated)
            .sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_hangs_or_is_gone_delays_no_other() {
    for state in [State::Hung, State::Broken] {
        let mut bench = Bench::new(json!({})).await;
        let replica = bench.replica("a#1");
        replica.own_all(1);
        for log in 0..3 {
            bench.append(log, &format!("first{log}-"), 10).await;
            bench.done(log).await;
        }
        bench.links[1].set(state);
        for log in 0..3 {
            bench.append(log, &format!("second{log}-"), 300).await;
        }
        let since = Instant::now();
        bench.done(0).await;
        bench.done(2).await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(2), "{state:?}: {took:?}");
        sleep(Duration::from_secs(20)).await;
        assert_eq!(bench.backlog(1), 300, "{state:?}");
        bench.links[1].set(UP);
        let since = Instant::now();
        bench.done(1).await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "{state:?}: {took:?}");
        assert_eq!(bench.rig.observations().await.len(), 930);
        bench.rig.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_comes_later_is_worked_on_and_one_that_goes_is_let_go_of() {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = Replica::new(&mut bench.rig, "a#1");
    replica.own_all(1);
    bench.append(0, "e", 5).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.backlog(0), 5);
    replica.engine.attach(Arc::new(bench.links[0].clone()));
    bench.done(0).await;
    replica.engine.detach(bench.journals[0].log());
    bench.append(0, "f", 5).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.backlog(0), 5);
    replica.engine.attach(Arc::new(bench.links[0].clone()));
    bench.done(0).await;
    assert_eq!(replica.told().await, []);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn many_buckets_at_once_are_one_claim_in_each_log() {
    let mut bench = Bench::new(json!({})).await;
    let replica = bench.replica("a#1");
    sleep(Duration::from_secs(1)).await;
    for bucket in all().take(341) {
        replica.engine.own(&[(bucket, Epoch(4))]);
    }
    sleep(Duration::from_secs(1)).await;
    let claims = |link: &Link| link.passed().claims.load(Ordering::SeqCst);
    assert_eq!(bench.links.each_ref().map(claims), [1, 1, 1]);
    for bucket in all().take(341) {
        replica.engine.own(&[(bucket, Epoch(5))]);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.links.each_ref().map(claims), [2, 2, 2]);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_finishes_what_it_has_and_starts_nothing_more() {
    let mut bench = Bench::new(counting()).await;
    let mut replica = bench.replica("a#1");
    // So long that much is in memory, and in flight, when it is released.
    for link in &bench.links {
        link.set(State::Up(Duration::from_millis(40)));
    }
    for log in 0..3 {
        bench.append(log, &format!("e{log}-"), 2_000).await;
    }
    replica.own_all(1);
    bench
        .rig
        .until("it is being worked on", || async { bench.ends() > 100 })
        .await;
    replica.engine.release(&[(bench.bucket, Epoch(1))]);
    assert_eq!(replica.released().await, (bench.bucket, Epoch(1)));
    let ends = bench.ends();
    assert!(ends < 6_000, "the rest stays in the journals");
    assert_eq!(bench.counted().await, ends, "what is written is committed");
    sleep(Duration::from_secs(20)).await;
    assert_eq!((bench.counted().await, bench.ends()), (ends, ends));
    assert_eq!(replica.told().await, [], "once");
    replica.engine.own(&[(bench.bucket, Epoch(1))]);
    for log in 0..3 {
        bench.done(log).await;
    }
    assert_eq!(bench.counted().await, 6_000);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn without_work_a_release_takes_no_time() {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = bench.replica("a#1");
    replica.own_all(1);
    sleep(Duration::from_secs(1)).await;
    let since = Instant::now();
    for bucket in all() {
        replica.engine.release(&[(bucket, Epoch(1))]);
    }
    for bucket in all() {
        assert_eq!(replica.released().await, (bucket, Epoch(1)));
    }
    assert_eq!(since.elapsed(), Duration::ZERO);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_a_second_for_a_log_that_is_gone() {
    a_release_ends_without(State::Broken, 1_000..=1_200).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_two_seconds_for_a_log_that_does_not_answer() {
    // The silence may have begun up to 0.3 s before the release.
    a_release_ends_without(State::Hung, 1_600..=2_200).await;
}

/// A bucket's release ends after so many milliseconds although one of its logs is `away`.
async fn a_release_ends_without(away: State, expected: RangeInclusive<u128>) {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = bench.replica("a#1");
    for link in &bench.links {
        link.set(State::Up(Duration::from_millis(100)));
    }
    replica.own_all(1);
    bench.append(1, "e", 300).await;
    bench
        .rig
        .until("some are there", || async {
            !bench.rig.observations().await.is_empty()
        })
        .await;
    bench.links[1].set(away);
    // Until the calls under way know it.
    sleep(Duration::from_millis(300)).await;
    let since = Instant::now();
    replica.engine.release(&[(bench.bucket, Epoch(1))]);
    replica.released().await;
    let took = since.elapsed().as_millis();
    assert!(expected.contains(&took), "{took} ms");
    assert!(bench.backlog(1) > 0, "it stays in the journal");
    bench.links[1].set(UP);
    sleep(Duration::from_secs(20)).await;
    assert!(bench.backlog(1) > 0, "and is nobody's");
    replica.engine.own(&[(bench.bucket, Epoch(2))]);
    bench.done(1).await;
    assert_eq!(bench.rig.observations().await.len(), 300);
    assert_eq!(bench.journals[1].tally(&bench.uid).observed, 300);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_abandoned_at_once_and_tells_nothing() {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = bench.replica("a#1");
    replica.own_all(1);
    let silent = On::verb(Verb::Create).resource("observations");
    bench.rig.faults().plan(1_000_000, silent, Fault::Silence);
    bench.append(0, "e", 50).await;
    sleep(Duration::from_secs(2)).await;
    replica.engine.release(&[(bench.bucket, Epoch(1))]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(replica.told().await, [], "writes are under way");
    replica.engine.drop_buckets(&[bench.bucket]);
    bench.rig.faults().clear();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(replica.told().await, []);
    assert_eq!(
        (bench.backlog(0), bench.rig.observations().await.len()),
        (50, 0)
    );
    replica.engine.own(&[(bench.bucket, Epoch(2))]);
    bench.done(0).await;
    assert_eq!(bench.rig.observations().await.len(), 50);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_shut_starts_nothing_and_what_waited_goes_on() {
    let mut bench = Bench::new(paced(6_000)).await;
    let replica = bench.replica("a#1");
    replica.engine.gate(false);
    replica.own_all(1);
    bench.append(0, "e", 20).await;
    sleep(Duration::from_secs(20)).await;
    let passed = |call: fn(&Link) -> usize| bench.links.each_ref().map(call);
    let claims = |link: &Link| link.passed().claims.load(Ordering::SeqCst);
    let commits = |link: &Link| link.passed().commits.load(Ordering::SeqCst);
    assert_eq!(passed(claims), [0, 0, 0]);
    assert_eq!(bench.rig.status("github").await, None);
    replica.engine.gate(true);
    bench.done(0).await;
    bench
        .rig
        .until("it has a status", || async {
            bench.rig.status("github").await.is_some()
        })
        .await;
    // Shut while it is at work: what is under way ends, and nothing else begins.
    bench.append(0, "f", 500).await;
    bench
        .rig
        .until("it is at work", || async {
            let backlog = bench.backlog(0);
            backlog > 0 && backlog < 500
        })
        .await;
    replica.engine.gate(false);
    sleep(Duration::from_secs(1)).await;
    let made = bench.rig.observations().await.len();
    let before = (passed(commits), bench.rig.status("github").await);
    assert!(made < 520);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.rig.observations().await.len(), made);
    assert_eq!((passed(commits), bench.rig.status("github").await), before);
    replica.engine.gate(true);
    bench.done(0).await;
    assert_eq!(bench.rig.observations().await.len(), 520);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_under_a_shut_gate_waits_for_nothing_that_it_may_not_start() {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = bench.replica("a#1");
    replica.own_all(1);
    bench.append(0, "e", 500).await;
    bench
        .rig
        .until("it is at work", || async { bench.backlog(0) < 500 })
        .await;
    replica.engine.gate(false);
    replica.engine.release(&[(bench.bucket, Epoch(1))]);
    let since = Instant::now();
    replica.released().await;
    assert!(since.elapsed() < Duration::from_secs(1));
    let made = bench.rig.observations().await.len();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.rig.observations().await.len(), made);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_rises_under_load_pauses_and_doubles_nothing() {
    let mut bench = Bench::new(paced(60_000)).await;
    let mut replica = bench.replica("a#1");
    for link in &bench.links {
        link.set(State::Up(Duration::from_millis(15)));
    }
    replica.own_all(1);
    for log in 0..3 {
        bench.append(log, &format!("e{log}-"), 3_000).await;
    }
    let mut epoch = 1;
    while bench.ends() < 9_000 {
        epoch += 1;
        replica.engine.own(&[(bench.bucket, Epoch(epoch))]);
        let before = bench.ends();
        sleep(Duration::from_millis(200)).await;
        let ends = bench.ends();
        assert!(ends > before || ends == 9_000, "it goes on at {epoch}");
    }
    assert!(epoch > 5, "{epoch}: there was load");
    assert_eq!(replica.told().await, []);
    let tallies = bench.journals.iter().map(|one| one.tally(&bench.uid));
    assert!(tallies.clone().all(|tally| tally.observed == 3_000));
    assert_eq!(bench.rig.observations().await.len(), 9_000);
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn another_life_has_nothing_until_it_is_given_something() {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = bench.replica("a#1");
    replica.own_all(1);
    bench.append(0, "e", 5).await;
    bench.done(0).await;
    replica.became("a#2");
    bench.append(0, "f", 5).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.backlog(0), 5);
    let opens = |link: &Link| link.passed().opens.load(Ordering::SeqCst);
    assert_eq!(bench.links.each_ref().map(opens), [2, 2, 2]);
    // The same epoch is another's now.
    replica.engine.own(&[(bench.bucket, Epoch(1))]);
    let fence = replica.fence().await;
    assert_eq!(fence, (bench.bucket, Epoch(1), "a#1".to_owned()));
    replica.engine.own(&[(bench.bucket, Epoch(2))]);
    bench.done(0).await;
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_has_its_specs_compiled() {
    for warm in [true, false] {
        let mut bench = Bench::new(json!({})).await;
        let replica = bench.replica("a#1");
        let buckets = all().filter(|bucket| warm && *bucket == bench.bucket);
        replica.engine.standby(buckets.collect());
        sleep(Duration::from_secs(30)).await;
        bench.append(0, "e", 5).await;
        replica.own_all(1);
        bench.done(0).await;
        let asked = bench.links[0].passed().specs.load(Ordering::SeqCst);
        assert_eq!(asked == 0, warm, "asked for {asked} specs");
        bench.rig.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_load_of_owned_buckets_is_told() {
    let mut bench = Bench::new(json!({})).await;
    let mut replica = bench.replica("a#1");
    replica.own_all(1);
    let load = |told: Vec<Notice>, of: Bucket| {
        let loads = told.into_iter().filter_map(|notice| match notice {
            Notice::Load(loads) => Some(loads),
            Notice::Released { .. } | Notice::Fenced { .. } => None,
        });
        let last = loads.last()?;
        assert_eq!(last.len(), usize::from(BUCKETS));
        last.iter()
            .find(|(bucket, _)| *bucket == of)
            .map(|(_, load)| *load)
    };
    sleep(Duration::from_secs(40)).await;
    assert_eq!(load(replica.told_all().await, bench.bucket), Some(1));
    for round in 0..60 {
        bench.append(0, &format!("e{round}-"), 50).await;
        sleep(Duration::from_secs(1)).await;
    }
    let load = load(replica.told_all().await, bench.bucket);
    assert!((38..=50).contains(&load.unwrap()), "{load:?}");
    bench.rig.close().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_owner_removes_what_is_over() {
    let short = json!({ "output": { "observation": { "ttlSecondsAfterCreation": 60 } } });
    let mut bench = Bench::new(short).await;
    let mut replica = bench.replica("a#1");
    replica.own_all(1);
    bench.append(0, "e", 3).await;
    bench.done(0).await;
    replica.engine.release(&[(bench.bucket, Epoch(1))]);
    replica.released().await;
    sleep(Duration::from_mins(2)).await;
    assert_eq!(bench.rig.observations().await.len(), 3, "nobody's");
    bench.links[2].set(State::Broken);
    replica.engine.own(&[(bench.bucket, Epoch(2))]);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(
        bench.rig.observations().await.len(),
        3,
        "that log may have a record of theirs"
    );
    bench.links[2].set(UP);
    bench
        .rig
        .until("they are removed", || async {
            bench.rig.observations().await.is_empty()
        })
        .await;
    bench.rig.close().await;
}
