//! When things happened: moments since this process began, and the wall clock for what people read.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use zen_fabric::ops::time::{Clock as _, SystemClock};

static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Microseconds since this process first asked for the time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct At(pub u64);

// === impl At ===

impl At {
    /// The moment itself.
    #[must_use]
    pub fn now() -> Self {
        let now = SystemClock.instant();
        let begin = *BEGIN.get_or_init(|| now);
        let micros = now.saturating_duration_since(begin).as_micros();
        Self(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// How long ago `earlier` was; nothing where it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// How long ago it was.
    #[must_use]
    pub fn passed(self) -> Duration {
        Self::now().since(self)
    }

    /// This much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// In milliseconds, with their fraction.
    #[must_use]
    pub fn millis(self) -> f64 {
        millis(Duration::from_micros(self.0))
    }
}

/// A duration in milliseconds, with their fraction.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The wall clock that long ago, as the API writes it.
#[must_use]
pub fn ago(long: Duration) -> String {
    let now = SystemClock.now().0;
    let then = now.saturating_sub(i64::try_from(long.as_millis()).unwrap_or(i64::MAX));
    jiff::Timestamp::from_millisecond(then)
        .map(|then| format!("{then:.6}"))
        .unwrap_or_default()
}

/// The wall clock, for what people read.
#[must_use]
pub fn wall() -> String {
    let text = ago(Duration::ZERO);
    // Seconds are enough.
    text.split_once('.')
        .map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}
