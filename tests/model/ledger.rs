//! What has happened, and which invariant it breaks.

use std::collections::BTreeMap;

use zen_fabric::{
    coordination::{
        names::Holder,
        port::{Object, Record},
        records::{Life, MemberState, ShardMapSpec},
    },
    journal::{Bucket, Epoch},
};

use crate::fleet::Process;

/// How long an owner is asked before its bucket is taken without its answer.
const DEADLINES: u64 = 15_000_000;

/// A broken invariant, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Two own a bucket under one epoch, or one owns what no map gave it.
    Owners,
    /// A bucket left an owner that worked on it.
    Move,
    /// A number was given twice, or fell.
    Numbers,
    /// One that lives was declared dead.
    Mark,
}

/// What has happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) broken: Option<Broken>,
    /// A planned move was carried out.
    pub(crate) moved: bool,
    /// What a dead one had was given to another.
    pub(crate) inherited: bool,
    /// How many have led.
    pub(crate) leaders: usize,
    issued: BTreeMap<(Bucket, Epoch), Holder>,
    claims: BTreeMap<Bucket, (Epoch, Holder)>,
    terms: BTreeMap<u64, Holder>,
    term: u64,
    version: u64,
    listed: BTreeMap<Bucket, (Holder, u64)>,
}

impl Ledger {
    fn fault(&mut self, broken: Broken) {
        self.broken = self.broken.or(Some(broken));
    }

    /// A process works on a bucket: its journal takes the claim, or names whom it has.
    pub(crate) fn owns(
        &mut self,
        bucket: Bucket,
        epoch: Epoch,
        holder: &Holder,
    ) -> Result<(), (Epoch, Holder)> {
        if self.issued.get(&(bucket, epoch)) != Some(holder) {
            self.fault(Broken::Owners);
        }
        if let Some((stored, by)) = self.claims.get(&bucket)
            && (*stored > epoch || (*stored == epoch && by != holder))
        {
            return Err((*stored, by.clone()));
        }
        self.claims.insert(bucket, (epoch, holder.clone()));
        Ok(())
    }

    /// Two own the same bucket under the same epoch.
    pub(crate) fn two_own(&mut self) {
        self.fault(Broken::Owners);
    }

    /// An object was written.
    pub(crate) fn wrote(
        &mut self,
        now: u64,
        (object, before, next): (&Object, Option<&Record>, &Record),
        processes: &[Process],
    ) {
        match (object, next) {
            (Object::Leader, Record::Leader(next)) => {
                if let Some(holder) = &next.holder {
                    let known = self
                        .terms
                        .entry(next.term)
                        .or_insert_with(|| holder.clone());
                    let same = known == holder;
                    self.leaders = self.terms.len();
                    if !same {
                        self.fault(Broken::Numbers);
                    }
                }
                if next.term < self.term {
                    self.fault(Broken::Numbers);
                }
                self.term = self.term.max(next.term);
            }
            (Object::Member(_), Record::Member(next)) => {
                let lives = processes
                    .iter()
                    .any(|process| process.holder.as_ref() == Some(&next.holder));
                if next.life == Life::Marked && lives {
                    self.fault(Broken::Mark);
                }
            }
            (Object::Map, Record::Map(next)) => {
                let before = match before {
                    Some(Record::Map(before)) => Some(&**before),
                    _ => None,
                };
                self.mapped(now, before, next, processes);
            }
            _ => {}
        }
    }

    fn mapped(
        &mut self,
        now: u64,
        before: Option<&ShardMapSpec>,
        next: &ShardMapSpec,
        processes: &[Process],
    ) {
        if next.version <= self.version {
            self.fault(Broken::Numbers);
        }
        self.version = next.version;
        for (bucket, grant) in &next.grants {
            let key = (*bucket, grant.epoch);
            let known = self
                .issued
                .entry(key)
                .or_insert_with(|| grant.owner.clone());
            if *known != grant.owner {
                self.fault(Broken::Numbers);
            }
            let Some(old) = before.and_then(|before| before.grants.get(bucket)) else {
                continue;
            };
            if old.owner != grant.owner {
                self.changed(now, *bucket, &old.owner, next, processes);
            }
        }
        self.listed.retain(|bucket, (from, _)| {
            let of = next.moves.get(bucket);
            of.is_some_and(|of| of.from == *from)
        });
        for (bucket, of) in &next.moves {
            let begun = || (of.from.clone(), now);
            self.listed.entry(*bucket).or_insert_with(begun);
        }
    }

    /// A bucket has another owner.
    fn changed(
        &mut self,
        now: u64,
        bucket: Bucket,
        from: &Holder,
        next: &ShardMapSpec,
        processes: &[Process],
    ) {
        if !next.state(from).is_some_and(MemberState::lives) {
            self.inherited = true;
            return;
        }
        self.moved = true;
        let asked = self.listed.get(&bucket).filter(|(one, _)| one == from);
        let overdue = asked.is_some_and(|(_, since)| now >= since + DEADLINES);
        let busy = processes
            .iter()
            .any(|process| process.holder.as_ref() == Some(from) && process.busy.contains(&bucket));
        if busy && !overdue {
            self.fault(Broken::Move);
        }
    }

    /// Whether the journal has what the map says.
    pub(crate) fn claimed(&self, bucket: Bucket, epoch: Epoch, holder: &Holder) -> bool {
        self.claims.get(&bucket) == Some(&(epoch, holder.clone()))
    }
}
