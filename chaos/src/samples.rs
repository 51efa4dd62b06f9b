//! Percentiles, by nearest rank: each figure is one that was measured.

use serde::{Deserialize, Serialize};

/// Values of one quantity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples(Vec<f64>);

/// What is said about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

// === impl Samples ===

impl Samples {
    /// One more. What is no number is not a measurement.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.0.push(value);
        }
    }

    /// Each of them.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figures; `None` where nothing was measured.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            count: sorted.len(),
            min: *sorted.first()?,
            p50: ranked(&sorted, 50)?,
            p99: ranked(&sorted, 99)?,
            max: *sorted.last()?,
        })
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.add(value));
        samples
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.add(value));
    }
}

/// The smallest value that at least so many percent are at most.
fn ranked(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_a_measured_one() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();
        let summary = samples.summary().unwrap();
        assert_eq!(summary.count, 200);
        assert_eq!((summary.min, summary.p50), (1.0, 100.0));
        assert_eq!((summary.p99, summary.max), (198.0, 200.0));
    }

    #[test]
    fn of_few_the_largest_is_the_99th() {
        let samples: Samples = [3.0, 1.0, f64::NAN, 2.0].into_iter().collect();
        let summary = samples.summary().unwrap();
        assert_eq!(summary.count, 3, "what is no number is not counted");
        assert_eq!((summary.p50, summary.p99, summary.max), (2.0, 3.0, 3.0));
        assert_eq!(Samples::default().summary(), None);
    }
}
