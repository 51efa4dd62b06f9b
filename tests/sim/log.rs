//! The journal of one gateway, as far as coordination is concerned: claims, queues, ends.
//!
//! It keeps (epoch, holder) per bucket on disk before it serves anything under them, and refuses
//! what is below, or at the same epoch of another holder. Where its own view of the `ShardMap` is
//! not older than what is asked for and names another, it refuses as well.

use std::{collections::BTreeMap, sync::Arc};

use zen_fabric::{
    coordination::names::Holder,
    journal::{Bucket, Epoch},
};

use crate::mutants::Planted;

/// What an event is to become, recorded with it when it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An Observation of its own, and a callback.
    Observe,
    /// It is added to the key's aggregate.
    Add,
    /// Nothing but an end.
    Filter,
}

/// An accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Where: the log.
    pub(crate) log: usize,
    /// Where: the position in it, from 1.
    pub(crate) position: u64,
    /// Whose: the index of the Ingestor.
    pub(crate) key: usize,
    /// The recorded decision.
    pub(crate) verdict: Verdict,
    /// The spec under which it was made.
    pub(crate) spec: u64,
}

/// The bucket is another's, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The stored epoch.
    pub(crate) epoch: Epoch,
    /// The stored holder.
    pub(crate) holder: Holder,
}

#[derive(Clone, Debug)]
struct Record {
    event: Accepted,
    ended: bool,
}

/// Who owns which bucket since when, as this gateway last saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The object's UID.
    pub(crate) uid: Arc<str>,
    /// The version of the map.
    pub(crate) version: u64,
    /// The owners of the buckets that have keys.
    pub(crate) owners: BTreeMap<Bucket, (Epoch, Holder)>,
}

/// A log.
#[derive(Debug)]
pub(crate) struct Log {
    /// Whether its gateway runs.
    pub(crate) up: bool,
    /// What its gateway knows of the map.
    pub(crate) view: View,
    claims: BTreeMap<Bucket, (Epoch, Holder)>,
    /// Whom records are being served to: lost when the gateway stops.
    serving: BTreeMap<Bucket, (Epoch, Holder)>,
    records: Vec<Record>,
    ends: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            up: true,
            view: View::default(),
            claims: BTreeMap::new(),
            serving: BTreeMap::new(),
            records: Vec::new(),
            ends: 0,
        }
    }

    /// Makes an event durable.
    pub(crate) fn append(&mut self, mut event: Accepted) -> Accepted {
        event.position = u64::try_from(self.records.len()).unwrap() + 1;
        self.records.push(Record {
            event,
            ended: false,
        });
        event
    }

    /// The gateway stops: what is not on disk is gone.
    pub(crate) fn stop(&mut self, planted: Planted) {
        self.up = false;
        self.serving.clear();
        self.view = View::default();
        if planted == Planted::JournalForgets {
            self.claims.clear();
        }
    }

    /// Takes a bucket over, or raises the epoch under which it is held.
    pub(crate) fn subscribe(
        &mut self,
        bucket: Bucket,
        epoch: Epoch,
        holder: &Holder,
        planted: Planted,
    ) -> Result<(), Refused> {
        if planted.fenced() {
            self.admit(bucket, epoch, holder)?;
        }
        self.claims.insert(bucket, (epoch, holder.clone()));
        self.serving.insert(bucket, (epoch, holder.clone()));
        Ok(())
    }

    fn admit(&self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> Result<(), Refused> {
        if let Some((stored, by)) = self.claims.get(&bucket)
            && (*stored > epoch || (*stored == epoch && by != holder))
        {
            return Err(Refused {
                epoch: *stored,
                holder: by.clone(),
            });
        }
        match self.view.owners.get(&bucket) {
            Some((stored, by)) if self.view.version >= epoch.0 && by != holder => Err(Refused {
                epoch: *stored,
                holder: by.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// A newer map, or another object: subscriptions that it no longer names end.
    pub(crate) fn saw(&mut self, view: View) -> Vec<(Bucket, Holder, Refused)> {
        // As `roles/map/follower.rs`; what is read here is never of a former object.
        if view.uid == self.view.uid && view.version <= self.view.version {
            return Vec::new();
        }
        self.view = view;
        let mut ended = Vec::new();
        for (bucket, (epoch, holder)) in &self.serving {
            if let Err(refused) = self.admit(*bucket, *epoch, holder) {
                ended.push((*bucket, holder.clone(), refused));
            }
        }
        for (bucket, ..) in &ended {
            self.serving.remove(bucket);
        }
        ended
    }

    /// Records without an end of one key, in order.
    pub(crate) fn fetch(&self, key: usize, most: usize) -> Vec<Accepted> {
        let open = self.records.iter().filter(|one| !one.ended);
        let own = open.filter(|one| one.event.key == key);
        own.take(most).map(|one| one.event).collect()
    }

    /// Who is served a bucket.
    pub(crate) fn served(&self, bucket: Bucket) -> Option<&Holder> {
        self.serving.get(&bucket).map(|(_, holder)| holder)
    }

    /// Records ends. A position that has one keeps it.
    ///
    /// Gives the positions that got their end by this.
    pub(crate) fn commit(
        &mut self,
        bucket: Bucket,
        epoch: Epoch,
        holder: &Holder,
        positions: &[u64],
        planted: Planted,
    ) -> Result<Vec<u64>, Refused> {
        let fenced = planted.fenced() && planted != Planted::CommitWithoutEpoch;
        if fenced
            && let Some((stored, by)) = self.claims.get(&bucket)
            && (*stored != epoch || by != holder)
        {
            return Err(Refused {
                epoch: *stored,
                holder: by.clone(),
            });
        }
        let mut ended = Vec::new();
        for position in positions {
            let index = usize::try_from(*position).unwrap() - 1;
            let record = &mut self.records[index];
            if !record.ended || planted == Planted::EndCountedTwice {
                record.ended = true;
                self.ends += 1;
                ended.push(*position);
            }
        }
        Ok(ended)
    }

    /// Events that were accepted, that have an end by the tally, and that wait.
    pub(crate) fn tally(&self) -> (u64, u64, u64) {
        let accepted = u64::try_from(self.records.len()).unwrap();
        let backlog = self.records.iter().filter(|one| !one.ended).count();
        (accepted, self.ends, u64::try_from(backlog).unwrap())
    }

    /// As [`Log::tally`], of one key: accepted and ended.
    pub(crate) fn tally_of(&self, key: usize) -> (u64, u64) {
        let own = self.records.iter().filter(|one| one.event.key == key);
        own.fold((0, 0), |(accepted, ended), one| {
            (accepted + 1, ended + u64::from(one.ended))
        })
    }

    /// Who holds a bucket by what is on disk.
    pub(crate) fn claim(&self, bucket: Bucket) -> Option<&(Epoch, Holder)> {
        self.claims.get(&bucket)
    }
}
