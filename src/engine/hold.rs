//! Who has to wait after a failure, and how long: pure, with time and randomness passed in.
//!
//! A failure that names one object holds its name. When several names fail and none succeeds in
//! between, it isn't the objects: the Ingestor is held. A held Ingestor tries one write when its
//! wait is over, of a name that failed least; what succeeds sets it free.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::verdict::HoldReason;

/// The first wait; it doubles up to [`HoldReason::longest_wait`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// So many names that fail with no success in between hold the Ingestor: one is bad luck, two may
/// be a coincidence.
const SEVERAL: usize = 3;

/// A server may ask for any wait; longer ones are cut so that a mistaken header can't stop an
/// Ingestor for a day.
const LONGEST_ASKED: Duration = Duration::from_mins(2);

/// The names that are held at once, at most: more hold the Ingestor, so that memory is bounded.
const MOST_NAMES: usize = 64;

/// The holds of one Ingestor.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    ingestor: Option<Hold>,
    names: BTreeMap<String, Hold>,
    /// Names that failed since the last success.
    failing: Vec<String>,
}

/// One hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// What the server said, on which object.
    pub message: String,
    /// Until when nothing is tried.
    pub until: Instant,
    /// How many attempts failed in a row.
    pub attempts: u32,
}

/// A failure, as the holds need it.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// Why.
    pub reason: HoldReason,
    /// What the server said, on which object.
    pub message: &'a str,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl Hold {
    /// Whether a person should hear of it: what heals by itself is told when it lasts, so that a
    /// status doesn't flap with every hiccup of the server.
    #[must_use]
    pub const fn is_worth_telling(&self) -> bool {
        self.attempts >= 3 || !self.reason.heals()
    }

    fn next(previous: Option<&Self>, now: Instant, failed: Failed<'_>, jitter: f64) -> Self {
        // What a person has to mend begins anew: an API server that comes back may refuse the first
        // request, before it knows the roles, and is not to be left for half a minute because it was
        // away before.
        let alike = previous.filter(|hold| hold.reason.heals() == failed.reason.heals());
        let attempts = alike.map_or(0, |hold| hold.attempts).saturating_add(1);
        let wait = backoff(attempts, failed.reason.longest_wait(), jitter);
        let asked = failed.retry_after.unwrap_or_default().min(LONGEST_ASKED);
        Self {
            reason: failed.reason,
            message: failed.message.to_owned(),
            until: now + wait.max(asked),
            attempts,
        }
    }
}

/// The wait before attempt `attempts + 1`: doubling, capped, and somewhere in its upper half, so
/// that those who failed together don't come back together.
///
/// `jitter` is uniform in 0..1.
#[must_use]
pub fn backoff(attempts: u32, longest: Duration, jitter: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
    wait.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

impl Holds {
    /// Notes that a write of `name` failed for a reason of its own. Gives the Ingestor's hold if
    /// this one began it.
    pub fn name_failed(
        &mut self,
        now: Instant,
        name: &str,
        failed: Failed<'_>,
        jitter: f64,
    ) -> Option<&Hold> {
        let hold = Hold::next(self.names.get(name), now, failed, jitter);
        self.names.insert(name.to_owned(), hold);
        if !self.failing.iter().any(|known| known == name) {
            self.failing.push(name.to_owned());
        }
        let too_many = self.names.len() > MOST_NAMES;
        if too_many {
            self.forget_least();
        }
        let several = self.failing.len() >= SEVERAL || too_many;
        (several || self.ingestor.is_some())
            .then(|| self.ingestor_failed(now, failed, jitter))
            .flatten()
    }

    /// Notes that a write failed for a reason that all writes of the Ingestor share. Gives the hold
    /// if this one began it.
    ///
    /// Failures of writes that were under way together are one attempt, not many.
    pub fn ingestor_failed(
        &mut self,
        now: Instant,
        failed: Failed<'_>,
        jitter: f64,
    ) -> Option<&Hold> {
        let standing = self.ingestor.as_ref();
        let began = standing.is_none();
        if standing.is_none_or(|hold| hold.until <= now) {
            self.ingestor = Some(Hold::next(standing, now, failed, jitter));
        }
        self.failing.clear();
        self.ingestor.as_ref().filter(|_| began)
    }

    /// Notes that the server took a write of `name`. True if that set the Ingestor free.
    pub fn succeeded(&mut self, name: &str) -> bool {
        self.names.remove(name);
        self.failing.clear();
        self.ingestor.take().is_some()
    }

    /// From when on a write of `name` may be tried; `None`: now.
    #[must_use]
    pub fn wait(&self, now: Instant, name: &str) -> Option<Instant> {
        let ingestor = self.ingestor.as_ref().map(|hold| hold.until);
        let named = self.names.get(name).map(|hold| hold.until);
        ingestor.max(named).filter(|until| *until > now)
    }

    /// How often in a row `name` failed. A probe goes to a name that failed least: a few poisoned
    /// ones in front can't keep a healthy Ingestor held.
    #[must_use]
    pub fn attempts(&self, name: &str) -> u32 {
        self.names.get(name).map_or(0, |hold| hold.attempts)
    }

    fn forget_least(&mut self) {
        let least = self.names.iter().min_by_key(|(_, hold)| hold.attempts);
        if let Some(name) = least.map(|(name, _)| name.clone()) {
            self.names.remove(&name);
        }
    }

    /// Whether all names wait: the Ingestor is held.
    #[must_use]
    pub const fn holds_all(&self) -> bool {
        self.ingestor.is_some()
    }

    /// How many writes may be under way: one, to probe, while the Ingestor is held.
    #[must_use]
    pub const fn width(&self, otherwise: usize) -> usize {
        if self.ingestor.is_some() {
            1
        } else {
            otherwise
        }
    }

    /// The hold of the Ingestor, else of the name that has failed most often: for its status.
    #[must_use]
    pub fn worst(&self) -> Option<&Hold> {
        let names = || self.names.values().max_by_key(|hold| hold.attempts);
        self.ingestor.as_ref().or_else(names)
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.ingestor.is_none() && self.names.is_empty()
    }
}

#[cfg(test)]
mod tests;
