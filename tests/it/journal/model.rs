//! What a journal must be, kept beside it: every event that was sent, and what was answered.

use std::collections::{BTreeMap, HashMap};

use zen_fabric::journal::{End, Event, LetterId, Position, Record, RecordId, Tally};

/// What is known of an event that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not answered: it may be there or not.
    Open,
    /// Answered with a failure: it may be there, until something later is answered well.
    Failed,
    /// Answered with a failure, and something later was made durable: it must never be served.
    Dead,
    /// Durable.
    There(RecordId),
}

#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) event: Event,
    pub(crate) fate: Fate,
    /// A commit was tried.
    pub(crate) tried: bool,
    /// A commit was answered well.
    pub(crate) ended: bool,
    /// The life in which it was sent.
    pub(crate) life: u32,
}

/// The end that the tests give an event: always the same one.
pub(crate) fn end_of(n: usize) -> End {
    match n % 5 {
        0 => End::Filtered,
        1 => End::Deduplicated,
        2 if n % 3 == 0 => End::DeadLettered,
        _ => End::Observed,
    }
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) sent: Vec<Sent>,
    /// Which event a position was given to: never to two.
    pub(crate) positions: HashMap<Position, usize>,
    pub(crate) epoch: u64,
    /// Letters whose replay was answered well.
    pub(crate) replayed: Vec<LetterId>,
    pub(crate) life: u32,
}

impl Model {
    pub(crate) fn send(&mut self, event: Event) -> usize {
        self.sent.push(Sent {
            event,
            fate: Fate::Open,
            tried: false,
            ended: false,
            life: self.life,
        });
        self.sent.len() - 1
    }

    /// An append was answered well.
    pub(crate) fn there(&mut self, n: usize, id: RecordId) {
        if let Some(other) = self.positions.insert(id.position, n) {
            assert_eq!(other, n, "{id} was given twice");
        }
        self.sent[n].fate = Fate::There(id);
        self.something_was_durable();
    }

    /// A record is served whose append was not answered yet.
    pub(crate) fn served_early(&mut self, n: usize, id: RecordId) {
        assert_ne!(
            self.sent[n].fate,
            Fate::Dead,
            "event {n} was refused and cut off"
        );
        if let Some(other) = self.positions.insert(id.position, n) {
            assert_eq!(other, n, "{id} was given twice");
        }
        self.sent[n].fate = Fate::There(id);
    }

    /// What failed before, in this life, is cut off for ever by what is durable now.
    fn something_was_durable(&mut self) {
        for sent in self
            .sent
            .iter_mut()
            .filter(|sent| sent.fate == Fate::Failed)
        {
            sent.fate = Fate::Dead;
        }
    }

    /// All records of one Ingestor, as they are served after a crash or without one.
    pub(crate) fn served(
        &mut self,
        ingestor: usize,
        per: usize,
        records: &[Record],
        settled: bool,
    ) {
        assert!(
            records.is_sorted_by(|a, b| a.id.position < b.id.position),
            "out of order"
        );
        let mut there = BTreeMap::new();
        for record in records {
            let n: usize = record
                .event
                .event_id
                .split('-')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(record.event, self.sent[n].event, "event {n}");
            assert_ne!(
                self.sent[n].fate,
                Fate::Dead,
                "event {n} is served, though it was refused and cut off"
            );
            assert!(
                !self.sent[n].ended,
                "event {n} is served, though it has its end"
            );
            if let Fate::There(id) = self.sent[n].fate {
                assert_eq!(id, record.id, "event {n} changed its identity");
            } else {
                self.served_early(n, record.id);
            }
            assert!(
                there.insert(n, record.id).is_none(),
                "event {n} is served twice"
            );
        }
        for (n, sent) in self
            .sent
            .iter_mut()
            .enumerate()
            .filter(|(n, _)| n % per == ingestor)
        {
            match sent.fate {
                Fate::There(id) if !sent.ended && !there.contains_key(&n) => {
                    assert!(sent.tried, "event {n}, {id}, was acknowledged and is lost");
                    assert!(settled, "an end that nobody answered");
                    // The commit that was not answered had come through.
                    sent.ended = true;
                }
                Fate::Open | Fate::Failed if settled && sent.life < self.life => {
                    sent.fate = Fate::Dead
                }
                _ => {}
            }
        }
    }

    /// The tally that follows, once every end is known.
    pub(crate) fn tally(&self, ingestor: usize, per: usize) -> Tally {
        let mut tally = Tally::default();
        for (n, sent) in self
            .sent
            .iter()
            .enumerate()
            .filter(|(n, _)| n % per == ingestor)
        {
            let Fate::There(_) = sent.fate else { continue };
            match sent.event.origin {
                zen_fabric::journal::Origin::Request => tally.requests += 1,
                zen_fabric::journal::Origin::Replay { .. } => tally.replays += 1,
            }
            if !sent.ended {
                tally.backlog += 1;
                continue;
            }
            match end_of(n) {
                End::Filtered => tally.filtered += 1,
                End::Deduplicated => tally.deduplicated += 1,
                End::Observed => tally.observed += 1,
                End::DeadLettered => tally.dead_lettered += 1,
            }
        }
        tally
    }
}
