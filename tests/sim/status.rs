//! How the workers of a process write statuses.

use zen_fabric::{coordination::port::Input, journal::Bucket};

use crate::{
    api::{StatusAnswer, StatusRead},
    log::Refused,
    mutants::Planted,
    time::{MS, between},
    world::{Ask, Event, World},
};

impl World {
    /// There is something to report.
    pub(crate) fn dirty(&mut self, pod: usize, life: u32, bucket: Bucket) {
        let at = self.now + between(&mut self.rng, (800 * MS, 3_000 * MS));
        let Some(work) = self.work(pod, life, bucket) else {
            return;
        };
        work.status.dirty = true;
        if !work.status.due {
            work.status.due = true;
            self.queue.push(at, Event::Status { pod, life, bucket });
        }
    }

    /// A status is to be written.
    pub(crate) fn status_due(&mut self, pod: usize, life: u32, bucket: Bucket) {
        if self.put_off(pod, life, |at| Event::Status {
            pod: at,
            life,
            bucket,
        }) {
            return;
        }
        let uid = self.pods[pod].uid.clone();
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        let gate = process.gate;
        let Some(work) = process.work.get_mut(&bucket) else {
            return;
        };
        work.status.due = false;
        let status = &mut work.status;
        if !status.dirty || status.refused || status.flying.is_some() || work.releasing {
            return;
        }
        if !gate {
            self.dirty(pod, life, bucket);
            return;
        }
        let (key, epoch, holder) = (work.key, work.epoch, work.holder.clone());
        let version = status.version.clone();
        self.calls += 1;
        let ticket = self.calls;
        if let Some(work) = self.work(pod, life, bucket) {
            work.status.flying = Some(ticket);
        }
        match version {
            None => self.call(
                pod,
                Ask::ReadStatus {
                    bucket,
                    key,
                    ticket,
                },
            ),
            Some(version) => {
                let counted = self.logs.iter().map(|log| log.tally_of(key).1).sum();
                self.call(
                    pod,
                    Ask::WriteStatus {
                        bucket,
                        key,
                        ticket,
                        version,
                        epoch,
                        holder,
                        uid,
                        counted,
                    },
                );
            }
        }
    }

    /// Writes a status, and tells the checks who did.
    pub(crate) fn write_status(&mut self, pod: usize, ask: &Ask) -> StatusAnswer {
        let Ask::WriteStatus {
            key,
            version,
            epoch,
            holder,
            uid,
            counted,
            ..
        } = ask
        else {
            return StatusAnswer::Refused;
        };
        let (version, owner) = match self.planted {
            Planted::MergePatch => (None, None),
            planted if !planted.fenced() => (None, None),
            _ => (Some(&**version), Some((epoch, holder, &**uid))),
        };
        let answer = self
            .api
            .write_status(self.now, *key, version, owner, *counted);
        if let StatusAnswer::Done(_) = answer {
            self.check.reported(self.now, *key, *epoch, holder);
        }
        if self.trace.is_written() {
            let became = match &answer {
                StatusAnswer::Done(_) => "done",
                StatusAnswer::Conflict => "conflict",
                StatusAnswer::Refused => "refused by the rules",
            };
            let line = format!(
                "{holder} writes the status of key {key} under epoch {}: {became}",
                epoch.0
            );
            self.tell(pod, format_args!("{line}"));
        }
        answer
    }

    pub(crate) fn status_read(
        &mut self,
        pod: usize,
        life: u32,
        bucket: Bucket,
        ticket: u64,
        read: StatusRead,
    ) {
        if ticket == u64::MAX {
            // An answer to a survey.
            let epoch = read.owner.map(|(epoch, _)| epoch).unwrap_or_default();
            self.feed(pod, life, Input::Surveyed(epoch));
            return;
        }
        let Some(work) = self.work(pod, life, bucket) else {
            return;
        };
        if work.status.flying != Some(ticket) {
            return;
        }
        work.status.flying = None;
        let blocked = read.owner.filter(|(epoch, holder)| {
            *epoch > work.epoch || (*epoch == work.epoch && *holder != work.holder)
        });
        if let Some((epoch, holder)) = blocked {
            work.status.refused = true;
            self.fenced(pod, life, bucket, &Refused { epoch, holder });
            return;
        }
        work.status.version = Some(read.version);
        if !work.status.due {
            work.status.due = true;
            let at = self.now;
            self.queue.push(at, Event::Status { pod, life, bucket });
        }
    }

    pub(crate) fn status_written(
        &mut self,
        pod: usize,
        life: u32,
        bucket: Bucket,
        ticket: u64,
        answer: StatusAnswer,
    ) {
        let Some(work) = self.work(pod, life, bucket) else {
            return;
        };
        if work.status.flying != Some(ticket) {
            return;
        }
        match answer {
            StatusAnswer::Done(read) => {
                work.status.flying = None;
                work.status.dirty = false;
                work.status.version = Some(read.version);
            }
            StatusAnswer::Conflict | StatusAnswer::Refused => {
                self.status_again(pod, life, bucket, ticket);
            }
        }
    }

    /// The status is read again, then written.
    pub(crate) fn status_again(&mut self, pod: usize, life: u32, bucket: Bucket, ticket: u64) {
        let Some(work) = self.work(pod, life, bucket) else {
            return;
        };
        if work.status.flying == Some(ticket) {
            work.status.flying = None;
            work.status.version = None;
            self.dirty(pod, life, bucket);
        }
    }
}
