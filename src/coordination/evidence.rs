//! When is a pod dead? When its member Lease says so; this is who writes it there, and why.
//!
//! ```text
//!  refused by a majority ───────────────────────────────▶ mark
//!  refused, silent ──▶ challenge ──1 s──▶ unchanged? ───▶ mark
//!                          └──▶ renewed: alive, asked again after 5 s … 60 s
//!  Lease unchanged for 15 s, in contact ────────────────▶ mark
//! ```
//!
//! *Guarantees:* a mark is a compare-and-swap at the version that the Lease had when the evidence
//! was complete: a holder that renewed since is never marked, and its evidence starts over.
//! An API server that is away makes nobody dead, because every mark needs it, and every clock needs
//! contact.
//!
//! *Still possible:* a holder that lives and is refused by a majority is marked although it could
//! reach the API server; it goes on under its next incarnation, and nothing that it had begun lands
//! where its successor has.

mod suspect;
mod votes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use self::suspect::{Suspect, Verdict};
use super::{
    chance::Chance,
    event::{Event, Evidence as Why},
    message::{Body, Vote},
    names::Holder,
    out::{Out, Purpose},
    port::{Answer, Link, Moment, Object, Op, Record},
    records::{Challenge, Life, MemberRecord},
    timing::Timing,
    view::{Fate, View},
};

/// How this replica stands to the leader Lease: who acts depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Role {
    /// It leads.
    pub(super) leads: bool,
    /// It was deposed of late: leaders are not its business until then.
    pub(super) damped: Option<Moment>,
}

/// What is held against other holders.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    suspects: BTreeMap<Holder, Suspect>,
    /// Since when this replica leads.
    leads: Option<Moment>,
}

// === impl Evidence ===

impl Evidence {
    /// This replica's own probes say something. Whom to tell is decided here, too.
    pub(super) fn link(
        &mut self,
        now: Moment,
        view: &View,
        suspect: &Holder,
        link: Link,
        out: &mut Out,
    ) {
        let entry = self.suspects.entry(suspect.clone()).or_default();
        let before = entry.mine(link, now);
        if link == Link::Reached && before.is_none_or(|before| before == Link::Reached) {
            return;
        }
        if !votes::may_vote(view) {
            return;
        }
        let vote = || {
            Body::Vote(Vote {
                suspect: suspect.clone(),
                link,
                age: Duration::ZERO,
            })
        };
        match view.leading() {
            Some(leader) if leader != suspect && Some(leader) != view.holder.as_ref() => {
                out.send(leader, vote());
            }
            Some(leader) if Some(leader) == view.holder.as_ref() => {}
            Some(_) | None => {
                for (peer, _) in view.peers().filter(|(peer, _)| *peer != suspect) {
                    out.send(peer, vote());
                }
            }
        }
    }

    /// Another replica's probes say something.
    pub(super) fn vote(&mut self, now: Moment, view: &View, from: &Holder, vote: &Vote) {
        if Some(&vote.suspect) == view.holder.as_ref() || vote.age > view.timing.vote {
            return;
        }
        let known = view.named().contains(&vote.suspect);
        if known {
            let at = now.before(vote.age);
            let entry = self.suspects.entry(vote.suspect.clone()).or_default();
            entry.voted(from.clone(), vote.link, at);
        }
    }

    /// Whether most others can't reach a holder, for so long that it should have no buckets.
    pub(super) fn unreachable(&self, holder: &Holder) -> bool {
        self.suspects.get(holder).is_some_and(Suspect::unreachable)
    }

    /// All of those.
    pub(super) fn all_unreachable(&self) -> BTreeSet<Holder> {
        self.suspects
            .iter()
            .filter(|(_, suspect)| suspect.unreachable())
            .map(|(holder, _)| holder.clone())
            .collect()
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Moment, view: &View, role: Role, out: &mut Out) {
        self.leads = match (role.leads, self.leads) {
            (true, None) => Some(now),
            (true, since) => since,
            (false, _) => None,
        };
        let named = view.named();
        self.suspects.retain(|holder, _| {
            (named.contains(holder) || view.links.contains_key(holder))
                && view.fate(holder) != Fate::Dead
        });
        if view.holder.is_none() || view.contact.since(now).is_none() {
            return;
        }
        for holder in named {
            if view.fate(&holder) == Fate::Dead {
                continue;
            }
            let mut suspect = self.suspects.remove(&holder).unwrap_or_default();
            suspect.reach(now, view, &holder, self.leads, out);
            judge(now, view, role, (&holder, &mut suspect), out);
            self.suspects.insert(holder, suspect);
        }
    }

    /// An answer about another's member Lease came; the view knows it already.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        holder: &Holder,
        asked: (&Purpose, Moment),
        answer: &Answer,
        (timing, chance, out): (&Timing, &mut Chance, &mut Out),
    ) {
        let (purpose, sent) = asked;
        let suspect = self.suspects.entry(holder.clone()).or_default();
        match (answer, purpose) {
            (Answer::Done(_), Purpose::Mark(_, why)) => {
                out.tell(Event::Marked(holder.clone(), *why));
                suspect.settled();
            }
            (Answer::Done(stored), Purpose::Challenge(_)) => {
                out.tell(Event::Challenged(holder.clone()));
                suspect.challenged(sent, now, timing, Arc::clone(&stored.resource_version));
            }
            (Answer::Done(_) | Answer::Absent, _) => suspect.settled(),
            (Answer::Conflict | Answer::Exists, _) => suspect.overtaken(),
            (Answer::Refused(why), _) => {
                out.tell(Event::WriteRefused(Arc::clone(why)));
                suspect.failed(now, timing, chance);
            }
            (Answer::Unknown, _) => suspect.failed(now, timing, chance),
        }
    }
}

fn challenge(now: Moment, view: &View, holder: &Holder, out: &mut Out) {
    let Some(by) = view.holder.clone() else {
        return;
    };
    let observed = view.roster.get(&holder.pod);
    let Some((record, at)) =
        observed.and_then(|o| o.record.clone().zip(o.resource_version.clone()))
    else {
        return;
    };
    let record = MemberRecord {
        challenge: Some(Challenge { by }),
        ..record
    };
    let op = Op::Replace {
        record: Record::Member(record),
        resource_version: at,
    };
    let object = Object::Member(holder.pod.clone());
    out.ask(now, object, Purpose::Challenge(holder.clone()), op);
}

/// Declares a holder dead: at the version that is known, or where nothing is stored.
fn mark(
    now: Moment,
    view: &View,
    holder: &Holder,
    (why, unconditional): (Why, bool),
    out: &mut Out,
) {
    let observed = view.roster.get(&holder.pod);
    let stored = observed.and_then(|observed| observed.record.clone());
    let record = MemberRecord {
        life: Life::Marked,
        challenge: None,
        ..stored.unwrap_or_else(|| blank(view, holder))
    };
    let record = Record::Member(MemberRecord {
        holder: holder.clone(),
        ..record
    });
    let at = observed.and_then(|observed| observed.resource_version.clone());
    let op = match at {
        Some(_) if unconditional => Op::Replace {
            record,
            resource_version: Arc::from(""),
        },
        Some(resource_version) => Op::Replace {
            record,
            resource_version,
        },
        None => Op::Create(record),
    };
    let object = Object::Member(holder.pod.clone());
    out.ask(now, object, Purpose::Mark(holder.clone(), why), op);
}

/// The Lease of a holder whose own is gone: only that it is dead is known.
fn blank(view: &View, holder: &Holder) -> MemberRecord {
    let nothing: Arc<str> = Arc::from("");
    MemberRecord {
        holder: holder.clone(),
        claim: 0,
        pod_uid: Arc::clone(&nothing),
        address: Arc::clone(&nothing),
        region: Arc::clone(&view.me.region),
        zone: Arc::clone(&nothing),
        weight: 0,
        build: nothing,
        protocol: view.me.protocol,
        ready: false,
        draining: false,
        seen: 0,
        renewals: 0,
        renewed: Moment(0),
        life: Life::Marked,
        challenge: None,
    }
}

/// From when on it is this replica's turn to act on what is held against a holder; `None`: it is
/// another's business.
fn turn(
    now: Moment,
    view: &View,
    role: Role,
    holder: &Holder,
    suspect: &Suspect,
) -> Option<Moment> {
    if role.leads {
        return Some(now);
    }
    if view.leading() != Some(holder) || !view.may_lead() {
        return None;
    }
    let term = view.leader.as_ref()?.record.as_ref()?.term;
    let begun = suspect.begun().unwrap_or(now);
    let turn = begun.after(view.timing.step * view.rank(term));
    Some(role.damped.map_or(turn, |damped| damped.max(turn)))
}

fn judge(
    now: Moment,
    view: &View,
    role: Role,
    (holder, suspect): (&Holder, &mut Suspect),
    out: &mut Out,
) {
    let object = Object::Member(holder.pod.clone());
    if out.busy(&object) {
        return;
    }
    if let Some(until) = suspect.waits(now) {
        out.wake_at(until);
        return;
    }
    let Some(turn) = turn(now, view, role, holder, suspect) else {
        return;
    };
    match suspect.verdict(now, view, holder, turn) {
        Verdict::Nothing => {}
        Verdict::Later(moment) => out.wake_at(moment),
        Verdict::Read => out.ask(now, object, Purpose::Check(holder.clone()), Op::Read),
        Verdict::Answered => {
            out.tell(Event::Answered(holder.clone()));
            out.wake_at(now);
        }
        Verdict::Challenge => challenge(now, view, holder, out),
        Verdict::Mark(why, unconditional) => mark(now, view, holder, (why, unconditional), out),
    }
}

#[cfg(test)]
mod tests;
