//! The one task that owns a replica: takes in, lets the core decide, carries out.
//!
//! Every input makes all cores do what is due, so that whatever comes in a flood delays nothing that
//! a timer would have done.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Work,
    desk::Desk,
    metrics::{Metrics, Why},
    objects::Objects,
    peers::Peers,
    talk,
};
use crate::{
    coordination::{
        event::{Event, Refused},
        port::{Action, Answer, Input, Moment, Object, Record, RequestId, ResourceVersion, Stored},
        replica::Replica,
    },
    journal::{Bucket, Epoch},
    ops::time::Clock,
};

/// The process's clock as the cores want it: it never falls, and begins where the wall clock was
/// when the process began, so that Leases show times that people can read.
#[derive(Clone, Debug)]
pub(super) struct Monotonic {
    clock: Arc<dyn Clock>,
    began: Instant,
    at: Moment,
}

/// The driver's state.
pub(super) struct Driver {
    pub(super) replica: Arc<Mutex<Replica>>,
    pub(super) desk: Arc<Desk>,
    pub(super) ended: CancellationToken,
    pub(super) peers: Peers,
    pub(super) objects: Objects,
    pub(super) work: Arc<dyn Work>,
    pub(super) clock: Monotonic,
    pub(super) metrics: Metrics,
    pub(super) told: Told,
}

/// What metrics were told already.
#[derive(Debug, Default)]
pub(super) struct Told {
    ignored: BTreeMap<Why, u64>,
    /// Which version of an object could not be read: it is told once.
    unread: BTreeMap<Object, ResourceVersion>,
    owned: BTreeSet<Bucket>,
    version: u64,
}

/// What is awaited of the world.
#[derive(Default)]
struct Awaited {
    requests: FuturesUnordered<BoxFuture<'static, (RequestId, Answer)>>,
    surveys: FuturesUnordered<BoxFuture<'static, Vec<Epoch>>>,
}

/// What the workers are to be told of buckets: hundreds at a time, for each order wakes them.
#[derive(Default)]
struct Orders {
    own: Vec<(Bucket, Epoch)>,
    release: Vec<(Bucket, Epoch)>,
    drop: Vec<Bucket>,
}

// === impl Orders ===

impl Orders {
    /// Keeps an order until the next is of another kind.
    fn add(&mut self, action: &Action) {
        match *action {
            Action::Own { bucket, epoch } => self.own.push((bucket, epoch)),
            Action::Release { bucket, epoch } => self.release.push((bucket, epoch)),
            Action::Drop { bucket } => self.drop.push(bucket),
            Action::Request { .. }
            | Action::Survey
            | Action::Send { .. }
            | Action::Gate { .. }
            | Action::Standby(_)
            | Action::Became(_)
            | Action::Ended
            | Action::Tell(_) => {}
        }
    }

    /// Gives them, unless the next action adds to them: they are given in their order.
    fn give(&mut self, work: &dyn Work, next: Option<&Action>) {
        if !self.own.is_empty() && !matches!(next, Some(Action::Own { .. })) {
            work.own(&std::mem::take(&mut self.own));
        }
        if !self.release.is_empty() && !matches!(next, Some(Action::Release { .. })) {
            work.release(&std::mem::take(&mut self.release));
        }
        if !self.drop.is_empty() && !matches!(next, Some(Action::Drop { .. })) {
            work.drop_buckets(&std::mem::take(&mut self.drop));
        }
    }
}

// === impl Monotonic ===

impl Monotonic {
    pub(super) fn start(clock: Arc<dyn Clock>) -> Self {
        let millis = u64::try_from(clock.now().0).unwrap_or_default();
        Self {
            began: clock.instant(),
            at: Moment(millis.saturating_mul(1_000)),
            clock,
        }
    }

    pub(super) fn now(&self) -> Moment {
        let gone = self.clock.instant().saturating_duration_since(self.began);
        self.at.after(gone)
    }
}

// === impl Driver ===

impl Driver {
    /// Runs until it is stopped. Requests that are under way then are abandoned: what became of them
    /// is as unknown as after a crash.
    pub(super) async fn run(
        mut self,
        mut seen: mpsc::Receiver<Input>,
        mut told: mpsc::Receiver<talk::Told>,
        stop: CancellationToken,
    ) {
        let mut awaited = Awaited::default();
        let mut due = self.settle(&mut awaited);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((request, answer)) = awaited.requests.next(), if !awaited.requests.is_empty() => {
                    self.take(Input::Answer { request, answer }, &mut awaited);
                }
                () = self.desk.news() => {
                    for input in self.desk.take() {
                        self.take(input, &mut awaited);
                    }
                }
                Some(input) = seen.recv() => self.take(input, &mut awaited),
                Some(told) = told.recv() => {
                    let now = self.clock.now();
                    if let Some(input) = self.peers.told(now, told) {
                        self.take(input, &mut awaited);
                    }
                }
                Some(epochs) = awaited.surveys.next(), if !awaited.surveys.is_empty() => {
                    for epoch in epochs {
                        self.take(Input::Surveyed(epoch), &mut awaited);
                    }
                }
                () = self.until(due) => {}
            }
            due = self.settle(&mut awaited);
        }
    }

    async fn until(&self, due: Option<Moment>) {
        match due {
            Some(due) => tokio::time::sleep(due.since(self.clock.now())).await,
            None => pending().await,
        }
    }

    /// Does what is due, and tells what links have become; when to be called next.
    fn settle(&mut self, awaited: &mut Awaited) -> Option<Moment> {
        self.peers.gossip.timeout(self.clock.now());
        let (news, links) = self.peers.links(self.clock.now());
        for input in news {
            self.take(input, awaited);
        }
        let now = self.clock.now();
        let (core, actions) = {
            let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
            if replica.poll_timeout().is_none_or(|due| due <= now) {
                replica.handle_timeout(now);
            }
            let actions: Vec<_> = std::iter::from_fn(|| replica.poll_action()).collect();
            (replica.poll_timeout(), actions)
        };
        self.carry_out(actions, awaited);
        self.peers.flush();
        self.count();
        [core, links, self.peers.gossip.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// An object that can't be read changes nothing but what replaces it; it is counted, and told once
    /// in each of its versions.
    fn unread(&mut self, object: &Object, stored: Option<&Stored>) {
        let Some(Stored {
            record: Record::Malformed(why),
            resource_version,
            ..
        }) = stored
        else {
            self.told.unread.remove(object);
            return;
        };
        let version = Arc::clone(resource_version);
        let before = self.told.unread.insert(object.clone(), version);
        if before.as_ref() != Some(resource_version) {
            self.metrics.unread(object);
            warn!(?object, %why, "an object of the fleet can't be read; it changes nothing");
        }
    }

    /// Gives one input to the core, and carries out what it says.
    fn take(&mut self, input: Input, awaited: &mut Awaited) {
        let now = self.clock.now();
        if let Input::Seen { object, stored } = &input {
            self.unread(object, stored.as_ref());
        }
        let members = matches!(
            input,
            Input::Answer { .. }
                | Input::Seen {
                    object: Object::Member(_),
                    ..
                }
        );
        let actions: Vec<_> = {
            let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
            replica.handle(now, input);
            if members {
                let records = replica.members().map(|(record, _)| record);
                self.peers.retarget(now, records);
            }
            std::iter::from_fn(|| replica.poll_action()).collect()
        };
        self.carry_out(actions, awaited);
    }

    fn carry_out(&mut self, actions: Vec<Action>, awaited: &mut Awaited) {
        let mut orders = Orders::default();
        for action in actions {
            orders.give(&*self.work, Some(&action));
            orders.add(&action);
            match action {
                Action::Request { id, object, op } => {
                    let answer = self.objects.clone().request(object, op);
                    let request = async move { (id, answer.await) };
                    awaited.requests.push(Box::pin(request));
                }
                Action::Survey => {
                    let work = Arc::clone(&self.work);
                    awaited
                        .surveys
                        .push(Box::pin(async move { work.survey().await }));
                }
                Action::Send { to, message } => self.peers.send(to, message),
                Action::Own { bucket, .. } => {
                    self.told.owned.insert(bucket);
                }
                Action::Release { .. } => {}
                Action::Drop { bucket } => {
                    self.told.owned.remove(&bucket);
                }
                Action::Gate { open } => {
                    self.metrics.gate.set(open.into());
                    self.work.gate(open);
                }
                Action::Standby(buckets) => self.work.standby(buckets),
                Action::Became(holder) => {
                    self.peers.became(self.clock.now(), &holder);
                    self.work.became(holder);
                }
                Action::Ended => self.ended.cancel(),
                Action::Tell(event) => self.tell(event),
            }
        }
        orders.give(&*self.work, None);
    }

    /// Brings the metrics up to date.
    fn count(&mut self) {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = replica.standing();
        self.metrics.leads.set(standing.term.is_some().into());
        self.metrics
            .term
            .set(gauge(standing.term.unwrap_or_default()));
        if self.told.version != standing.version {
            self.told.version = standing.version;
            self.metrics.version.set(gauge(standing.version));
            let moves = replica.map().map_or(0, |map| map.moves.len());
            self.metrics
                .moves
                .set(i64::try_from(moves).unwrap_or(i64::MAX));
        }
        let live = replica
            .members()
            .filter(|(record, _)| record.life == crate::coordination::records::Life::Live);
        self.metrics
            .members
            .set(i64::try_from(live.count()).unwrap_or(i64::MAX));
        for (why, total) in replica.ignored() {
            let why = match why {
                Refused::Fleet => Why::Fleet,
                Refused::Protocol => Why::Protocol,
                Refused::Incarnation => Why::Incarnation,
                Refused::Malformed => Why::Malformed,
            };
            self.metrics.refused(&mut self.told.ignored, why, *total);
        }
        drop(replica);
        let owned = i64::try_from(self.told.owned.len()).unwrap_or(i64::MAX);
        self.metrics.buckets.set(owned);
    }

    /// One event, one line.
    fn tell(&self, event: Event) {
        let metrics = &self.metrics;
        match event {
            Event::Joined(holder) => info!(%holder, "joined the fleet"),
            Event::Died(why) => {
                metrics.death(why);
                warn!(
                    ?why,
                    "this replica was declared dead; it goes on as another holder"
                );
            }
            Event::Leads { term } => {
                metrics.takeovers.inc();
                info!(term, "leads");
            }
            Event::Deposed(why) => info!(?why, "leads no longer"),
            Event::Damped => info!("would lead early, and waits: it was deposed of late"),
            Event::Challenged(holder) => info!(%holder, "asked whether it lives"),
            Event::Answered(holder) => info!(%holder, "answered: it lives"),
            Event::Marked(holder, evidence) => {
                metrics.mark(evidence);
                warn!(%holder, ?evidence, "declared dead");
            }
            Event::Wrote {
                version,
                issued,
                moves,
            } => info!(version, issued, moves, "ShardMap written"),
            Event::WriteRefused(why) => {
                metrics.writes_refused.inc();
                warn!(%why, "the API server refused a write");
            }
            Event::Slow {
                bucket,
                owner,
                stage,
            } => warn!(bucket = bucket.0, %owner, ?stage, "owner doesn't stop in time"),
            Event::Healing { highest } => {
                metrics.healings.inc();
                warn!(highest, "the ShardMap is lost; it is made again");
            }
            Event::Reissued(bucket) => debug!(bucket = bucket.0, "bucket issued again"),
            Event::EpochAtMaximum { bucket, epoch } => warn!(
                bucket = bucket.0,
                epoch = epoch.0,
                "a stored epoch can't be passed: create its object anew"
            ),
            Event::NotFollowed { version } => {
                metrics.unread(&Object::Map);
                warn!(
                    version,
                    "the stored ShardMap is older than one seen before, or says what can't be; it is not followed"
                );
            }
            Event::Ignored { from, why } => {
                warn!(%from, ?why, "message refused; not logged again");
            }
            Event::Unreachable(holder) => warn!(%holder, "most can't reach it: its buckets leave"),
            Event::DrainOverdue { left } => warn!(left, "the drain's deadline is over"),
        }
    }
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::coordination::names::Holder;

    /// What it was told, in order.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Told {
        fn add(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }
    }

    impl Work for Told {
        fn became(&self, _: Holder) {}
        fn own(&self, buckets: &[(Bucket, Epoch)]) {
            self.add(format!("own {}", buckets.len()));
        }
        fn release(&self, buckets: &[(Bucket, Epoch)]) {
            self.add(format!("release {}", buckets.len()));
        }
        fn drop_buckets(&self, buckets: &[Bucket]) {
            self.add(format!("drop {}", buckets.len()));
        }
        fn gate(&self, _: bool) {}
        fn standby(&self, _: Vec<Bucket>) {}
        fn survey(&self) -> BoxFuture<'_, Vec<Epoch>> {
            async { Vec::new() }.boxed()
        }
    }

    #[test]
    fn orders_of_one_kind_are_given_at_once_and_in_their_order() {
        let (bucket, epoch) = (Bucket(1), Epoch(1));
        let own = Action::Own { bucket, epoch };
        let release = Action::Release { bucket, epoch };
        let actions = [
            Action::Drop { bucket },
            Action::Drop { bucket },
            own.clone(),
            own.clone(),
            own.clone(),
            Action::Gate { open: true },
            own,
            release.clone(),
            release,
        ];
        let (told, mut orders) = (Told::default(), Orders::default());
        for action in &actions {
            orders.give(&told, Some(action));
            orders.add(action);
        }
        orders.give(&told, None);
        let told = told.0.into_inner().unwrap();
        assert_eq!(told, ["drop 2", "own 3", "own 1", "release 2"]);
    }
}
