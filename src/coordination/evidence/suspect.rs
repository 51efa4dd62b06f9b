//! What is held against one holder.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::{
        chance::{Backoff, Chance},
        event::{Event, Evidence as Why},
        names::Holder,
        out::Out,
        port::{Link, Moment, ResourceVersion},
        protocol::planted,
        records::{Life, MemberState},
        timing::Timing,
        view::View,
    },
    votes::{convicted, majority, may_vote},
};

/// What to do about a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// Look again then.
    Later(Moment),
    /// Its Lease may be another by now.
    Read,
    Challenge,
    /// It answered the challenge.
    Answered,
    /// It is dead; the flag: at whatever version its Lease has (a mutant).
    Mark(Why, bool),
}

/// A challenge that stands.
#[derive(Clone, Debug)]
struct Standing {
    /// The Lease's version with it.
    at: ResourceVersion,
    /// Since when it surely stands.
    since: Moment,
}

/// What is held against one holder.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspect {
    /// This replica's own probes.
    mine: Option<(Link, Moment)>,
    votes: BTreeMap<Holder, (Link, Moment)>,
    /// Since when this replica's probes fail without a break.
    begun: Option<Moment>,
    standing: Option<Standing>,
    /// How long it isn't challenged again after its next answer, and until when it isn't now.
    calm: Option<(Duration, Moment)>,
    /// A write's answer was lost, or it came too late.
    unsure: bool,
    retry: Option<Backoff>,
    /// Since when a majority can't reach it.
    cut: Option<Moment>,
    unreachable: bool,
}

/// A vote that was lost must not end half a minute of unreachability: three times as long as votes
/// count elsewhere, six reports.
const LENIENT: u32 = 3;

// === impl Suspect ===

impl Suspect {
    /// This replica's own probes say something; what they said before.
    pub(super) fn mine(&mut self, link: Link, now: Moment) -> Option<Link> {
        let before = self.mine.replace((link, now)).map(|(link, _)| link);
        self.begun = match link {
            Link::Reached => None,
            Link::Refused | Link::Silent => self.begun.or(Some(now)),
        };
        before
    }

    pub(super) fn voted(&mut self, from: Holder, link: Link, at: Moment) {
        self.votes.insert(from, (link, at));
    }

    pub(super) const fn begun(&self) -> Option<Moment> {
        self.begun
    }

    pub(super) const fn unreachable(&self) -> bool {
        self.unreachable
    }

    pub(super) fn waits(&self, now: Moment) -> Option<Moment> {
        self.retry.as_ref()?.waits(now)
    }

    /// A request about its Lease was answered.
    pub(super) fn settled(&mut self) {
        self.unsure = false;
        self.retry = None;
    }

    /// Its Lease had another version: a renewal in between wins, and the evidence starts over.
    pub(super) fn overtaken(&mut self) {
        self.unsure = true;
        self.standing = None;
        self.votes.clear();
        self.mine = None;
        self.begun = None;
    }

    pub(super) fn failed(&mut self, now: Moment, timing: &Timing, chance: &mut Chance) {
        self.unsure = true;
        self.standing = None;
        self.retry
            .get_or_insert_with(|| Backoff::new(timing.retry, timing.retry_most))
            .failed(now, chance);
    }

    /// The challenge is stored; `sent` and `now` tell how fast the API server answers.
    pub(super) fn challenged(
        &mut self,
        sent: Moment,
        now: Moment,
        timing: &Timing,
        at: ResourceVersion,
    ) {
        self.settled();
        // One that can't tell a slow suspect from a slow API server asks again.
        let fast = now.since(sent) <= timing.slow;
        self.standing = fast.then_some(Standing { at, since: now });
    }

    /// What a voter says, if that is recent.
    fn says(&self, view: &View, voter: &Holder, now: Moment, most: Duration) -> Option<Link> {
        let (link, at) = if Some(voter) == view.holder.as_ref() {
            self.mine.filter(|_| may_vote(view))?
        } else {
            *self.votes.get(voter)?
        };
        (now.since(at) <= most).then_some(link)
    }

    /// What to do about it, by one whose turn begins at `turn`.
    pub(super) fn verdict(
        &mut self,
        now: Moment,
        view: &View,
        holder: &Holder,
        turn: Moment,
    ) -> Verdict {
        if self.unsure {
            self.unsure = false;
            return Verdict::Read;
        }
        let Some(observed) = view.roster.get(&holder.pod) else {
            return Verdict::Nothing;
        };
        let blind = planted!(view.protocol, MarkWithoutVersion);
        let stale = if planted!(view.protocol, WallClocks) {
            let record = observed.record.as_ref();
            record.map(|record| record.renewed.after(view.timing.lease))
        } else {
            // Who lives puts a deleted Lease back as soon as it would answer a challenge. A member that
            // an editor invented never had one.
            let absent = observed.resource_version.is_none() && !view.reaches(holder);
            let wait = if absent {
                view.timing.challenge
            } else {
                view.timing.lease
            };
            view.contact.due(now, observed.changed, wait)
        };
        if stale.is_some_and(|stale| stale <= now) {
            return Verdict::Mark(Why::Stale, blind);
        }
        let later = stale.map_or(Verdict::Nothing, Verdict::Later);
        let link = self
            .mine
            .filter(|(_, at)| now.since(*at) <= view.timing.vote)
            .map_or(Link::Reached, |(link, _)| link);
        if link == Link::Reached {
            self.standing = None;
            return later;
        }
        let mapped = view.map.as_ref().and_then(|map| map.state(holder));
        if mapped.is_none() && view.leading() != Some(holder) {
            // It has nothing that another could take: under a partition it would only die again
            // and again.
            return later;
        }
        if now < turn {
            return Verdict::Later(stale.map_or(turn, |stale| stale.min(turn)));
        }
        let refused = link == Link::Refused
            && (self.refused(now, view) || planted!(view.protocol, MinorityMarks));
        if refused {
            return Verdict::Mark(Why::Refused, blind);
        }
        match self.ask(now, view, holder) {
            Verdict::Nothing => later,
            Verdict::Later(moment) => {
                Verdict::Later(stale.map_or(moment, |stale| stale.min(moment)))
            }
            Verdict::Mark(why, _) => Verdict::Mark(why, blind),
            other @ (Verdict::Read | Verdict::Challenge | Verdict::Answered) => other,
        }
    }

    /// Whether a majority, this replica included, is refused.
    fn refused(&self, now: Moment, view: &View) -> bool {
        may_vote(view)
            && convicted(view, |voter| {
                self.says(view, voter, now, view.timing.vote) == Some(Link::Refused)
            })
    }

    /// The way of the challenge.
    fn ask(&mut self, now: Moment, view: &View, holder: &Holder) -> Verdict {
        let Some(observed) = view.roster.get(&holder.pod) else {
            return Verdict::Nothing;
        };
        let (Some(record), Some(at)) = (&observed.record, &observed.resource_version) else {
            // No Lease to write on: it becomes stale.
            return Verdict::Nothing;
        };
        if record.holder != *holder || record.life != Life::Live {
            return Verdict::Nothing;
        }
        if let Some(standing) = &self.standing {
            let since = view.contact.since(now);
            if since.is_none_or(|since| since > standing.since) {
                // Out of contact meanwhile: the answer may have been missed.
                self.standing = None;
                return Verdict::Read;
            }
            let due = standing.since.after(view.timing.challenge);
            if standing.at == *at {
                return if due <= now {
                    Verdict::Mark(Why::Unanswered, false)
                } else {
                    Verdict::Later(due)
                };
            }
            if planted!(view.protocol, AnswerIgnored) {
                return if due <= now {
                    Verdict::Mark(Why::Unanswered, false)
                } else {
                    Verdict::Later(due)
                };
            }
            self.standing = None;
            if record.challenge.is_none() {
                self.calm(now, &view.timing);
                return Verdict::Answered;
            }
        }
        if let Some((_, until)) = self.calm
            && now < until
        {
            return Verdict::Later(until);
        }
        let others = record.challenge.as_ref().map(|challenge| &challenge.by);
        if others.is_some() && others != view.holder.as_ref() {
            // One that stands already is adopted, not written again.
            self.standing = Some(Standing {
                at: Arc::clone(at),
                since: now,
            });
            return Verdict::Later(now.after(view.timing.challenge));
        }
        Verdict::Challenge
    }

    /// It answered: it isn't asked again for a while, longer each time.
    fn calm(&mut self, now: Moment, timing: &Timing) {
        let pause = self.calm.map_or(timing.rechallenge, |(pause, _)| pause);
        let next = (pause * 2).min(timing.rechallenge_most);
        self.calm = Some((next, now.after(pause)));
    }

    /// Keeps the clock of unreachability, which is the leader's.
    pub(super) fn reach(
        &mut self,
        now: Moment,
        view: &View,
        holder: &Holder,
        leads: Option<Moment>,
        out: &mut Out,
    ) {
        let Some(leads) = leads else {
            self.cut = None;
            self.unreachable = false;
            return;
        };
        let lenient = view.timing.vote * LENIENT;
        let cut = self.is_cut(now, view, holder, lenient);
        let mapped = view.map.as_ref().and_then(|map| map.state(holder));
        let before = self.unreachable;
        if cut {
            let since = *self.cut.get_or_insert(now);
            let due = since.after(view.timing.unreachable);
            self.unreachable |= due <= now || mapped == Some(MemberState::Unreachable);
            if !self.unreachable {
                out.wake_at(due);
            }
        } else {
            self.cut = None;
            // A new leader has not heard of those yet who can't reach it.
            let unheard = leads.after(lenient);
            self.unreachable = mapped == Some(MemberState::Unreachable) && now < unheard;
            if self.unreachable {
                out.wake_at(unheard);
            }
        }
        if self.unreachable && !before && mapped != Some(MemberState::Unreachable) {
            out.tell(Event::Unreachable(holder.clone()));
        }
    }

    /// Whether most others, who reach each other, can't reach it. Two are needed: in a fleet of two,
    /// one that answers at the API server keeps what it has.
    fn is_cut(&self, now: Moment, view: &View, holder: &Holder, most: Duration) -> bool {
        let Some(map) = &view.map else {
            return false;
        };
        let (mut all, mut votes) = (0, 0);
        for voter in map.voters().filter(|voter| voter != holder) {
            all += 1;
            let near = Some(&voter) == view.holder.as_ref() || view.reaches(&voter);
            let says = self.says(view, &voter, now, most);
            votes += usize::from(near && says.is_some_and(|link| link != Link::Reached));
        }
        all >= 2 && votes >= majority(all)
    }
}
