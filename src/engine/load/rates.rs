//! Events a second by bucket, smoothed: pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::journal::Bucket;

/// A change is half seen after two thirds of this: a burst of a few seconds moves no bucket.
const SMOOTH: Duration = Duration::from_secs(30);

/// It is told at least so often.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Events a second by bucket, smoothed; never below the number of the bucket's Ingestors, so that
/// idle ones are spread as well.
#[derive(Debug, Default)]
pub(super) struct Load {
    rates: BTreeMap<Bucket, f64>,
    told: BTreeMap<Bucket, u32>,
    measured: Option<Instant>,
    told_at: Option<Instant>,
}

impl Load {
    /// Takes in how many events of each owned bucket ended since the last call. Gives the loads if
    /// they are to be told: one has changed by more than a tenth, or it is time.
    pub(super) fn measure(
        &mut self,
        now: Instant,
        ended: &BTreeMap<Bucket, u64>,
        ingestors: &BTreeMap<Bucket, u32>,
    ) -> Option<Vec<(Bucket, u32)>> {
        let since = self.measured.replace(now);
        self.rates.retain(|bucket, _| ended.contains_key(bucket));
        let passed = since.map(|since| now.saturating_duration_since(since).as_secs_f64());
        for (bucket, count) in ended {
            let rate = self.rates.entry(*bucket).or_insert(0.0);
            if let Some(passed) = passed.filter(|passed| *passed > 0.0) {
                let share = 1.0 - (-passed / SMOOTH.as_secs_f64()).exp();
                *rate += (float(*count) / passed - *rate) * share;
            }
        }
        let loads: BTreeMap<Bucket, u32> = self
            .rates
            .iter()
            .map(|(bucket, rate)| {
                let least = ingestors.get(bucket).copied().unwrap_or(0);
                (*bucket, whole(*rate).max(least))
            })
            .collect();
        let due = self
            .told_at
            .is_none_or(|at| now.saturating_duration_since(at) >= TELL_EVERY);
        let changed = loads.len() != self.told.len()
            || loads
                .iter()
                .any(|(bucket, load)| differs(self.told.get(bucket).copied(), *load));
        if loads.is_empty() || !(due || changed) {
            return None;
        }
        self.told_at = Some(now);
        self.told.clone_from(&loads);
        Some(loads.into_iter().collect())
    }
}

/// By more than a tenth.
fn differs(before: Option<u32>, now: u32) -> bool {
    before.is_none_or(|before| u64::from(now.abs_diff(before)) * 10 > u64::from(before))
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits; not a number is none"
)]
fn whole(rate: f64) -> u32 {
    rate.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = Bucket(7);

    struct Bench {
        load: Load,
        now: Instant,
        ingestors: BTreeMap<Bucket, u32>,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "any moment will do as the first")]
        fn new(ingestors: u32) -> Self {
            Self {
                load: Load::default(),
                now: Instant::now(),
                ingestors: BTreeMap::from([(BUCKET, ingestors)]),
            }
        }

        fn second(&mut self, events: u64) -> Option<u32> {
            self.now += Duration::from_secs(1);
            let ended = BTreeMap::from([(BUCKET, events)]);
            let told = self.load.measure(self.now, &ended, &self.ingestors)?;
            assert_eq!(told.len(), 1);
            Some(told[0].1)
        }
    }

    #[test]
    fn an_idle_bucket_weighs_as_many_as_it_has_ingestors_and_is_told_every_half_minute() {
        let mut bench = Bench::new(3);
        let told: Vec<_> = (0..61).map(|_| bench.second(0)).collect();
        let at: Vec<_> = (0..61).filter(|at| told[*at].is_some()).collect();
        assert_eq!(at, [0, 30, 60]);
        assert!(told.iter().flatten().all(|load| *load == 3));
    }

    #[test]
    fn a_steady_rate_is_reached_and_told_by_tenths() {
        let mut bench = Bench::new(1);
        let told: Vec<u32> = (0..300).filter_map(|_| bench.second(1_000)).collect();
        assert!((990..=1_000).contains(told.last().unwrap()), "{told:?}");
        assert!(told.len() < 60, "{}: not at every second", told.len());
        assert!(told.windows(2).all(|two| two[0] <= two[1]), "{told:?}");
    }

    #[test]
    fn a_burst_of_a_second_is_a_thirtieth() {
        let mut bench = Bench::new(1);
        bench.second(0);
        let told = bench.second(3_000).unwrap();
        assert!((95..=100).contains(&told), "{told}");
    }

    #[test]
    fn a_bucket_that_is_given_away_is_forgotten() {
        let mut bench = Bench::new(1);
        bench.second(3_000);
        bench.second(3_000);
        let none = BTreeMap::new();
        let told = bench.load.measure(bench.now, &none, &bench.ingestors);
        assert_eq!(told, None);
        assert_eq!(bench.second(0), Some(1), "and begins anew");
    }
}
