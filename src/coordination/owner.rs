//! What this pod owns, bucket by bucket.
//!
//! ```text
//!            map grants it                    map lists a move
//!   nothing ───────────────▶ Working ───────────────────────────▶ Stopping
//!      ▲                     ▲     ▲  workers have stopped,          │ workers have
//!      │ map names another   │     │  the move is off                │ stopped
//!      └──── from any ────── │     └────────────◀──── Stopped ◀──────┘
//!                            └ higher epoch: goes on          │ acknowledges, again and again
//! ```
//!
//! *Guarantees:* a pod starts on what it reads in the map and on nothing else; it starts again what
//! it has stopped only at a map that names it and lists no move; it says that it has stopped only
//! when its workers have. A map that names another ends its work at once.
//!
//! *Assumes* that exactly one [`super::port::Input::Released`] follows each
//! [`Action::Release`], unless [`Action::Drop`] came first.
//!
//! *Still possible:* a pod that doesn't see the newest map works on. Its epoch is then an old one,
//! and what stores its effects refuses it once the next owner has begun there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    layout::Assign,
    message::Body,
    names::Holder,
    out::Out,
    port::{Action, Moment},
    protocol::{Protocol, planted},
    records::ShardMapSpec,
    view::View,
};
use crate::journal::{Bucket, Epoch};

/// How far this pod is with a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Workers work on it.
    Working,
    /// They were told to stop.
    Stopping,
    /// They have.
    Stopped,
}

#[derive(Clone, Copy, Debug)]
struct Work {
    epoch: Epoch,
    stage: Stage,
}

/// What this pod owns.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    work: BTreeMap<Bucket, Work>,
    /// The map that was last carried out, with the holder for whom.
    done: Option<(Arc<ShardMapSpec>, Holder)>,
    standby: Vec<Bucket>,
    /// When acknowledgements are sent again.
    repeat: Option<Moment>,
    /// Everything is to stop, whether or not another takes it: nobody can.
    finishing: bool,
    protocol: Protocol,
}

// === impl Owner ===

impl Owner {
    pub(super) const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            work: BTreeMap::new(),
            done: None,
            standby: Vec::new(),
            repeat: None,
            finishing: false,
        }
    }

    /// How many buckets workers may still be busy with, or that are not given away.
    pub(super) fn held(&self) -> usize {
        self.work.len()
    }

    /// Whether all workers have stopped.
    pub(super) fn idle(&self) -> bool {
        self.work.values().all(|work| work.stage == Stage::Stopped)
    }

    /// Stops everything, for good or until [`Owner::resume`].
    pub(super) fn finish(&mut self, out: &mut Out) {
        self.finishing = true;
        for (bucket, work) in &mut self.work {
            if work.stage == Stage::Working {
                work.stage = Stage::Stopping;
                out.push(Action::Release {
                    bucket: *bucket,
                    epoch: work.epoch,
                });
            }
        }
    }

    /// The drain was taken back: what the map grants goes on.
    pub(super) fn resume(&mut self) {
        self.finishing = false;
        self.done = None;
    }

    /// Abandons everything.
    pub(super) fn drop_all(&mut self, out: &mut Out) {
        for bucket in std::mem::take(&mut self.work).into_keys() {
            out.push(Action::Drop { bucket });
        }
        if !std::mem::take(&mut self.standby).is_empty() {
            out.push(Action::Standby(Vec::new()));
        }
        self.done = None;
        self.repeat = None;
    }

    /// Workers have stopped; whether that says something new.
    pub(super) fn released(
        &mut self,
        now: Moment,
        (bucket, epoch): (Bucket, Epoch),
        view: &View,
        out: &mut Out,
    ) {
        let Some(work) = self
            .work
            .get_mut(&bucket)
            .filter(|work| work.stage == Stage::Stopping && work.epoch == epoch)
        else {
            return;
        };
        work.stage = Stage::Stopped;
        if let Some((map, me)) = self.done.clone() {
            // The mutant resumes at the next version that lists the move.
            let listed = map.moves.contains_key(&bucket);
            if !(listed && planted!(self.protocol, ResumesWhileMoving)) {
                self.settle(&map, &me, bucket, out);
            }
            self.acknowledge(&[bucket], view, out);
            self.repeat
                .get_or_insert_with(|| now.after(view.timing.repeat));
        }
    }

    /// The owner says that it has stopped: what the next one does *not* do is start.
    pub(super) fn told(&mut self, bucket: Bucket, version: u64, view: &View, out: &mut Out) {
        if !planted!(view.protocol, StartOnAcknowledgement) || self.work.contains_key(&bucket) {
            return;
        }
        let epoch = Epoch(version);
        let stage = Stage::Working;
        self.work.insert(bucket, Work { epoch, stage });
        out.push(Action::Own { bucket, epoch });
    }

    /// Carries out the map that is followed.
    pub(super) fn step(&mut self, now: Moment, view: &View, assign: Assign, out: &mut Out) {
        let (Some(map), Some(me)) = (&view.map, &view.holder) else {
            return;
        };
        let same = self
            .done
            .as_ref()
            .is_some_and(|(done, holder)| Arc::ptr_eq(done, map) && holder == me);
        if !same {
            self.done = Some((Arc::clone(map), me.clone()));
            self.carry_out(map, me, view, out);
            self.stand_by(view, map, me, assign, out);
            self.repeat = None;
        }
        self.repeat(now, view, out);
    }

    fn carry_out(&mut self, map: &ShardMapSpec, me: &Holder, view: &View, out: &mut Out) {
        let mine = map
            .grants
            .iter()
            .filter(|(bucket, grant)| grant.owner == *me && !view.odd.contains(bucket))
            .map(|(bucket, _)| *bucket);
        let buckets: BTreeSet<Bucket> = mine.chain(self.work.keys().copied()).collect();
        for bucket in buckets {
            self.settle(map, me, bucket, out);
        }
    }

    /// Brings one bucket in line with the map.
    fn settle(&mut self, map: &ShardMapSpec, me: &Holder, bucket: Bucket, out: &mut Out) {
        let Some(grant) = map.grants.get(&bucket).filter(|grant| grant.owner == *me) else {
            if self.work.remove(&bucket).is_some() {
                out.push(Action::Drop { bucket });
            }
            return;
        };
        let moving = self.finishing || map.moves.get(&bucket).is_some_and(|of| of.from == *me);
        let epoch = grant.epoch;
        let next = match (self.work.get(&bucket), moving) {
            // Nothing is in flight of what was never begun.
            (None, true) => Work {
                epoch,
                stage: Stage::Stopped,
            },
            (Some(work), true) if work.stage == Stage::Working => {
                out.push(Action::Release {
                    bucket,
                    epoch: work.epoch,
                });
                Work {
                    epoch: work.epoch,
                    stage: Stage::Stopping,
                }
            }
            // Once they have stopped it is decided again.
            (Some(work), _) if work.stage == Stage::Stopping => *work,
            (Some(work), true)
                if self.finishing || !planted!(self.protocol, ResumesWhileMoving) =>
            {
                *work
            }
            // Epochs only rise: what is below is an editor's slip.
            (Some(work), false) if work.stage == Stage::Working && work.epoch >= epoch => *work,
            (Some(_), true) | (Some(_) | None, false) => {
                out.push(Action::Own { bucket, epoch });
                Work {
                    epoch,
                    stage: Stage::Working,
                }
            }
        };
        self.work.insert(bucket, next);
    }

    /// Tells the next owners and the leader that this one has stopped.
    fn acknowledge(&self, buckets: &[Bucket], view: &View, out: &mut Out) {
        let (Some(map), Some(me)) = (&view.map, &view.holder) else {
            return;
        };
        let mut told: BTreeMap<&Holder, Vec<(Bucket, Epoch)>> = BTreeMap::new();
        for bucket in buckets {
            let stopped = self
                .work
                .get(bucket)
                .filter(|work| work.stage == Stage::Stopped);
            let listed = map.moves.get(bucket).filter(|of| of.from == *me);
            let Some((work, of)) = stopped.zip(listed) else {
                continue;
            };
            let leader = view.leading().filter(|leader| **leader != of.to);
            for to in [Some(&of.to), leader].into_iter().flatten() {
                told.entry(to).or_default().push((*bucket, work.epoch));
            }
        }
        for (to, buckets) in told.into_iter().filter(|(to, _)| *to != me) {
            let version = map.version;
            out.send(to, Body::Released { buckets, version });
        }
    }

    /// What this pod acknowledges as leader to itself.
    pub(super) fn stopped(&self) -> impl Iterator<Item = (Bucket, Epoch)> {
        self.work
            .iter()
            .filter(|(_, work)| work.stage == Stage::Stopped)
            .map(|(bucket, work)| (*bucket, work.epoch))
    }

    fn repeat(&mut self, now: Moment, view: &View, out: &mut Out) {
        let stopped = self.work.values().any(|work| work.stage == Stage::Stopped);
        if !stopped {
            self.repeat = None;
            return;
        }
        if self.repeat.is_none_or(|at| at <= now) {
            let buckets: Vec<Bucket> = self.stopped().map(|(bucket, _)| bucket).collect();
            self.acknowledge(&buckets, view, out);
            self.repeat = Some(now.after(view.timing.repeat));
        }
        if let Some(at) = self.repeat {
            out.wake_at(at);
        }
    }

    /// The buckets that this pod takes when their owners die.
    fn stand_by(
        &mut self,
        view: &View,
        map: &ShardMapSpec,
        me: &Holder,
        assign: Assign,
        out: &mut Out,
    ) {
        let layout = assign(&view.wanted(map));
        let standby: Vec<Bucket> = layout
            .iter()
            .filter(|(bucket, place)| {
                let owned = map
                    .grants
                    .get(bucket)
                    .is_some_and(|grant| grant.owner == *me);
                !owned && (place.standby.as_ref() == Some(me) || place.owner == *me)
            })
            .map(|(bucket, _)| *bucket)
            .collect();
        if standby != self.standby {
            self.standby.clone_from(&standby);
            out.push(Action::Standby(standby));
        }
    }
}

#[cfg(test)]
mod tests;
