//! Baselines: one leader does everything, without a fence at what stores effects.
//!
//! [`Elect::Patched`] elects as the crate `kube-leader-election`: it reads the Lease; where the time
//! written in it and the duration are over by its own wall clock, or it is the holder itself, it
//! patches the Lease without saying which version it read, and takes itself to be the leader until
//! the next look. [`Elect::Swapped`] elects as client-go: by compare-and-swap, by its own clock since
//! the record last changed, and it stands down when it could not renew for 10 s.

use std::{collections::VecDeque, sync::Arc};

use zen_fabric::{
    coordination::{
        names::Holder,
        port::{
            Action, Answer, Input, Moment, Object, Op, Record, RequestId, ResourceVersion, Stored,
        },
        records::LeaderRecord,
        replica::{Me, Standing},
    },
    journal::{Bucket, Epoch},
};

use crate::time::SECOND;

/// As client-go's.
const LEASE: u64 = 15 * SECOND;
/// As the crate's documentation has it: a third of the duration.
const LOOK: u64 = 5 * SECOND;
/// client-go's `RetryPeriod`.
const RETRY: u64 = 2 * SECOND;
/// client-go's `RenewDeadline`.
const DEADLINE: u64 = 10 * SECOND;

/// How it elects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Elect {
    /// By merge patches and wall clocks.
    Patched,
    /// By compare-and-swap and local time.
    Swapped,
}

/// A candidate.
#[derive(Debug)]
pub(crate) struct Naive {
    elect: Elect,
    me: Holder,
    uid: Arc<str>,
    buckets: u16,
    out: VecDeque<Action>,
    next: u64,
    look_at: Moment,
    asked: Option<(RequestId, Option<u64>)>,
    term: Option<u64>,
    renewals: u64,
    /// The version that was last found, and when first.
    found: Option<(ResourceVersion, Moment)>,
    /// When the Lease was last renewed.
    renewed: Moment,
}

impl Naive {
    pub(crate) fn new(me: &Me, seed: u64, elect: Elect) -> Self {
        Self {
            elect,
            me: Holder {
                pod: me.pod.clone(),
                // It has no incarnations: a number that tells processes apart for the ledger.
                incarnation: 1 + (seed >> 20),
            },
            uid: Arc::clone(&me.pod_uid),
            buckets: me.buckets,
            out: VecDeque::new(),
            next: 0,
            look_at: Moment(0),
            asked: None,
            term: None,
            renewals: 0,
            found: None,
            renewed: Moment(0),
        }
    }

    fn ask(&mut self, op: Op, wins: Option<u64>) {
        self.next += 1;
        let id = RequestId(self.next);
        self.asked = Some((id, wins));
        self.out.push_back(Action::Request {
            id,
            object: Object::Leader,
            op,
        });
    }

    fn record(&mut self, now: Moment, term: u64) -> Record {
        self.renewals += 1;
        Record::Leader(LeaderRecord {
            holder: Some(self.me.clone()),
            pod_uid: Arc::clone(&self.uid),
            term,
            renewals: self.renewals,
            renewed: now,
            heir: None,
        })
    }

    pub(crate) fn handle(&mut self, now: Moment, input: &Input) {
        let Input::Answer { request, answer } = input else {
            return;
        };
        let Some((_, wins)) = self.asked.take_if(|(id, _)| id == request) else {
            return;
        };
        match (wins, answer) {
            (None, Answer::Absent) => {
                let record = self.record(now, 1);
                self.ask(Op::Create(record), Some(1));
            }
            (None, Answer::Done(stored)) => {
                let Record::Leader(found) = &stored.record else {
                    return;
                };
                let own = found.holder.as_ref() == Some(&self.me);
                let over = self.over(now, stored, found.renewed);
                if own || over {
                    let term = found.term + u64::from(!own);
                    let record = self.record(now, term);
                    let resource_version = match self.elect {
                        Elect::Patched => "".into(),
                        Elect::Swapped => stored.resource_version.clone(),
                    };
                    self.ask(
                        Op::Replace {
                            record,
                            resource_version,
                        },
                        Some(term),
                    );
                } else {
                    self.lead(None);
                }
            }
            (Some(term), Answer::Done(_)) => {
                self.renewed = now;
                self.lead(Some(term));
            }
            (_, _) => {}
        }
    }

    /// Whether the Lease is over.
    fn over(&mut self, now: Moment, stored: &Stored, renewed: Moment) -> bool {
        let known = self
            .found
            .take_if(|(version, _)| *version == stored.resource_version);
        let since = known.map_or(now, |(_, since)| since);
        self.found = Some((stored.resource_version.clone(), since));
        match self.elect {
            Elect::Patched => renewed.0 + LEASE < now.0,
            Elect::Swapped => since.0 + LEASE < now.0,
        }
    }

    fn lead(&mut self, term: Option<u64>) {
        if term == self.term {
            return;
        }
        self.term = term;
        for bucket in (0..self.buckets).map(Bucket) {
            self.out.push_back(match term {
                Some(term) => Action::Own {
                    bucket,
                    epoch: Epoch(term),
                },
                None => Action::Drop { bucket },
            });
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        if self.look_at == Moment(0) {
            self.out.push_back(Action::Became(self.me.clone()));
            self.out.push_back(Action::Gate { open: true });
        }
        if self.elect == Elect::Swapped && now.0 > self.renewed.0 + DEADLINE {
            self.lead(None);
        }
        if now >= self.look_at {
            let pause = match self.elect {
                Elect::Patched => LOOK,
                Elect::Swapped => RETRY,
            };
            self.look_at = Moment(now.0 + pause);
            self.ask(Op::Read, None);
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        Some(self.look_at)
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            holder: Some(self.me.clone()),
            term: self.term,
            version: 0,
            open: true,
            draining: false,
        }
    }
}
