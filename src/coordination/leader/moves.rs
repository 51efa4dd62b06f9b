//! How far the moves have come, by this leader's own clock.

use std::{collections::BTreeMap, time::Duration};

use super::super::{
    names::Holder,
    port::Moment,
    records::{Move, ShardMapSpec, Stage},
    timing::Timing,
};
use crate::journal::Bucket;

/// What the leader knows about a move.
#[derive(Clone, Debug)]
struct Track {
    of: Move,
    /// When the stage ends.
    due: Moment,
    /// When the owner said that it had stopped.
    acknowledged: Option<Moment>,
}

/// What becomes of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It stays as it is.
    Wait,
    /// The next stage begins.
    Rise(Stage),
    /// The bucket changes its owner.
    Commit,
}

/// The moves under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    tracks: BTreeMap<Bucket, Track>,
    /// Acknowledgements that came before this leader knew that the map lists the move: the owner's
    /// watch was faster than the answer to the write.
    early: BTreeMap<Bucket, (Moment, Holder, u64)>,
}

// === impl Moves ===

impl Moves {
    /// Takes in the moves that a map lists; what it no longer lists is forgotten.
    pub(super) fn look(&mut self, now: Moment, map: &ShardMapSpec, timing: &Timing) {
        self.tracks
            .retain(|bucket, _| map.moves.contains_key(bucket));
        for (bucket, of) in &map.moves {
            let known = self.tracks.get(bucket).filter(|track| track.of == *of);
            if known.is_some() {
                continue;
            }
            let same = self
                .tracks
                .get(bucket)
                .filter(|track| track.of.since == of.since && track.of.from == of.from);
            let early = self.early.remove(bucket);
            let acknowledged = same.and_then(|track| track.acknowledged).or_else(|| {
                early
                    .filter(|(_, from, version)| fits(of, from, *version))
                    .map(|(at, ..)| at)
            });
            let wait = match of.stage {
                Stage::Ask => timing.ask,
                Stage::Warn | Stage::Fence => timing.warn,
            };
            let track = Track {
                of: of.clone(),
                due: now.after(wait),
                acknowledged,
            };
            self.tracks.insert(*bucket, track);
        }
    }

    /// The owner says that it has stopped; whether that is news.
    pub(super) fn acknowledged(
        &mut self,
        now: Moment,
        bucket: Bucket,
        from: &Holder,
        version: u64,
    ) -> bool {
        let track = self.tracks.get_mut(&bucket);
        let Some(track) = track.filter(|track| fits(&track.of, from, version)) else {
            self.early.insert(bucket, (now, from.clone(), version));
            return false;
        };
        let news = track.acknowledged.is_none();
        track.acknowledged.get_or_insert(now);
        news
    }

    /// Until when to wait for more acknowledgements: some owners have stopped, others are about to.
    pub(super) fn gathers(&self, now: Moment, wait: Duration) -> Option<Moment> {
        let first = self.tracks.values().filter_map(|track| track.acknowledged);
        let until = first.min()?.after(wait);
        let more = self
            .tracks
            .values()
            .any(|track| track.acknowledged.is_none() && now < track.due);
        (more && now < until).then_some(until)
    }

    /// Whether the owner has said that it stopped.
    pub(super) fn is_acknowledged(&self, bucket: Bucket) -> bool {
        let track = self.tracks.get(&bucket);
        track.is_some_and(|track| track.acknowledged.is_some())
    }

    /// What becomes of a bucket's move now.
    pub(super) fn turn(&self, now: Moment, bucket: Bucket) -> Turn {
        let Some(track) = self.tracks.get(&bucket) else {
            return Turn::Wait;
        };
        if track.acknowledged.is_some() {
            return Turn::Commit;
        }
        if now < track.due {
            return Turn::Wait;
        }
        match track.of.stage {
            Stage::Ask => Turn::Rise(Stage::Warn),
            Stage::Warn | Stage::Fence => Turn::Commit,
        }
    }

    /// Whether a stage has ended.
    pub(super) fn due(&self, now: Moment) -> bool {
        self.tracks.values().any(|track| track.due <= now)
    }

    /// When the next stage ends.
    pub(super) fn next(&self, now: Moment) -> Option<Moment> {
        let due = self.tracks.values().map(|track| track.due);
        due.filter(|due| *due > now).min()
    }
}

/// An acknowledgement of an earlier move of this bucket is none: the owner went on since.
fn fits(of: &Move, from: &Holder, version: u64) -> bool {
    of.from == *from && version >= of.since
}
