//! What comes from other replicas, and from this pod's own workers and probes.

use super::{
    super::{
        event::{Event, Refused},
        message::{Body, Message},
        names::{Holder, MOST, REACHABLE},
        port::{Link, Moment},
        protocol::planted,
        view::Fate,
    },
    Replica,
};
use crate::journal::{Bucket, Epoch};

// === impl Replica ===

impl Replica {
    pub(super) fn link(&mut self, now: Moment, holder: Holder, link: Link) {
        if holder.pod == self.view.me.pod || self.view.fate(&holder) == Fate::Dead {
            return;
        }
        let before = self.view.links.insert(holder.clone(), link);
        self.view.changes += u64::from(before != Some(link));
        self.evidence
            .link(now, &self.view, &holder, link, &mut self.out);
    }

    pub(super) fn message(&mut self, now: Moment, from: &Holder, message: Message) {
        if let Some(why) = self.refuses(from, &message) {
            *self.ignored.entry(why).or_default() += 1;
            if self.refused.insert((from.pod.clone(), why)) {
                let from = from.clone();
                self.out.tell(Event::Ignored { from, why });
            }
            return;
        }
        // A version that was looked for once and isn't there is no reason to look again.
        if message.version > self.view.highest.max(self.hinted) && message.version < REACHABLE {
            self.hinted = message.version;
            self.hint = Some(now.after(self.view.timing.hint));
        }
        // The mutant takes a pod's name for its holder.
        let mistaken = planted!(self.view.protocol, OldMessageAccepted)
            .then(|| self.view.of_today(from))
            .flatten();
        let from = mistaken.as_ref().unwrap_or(from);
        match message.body {
            Body::Hint => {}
            Body::Vote(vote) => self.evidence.vote(now, &self.view, from, &vote),
            Body::Released { buckets, version } => {
                self.leader.released(now, from, &buckets, version);
                for (bucket, _) in buckets {
                    self.owner.told(bucket, version, &self.view, &mut self.out);
                }
            }
            Body::Fenced {
                bucket,
                epoch,
                holder,
            } => self.leader.fenced(bucket, epoch, &holder),
            Body::Load(loads) => self.leader.load(&loads),
            Body::Recall { number } => {
                let body = Body::Remember {
                    number,
                    highest: self.view.highest_anywhere(),
                    map: self.view.map.clone(),
                };
                self.out.send(from, body);
            }
            Body::Remember {
                number,
                highest,
                map,
            } => {
                let map = map.filter(|map| self.view.sound(map));
                self.leader.remembered(Some(number), highest, map.as_ref());
            }
        }
    }

    /// Why a message is to change nothing.
    fn refuses(&self, from: &Holder, message: &Message) -> Option<Refused> {
        let me = &self.view.me;
        if message.fleet != me.fleet || from.pod == me.pod {
            return Some(Refused::Fleet);
        }
        if message.protocol.abs_diff(me.protocol) > 1 {
            return Some(Refused::Protocol);
        }
        if self.view.fate(from) == Fate::Dead && !planted!(self.view.protocol, OldMessageAccepted) {
            return Some(Refused::Incarnation);
        }
        let known = |bucket: &Bucket| bucket.0 < me.buckets;
        let sound = match &message.body {
            Body::Hint | Body::Vote(_) | Body::Recall { .. } => true,
            Body::Released { buckets, version } => {
                *version < MOST && buckets.iter().all(|(bucket, _)| known(bucket))
            }
            Body::Fenced { bucket, epoch, .. } => known(bucket) && epoch.0 <= MOST,
            Body::Load(loads) => loads.iter().all(|(bucket, _)| known(bucket)),
            Body::Remember { highest, .. } => *highest <= MOST,
        };
        (!sound || message.version > MOST).then_some(Refused::Malformed)
    }

    pub(super) fn load(&mut self, loads: Vec<(Bucket, u32)>) {
        if self.elector.term().is_some() {
            self.leader.load(&loads);
        } else if let Some(leader) = self.view.leading() {
            self.out.send(&leader.clone(), Body::Load(loads));
        }
    }

    /// A store has accepted more than this pod's map says, perhaps: the leader has to know.
    pub(super) fn fenced(&mut self, bucket: Bucket, epoch: Epoch, holder: &Holder) {
        if planted!(self.view.protocol, FencedUntold) || epoch.0 > MOST {
            return;
        }
        self.refusals.add(bucket, epoch, holder);
    }
}
