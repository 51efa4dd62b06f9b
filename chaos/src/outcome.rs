//! What a scenario leaves behind: everything that the report says about it, as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    check::Checked,
    samples::{Samples, Summary},
};

/// The result of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The scenario, as the command names it.
    pub name: String,
    /// What should happen.
    pub hypothesis: String,
    /// What was done, and when.
    pub steps: Vec<Step>,
    /// What was measured.
    pub measured: Vec<Measured>,
    /// What was checked.
    pub checks: Vec<Checked>,
    /// How many of what: events, kills, writes.
    pub counts: BTreeMap<String, u64>,
    /// Who owned what.
    pub timeline: Timeline,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was the short form.
    pub short: bool,
    /// When, and of what.
    pub taken: Taken,
}

/// When something was measured, and on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// When.
    pub at: String,
    /// The commit, and whether there were changes beside it.
    pub commit: String,
    /// Processor, memory, kernel.
    pub machine: String,
    /// Which program: `release` or `debug`.
    pub build: String,
}

/// One thing that was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Milliseconds since the run began.
    pub at: f64,
    /// What.
    pub what: String,
}

/// A quantity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// What.
    pub what: String,
    /// Its unit.
    pub unit: String,
    /// The figures; of a single value all are the same.
    pub figures: Option<Summary>,
    /// What is asked of it, if anything is.
    pub bar: Option<Bar>,
}

/// What is asked of a quantity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bar {
    /// Half are at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 99 of 100 are at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// All are at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<f64>,
    /// All are at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<f64>,
    /// There are at least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// Who owned what, from when to when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// How long it is, in milliseconds.
    pub length: f64,
    /// A row of each key.
    pub rows: Vec<Row>,
    /// What happened to the fleet.
    pub marks: Vec<Step>,
}

/// One key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub key: String,
    /// Its owners.
    pub spans: Vec<OwnedBy>,
}

/// One owner of a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnedBy {
    /// From, in milliseconds since the run began.
    pub from: f64,
    /// To.
    pub to: f64,
    /// `pod#incarnation`.
    pub owner: String,
    /// Under which epoch it began.
    pub epoch: u64,
}

/// What is said of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every check holds and every bar is met.
    Holds,
    /// Every check holds; a bar is not met.
    Misses,
    /// A check does not hold.
    Breaks,
}

// === impl Measured ===

impl Measured {
    /// Of many values.
    #[must_use]
    pub fn of(what: &str, unit: &str, samples: &Samples) -> Self {
        Self {
            what: what.to_owned(),
            unit: unit.to_owned(),
            figures: samples.summary(),
            bar: None,
        }
    }

    /// Of one.
    #[must_use]
    pub fn one(what: &str, unit: &str, value: f64) -> Self {
        Self::of(what, unit, &std::iter::once(value).collect())
    }

    /// With what is asked of it.
    #[must_use]
    pub fn asked(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    /// Whether what is asked is met; `None`: nothing is asked, or there are too few to say it.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let bar = self.bar.as_ref()?;
        let Some(figures) = &self.figures else {
            return Some(false);
        };
        let within = |limit: Option<f64>, value: f64| limit.is_none_or(|limit| value <= limit);
        let fine = within(bar.p50, figures.p50)
            && within(bar.p99, figures.p99)
            && within(bar.most, figures.max)
            && bar.least.is_none_or(|least| figures.min >= least);
        let enough = bar.count.is_none_or(|count| figures.count >= count);
        // Too few can break a bar, not meet it.
        (enough || !fine).then_some(fine)
    }
}

// === impl Bar ===

impl Bar {
    /// All are at most this.
    #[must_use]
    pub fn most(value: f64) -> Self {
        Self {
            most: Some(value),
            ..Self::default()
        }
    }

    /// All are at least this.
    #[must_use]
    pub fn least(value: f64) -> Self {
        Self {
            least: Some(value),
            ..Self::default()
        }
    }

    /// Half are at most the one, 99 of 100 at most the other.
    #[must_use]
    pub fn halves(p50: f64, p99: f64) -> Self {
        Self {
            p50: Some(p50),
            p99: Some(p99),
            ..Self::default()
        }
    }

    /// 99 of 100 are at most this.
    #[must_use]
    pub fn p99(value: f64) -> Self {
        Self {
            p99: Some(value),
            ..Self::default()
        }
    }

    /// And there are at least so many.
    #[must_use]
    pub const fn of(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }
}

// === impl Outcome ===

impl Outcome {
    /// What is said of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.checks.iter().all(Checked::holds) {
            return Verdict::Breaks;
        }
        let missed = self
            .measured
            .iter()
            .any(|measured| measured.met() == Some(false));
        if missed {
            Verdict::Misses
        } else {
            Verdict::Holds
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(values: &[f64], bar: Bar) -> Measured {
        Measured::of("x", "ms", &values.iter().copied().collect()).asked(bar)
    }

    #[test]
    fn a_bar_is_met_only_by_enough_and_missed_by_any() {
        let bar = || Bar::halves(10.0, 20.0).of(3);
        assert_eq!(measured(&[9.0, 10.0, 20.0], bar()).met(), Some(true));
        assert_eq!(measured(&[9.0, 20.0], bar()).met(), None, "too few to say");
        assert_eq!(measured(&[9.0, 21.0], bar()).met(), Some(false));
        assert_eq!(measured(&[11.0, 11.0, 12.0], bar()).met(), Some(false));
        assert_eq!(
            measured(&[], bar()).met(),
            Some(false),
            "nothing was measured"
        );
        assert_eq!(measured(&[3.0], Bar::least(3.0)).met(), Some(true));
        assert_eq!(measured(&[3.0], Bar::most(2.0)).met(), Some(false));
        assert_eq!(Measured::one("x", "ms", 1.0).met(), None);
    }

    #[test]
    fn a_broken_rule_weighs_more_than_a_missed_bar() {
        let mut outcome = Outcome {
            measured: vec![measured(&[1.0], Bar::most(2.0))],
            ..Outcome::default()
        };
        assert_eq!(outcome.verdict(), Verdict::Holds);
        outcome.measured.push(measured(&[3.0], Bar::most(2.0)));
        assert_eq!(outcome.verdict(), Verdict::Misses);
        let mut broken = Checked::new("rule");
        broken.look(Some("wrong".to_owned()));
        outcome.checks.push(broken);
        assert_eq!(outcome.verdict(), Verdict::Breaks);
    }
}
