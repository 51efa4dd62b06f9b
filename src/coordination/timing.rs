//! Every duration of the protocol, with its derivation, and the relations that must hold.

use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How long everything takes. [`Timing::default`] is what production uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A Lease unchanged for this long is stale. 15 s as client-go's: three lost renewals of a
    /// member, seven of a leader.
    pub lease: Duration,
    /// The leader renews this often: so that a released or edited Lease is noticed soon, at
    /// 0.5 writes/s for the whole fleet.
    pub renew_leader: Duration,
    /// A member renews this often: 25 replicas make 5 writes/s, within the budget of 6.
    pub renew_member: Duration,
    /// A renewal that is later than this is a gap: all clocks on Leases begin anew. With
    /// `renew_member` well below `lease`, so that an outage of any length is a gap before it is a
    /// death.
    pub late: Duration,
    /// The gate shuts when a renewal, or the view of the map, was not confirmed for this long: 5 s
    /// before others may take over.
    pub gate: Duration,
    /// An answer to a challenge has this long, from its confirmed write: a watch event and a write,
    /// each far below 100 ms on a loaded API server, with room for a slow etcd.
    pub challenge: Duration,
    /// An answer of the API that took longer makes a challenger start over: it can't tell a slow
    /// suspect from a slow API.
    pub slow: Duration,
    /// The edge gives up on a request after this long, and answers [`super::port::Answer::Unknown`]:
    /// a renewal whose answer is lost, the read after it, and the renewal after that all fit into one
    /// Lease duration.
    pub request: Duration,
    /// A holder that answered isn't challenged again before this; doubles.
    pub rechallenge: Duration,
    /// Up to this.
    pub rechallenge_most: Duration,
    /// Votes count for this long.
    pub vote: Duration,
    /// A holder that a majority can't reach for this long gives its buckets away: longer than the
    /// restart of a switch or a rollout of network policies, usually.
    pub unreachable: Duration,
    /// Each candidate waits this much longer than the one before it: a mark and a takeover (two
    /// writes) of the one before end within it.
    pub step: Duration,
    /// A missing leader Lease is left this long to the leader that the map names.
    pub create: Duration,
    /// The longest pause before a deposed leader takes over early again; the first is `lease`.
    pub damp_most: Duration,
    /// How long peers, journals and objects have to say what they remember of a lost map.
    pub recall: Duration,
    /// First pause after a request without an answer; doubles, with jitter.
    pub retry: Duration,
    /// Up to this: so that work resumes within 2 s after an outage.
    pub retry_most: Duration,
    /// Member Leases that are dead for this long are deleted: long enough to be looked at.
    pub bury: Duration,
    /// A moving bucket's owner is asked for this long. Finishing what is in flight takes one API
    /// call, 10 s at the worst.
    pub ask: Duration,
    /// And warned for this long, then the bucket is taken.
    pub warn: Duration,
    /// From the first acknowledgement the leader waits this long for the others of its moves before
    /// it commits them: buckets with something in flight stop an API call later than those without,
    /// and a version of the map for the latter alone would keep the former waiting for as long as
    /// it takes to write.
    pub gather: Duration,
    /// A version of which a peer has told is read after this, unless the watch shows it first, as it
    /// usually does: 24 replicas needn't all read a map that they are being sent.
    pub hint: Duration,
    /// An acknowledgement is sent again this often until the map changes.
    pub repeat: Duration,
    /// A drain ends after this long, whatever is left: within the grace period of 40 s, less what
    /// flushing takes.
    pub drain: Duration,
    /// How often the leader looks whether loads ask for a move, and members tell theirs: balance is
    /// for throughput, where minutes count.
    pub rebalance: Duration,
    /// How long a rolling update keeps balance waiting: ten minutes are more than it takes to roll a
    /// fleet of 10 at a minute each, and less than a fleet should be lopsided for one that is stuck.
    pub rolling: Duration,
    /// At most this many of a thousand buckets move at once, at least one.
    pub moving_permille: u32,
    /// A rebalancing that improves the heaviest pod by less than this many percent of the mean is
    /// not worth its moves.
    pub gain_percent: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: secs(15),
            renew_leader: secs(2),
            renew_member: secs(5),
            late: secs(2),
            gate: secs(10),
            challenge: secs(1),
            slow: secs(1),
            request: secs(2),
            rechallenge: secs(5),
            rechallenge_most: secs(60),
            vote: secs(1),
            unreachable: secs(30),
            step: ms(300),
            create: ms(500),
            damp_most: secs(600),
            recall: ms(500),
            retry: ms(50),
            retry_most: secs(1),
            bury: secs(600),
            ask: secs(10),
            warn: secs(5),
            gather: ms(10),
            hint: ms(20),
            repeat: ms(500),
            drain: secs(25),
            rebalance: secs(30),
            rolling: secs(600),
            moving_permille: 250,
            gain_percent: 5,
        }
    }
}

/// A relation between durations that doesn't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timing: {0}")]
pub struct TimingError(pub &'static str);

// === impl Timing ===

impl Timing {
    /// Checks the relations on which the protocol's calm rests. (Its safety rests on none.)
    ///
    /// # Errors
    /// Names the first relation that doesn't hold.
    pub fn check(&self) -> Result<(), TimingError> {
        let relations = [
            (
                self.renew_member + self.late < self.gate,
                "renew_member + late must be below gate: a renewal within its time keeps the gate open",
            ),
            (
                self.gate + self.late < self.lease,
                "gate + late must be below lease: the gate shuts before others take over",
            ),
            (
                2 * self.renew_leader + self.late < self.lease,
                "2 × renew_leader + late must be below lease: one lost renewal deposes nobody",
            ),
            (
                self.renew_member + self.late + self.retry_most + self.slow < self.lease,
                "renew_member + late + retry_most + slow must be below lease: an outage is a gap before it is a death",
            ),
            (
                self.renew_member + 3 * self.request + 2 * self.retry_most < self.lease,
                "renew_member + 3 × request + 2 × retry_most must be below lease: one lost answer makes nobody stale",
            ),
            (
                self.retry <= self.retry_most && self.retry_most <= self.slow,
                "retry ≤ retry_most ≤ slow: a retry comes within what counts as slow",
            ),
            (
                self.step < self.challenge,
                "step must be below challenge: a candidate that is first isn't overtaken by more than one challenge",
            ),
            (
                self.rechallenge <= self.rechallenge_most && self.challenge < self.rechallenge,
                "challenge < rechallenge ≤ rechallenge_most",
            ),
            (
                self.ask + self.warn < self.drain,
                "ask + warn must be below drain: a drain reaches the fence before it ends",
            ),
            (
                self.lease <= self.damp_most && self.lease < self.bury,
                "lease must be at most damp_most and below bury",
            ),
            (
                (1..=1000).contains(&self.moving_permille),
                "moving_permille must be between 1 and 1000",
            ),
            (
                !self.retry.is_zero() && !self.repeat.is_zero() && !self.renew_leader.is_zero(),
                "retry, repeat and renew_leader must not be zero",
            ),
        ];
        relations
            .into_iter()
            .find(|(holds, _)| !holds)
            .map_or(Ok(()), |(_, what)| Err(TimingError(what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Timing::default().check(), Ok(()));
    }

    #[test]
    fn each_relation_is_checked() {
        let broken: [fn(&mut Timing); 12] = [
            |t| t.renew_member = secs(9),
            |t| t.gate = secs(14),
            |t| t.renew_leader = secs(7),
            |t| {
                t.slow = secs(9);
            },
            |t| t.request = secs(3),
            |t| t.retry = secs(2),
            |t| t.step = secs(1),
            |t| t.rechallenge = secs(61),
            |t| t.ask = secs(20),
            |t| t.bury = secs(15),
            |t| t.moving_permille = 0,
            |t| t.repeat = Duration::ZERO,
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (n, broken) in broken.into_iter().enumerate() {
            let mut timing = Timing::default();
            broken(&mut timing);
            let error = timing.check().expect_err(&n.to_string());
            assert!(seen.insert(error.0), "{n}: {error}");
        }
    }
}
