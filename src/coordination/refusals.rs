//! What stores have refused to this pod: the leader is told until a map passes it.
//!
//! *Guarantee:* as long as the map grants a bucket to this pod under an epoch that a store has
//! passed, the leader of the moment hears of it again and again: one message may be lost, and there
//! may be no leader when the first is sent. One whom the map doesn't name just stops.

use std::collections::BTreeMap;

use super::{
    leader::{Leader, above},
    message::Body,
    names::{Holder, REACHABLE},
    out::Out,
    port::Moment,
    view::View,
};
use crate::journal::{Bucket, Epoch};

/// The highest that stores have named, by bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    known: BTreeMap<Bucket, (Epoch, Holder)>,
    /// When they are told again.
    repeat: Option<Moment>,
}

// === impl Refusals ===

impl Refusals {
    /// A store has accepted this.
    pub(super) fn add(&mut self, bucket: Bucket, epoch: Epoch, holder: &Holder) {
        let news = self
            .known
            .get(&bucket)
            .is_none_or(|(known, _)| *known < epoch);
        if news {
            self.known.insert(bucket, (epoch, holder.clone()));
            self.repeat = None;
        }
    }

    /// This life is over: what it was refused is no longer its concern.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Tells the leader what is due; `leader`: it is this replica.
    pub(super) fn step(
        &mut self,
        now: Moment,
        view: &View,
        mut leader: Option<&mut Leader>,
        out: &mut Out,
    ) {
        let map = view.map.as_ref();
        self.known.retain(|bucket, (epoch, holder)| {
            let grant = map.and_then(|map| map.grants.get(bucket));
            grant.is_some_and(|grant| {
                Some(&grant.owner) == view.holder.as_ref() && above(*epoch, holder, grant)
            })
        });
        if self.known.is_empty() {
            self.repeat = None;
            return;
        }
        if self.repeat.is_none_or(|at| at <= now) {
            for (bucket, (epoch, holder)) in &self.known {
                if let Some(leader) = &mut leader {
                    leader.fenced(*bucket, *epoch, holder);
                } else if let Some(leader) = view.leading() {
                    let body = Body::Fenced {
                        bucket: *bucket,
                        epoch: *epoch,
                        holder: holder.clone(),
                    };
                    out.send(&leader.clone(), body);
                }
            }
            // What no map can pass is told once.
            self.known.retain(|_, (epoch, _)| epoch.0 < REACHABLE);
            self.repeat = Some(now.after(view.timing.repeat));
        }
        if let Some(at) = self.repeat.filter(|_| !self.known.is_empty()) {
            out.wake_at(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coordination::{
        port::{Action, Object, Record},
        records::{Grant, LeaderRecord},
        tests::fixtures::{drain, holder, lease, map, ms, out, stored, view},
    };

    fn told(out: &mut Out) -> Vec<(Holder, Bucket)> {
        let sent = drain(out).into_iter().filter_map(|action| match action {
            Action::Send { to, message } => Some((to, message.body)),
            _ => None,
        });
        sent.map(|(to, body)| match body {
            Body::Fenced { bucket, .. } => (to, bucket),
            other => panic!("{other:?}"),
        })
        .collect()
    }

    fn led(view: &mut View, at: &str, leader: Option<usize>) {
        let record = leader.map_or_else(
            || LeaderRecord {
                holder: None,
                ..lease(1, 1)
            },
            |number| lease(number, 2),
        );
        let record = stored(Record::Leader(record), at);
        view.observe(ms(1), &Object::Leader, Some(&record), Some(ms(1)));
    }

    #[test]
    fn whoever_leads_is_told_until_a_map_passes_it() {
        let (mut view, mut out, mut refusals) = (view(3, 1), out(), Refusals::default());
        led(&mut view, "l1", None);
        refusals.add(Bucket(0), Epoch(9), &holder(2));
        refusals.step(ms(1), &view, None, &mut out);
        assert!(told(&mut out).is_empty(), "nobody leads");
        led(&mut view, "l2", Some(2));
        refusals.step(ms(2), &view, None, &mut out);
        assert!(told(&mut out).is_empty(), "not at every turn");
        let at = out.wake().expect("it comes back to it");
        refusals.step(at, &view, None, &mut out);
        assert_eq!(told(&mut out), [(holder(2), Bucket(0))]);
        refusals.step(at.after(view.timing.repeat), &view, None, &mut out);
        assert_eq!(told(&mut out).len(), 1, "again: the first may be lost");

        let mut next = map(3);
        next.version = 10;
        let grant = Grant {
            owner: holder(0),
            epoch: Epoch(10),
        };
        next.grants.insert(Bucket(0), grant);
        view.follow(ms(2_000), Arc::new(next));
        refusals.step(ms(60_000), &view, None, &mut out);
        assert!(told(&mut out).is_empty(), "it is passed");
    }

    #[test]
    fn one_whom_the_map_does_not_name_just_stops() {
        let (view, mut out, mut refusals) = (view(3, 1), out(), Refusals::default());
        refusals.add(Bucket(1), Epoch(9), &holder(2));
        refusals.step(ms(1), &view, None, &mut out);
        assert!(told(&mut out).is_empty());
    }

    #[test]
    fn what_no_map_can_pass_is_told_once() {
        let (view, mut out, mut refusals) = (view(3, 1), out(), Refusals::default());
        refusals.add(Bucket(0), Epoch(REACHABLE), &holder(2));
        refusals.step(ms(1), &view, None, &mut out);
        assert_eq!(told(&mut out).len(), 1);
        refusals.step(ms(60_000), &view, None, &mut out);
        assert!(told(&mut out).is_empty());
    }
}
