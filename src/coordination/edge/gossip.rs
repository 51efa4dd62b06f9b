//! SWIM over whatever carries its packets: who is silent.
//!
//! foca does the protocol; here are its clock, its packets and what becomes of its news. A holder
//! that was taken for silent and isn't comes back by itself, under its next life.
//!
//! The periods: everybody probes another member each 0.8 s; one that doesn't answer by the end of that
//! is suspected, and told to be silent 1.2 s later: 2 to 4 s. At ten members that costs each less than
//! 1 KB/s.

use std::{
    collections::{BTreeMap, VecDeque},
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

use bytes::Bytes;
use foca::{Config, Foca, NoCustomBroadcast, Notification, PeriodicParams, Runtime, Timer};
use rand::{SeedableRng as _, rngs::StdRng};

use crate::coordination::{
    names::{Holder, PodName},
    port::Moment,
    wire::swim::{Codec, Identity},
};

/// A packet is at most this long: a fleet of 30 with long names in one answer to an announcement.
pub(super) const MOST_PACKET: usize = 4 * 1024;

/// The timers of foca: a few a member, and those of members that are long gone for a while.
const MOST_TIMERS: usize = 4 * 1024;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn some(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

fn config() -> Config {
    let every = |frequency, members| {
        Some(PeriodicParams {
            frequency,
            num_members: some(members),
        })
    };
    Config {
        probe_period: ms(800),
        // A busy machine answers within this, a broken link not at all.
        probe_rtt: ms(300),
        num_indirect_probes: some(3),
        max_transmissions: NonZeroU8::MIN.saturating_add(5),
        suspect_to_down_after: ms(1_200),
        remove_down_after: Some(Duration::from_mins(10)),
        max_packet_size: some(MOST_PACKET),
        // Both ways back after a partition.
        notify_down_members: true,
        periodic_announce_to_down_members: every(ms(2_000), 1),
        // Push-pull: what was lost on the way is made up for.
        periodic_announce: every(ms(30_000), 1),
        // News alone, and only while there is some.
        periodic_gossip: every(ms(300), 2),
    }
}

/// One replica's part in SWIM. It is still until it has an identity.
pub(super) struct Gossip {
    seed: u64,
    foca: Option<Foca<Identity, Codec, StdRng, NoCustomBroadcast>>,
    outbox: Outbox,
}

/// What foca wants done.
#[derive(Default)]
struct Outbox {
    now: Moment,
    timers: BTreeMap<(Moment, u64), Timer<Identity>>,
    count: u64,
    packets: VecDeque<(PodName, Bytes)>,
    /// Who is silent, and who was heard: the newest holder of each pod that there was news of.
    silent: BTreeMap<PodName, Holder>,
    active: BTreeMap<PodName, Holder>,
}

/// A packet that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread(pub(super) String);

// === impl Gossip ===

impl Gossip {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            foca: None,
            outbox: Outbox::default(),
        }
    }

    /// From now on this replica gossips as this identity.
    pub(super) fn become_holder(&mut self, now: Moment, identity: Identity) {
        self.outbox.now = now;
        if let Some(foca) = &mut self.foca {
            // The same identity again changes nothing, which is all that can be refused.
            drop(foca.change_identity(identity, &mut self.outbox));
        } else {
            let rng = StdRng::seed_from_u64(self.seed);
            self.foca = Some(Foca::new(identity, config(), rng, Codec));
        }
    }

    /// Says to a member that this one is there; it answers with all that it knows.
    pub(super) fn announce(&mut self, now: Moment, to: &Holder) {
        self.outbox.now = now;
        if let Some(foca) = &mut self.foca {
            // Only a packet that is too long for its buffer fails, and an announcement is short.
            drop(foca.announce(Identity::addressed(to), &mut self.outbox));
        }
    }

    /// A packet came in.
    pub(super) fn receive(&mut self, now: Moment, packet: &[u8]) -> Result<(), Unread> {
        self.outbox.now = now;
        let Some(foca) = &mut self.foca else {
            return Ok(());
        };
        foca.handle_data(packet, &mut self.outbox)
            .map_err(|error| Unread(error.to_string()))
    }

    /// Does what is due.
    pub(super) fn timeout(&mut self, now: Moment) {
        self.outbox.now = now;
        while let Some(timer) = self.outbox.due(now) {
            if let Some(foca) = &mut self.foca {
                // After a pause its steps come out of order: it says so, and begins them anew.
                drop(foca.handle_timer(timer, &mut self.outbox));
            }
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Moment> {
        let first = self.outbox.timers.first_key_value();
        first.map(|((moment, _), _)| *moment)
    }

    /// The next packet to be sent, and to whom.
    pub(super) fn poll_packet(&mut self) -> Option<(PodName, Bytes)> {
        self.outbox.packets.pop_front()
    }

    /// Whether this holder is silent.
    pub(super) fn is_silent(&self, holder: &Holder) -> bool {
        self.outbox.silent.get(&holder.pod) == Some(holder)
    }

    /// Whether this holder is known to gossip.
    pub(super) fn is_active(&self, holder: &Holder) -> bool {
        self.outbox.active.get(&holder.pod) == Some(holder)
    }
}

// === impl Outbox ===

impl Outbox {
    fn due(&mut self, now: Moment) -> Option<Timer<Identity>> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl Runtime<Identity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(member) => {
                let holder = member.holder().clone();
                self.silent.remove(&holder.pod);
                self.active.insert(holder.pod.clone(), holder);
            }
            Notification::MemberDown(member) => {
                let holder = member.holder().clone();
                self.active.remove(&holder.pod);
                self.silent.insert(holder.pod.clone(), holder);
            }
            Notification::Rename(_, member) => {
                let holder = member.holder();
                if let Some(active) = self.active.get_mut(&holder.pod) {
                    *active = holder.clone();
                }
            }
            Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        let to = to.holder().pod.clone();
        self.packets.push_back((to, Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        // Members that are gone may be forgotten later or never; what repeats itself must not be lost.
        if self.timers.len() < MOST_TIMERS || !matches!(event, Timer::RemoveDown(_)) {
            self.count += 1;
            self.timers
                .insert((self.now.after(after), self.count), event);
        }
    }
}

#[cfg(test)]
mod tests;
