//! What SWIM would find out about peers: its outcome, not its messages.

use zen_fabric::coordination::{
    names::Holder,
    port::{Input, Link},
};

use crate::{
    net::{Cut, Place},
    process::Phase,
    time::{MS, SECOND, Time, between},
    world::{Event, World},
};

impl World {
    /// Everybody looks at their peers soon: a connection was closed, or a new one was made.
    pub(crate) fn probe_soon(&mut self, except: usize) {
        for pod in 0..self.pods.len() {
            if pod == except {
                continue;
            }
            let Some(life) = self.pods[pod].process.as_ref().map(|process| process.life) else {
                continue;
            };
            let at = self.now + between(&mut self.rng, (MS, 20 * MS));
            let again = false;
            self.queue.push(at, Event::Probe { pod, life, again });
        }
    }

    /// A process looks at its peers and tells its core what has changed.
    pub(crate) fn probe(&mut self, pod: usize, life: u32, again: bool) {
        if again {
            let at = self.now + between(&mut self.rng, (250 * MS, 450 * MS));
            self.queue.push(at, Event::Probe { pod, life, again });
        }
        let now = self.now;
        let Some(process) = self.pods[pod].life(life) else {
            return;
        };
        if process.paused || process.holder.is_none() {
            return;
        }
        let peers: Vec<Holder> = process.peers.keys().cloned().collect();
        for holder in peers {
            let found = self.link(pod, &holder);
            let patience = between(&mut self.rng, (2 * SECOND, 4 * SECOND));
            let Some(process) = self.pods[pod].life(life) else {
                return;
            };
            let Some(peer) = process.peers.get_mut(&holder) else {
                continue;
            };
            let link = match found {
                Link::Silent => {
                    let since = *peer.silent_since.get_or_insert(now);
                    let waits = peer.told != Some(Link::Silent) && now < since + patience;
                    if waits {
                        continue;
                    }
                    Link::Silent
                }
                other => {
                    peer.silent_since = None;
                    other
                }
            };
            if peer.told != Some(link) || link != Link::Reached {
                peer.told = Some(link);
                if link == Link::Refused {
                    let voter = process.holder.clone();
                    if let Some(voter) = voter {
                        self.check.refused(now, voter, holder.clone());
                    }
                }
                self.feed(pod, life, Input::Link { holder, link });
            }
        }
    }

    /// What the probes of a pod find at this moment.
    fn link(&self, pod: usize, holder: &Holder) -> Link {
        let Some(other) = self.pods.iter().position(|one| one.name == holder.pod) else {
            return Link::Silent;
        };
        let (here, there) = (Place::Pod(pod), Place::Pod(other));
        let place = &self.pods[other];
        if self.net.is_cut(here, there) == Some(Cut::Reject) {
            return Link::Refused;
        }
        let lives = place
            .process
            .as_ref()
            .is_some_and(|process| process.holder.as_ref() == Some(holder));
        if !place.runs() && place.phase != Phase::Vanished && self.net.both(here, there) {
            return Link::Refused;
        }
        if !lives || !place.answers() {
            // Somebody else lives there, or nobody answers: the probes of this holder get no answer.
            return Link::Silent;
        }
        if self.net.both(here, there) {
            return Link::Reached;
        }
        let by = |helper: usize| {
            helper != pod
                && helper != other
                && self.pods[helper].answers()
                && self.net.both(here, Place::Pod(helper))
                && self.net.both(Place::Pod(helper), there)
        };
        if (0..self.pods.len()).any(by) {
            Link::Reached
        } else {
            Link::Silent
        }
    }
}

/// How long a refusal that was seen may count in a vote: its age of at most 1 s, looks at links every
/// 450 ms, and the way of the message.
pub(crate) const VOTE: Time = 1_600 * MS;
/// How long it may where messages are late.
pub(crate) const LATE_VOTE: Time = VOTE + 4 * SECOND;
