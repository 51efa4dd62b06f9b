//! How the Ingestors of the log stand, for all who watch: one snapshot for all, and to each what
//! changed since the one that it has.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{super::pieces, Out};
use crate::journal::{
    IngestorUid, LogId, Source, Tally,
    facts::Facts,
    remote::{codec, pb},
};

/// How often what changed is told.
const EVERY: Duration = Duration::from_millis(200);

/// Facts may change without notice (a share that has room again): looked at anew this often.
const FACTS_EVERY: u32 = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    source: Arc<dyn Source>,
    latest: Mutex<Option<Latest>>,
}

#[derive(Debug)]
struct Latest {
    /// Until when no newer one is made.
    fresh: tokio::time::Instant,
    snapshot: Arc<Snapshot>,
}

/// All that stood at one moment.
#[derive(Debug, Default)]
struct Snapshot {
    round: u32,
    facts_version: u64,
    tallies: HashMap<IngestorUid, Tally>,
    facts: Arc<HashMap<IngestorUid, Facts>>,
}

impl Board {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            latest: Mutex::new(None),
        }
    }

    /// Tells a snapshot, then changes, until the peer is gone.
    pub(super) async fn tell(&self, out: &Out<pb::Standing>) -> Result<(), tonic::Status> {
        let log = self.source.log();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: Option<Arc<Snapshot>> = None;
        loop {
            let now = ticks.tick().await;
            if self.source.log() != log {
                return Err(tonic::Status::unavailable("the log is another one now"));
            }
            let snapshot = self.snapshot(now);
            for message in changes(log, told.as_deref(), &snapshot) {
                out.send(message).await?;
            }
            told = Some(snapshot);
        }
    }

    fn snapshot(&self, now: tokio::time::Instant) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = latest.as_ref().filter(|latest| latest.fresh > now) {
            return Arc::clone(&latest.snapshot);
        }
        let before = latest.as_ref().map(|latest| Arc::clone(&latest.snapshot));
        let snapshot = Arc::new(self.look(before.as_deref()));
        *latest = Some(Latest {
            // Those whose ticks come a little later take the same.
            fresh: now + EVERY / 2,
            snapshot: Arc::clone(&snapshot),
        });
        snapshot
    }

    fn look(&self, before: Option<&Snapshot>) -> Snapshot {
        let facts_version = *self.source.changes().borrow();
        let round = before.map_or(0, |before| before.round.wrapping_add(1));
        let same = before.filter(|before| {
            before.facts_version == facts_version && !round.is_multiple_of(FACTS_EVERY)
        });
        Snapshot {
            round,
            facts_version,
            tallies: self.source.tallies().into_iter().collect(),
            facts: same.map_or_else(
                || Arc::new(self.source.all_facts().into_iter().collect()),
                |before| Arc::clone(&before.facts),
            ),
        }
    }
}

/// What is to be told to one who has `before`: nothing where nothing changed.
fn changes(log: LogId, before: Option<&Snapshot>, now: &Snapshot) -> Vec<pb::Standing> {
    let empty = Snapshot::default();
    let old = before.unwrap_or(&empty);
    let mut changed: HashMap<&IngestorUid, pb::Ingestor> = HashMap::new();
    for (uid, tally) in &now.tallies {
        if old.tallies.get(uid) != Some(tally) {
            entry(&mut changed, uid).tally = Some(codec::from_tally(tally));
        }
    }
    if !Arc::ptr_eq(&old.facts, &now.facts) {
        for (uid, facts) in now.facts.as_ref() {
            if old.facts.get(uid) != Some(facts) {
                entry(&mut changed, uid).facts = Some(codec::from_facts(facts));
            }
        }
    }
    let without_tally = old
        .tallies
        .keys()
        .filter(|uid| !now.tallies.contains_key(uid));
    let without_facts = old.facts.keys().filter(|uid| !now.facts.contains_key(uid));
    let mut messages = Vec::new();
    let said = |standing: pb::Standing| pb::Standing {
        log: log.0,
        ..standing
    };
    for ingestors in pieces::cut(changed.into_values(), prost::Message::encoded_len) {
        messages.push(said(pb::Standing {
            ingestors,
            ..pb::Standing::default()
        }));
    }
    for without_tally in pieces::names(without_tally.cloned().collect()) {
        messages.push(said(pb::Standing {
            without_tally,
            ..pb::Standing::default()
        }));
    }
    for without_facts in pieces::names(without_facts.cloned().collect()) {
        messages.push(said(pb::Standing {
            without_facts,
            ..pb::Standing::default()
        }));
    }
    if before.is_none() && messages.is_empty() {
        messages.push(said(pb::Standing::default()));
    }
    if let Some(last) = messages.last_mut() {
        last.complete = true;
    }
    messages
}

fn entry<'a, 'b>(
    changed: &'a mut HashMap<&'b IngestorUid, pb::Ingestor>,
    uid: &'b IngestorUid,
) -> &'a mut pb::Ingestor {
    changed.entry(uid).or_insert_with(|| pb::Ingestor {
        uid: uid.0.as_ref().to_owned(),
        tally: None,
        facts: None,
    })
}
