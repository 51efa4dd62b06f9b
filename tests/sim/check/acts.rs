//! What processes do: as whom, under which epoch, with which gate.

use zen_fabric::{
    coordination::{
        names::Holder,
        port::{Object, Op, Record},
        records::Life,
    },
    journal::{Bucket, Epoch},
};

use crate::{mutants::Planted, time::SECOND, world::World};

impl World {
    /// A core asks something: not as somebody who it knows is dead.
    pub(crate) fn check_request(&mut self, pod: usize, object: &Object, op: &Op) {
        let (Op::Replace { record, .. } | Op::Create(record)) = op else {
            return;
        };
        let (Object::Member(_), Record::Member(record)) = (object, record) else {
            return;
        };
        let own = record.holder.pod == self.pods[pod].name && record.life == Life::Live;
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if own && process.seen_marked.contains(&record.holder) && record.challenge.is_none() {
            let text = format!("{} renews although it has seen its mark", record.holder);
            self.check.fault(self.now, "I11", text);
        }
    }

    /// A worker asks a log or the API; whether that begins an effect.
    pub(crate) fn check_acts(&mut self, pod: usize, effect: bool) {
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if let (Some(renewed), Some(holder)) = (process.renewed, process.holder.clone())
            && effect
            && self.now > process.resumed + 11 * SECOND
        {
            let age = process.clock.local(self.now).0 - renewed.0;
            self.check.gate(self.now, &holder, age);
        }
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        let acts = process
            .work
            .values()
            .find(|work| process.seen_marked.contains(&work.holder));
        if let Some(work) = acts {
            let text = format!("{} acts although it has seen its mark", work.holder);
            self.check.fault(self.now, "I11", text);
        }
    }

    /// A process was told to own a bucket.
    pub(crate) fn check_started(
        &mut self,
        pod: usize,
        bucket: Bucket,
        epoch: Epoch,
        holder: &Holder,
    ) {
        let issued = self.check.issued.get(&(bucket, epoch));
        let given = issued == Some(holder) || self.check.is_edited(bucket, epoch, holder);
        if !given && !matches!(self.planted, Planted::Baseline(_)) {
            let text = format!(
                "core-{pod} starts as {holder} under epoch {} in bucket {}, which no map gave it",
                epoch.0, bucket.0
            );
            self.check.fault(self.now, "I2", text);
        }
    }

    /// At most one owner with an open gate per bucket and epoch.
    pub(crate) fn check_owners(&mut self, pod: usize) {
        let Some(process) = &self.pods[pod].process else {
            return;
        };
        if !process.gate {
            return;
        }
        for (bucket, work) in &process.work {
            for (other, place) in self.pods.iter().enumerate() {
                let Some(rival) = place.process.as_ref().filter(|_| other != pod) else {
                    continue;
                };
                let both = rival
                    .work
                    .get(bucket)
                    .is_some_and(|one| one.epoch == work.epoch);
                let contested = both
                    && [
                        Some(&work.holder),
                        rival.work.get(bucket).map(|one| &one.holder),
                    ]
                    .into_iter()
                    .flatten()
                    .any(|holder| self.check.is_contested(*bucket, work.epoch, holder));
                if rival.gate && both && !contested {
                    let text = format!(
                        "core-{pod} and core-{other} both own bucket {} under epoch {}",
                        bucket.0, work.epoch.0
                    );
                    self.check.fault(self.now, "I2", text);
                    return;
                }
            }
        }
    }
}
