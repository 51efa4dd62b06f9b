//! Reads records of one queue and decides what becomes of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    MOST_BYTES, MOST_ITEMS,
    tenant::{Tenant, tenant},
};
use crate::{
    engine::{
        pipeline::{Decision, Verdict},
        queue::Home,
        shared::Shared,
        specs::{Decider, Error},
        stint::Stint,
        verdict::{DeadReason, HoldReason},
        writer::{Scope, Trouble},
    },
    journal::{self, FetchLimit, IngestorUid, Letter, Position, Record, SubscriptionError},
    ops::{telemetry::context, time::Clock},
};

/// How long records are decided before others have a turn; one event may take longer.
const TURN: Duration = Duration::from_millis(1);

/// Since when records are decided without a break.
struct Turn(Instant);

impl Turn {
    /// Between two records: lets others go on, where it is their turn.
    async fn pass(&mut self, clock: &dyn Clock) {
        if clock.instant().saturating_duration_since(self.0) >= TURN {
            tokio::task::yield_now().await;
            self.0 = clock.instant();
        }
    }
}

/// Records with what becomes of them, in order.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) decided: Vec<Decided>,
    /// Whether the queue has no more.
    pub(super) exhausted: bool,
    /// Why the next record can't be decided now.
    pub(super) trouble: Option<Trouble>,
    /// Room for the bodies, and for what was decided.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Fetched {
    /// The next record can't be decided now: it is read again.
    fn stop_for(&mut self, trouble: Trouble) {
        self.exhausted = false;
        self.trouble = Some(trouble);
    }
}

/// A record and what becomes of it.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) record: Record,
    pub(super) home: Arc<Home>,
    pub(super) decision: Decision,
    /// What it takes in memory, about.
    pub(super) size: usize,
}

pub(super) async fn fetch(
    shared: Arc<Shared>,
    stint: Arc<Stint>,
    uid: IngestorUid,
    after: Option<Position>,
    limit: FetchLimit,
) -> Result<Fetched, SubscriptionError> {
    let kib = u32::try_from(limit.bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
    let room = Arc::clone(&stint.log.budget)
        .acquire_many_owned(kib)
        .await
        .ok();
    shared.slots.fetching(&uid, stint.log.id);
    let asked = stint.log.ask(shared.clock.instant());
    let records = stint.subscription.fetch(&uid, after, limit).await;
    drop(asked);
    let journal::Fetched { records, end } = records?;
    let mut fetched = Fetched {
        decided: Vec::with_capacity(records.len()),
        exhausted: end,
        trouble: None,
        room,
    };
    let mut tenants: Vec<(Arc<Home>, Tenant)> = Vec::new();
    let (mut items, mut size) = (0, 0);
    let mut turn = Turn(shared.clock.instant());
    for record in records {
        let decider = match decider(&shared, &stint, &record).await? {
            Ok(decider) => decider,
            Err(trouble) => {
                fetched.stop_for(trouble);
                break;
            }
        };
        let known = tenants.iter().find(|(home, _)| *home == decider.home);
        let tenant = if let Some((_, tenant)) = known {
            tenant.clone()
        } else {
            let tenant = tenant(&shared, &decider.home).await;
            tenants.push((Arc::clone(&decider.home), tenant.clone()));
            tenant
        };
        let deciding = context::decide_span(record.event.traceparent.as_deref());
        let mut decision = deciding.in_scope(|| decider.compiled.decide(&record));
        match tenant {
            Tenant::Same => {}
            Tenant::Dead(reason, message) => give_up(&mut decision, reason, &message),
            Tenant::Unknown(trouble) => {
                fetched.stop_for(trouble);
                break;
            }
        }
        let decided = Decided {
            size: decision.size(),
            record,
            home: decider.home,
            decision,
        };
        items += decided.decision.items.len();
        size += decided.size;
        fetched.decided.push(decided);
        // The rest is read again when this is written: a small body may explode into much.
        if items >= MOST_ITEMS / 2
            || size >= MOST_BYTES / 2
            || !widen(&mut fetched.room, size, &stint)
        {
            fetched.exhausted = false;
            break;
        }
        turn.pass(&*shared.clock).await;
    }
    Ok(fetched)
}

/// Sees to it that `room` is enough for `size`; false: there is none left for now.
fn widen(room: &mut Option<OwnedSemaphorePermit>, size: usize, stint: &Stint) -> bool {
    let Some(room) = room else { return true };
    let missing = size.div_ceil(1_024).saturating_sub(room.num_permits());
    let Ok(missing) = u32::try_from(missing) else {
        return false;
    };
    let budget = Arc::clone(&stint.log.budget);
    budget
        .try_acquire_many_owned(missing)
        .map(|more| room.merge(more))
        .is_ok()
}

/// What decides about a record. The log is asked for its spec only where it isn't compiled yet.
async fn decider(
    shared: &Shared,
    stint: &Stint,
    record: &Record,
) -> Result<Result<Decider, Trouble>, SubscriptionError> {
    let digest = record.event.spec;
    let known = shared.specs.get(digest, || None);
    let found = match known {
        Ok(None) => {
            let asked = stint.log.ask(shared.clock.instant());
            let text = stint.subscription.spec(digest).await;
            drop(asked);
            let text = text?;
            shared.specs.get(digest, || text)
        }
        known => known,
    };
    Ok(decided_by(record, found))
}

fn decided_by(record: &Record, found: Result<Option<Decider>, Error>) -> Result<Decider, Trouble> {
    let digest = record.event.spec;
    let message = match found {
        Ok(Some(decider)) => return Ok(decider),
        Ok(None) => format!("the journal has no text of the decision spec {digest:?}"),
        Err(error) => error.to_string(),
    };
    Err(Trouble {
        reason: HoldReason::SpecUnavailable,
        message: format!("decide record {}: {message}", record.id),
        scope: Scope::Ingestor,
        retry_after: None,
    })
}

fn give_up(decision: &mut Decision, reason: DeadReason, message: &str) {
    for verdict in &mut decision.items {
        if let Verdict::Write(item) = verdict {
            *verdict = Verdict::Dead(Letter {
                index: item.index,
                reason: Arc::from(reason.as_str()),
                message: message.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::{journal::Millis, testing::clock::ManualClock};

    #[test]
    fn others_have_a_turn_once_a_millisecond_was_spent() {
        let clock = ManualClock::at(Millis(0));
        let mut turn = Turn(clock.instant());
        clock.advance(TURN / 2);
        assert!(turn.pass(&clock).now_or_never().is_some());
        clock.advance(TURN / 2);
        assert!(turn.pass(&clock).now_or_never().is_none(), "it goes last");
        let mut turn = Turn(clock.instant());
        assert!(turn.pass(&clock).now_or_never().is_some());
    }
}
