//! Follows one log: opens a subscription, claims what is owned, starts a queue for each Ingestor that
//! has records. One that can't be reached is tried again within a second and delays no other.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    journal::{Bucket, Claim, Fenced, IngestorUid, SubscriptionError},
    ops::tasks::Tasks,
};

use super::{
    shared::{Shared, optional, sleep_until},
    stint::{Log, Session, Turn},
    worker::contain,
};

/// Buckets that are taken over together, in any number, are said one after the other within
/// microseconds: so long they are gathered for one claim.
const GATHER: Duration = Duration::from_millis(1);

type Claiming = BoxFuture<'static, (Vec<Claim>, Result<Vec<Fenced>, SubscriptionError>)>;

/// Runs until the log is detached or the engine stops.
pub(super) async fn run(shared: Arc<Shared>, log: Arc<Log>, tasks: Tasks) {
    let gone = log.gone.clone();
    let mut told = false;
    while !gone.is_cancelled() {
        let Some(holder) = shared.holder() else {
            tokio::select! {
                () = gone.cancelled() => return,
                () = log.wake.notified() => continue,
            }
        };
        let opened = tokio::select! {
            () = gone.cancelled() => return,
            opened = log.source.open(holder.clone()) => opened,
        };
        let error = match opened {
            Ok(subscription) => {
                log.answered(shared.clock.instant());
                let over = CancellationToken::new();
                let session = shared.opened(&log, &holder, |number| Session {
                    number,
                    subscription,
                    over,
                });
                let Some(session) = session else { continue };
                told = false;
                let followed = Following::new(&shared, &log, &tasks, session);
                followed.run().await
            }
            Err(error) => Some(error),
        };
        let Some(error) = error else {
            // Another name is taken up at once; a log that has closed, after a while.
            if shared.holder().as_ref() == Some(&holder) {
                rest(&shared, &gone).await;
            }
            continue;
        };
        if shared.trouble(&log, &error).is_some() && !told {
            told = true;
            warn!(log = %log.id, %error, "a log can't be subscribed to; it is tried again");
        }
        rest(&shared, &gone).await;
    }
}

async fn rest(shared: &Shared, gone: &CancellationToken) {
    tokio::select! {
        () = gone.cancelled() => {}
        () = tokio::time::sleep(shared.soon()) => {}
    }
}

/// One subscription.
struct Following<'a> {
    shared: &'a Arc<Shared>,
    log: &'a Arc<Log>,
    tasks: &'a Tasks,
    session: Session,
    claiming: Option<Claiming>,
    /// Named before the answer to the claim of their bucket came.
    early: HashSet<IngestorUid>,
    /// Something may have to be claimed.
    due: bool,
    /// Nothing is claimed before this: more may be said.
    gathers: Option<Instant>,
    /// After trouble, nothing is asked before this.
    not_before: Option<Instant>,
}

enum Event {
    Over,
    Answered(Vec<Claim>, Result<Vec<Fenced>, SubscriptionError>),
    Ready(Result<Vec<IngestorUid>, SubscriptionError>),
    /// Buckets were said, or the gate has moved.
    Due,
    Look,
}

impl<'a> Following<'a> {
    fn new(shared: &'a Arc<Shared>, log: &'a Arc<Log>, tasks: &'a Tasks, session: Session) -> Self {
        Self {
            shared,
            log,
            tasks,
            session,
            claiming: None,
            early: HashSet::new(),
            due: true,
            gathers: None,
            not_before: None,
        }
    }

    /// Until the subscription is over; gives why, where it isn't that somebody has said so.
    async fn run(mut self) -> Option<SubscriptionError> {
        let subscription = Arc::clone(&self.session.subscription);
        let mut ready = subscription.ready();
        let mut gate = self.shared.gate.subscribe();
        let mut ingestors = self.shared.ingestors.changes();
        self.gather();
        let failed = loop {
            let now = self.shared.clock.instant();
            self.not_before = self.not_before.filter(|at| *at > now);
            self.gathers = self.gathers.filter(|at| *at > now);
            self.start_claim(*gate.borrow_and_update());
            let calm = self.not_before.is_none();
            let listed = self.shared.ingestors.is_complete();
            let takes = !self.shared.draining.is_cancelled();
            let timer = [self.not_before, self.gathers].into_iter().flatten().min();
            let event = tokio::select! {
                biased;
                () = self.log.gone.cancelled() => Event::Over,
                () = self.session.over.cancelled() => Event::Over,
                (claims, answer) = optional(&mut self.claiming) => Event::Answered(claims, answer),
                named = &mut ready, if calm && listed && takes => {
                    ready = subscription.ready();
                    Event::Ready(named)
                }
                () = self.log.wake.notified() => Event::Due,
                Ok(()) = gate.changed() => Event::Due,
                Ok(()) = ingestors.changed(), if !listed => Event::Look,
                () = self.shared.draining.cancelled(), if takes => Event::Look,
                () = sleep_until(&*self.shared.clock, timer) => Event::Look,
            };
            let outcome = match event {
                Event::Over => break None,
                Event::Look => Ok(()),
                Event::Due => {
                    self.gather();
                    Ok(())
                }
                Event::Answered(claims, answer) => self.answered(&claims, answer),
                Event::Ready(named) => named.map(|named| {
                    self.log.answered(self.shared.clock.instant());
                    self.start_all(named);
                }),
            };
            if let Err(error) = outcome
                && !self.goes_on(&error)
            {
                break Some(error);
            }
        };
        self.shared.closed(self.log, &self.session);
        failed
    }

    fn gather(&mut self) {
        self.due = true;
        let until = self.shared.clock.instant() + GATHER;
        self.gathers.get_or_insert(until);
    }

    /// Claims are effects: the gate must be open.
    fn start_claim(&mut self, open: bool) {
        if self.log.take_calm() && self.not_before.is_none() {
            self.not_before = Some(self.shared.clock.instant() + self.shared.soon());
        }
        let waits = self.gathers.is_some() || self.not_before.is_some();
        if !self.due || !open || waits || self.claiming.is_some() {
            return;
        }
        self.due = false;
        let claims = self.shared.claims(self.log, &self.session);
        if claims.is_empty() {
            return;
        }
        let subscription = Arc::clone(&self.session.subscription);
        let claim = async move {
            let answer = subscription.claim(claims.clone()).await;
            (claims, answer)
        };
        self.claiming = Some(claim.boxed());
    }

    fn answered(
        &mut self,
        claims: &[Claim],
        answer: Result<Vec<Fenced>, SubscriptionError>,
    ) -> Result<(), SubscriptionError> {
        // Epochs may have risen meanwhile.
        self.due = true;
        let refused = answer.as_deref().ok();
        self.shared
            .answered(self.log, &self.session, claims, refused);
        let refused = answer?.len();
        self.log.answered(self.shared.clock.instant());
        info!(
            log = %self.log.id, claimed = claims.len().saturating_sub(refused), refused,
            "buckets claimed"
        );
        let early = std::mem::take(&mut self.early);
        self.start_all(early);
        Ok(())
    }

    /// Whether the subscription goes on after an error.
    fn goes_on(&mut self, error: &SubscriptionError) -> bool {
        if matches!(error, SubscriptionError::Closing) {
            return false;
        }
        if let Some(wait) = self.shared.trouble(self.log, error) {
            self.not_before = Some(self.shared.clock.instant() + wait);
        }
        true
    }

    fn start_all(&mut self, named: impl IntoIterator<Item = IngestorUid>) {
        for uid in named {
            self.start(uid);
        }
    }

    fn start(&mut self, uid: IngestorUid) {
        let Some(stint) = self.log.stint(Bucket::of(&uid)) else {
            // Without a claim under way it is a bucket that has just been let go of.
            if self.claiming.is_some() {
                self.early.insert(uid);
            }
            return;
        };
        if self.shared.slots.wake(&uid, &stint) {
            return;
        }
        let Some(turn) = Turn::begin(self.shared, stint) else {
            return;
        };
        if let Some((turn, more)) = self.shared.slots.enter(&uid, turn) {
            let working = contain::run(Arc::clone(self.shared), uid, turn, more);
            self.tasks.spawn_contained("engine: queue", working);
        }
    }
}
