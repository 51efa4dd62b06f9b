use proptest::prelude::*;

use super::*;
use crate::{journal::Millis, ops::time::Clock as _, testing::clock::ManualClock};

fn start() -> Instant {
    ManualClock::at(Millis(0)).instant()
}

/// Writes as fast as the pace allows for `span`; gives how many.
fn run(pace: &mut Pace, from: Instant, span: Duration) -> u32 {
    let (mut now, mut written) = (from, 0);
    while now < from + span {
        match pace.check(now) {
            Permission::Now => {
                pace.spend(now);
                written += 1;
            }
            Permission::At(then) => now = then,
            Permission::Paused => break,
        }
        assert!(written < 1_000_000, "the pace does not limit");
    }
    written
}

#[test]
fn a_minute_takes_what_the_spec_says_and_one_second_more() {
    for per_minute in [1, 2, 59, 60, 61, 6_000, 100_000] {
        let mut pace = Pace::default();
        pace.set(Some(per_minute));
        let written = run(&mut pace, start(), MINUTE);
        let most = per_minute + (per_minute / 60).max(1);
        assert!(
            (per_minute..=most).contains(&written),
            "{per_minute}: {written}"
        );
    }
}

#[test]
fn absent_is_no_limit_and_zero_is_paused() {
    let mut pace = Pace::default();
    let now = start();
    for _ in 0..10_000 {
        assert_eq!(pace.check(now), Permission::Now);
        pace.spend(now);
    }
    pace.set(Some(0));
    assert_eq!(pace.check(now), Permission::Paused);
    assert_eq!(pace.within(now, MINUTE, 100), 0);
    pace.set(None);
    assert_eq!(pace.check(now), Permission::Now);
}

#[test]
fn no_more_is_fetched_than_can_be_written_soon() {
    let (mut pace, now) = (Pace::default(), start());
    assert_eq!(pace.within(now, Duration::from_secs(1), 256), 256);
    pace.set(Some(600));
    assert_eq!(pace.within(now, Duration::from_secs(1), 256), 20);
    for _ in 0..10 {
        pace.spend(now);
    }
    assert_eq!(pace.within(now, Duration::from_secs(1), 256), 10);
}

proptest! {
    /// Over any schedule of attempts, never more than a burst and the rate's worth.
    #[test]
    fn the_rate_holds_over_any_schedule(
        per_minute in 1_u32..20_000,
        gaps in prop::collection::vec(0_u64..3_000, 1..400),
    ) {
        let mut pace = Pace::default();
        pace.set(Some(per_minute));
        let from = start();
        let (mut now, mut written) = (from, 0_u32);
        for gap in gaps {
            now += Duration::from_millis(gap);
            if pace.check(now) == Permission::Now {
                pace.spend(now);
                written += 1;
            }
        }
        let spent = (MINUTE / per_minute).saturating_mul(written.saturating_sub(1));
        prop_assert!(spent <= (now - from) + burst(per_minute));
    }

    #[test]
    fn the_width_stays_within_its_bounds(signals in prop::collection::vec(
        (0_u64..20_000, 0_usize..300, any::<bool>()), 1..500,
    )) {
        let (mut width, mut now) = (Width::new(), start());
        for (millis, in_use, overloaded) in signals {
            now += Duration::from_millis(millis / 10);
            let signal = if overloaded {
                Signal::Overloaded
            } else {
                Signal::Answered(Duration::from_millis(millis))
            };
            let got = width.learn(now, in_use, signal);
            prop_assert!((4..=128).contains(&got));
        }
    }
}

#[test]
fn the_width_grows_while_it_is_used_and_answers_are_quick() {
    let (mut width, now) = (Width::new(), start());
    for _ in 0..5_000 {
        width.learn(now, 0, Signal::Answered(Duration::from_millis(10)));
    }
    assert_eq!(width.get(), 32, "an idle width proves nothing");
    for _ in 0..5_000 {
        let in_use = width.get();
        width.learn(now, in_use, Signal::Answered(Duration::from_millis(10)));
    }
    assert!(width.get() > 64);
}

#[test]
fn one_burst_of_429_is_one_step_back() {
    let (mut width, now) = (Width::new(), start());
    for _ in 0..32 {
        width.learn(now, 32, Signal::Overloaded);
    }
    assert_eq!(width.get(), 19);
    width.learn(now + Duration::from_secs(1), 19, Signal::Overloaded);
    assert_eq!(width.get(), 11);
}

#[test]
fn a_slow_server_gets_less_at_once() {
    let (mut width, mut now) = (Width::new(), start());
    for _ in 0..200 {
        now += Duration::from_millis(50);
        width.learn(now, 32, Signal::Answered(Duration::from_millis(400)));
    }
    assert!(width.get() < 16);
}
