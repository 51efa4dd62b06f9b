//! The other replicas, as this one's own connections show them.
//!
//! ```text
//!  open ─────────────────────────▶ Reached
//!  closed, every listener refuses ▶ Refused   at once, and again while it is so
//!  gossip calls it silent, and
//!  nothing was heard of it ───────▶ Silent
//! ```
//!
//! A replica without others has no connections, no gossip and nothing to wait for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc::error::TrySendError, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    gossip::Gossip,
    listeners::Look,
    metrics::{Metrics, Why},
    talk::{Net, Queue, Said, Told, frame},
};
use crate::coordination::{
    message::{Body, Message},
    names::{Holder, PodName},
    port::{Input, Link, Moment},
    records::{Life, MemberRecord},
    wire::{
        message::{self as wire, Hello},
        proto::frame::Kind,
        swim::Identity,
    },
};

/// Told again this often while a holder isn't reached: votes count for twice that and more.
const AGAIN: Duration = Duration::from_millis(400);

/// One that gossip calls silent is not, where it was heard itself within this.
const HEARD: Duration = Duration::from_secs(1);

/// Without a connection for so long it is silent, whatever gossip says.
const APART: Duration = Duration::from_secs(3);

/// Announced again this often to one that is connected and doesn't gossip.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// One whose Lease is gone is remembered for so long: whoever deleted it by hand is not to hide that
/// its process is gone, too.
const REMEMBERED: Duration = Duration::from_mins(1);

/// Pods that connect without a member Lease: a fleet's, before its Leases are seen.
const MOST: usize = 256;

/// All of them.
pub(super) struct Peers {
    net: Net,
    hello: watch::Sender<Option<Arc<Hello>>>,
    /// How this replica introduces itself; the holder is filled in.
    card: Hello,
    links: BTreeMap<PodName, Peer>,
    pub(super) gossip: Gossip,
    metrics: Metrics,
    looks: u64,
    announced: Moment,
    /// What was said since the driver last let it go.
    outgoing: Vec<(Holder, Message)>,
}

/// Another replica.
#[derive(Default)]
struct Peer {
    /// Where its member Lease says that it is; `None`: there is no live one.
    address: Option<Arc<str>>,
    /// Where it is being connected to.
    dialing: Option<(Arc<str>, DropGuard)>,
    open: Option<Open>,
    hello: Option<Arc<Hello>>,
    looking: Option<(u64, DropGuard)>,
    refused: bool,
    heard: Moment,
    told: Option<(Holder, Link, Moment)>,
}

struct Open {
    connection: u64,
    queue: Queue,
}

// === impl Peers ===

impl Peers {
    pub(super) fn new(
        net: Net,
        hello: watch::Sender<Option<Arc<Hello>>>,
        card: Hello,
        seed: u64,
    ) -> Self {
        Self {
            metrics: net.metrics.clone(),
            net,
            hello,
            card,
            links: BTreeMap::new(),
            gossip: Gossip::new(seed),
            looks: 0,
            announced: Moment(0),
            outgoing: Vec::new(),
        }
    }

    /// This replica acts as this holder from now on.
    pub(super) fn became(&mut self, now: Moment, holder: &Holder) {
        let hello = Arc::new(Hello {
            holder: holder.clone(),
            ..self.card.clone()
        });
        let card = &self.card;
        let identity = Identity::new(holder, &card.region, &card.zone, &card.address);
        self.gossip.become_holder(now, identity);
        let word = frame(Kind::Hello(hello.encode()));
        self.hello.send_replace(Some(hello));
        for peer in self.links.values() {
            if let Some(open) = &peer.open {
                self.net.sent(&word);
                offer(&self.metrics, open, word.clone());
            }
        }
        let pods: Vec<_> = self.links.keys().cloned().collect();
        for pod in pods {
            self.dial(&pod);
        }
    }

    /// The fleet, as the member Leases say it.
    pub(super) fn retarget<'r>(
        &mut self,
        now: Moment,
        members: impl Iterator<Item = &'r MemberRecord>,
    ) {
        let others = members.filter(|record| record.holder.pod != self.net.me);
        let (live, dead): (Vec<_>, Vec<_>) = others.partition(|record| record.life == Life::Live);
        let live: BTreeMap<PodName, Arc<str>> = live
            .into_iter()
            .map(|record| (record.holder.pod.clone(), Arc::clone(&record.address)))
            .collect();
        for (pod, peer) in &mut self.links {
            peer.address = live.get(pod).cloned();
        }
        self.links.retain(|pod, peer| {
            let dead = dead.iter().any(|record| record.holder.pod == *pod);
            let of_late = !dead && peer.hello.is_some() && now.since(peer.heard) < REMEMBERED;
            peer.address.is_some() || peer.open.is_some() || of_late
        });
        for (pod, address) in live {
            let peer = self.links.entry(pod).or_default();
            peer.address.get_or_insert(address);
        }
        let pods: Vec<_> = self.links.keys().cloned().collect();
        for pod in pods {
            self.dial(&pod);
        }
    }

    /// Sees to it that a pod is connected to, if that is this side's part.
    fn dial(&mut self, pod: &PodName) {
        if *pod <= self.net.me || self.hello.borrow().is_none() {
            return;
        }
        let Some(peer) = self.links.get_mut(pod) else {
            return;
        };
        // A connection that is open goes on, wherever the pod is now: it says itself when it ends.
        let dialed = peer.dialing.as_ref().map(|(address, _)| address);
        if peer.open.is_some() || dialed == peer.address.as_ref() {
            return;
        }
        peer.dialing = None;
        let Some(address) = &peer.address else {
            return;
        };
        let stop = self.net.tasks.token().child_token();
        peer.dialing = Some((Arc::clone(address), stop.clone().drop_guard()));
        let dialing = self
            .net
            .clone()
            .dial(pod.clone(), Arc::clone(address), stop);
        self.net.tasks.spawn_contained("peer dial", dialing);
    }

    /// A connection says something; what of it the cores are to know.
    pub(super) fn told(&mut self, now: Moment, told: Told) -> Option<Input> {
        match told {
            Told::Opened {
                pod,
                connection,
                hello,
                said,
                queue,
            } => {
                self.opened(now, pod, (connection, queue), (hello, &said));
                None
            }
            Told::Said {
                pod,
                connection,
                what,
            } => self.said(now, &pod, connection, what),
            Told::Closed { pod, connection } => {
                self.closed(&pod, connection);
                None
            }
            Told::Looked { pod, look, refused } => {
                if let Some(peer) = self.links.get_mut(&pod)
                    && peer
                        .looking
                        .as_ref()
                        .is_some_and(|(known, _)| *known == look)
                {
                    // Each look is news: evidence must not be older than it says.
                    peer.refused = refused;
                }
                None
            }
        }
    }

    fn opened(
        &mut self,
        now: Moment,
        pod: PodName,
        (connection, queue): (u64, Queue),
        (hello, said): (Arc<Hello>, &Arc<Hello>),
    ) {
        if !self.links.contains_key(&pod) && self.links.len() >= MOST {
            return;
        }
        let holder = hello.holder.clone();
        let peer = self.links.entry(pod).or_default();
        peer.open = Some(Open { connection, queue });
        peer.hello = Some(hello);
        peer.looking = None;
        peer.refused = false;
        peer.heard = now;
        let mine = self.hello.borrow().clone();
        if let (Some(mine), Some(open)) = (mine, &peer.open)
            && !Arc::ptr_eq(&mine, said)
        {
            let word = frame(Kind::Hello(mine.encode()));
            self.net.sent(&word);
            offer(&self.metrics, open, word);
        }
        self.gossip.announce(now, &holder);
        self.count();
    }

    fn said(&mut self, now: Moment, pod: &PodName, connection: u64, what: Said) -> Option<Input> {
        let peer = self.links.get_mut(pod)?;
        peer.open
            .as_ref()
            .filter(|open| open.connection == connection)?;
        peer.heard = now;
        match what {
            Said::Hello(hello) => {
                peer.hello = Some(hello);
                None
            }
            Said::Gossip(packet) => {
                if let Err(unread) = self.gossip.receive(now, &packet) {
                    self.net.refuse(&pod.0, Why::Malformed, &unread.0);
                }
                None
            }
            Said::Message(message) => Some(Input::Message {
                from: peer.hello.as_ref()?.holder.clone(),
                message,
            }),
        }
    }

    /// The connection is gone: does anybody still listen there?
    fn closed(&mut self, pod: &PodName, connection: u64) {
        let Some(peer) = self.links.get_mut(pod) else {
            return;
        };
        if peer
            .open
            .as_ref()
            .is_none_or(|open| open.connection != connection)
        {
            return;
        }
        peer.open = None;
        self.looks += 1;
        let hello = peer.hello.as_deref();
        let listens = hello.map(|hello| [&hello.address, &hello.admin]);
        let addresses = listens.into_iter().flatten().filter(|at| !at.is_empty());
        let look = Look {
            pod: pod.clone(),
            look: self.looks,
            addresses: addresses.cloned().collect(),
            told: self.net.told.clone(),
        };
        let stop: CancellationToken = self.net.tasks.token().child_token();
        peer.looking = Some((self.looks, stop.clone().drop_guard()));
        self.net.tasks.spawn_contained("peer look", look.run(stop));
        self.dial(pod);
        self.count();
    }

    fn count(&self) {
        let open = self.links.values().filter(|peer| peer.open.is_some());
        let open = i64::try_from(open.count()).unwrap_or(i64::MAX);
        self.metrics.links.set(open);
    }

    /// Sends a message, best effort, once the driver has done what it does: a hundred buckets that
    /// stop together are one message.
    pub(super) fn send(&mut self, to: Holder, message: Message) {
        let last = self
            .outgoing
            .iter_mut()
            .rev()
            .find(|(known, _)| *known == to);
        if last.is_none_or(|(_, last)| !join(last, &message)) {
            self.outgoing.push((to, message));
        }
    }

    /// Lets go what was said.
    pub(super) fn flush(&mut self) {
        self.send_gossip();
        for (to, message) in std::mem::take(&mut self.outgoing) {
            let peer = self.links.get(&to.pod);
            let open = peer.and_then(|peer| {
                let holder = &peer.hello.as_ref()?.holder;
                peer.open.as_ref().filter(|_| *holder == to)
            });
            let Some(open) = open else {
                self.metrics.dropped.inc();
                continue;
            };
            let word = frame(Kind::Message(wire::encode(&message)));
            self.net.sent(&word);
            offer(&self.metrics, open, word);
        }
    }

    /// Sends what gossip has to say.
    fn send_gossip(&mut self) {
        while let Some((pod, packet)) = self.gossip.poll_packet() {
            let peer = self.links.get(&pod);
            let Some(open) = peer.and_then(|peer| peer.open.as_ref()) else {
                continue;
            };
            let word = frame(Kind::Gossip(packet.to_vec()));
            self.net.sent(&word);
            offer(&self.metrics, open, word);
        }
    }

    /// What of the links is news, or due to be said again; and when to look next.
    pub(super) fn links(&mut self, now: Moment) -> (Vec<Input>, Option<Moment>) {
        let (mut news, mut next) = (Vec::new(), None::<Moment>);
        let mut wake = |at: Moment| next = Some(next.map_or(at, |next| next.min(at)));
        let mut strangers = Vec::new();
        for peer in self.links.values_mut() {
            let Some(holder) = peer.hello.as_ref().map(|hello| hello.holder.clone()) else {
                continue;
            };
            let silent = self.gossip.is_silent(&holder);
            let (link, changes) = peer.link(now, silent);
            if let Some(changes) = changes {
                wake(changes);
            }
            if peer.open.is_some() && !self.gossip.is_active(&holder) {
                strangers.push(holder.clone());
            }
            let again = match &peer.told {
                Some((known, told, at)) if *known == holder && *told == link => {
                    (link != Link::Reached).then(|| at.after(AGAIN))
                }
                Some(_) | None => Some(now),
            };
            let Some(again) = again else { continue };
            if again <= now {
                peer.told = Some((holder.clone(), link, now));
                news.push(Input::Link { holder, link });
                if link != Link::Reached {
                    wake(now.after(AGAIN));
                }
            } else {
                wake(again);
            }
        }
        if !strangers.is_empty() {
            let due = self.announced.after(ANNOUNCE);
            if due <= now {
                self.announced = now;
                for holder in &strangers {
                    self.gossip.announce(now, holder);
                }
            }
            wake(self.announced.after(ANNOUNCE));
        }
        (news, next)
    }
}

// === impl Peer ===

impl Peer {
    /// How the link stands, and when that changes by itself.
    fn link(&self, now: Moment, silent: bool) -> (Link, Option<Moment>) {
        if self.open.is_none() && self.refused {
            return (Link::Refused, None);
        }
        let patience = match (silent, &self.open) {
            (true, _) => HEARD,
            (false, None) => APART,
            (false, Some(_)) => return (Link::Reached, None),
        };
        let until = self.heard.after(patience);
        if until <= now {
            (Link::Silent, None)
        } else {
            (Link::Reached, Some(until))
        }
    }
}

/// Makes two messages one, where the second only says more of the same.
fn join(last: &mut Message, next: &Message) -> bool {
    match (&mut last.body, &next.body) {
        (
            Body::Released { buckets, version },
            Body::Released {
                buckets: more,
                version: at,
            },
        ) if version == at => {
            for bucket in more {
                if !buckets.contains(bucket) {
                    buckets.push(*bucket);
                }
            }
            last.version = last.version.max(next.version);
            true
        }
        _ => false,
    }
}

/// Puts a frame into a peer's queue; one that doesn't keep up loses it.
fn offer(metrics: &Metrics, open: &Open, word: crate::coordination::wire::proto::Frame) {
    match open.queue.try_send(word) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => metrics.dropped.inc(),
    }
}

#[cfg(test)]
mod tests;
