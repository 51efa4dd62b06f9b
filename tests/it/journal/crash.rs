//! Power cuts and kills at seeded points of seeded histories, and the mistakes that they must find.
//!
//! `ZEN_JOURNAL_SEED=N cargo test --features testing --test it journal::crash` replays one history;
//! `ZEN_JOURNAL_SEEDS=N` runs so many.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture, task::noop_waker};
use sha2::{Digest as _, Sha256};
use zen_fabric::{
    api::SpecDigest,
    journal::{
        AppendError, Appended, Bucket, End, Ended, Event, FetchLimit, IngestorUid, Items, Journal,
        Key, KeyHash, Letter, LetterId, Millis, Origin, PayloadDigest, Record, RecordId,
        Subscription, SubscriptionError,
        wal::{Mutant, Options, Wal},
    },
    testing::{
        clock::ManualClock,
        disk::{Faults, SimDisk},
        seeded::Seeded,
        subscriber,
    },
};

use super::model::{Fate, Model, end_of};

/// Ingestors of a history.
const INGESTORS: usize = 3;

/// Something that was asked and not answered yet.
struct Asked {
    answer: BoxFuture<'static, Answer>,
    what: What,
}

#[derive(Clone)]
enum What {
    Append(usize),
    /// The same key again; with the same payload or another.
    Again(usize, bool),
    Commit(Vec<usize>),
    Replay(usize, LetterId),
    Nothing,
}

enum Answer {
    Append(Result<Appended, AppendError>),
    Commit(Result<(), SubscriptionError>),
    Replay(Result<RecordId, AppendError>),
    Spec,
}

impl Answer {
    fn is_good(&self) -> bool {
        match self {
            Self::Append(result) => result.is_ok(),
            Self::Commit(result) => result.is_ok(),
            Self::Replay(result) => result.is_ok(),
            Self::Spec => true,
        }
    }
}

struct History {
    choices: Seeded,
    disk: SimDisk,
    clock: ManualClock,
    options: Options,
    model: Model,
    wal: Option<Arc<Wal>>,
    subscription: Option<Arc<dyn Subscription>>,
    asked: Vec<Asked>,
    seed: u64,
}

fn uid(ingestor: usize) -> IngestorUid {
    IngestorUid(format!("uid-{ingestor}").into())
}

fn spec_text(ingestor: usize) -> String {
    format!("spec of {ingestor}")
}

fn limit() -> FetchLimit {
    FetchLimit {
        records: NonZeroU32::new(5).unwrap(),
        bytes: 4000,
    }
}

/// Runs what needs no more than steps of the log.
fn poll<T>(future: &mut BoxFuture<'static, T>) -> Option<T> {
    match future.poll_unpin(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl History {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut choices = Seeded::new(seed);
        let options = Options {
            segment_bytes: 4096 << choices.below(3),
            total_bytes: 1 << 20,
            share_bytes: 1 << 20,
            letter_bytes: 1 << 19,
            cache_bytes: if choices.chance(50) { 0 } else { 8192 },
            mutant,
            ..Options::default()
        };
        Self {
            disk: SimDisk::new(choices.bits()),
            clock: ManualClock::at(Millis(1_790_000_000_000)),
            choices,
            options,
            model: Model::default(),
            wal: None,
            subscription: None,
            asked: Vec::new(),
            seed,
        }
    }

    fn wal(&self) -> Arc<Wal> {
        Arc::clone(self.wal.as_ref().unwrap())
    }

    fn run(&mut self) {
        for life in 0..4 {
            self.model.life = life;
            if !self.open() {
                continue;
            }
            let faults = Faults {
                crash_after: Some(self.choices.below(120)),
                // Half of all: a failed sync is followed by a segment that can't be begun either.
                sync: match self.choices.below(100) {
                    0..10 => 50,
                    10..40 => 10,
                    _ => 0,
                },
                write: if self.choices.chance(20) { 5 } else { 0 },
                create: if self.choices.chance(10) { 20 } else { 0 },
                ..Faults::default()
            };
            self.disk.set_faults(faults);
            for _ in 0..150 {
                self.act();
                if self.disk.is_down() {
                    break;
                }
            }
            if self.choices.chance(30) {
                self.kill();
            } else {
                self.power_cut();
            }
        }
        self.model.life += 1;
        assert!((0..50).any(|_| self.open()), "it opens in the end");
    }

    fn power_cut(&mut self) {
        self.kill();
        self.disk.crash();
    }

    /// The process ends and the machine goes on: what was written is read again, synced or not.
    fn kill(&mut self) {
        let faults = Faults {
            crash_after: Some(0),
            ..Faults::default()
        };
        self.disk.set_faults(faults);
        self.subscription = None;
        self.asked.clear();
        self.wal = None;
        self.disk.set_faults(Faults::default());
    }

    /// Opens the log and compares all that it serves; false: it crashed while it was opened.
    fn open(&mut self) -> bool {
        // Some crashes come while a log is read.
        if self.choices.chance(20) {
            let faults = Faults {
                crash_after: Some(self.choices.below(12)),
                ..Faults::default()
            };
            self.disk.set_faults(faults);
        }
        let disk = Arc::new(self.disk.clone());
        let wal = Wal::open_manual(
            disk,
            self.options.clone(),
            Arc::new(self.clock.clone()),
            self.seed,
        );
        if self.disk.is_down() {
            drop(wal);
            self.disk.crash();
            return false;
        }
        self.disk.set_faults(Faults::default());
        let wal = wal.expect("the log opens");
        assert_eq!(wal.stats().damaged, 0, "nothing was damaged");
        self.wal = Some(wal);
        for ingestor in 0..INGESTORS {
            let wal = self.wal();
            let put = async move {
                wal.put_spec(&uid(ingestor), spec_text(ingestor).into())
                    .await
            };
            self.finish(put.boxed()).expect("a spec is put");
        }
        self.subscribe();
        for ingestor in 0..INGESTORS {
            self.compare(ingestor, true);
        }
        true
    }

    /// Steps the log until an answer comes.
    fn finish<T>(&mut self, mut future: BoxFuture<'static, T>) -> T {
        for _ in 0..100 {
            if let Some(value) = poll(&mut future) {
                return value;
            }
            self.wal().step();
            self.clock.advance(Duration::from_millis(300));
        }
        panic!("no answer came");
    }

    fn subscribe(&mut self) {
        let buckets = (0..INGESTORS).map(|ingestor| Bucket::of(&uid(ingestor)));
        let claims = subscriber::claims(buckets);
        let wal = self.wal();
        let subscribe = async move { subscriber::subscribe(wal.as_ref(), "core#1", claims).await };
        let subscription = self.finish(subscribe.boxed());
        if let Ok(subscription) = subscription {
            let epoch = subscription.epoch(Bucket::of(&uid(0))).unwrap().0;
            assert!(epoch > self.model.epoch, "an epoch came twice");
            self.model.epoch = epoch;
            if let Some(old) = self.subscription.replace(subscription) {
                let late = Ended {
                    ..ended(0, zen_fabric::journal::Position(1))
                };
                let fenced = async move { old.commit(&uid(0), vec![late]).await };
                let fenced = self.finish(fenced.boxed());
                assert!(
                    matches!(fenced, Err(SubscriptionError::Fenced(_))),
                    "{fenced:?}"
                );
            }
        }
    }

    fn fetch(&mut self, ingestor: usize) -> Option<Vec<Record>> {
        let subscription = Arc::clone(self.subscription.as_ref()?);
        let all = async move {
            let mut records: Vec<Record> = Vec::new();
            loop {
                let after = records.last().map(|record| record.id.position);
                let more = subscription
                    .fetch(&uid(ingestor), after, limit())
                    .await
                    .ok()?;
                records.extend(more.records);
                if more.end {
                    return Some(records);
                }
            }
        };
        self.finish(all.boxed())
    }

    /// All that is served of an Ingestor, and its tally, as the model says.
    fn compare(&mut self, ingestor: usize, settled: bool) {
        let records = self.fetch(ingestor).expect("a disk without faults");
        self.model.served(ingestor, INGESTORS, &records, settled);
        for record in &records {
            let subscription = Arc::clone(self.subscription.as_ref().unwrap());
            let digest = record.event.spec;
            let spec = self.finish(async move { subscription.spec(digest).await }.boxed());
            assert_eq!(
                spec.unwrap().as_deref(),
                Some(spec_text(ingestor).as_str()),
                "the spec of {}",
                record.id
            );
        }
        let expected = self.model.tally(ingestor, INGESTORS);
        let tally = self.wal().tally(&uid(ingestor));
        let counts = |tally: &zen_fabric::journal::Tally| {
            [
                tally.requests,
                tally.replays,
                tally.observed,
                tally.filtered,
                tally.deduplicated,
                tally.dead_lettered,
                tally.damaged,
                tally.backlog,
            ]
        };
        assert_eq!(counts(&tally), counts(&expected), "the tally of {ingestor}");
        let text = self
            .wal()
            .spec_in_force(&uid(ingestor))
            .map(|spec| spec.text.to_string());
        assert_eq!(text, Some(spec_text(ingestor)));
        self.compare_keys(ingestor);
        self.compare_letters(ingestor);
    }

    fn compare_keys(&mut self, ingestor: usize) {
        for n in (ingestor..self.model.sent.len()).step_by(INGESTORS) {
            let sent = self.model.sent[n].clone();
            let (Fate::There(id), true) = (sent.fate, sent.event.key.is_some()) else {
                continue;
            };
            if !self.choices.chance(20) {
                continue;
            }
            let wal = self.wal();
            let again = self.finish(async move { wal.append(sent.event).await }.boxed());
            assert!(
                matches!(&again, Ok(Appended::Replayed(seen)) if seen.record == id),
                "event {n}: {again:?}"
            );
        }
    }

    fn compare_letters(&mut self, ingestor: usize) {
        let wal = self.wal();
        let all = self.finish(async move { wal.letters(None, 10_000).await }.boxed());
        let letters: BTreeMap<RecordId, _> = all
            .into_iter()
            .map(|letter| (letter.id.record, letter))
            .collect();
        for n in (ingestor..self.model.sent.len()).step_by(INGESTORS) {
            let sent = self.model.sent[n].clone();
            let Fate::There(id) = sent.fate else { continue };
            let expected = sent.ended && end_of(n) == End::DeadLettered;
            let letter = letters.get(&id);
            assert_eq!(letter.is_some(), expected, "the dead letter of event {n}");
            if let Some(letter) = letter {
                let (wal, id) = (self.wal(), letter.id);
                let whole = self.finish(async move { wal.letter(id).await }.boxed());
                let whole = whole.expect("a letter that is listed can be read");
                assert_eq!(whole.event, sent.event);
                assert_eq!(whole.summary(), *letter);
                assert!(
                    letter.replayed || !self.model.replayed.contains(&letter.id),
                    "the mark of {:?}",
                    letter.id
                );
            }
        }
    }

    fn act(&mut self) {
        match self.choices.below(20) {
            0..=7 => self.append(),
            8 => self.again(),
            9..=12 => self.commit(),
            13 => self.replay(),
            14 if self.choices.chance(30) => self.subscribe(),
            15 => self
                .clock
                .advance(Duration::from_millis(self.choices.below(2000))),
            16 if self.choices.chance(20) => self.put_spec_again(),
            _ => {
                self.wal().step();
                self.hear();
            }
        }
    }

    fn event(&mut self, n: usize) -> Event {
        let ingestor = n % INGESTORS;
        let size = if self.choices.chance(5) {
            3000
        } else {
            self.choices.index(400)
        };
        let body = vec![u8::try_from(n % 251).unwrap(); size];
        let key = Sha256::digest(format!("key {n}"));
        Event {
            ingestor: uid(ingestor),
            spec: SpecDigest::of(&spec_text(ingestor)),
            event_id: format!("event-{n}").into(),
            key: self.choices.chance(60).then(|| Key {
                hash: KeyHash(key.first_chunk().copied().unwrap()),
                window: Duration::from_hours(24),
                named: false,
            }),
            payload: PayloadDigest(Sha256::digest(&body).into()),
            accepted_at: Millis(1_790_000_000_000),
            origin: Origin::Request,
            traceparent: None,
            headers: vec![("x".into(), n.to_string().into())],
            query: "".into(),
            body: body.into(),
        }
    }

    fn ask(&mut self, what: What, answer: BoxFuture<'static, Answer>) {
        let mut asked = Asked { answer, what };
        // The first poll stages it.
        match poll(&mut asked.answer) {
            Some(answer) => self.answered(asked.what, answer),
            None => self.asked.push(asked),
        }
    }

    fn append(&mut self) {
        let n = self.model.sent.len();
        let event = self.event(n);
        assert_eq!(self.model.send(event.clone()), n);
        let wal = self.wal();
        self.ask(
            What::Append(n),
            async move { Answer::Append(wal.append(event).await) }.boxed(),
        );
    }

    fn again(&mut self) {
        let n = self.choices.index(self.model.sent.len());
        let Some(sent) = self
            .model
            .sent
            .get(n)
            .filter(|sent| sent.event.key.is_some() && sent.fate != Fate::Dead)
        else {
            return;
        };
        if !matches!(sent.fate, Fate::There(_)) {
            return;
        }
        let mut event = sent.event.clone();
        let same = self.choices.chance(70);
        if !same {
            event.payload = PayloadDigest([9; 32]);
        }
        let wal = self.wal();
        self.ask(
            What::Again(n, same),
            async move { Answer::Append(wal.append(event).await) }.boxed(),
        );
    }

    fn put_spec_again(&mut self) {
        let wal = self.wal();
        let put = async move {
            // Whether it is written depends on what is in force.
            drop(wal.put_spec(&uid(0), spec_text(0).into()).await);
            Answer::Spec
        };
        self.ask(What::Nothing, put.boxed());
    }

    fn commit(&mut self) {
        let ingestor = self.choices.index(INGESTORS);
        let Some(subscription) = self.subscription.clone() else {
            return;
        };
        let queue = subscription.clone();
        let fetched =
            self.finish(async move { queue.fetch(&uid(ingestor), None, limit()).await }.boxed());
        let Ok(fetched) = fetched else { return };
        let mut chosen = Vec::new();
        let mut ends = Vec::new();
        for record in fetched.records {
            let n: usize = record
                .event
                .event_id
                .split('-')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(record.event, self.model.sent[n].event, "event {n}");
            self.model.served_early(n, record.id);
            if self.choices.chance(70) {
                self.model.sent[n].tried = true;
                chosen.push(n);
                ends.push(ended(n, record.id.position));
            }
        }
        let commit = async move { Answer::Commit(subscription.commit(&uid(ingestor), ends).await) };
        self.ask(What::Commit(chosen), commit.boxed());
    }

    fn replay(&mut self) {
        let wal = self.wal();
        let letters = self.finish(async move { wal.letters(None, 100).await }.boxed());
        let Some(letter) = letters.get(self.choices.index(letters.len())) else {
            return;
        };
        // The event's number decides its Ingestor, so the letter's must fit.
        let n = self.model.sent.len();
        if letter.ingestor != uid(n % INGESTORS) || letter.replayed {
            return;
        }
        let (wal, id) = (self.wal(), letter.id);
        let letter = self.finish(async move { wal.letter(id).await }.boxed());
        // The disk may fail meanwhile.
        let Some(letter) = letter else { return };
        let event = Event {
            event_id: format!("event-{n}").into(),
            origin: Origin::Replay { letter: id },
            key: None,
            ..letter.event
        };
        self.model.send(event.clone());
        let wal = self.wal();
        self.ask(
            What::Replay(n, id),
            async move { Answer::Replay(wal.replay(event, false).await) }.boxed(),
        );
    }

    /// Takes the answers that have come: the good ones first, for what they made durable may be older
    /// than a failure that came with them.
    fn hear(&mut self) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for mut asked in std::mem::take(&mut self.asked) {
            match poll(&mut asked.answer) {
                Some(answer) if answer.is_good() => good.push((asked.what, answer)),
                Some(answer) => bad.push((asked.what, answer)),
                None => self.asked.push(asked),
            }
        }
        for (what, answer) in good.into_iter().chain(bad) {
            self.answered(what, answer);
        }
    }

    fn answered(&mut self, what: What, answer: Answer) {
        match (what, answer) {
            (What::Append(n), Answer::Append(Ok(Appended::Accepted(id))))
            | (What::Replay(n, _), Answer::Replay(Ok(id)))
                if matches!(self.model.sent[n].event.origin, Origin::Request) =>
            {
                self.model.there(n, id);
            }
            (What::Replay(n, letter), Answer::Replay(Ok(id))) => {
                self.model.there(n, id);
                self.model.replayed.push(letter);
            }
            (What::Append(n), Answer::Append(Err(AppendError::Disk(_) | AppendError::NoSpace)))
            | (
                What::Replay(n, _),
                Answer::Replay(Err(AppendError::Disk(_) | AppendError::NoSpace)),
            ) => {
                self.model.sent[n].fate = Fate::Failed;
            }
            (What::Replay(n, _), Answer::Replay(Err(AppendError::AlreadyReplayed))) => {
                self.model.sent[n].fate = Fate::Dead;
            }
            (What::Again(n, same), Answer::Append(result)) => {
                let Fate::There(id) = self.model.sent[n].fate else {
                    return;
                };
                match result {
                    Ok(Appended::Replayed(seen)) => assert!(same && seen.record == id, "event {n}"),
                    Err(AppendError::Conflict(seen)) => {
                        assert!(!same && seen.record == id, "event {n}")
                    }
                    Err(AppendError::Disk(_) | AppendError::NoSpace) => {}
                    other => panic!("event {n} again: {other:?}"),
                }
            }
            (What::Commit(chosen), Answer::Commit(result)) => match result {
                Ok(()) => {
                    // It may have found all ended already, and written nothing.
                    for n in chosen {
                        self.model.sent[n].ended = true;
                    }
                }
                Err(SubscriptionError::Disk(_) | SubscriptionError::Fenced(_)) => {}
                Err(error) => panic!("{error:?}"),
            },
            (What::Nothing, _) => {}
            (_, Answer::Append(result)) => panic!("{result:?}"),
            (_, Answer::Replay(result)) => panic!("{result:?}"),
            (_, Answer::Commit(_) | Answer::Spec) => unreachable!(),
        }
    }
}

fn ended(n: usize, position: zen_fabric::journal::Position) -> Ended {
    let end = end_of(n);
    let letters = (end == End::DeadLettered).then(|| Letter {
        index: 0,
        reason: "KeyReused".into(),
        message: format!("of event {n}"),
    });
    let items = Items {
        observed: u32::try_from(n % 3).unwrap(),
        ..Items::default()
    };
    Ended {
        position,
        end,
        items,
        letters: letters.into_iter().collect(),
        observation: None,
    }
}

/// Runs one history; what went wrong, if anything did.
fn history(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let run = catch_unwind(AssertUnwindSafe(|| History::new(seed, mutant).run()));
    run.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::vars()
        .find(|(key, _)| key == name)
        .and_then(|(_, value)| value.parse().ok())
}

#[test]
fn nothing_acknowledged_is_lost_at_any_point_of_a_crash() {
    if let Some(seed) = number("ZEN_JOURNAL_SEED") {
        History::new(seed, None).run();
        return;
    }
    // Each history cuts the power or kills the process four times: thousands of crash points.
    let seeds = number("ZEN_JOURNAL_SEEDS").unwrap_or(600);
    for seed in 0..seeds {
        if let Err(error) = history(seed, None) {
            panic!("{error}\nreplay it with ZEN_JOURNAL_SEED={seed}");
        }
    }
}

/// Each of these mistakes is found within so many histories.
const MUTANTS: [(Mutant, u64); 7] = [
    (Mutant::NoDataSync, 10),
    (Mutant::NoDirectorySync, 20),
    (Mutant::AnswerBeforeSync, 40),
    (Mutant::ReuseAfterFailedSync, 60),
    (Mutant::KeepHeaderAfterFailedSync, 1000),
    (Mutant::TrustCleanPages, 300),
    (Mutant::UnorderedRemovals, 300),
];

#[test]
fn planted_mistakes_are_found() {
    for (mutant, within) in MUTANTS {
        let found = (0..within)
            .find_map(|seed| history(seed, Some(mutant)).err().map(|error| (seed, error)));
        let (seed, error) =
            found.unwrap_or_else(|| panic!("{mutant:?} was not found in {within} histories"));
        println!("{mutant:?}: found by history {seed}: {error}");
    }
}
