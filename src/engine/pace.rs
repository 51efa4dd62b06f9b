//! How fast writes may go: pure, with time passed in.
//!
//! Two paces meet. [`Pace`] is what an Ingestor's owner allows (`maxPerMinute`); [`Width`] is what
//! the API server bears: how many writes may be under way at once, over all Ingestors.

use std::time::{Duration, Instant};

/// `maxPerMinute` as a token bucket (GCRA): one second's worth may come at once, never less than
/// one write.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    per_minute: Option<u32>,
    /// When the bucket would be full again (the theoretical arrival time of the next write).
    full_at: Option<Instant>,
}

/// Whether a write may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may be made now.
    Now,
    /// It may be made then.
    At(Instant),
    /// `maxPerMinute: 0`: not before the spec changes.
    Paused,
}

const MINUTE: Duration = Duration::from_mins(1);

impl Pace {
    /// Follows today's spec; true if that is another pace, which begins with a full bucket.
    pub fn set(&mut self, per_minute: Option<u32>) -> bool {
        let changed = self.per_minute != per_minute;
        if changed {
            self.per_minute = per_minute;
            self.full_at = None;
        }
        changed
    }

    /// Whether the Ingestor is paused.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        matches!(self.per_minute, Some(0))
    }

    /// Whether a write may be made; spends nothing.
    #[must_use]
    pub fn check(&self, now: Instant) -> Permission {
        let Some(per_minute) = self.per_minute else {
            return Permission::Now;
        };
        if per_minute == 0 {
            return Permission::Paused;
        }
        let burst = burst(per_minute).saturating_sub(MINUTE / per_minute);
        match self.full_at.and_then(|full| full.checked_sub(burst)) {
            Some(at) if at > now => Permission::At(at),
            Some(_) | None => Permission::Now,
        }
    }

    /// Spends one write.
    pub fn spend(&mut self, now: Instant) {
        if let Some(per_minute) = self.per_minute.filter(|n| *n > 0) {
            let from = self.full_at.map_or(now, |full| full.max(now));
            self.full_at = Some(from + MINUTE / per_minute);
        }
    }

    /// How many writes may be made from `now` on within `span`, at most `most`: so that no more
    /// records are fetched than can be written soon.
    #[must_use]
    pub fn within(&self, now: Instant, span: Duration, most: u32) -> u32 {
        let Some(per_minute) = self.per_minute.filter(|n| *n > 0) else {
            return if self.is_paused() { 0 } else { most };
        };
        let each = MINUTE / per_minute;
        let end = now + span + burst(per_minute);
        let from = self.full_at.map_or(now, |full| full.max(now));
        let room = end.saturating_duration_since(from);
        u32::try_from(room.as_nanos() / each.as_nanos().max(1)).map_or(most, |n| n.min(most))
    }
}

/// What may come at once: one second's worth, so that pacing costs no throughput when the loop is
/// late, and a minute never sees more than `maxPerMinute` and a sixtieth.
fn burst(per_minute: u32) -> Duration {
    let each = MINUTE / per_minute;
    each.max(Duration::from_secs(1))
}

/// How many writes may be under way at once: additive increase while they are answered in time,
/// multiplicative decrease when the server says that it has too much, or gets slow.
#[derive(Clone, Debug)]
pub struct Width {
    width: f64,
    /// Mean time to an answer, moving.
    latency: Option<f64>,
    /// After a decrease nothing is decreased before the answers to what was under way are in.
    calm_until: Option<Instant>,
}

/// What a call tells about the server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It was answered, whatever the answer.
    Answered(Duration),
    /// 429, 5xx, no answer, no connection.
    Overloaded,
}

impl Width {
    /// 32 writes of about 20 ms each are the 1,100 to 1,600 a second that an API server on two
    /// cores takes.
    const START: f64 = 32.0;
    /// Enough to notice the server's recovery on several connections.
    const LEAST: f64 = 4.0;
    /// An API server serves at most 200 mutating requests at once by default
    /// (`--max-mutating-requests-inflight`); others need some too.
    const MOST: f64 = 128.0;
    /// Slower than this, more at once only makes all wait longer: a write takes 5 to 20 ms on an
    /// idle server, and a request that arrives alone must be visible within 50 ms.
    const SLOW: f64 = 0.100;
    /// Share that remains when the server has too much.
    const BACK_OFF: f64 = 0.6;
    /// Share that remains when the server is slow.
    const SLOW_DOWN: f64 = 0.9;
    /// Weight of one answer in the mean: about the last 20 answers count.
    const WEIGHT: f64 = 0.05;

    /// A width to start with.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            width: Self::START,
            latency: None,
            calm_until: None,
        }
    }

    /// The width now.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "kept between LEAST and MOST, both small and positive"
    )]
    pub const fn get(&self) -> usize {
        self.width as usize
    }

    /// Learns from one call; `in_use` is how many were under way. Gives the new width.
    pub fn learn(&mut self, now: Instant, in_use: usize, signal: Signal) -> usize {
        match signal {
            Signal::Answered(after) => {
                let after = after.as_secs_f64();
                let mean = self.latency.unwrap_or(after);
                let mean = mean + (after - mean) * Self::WEIGHT;
                self.latency = Some(mean);
                if mean > Self::SLOW {
                    self.shrink(now, Self::SLOW_DOWN, Duration::from_secs_f64(mean));
                } else if in_use.saturating_mul(4) >= self.get().saturating_mul(3) {
                    // A width that isn't used says nothing about whether more would do. One Ingestor
                    // alone uses four fifths of it, three of the least four.
                    self.width = (self.width + 1.0 / self.width).min(Self::MOST);
                }
            }
            Signal::Overloaded => {
                let mean = Duration::from_secs_f64(self.latency.unwrap_or(Self::SLOW));
                self.shrink(now, Self::BACK_OFF, mean.max(Duration::from_millis(100)));
            }
        }
        self.get()
    }

    fn shrink(&mut self, now: Instant, factor: f64, calm: Duration) {
        if self.calm_until.is_none_or(|until| until <= now) {
            self.width = (self.width * factor).max(Self::LEAST);
            self.calm_until = Some(now + calm);
        }
    }
}

impl Default for Width {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
