use super::*;
use crate::testing::clock::ManualClock;
use crate::{journal::Millis, ops::time::Clock as _};

fn failed(reason: HoldReason) -> Failed<'static> {
    Failed {
        reason,
        message: "create observation team-a/x: 500 InternalError",
        retry_after: None,
    }
}

fn now() -> Instant {
    ManualClock::at(Millis(0)).instant()
}

#[test]
fn one_poisoned_name_waits_alone() {
    let (mut holds, now) = (Holds::default(), now());
    for attempt in 0..20 {
        let began = holds.name_failed(now, "poison", failed(HoldReason::ServerError), 1.0);
        assert_eq!(began, None, "attempt {attempt}");
        holds.succeeded("good");
    }
    assert!(holds.wait(now, "poison").is_some());
    assert_eq!(holds.wait(now, "good"), None);
    assert_eq!(holds.width(32), 32);
    assert_eq!(holds.worst().unwrap().attempts, 20);
}

#[test]
fn several_names_with_no_success_between_hold_the_ingestor() {
    let (mut holds, now) = (Holds::default(), now());
    let reason = HoldReason::TimedOut;
    assert_eq!(holds.name_failed(now, "a", failed(reason), 1.0), None);
    assert_eq!(holds.name_failed(now, "b", failed(reason), 1.0), None);
    let began = holds.name_failed(now, "c", failed(reason), 1.0);
    assert_eq!(began.map(|hold| hold.reason), Some(reason));
    assert!(holds.wait(now, "never tried").is_some());
    assert_eq!(holds.width(32), 1);
}

#[test]
fn a_probe_can_tell_healthy_names_from_poisoned_ones() {
    let (mut holds, now) = (Holds::default(), now());
    for name in ["a", "b", "c"] {
        holds.name_failed(now, name, failed(HoldReason::ServerError), 1.0);
    }
    assert!(holds.attempts("a") > holds.attempts("healthy"));
    assert!(holds.succeeded("healthy"));
    assert_eq!(holds.wait(now, "healthy"), None);
    assert!(holds.wait(now, "a").is_some());
}

#[test]
fn the_table_of_names_is_bounded() {
    let (mut holds, now) = (Holds::default(), now());
    for name in 0..10 * MOST_NAMES {
        let name = name.to_string();
        holds.name_failed(now, &name, failed(HoldReason::ServerError), 1.0);
        holds.succeeded("good");
    }
    assert!(holds.names.len() <= MOST_NAMES);
}

#[test]
fn writes_that_fail_together_count_as_one_attempt() {
    let (mut holds, now) = (Holds::default(), now());
    for _ in 0..32 {
        holds.ingestor_failed(now, failed(HoldReason::Forbidden), 1.0);
    }
    assert_eq!(holds.worst().unwrap().attempts, 1);
    let later = now + FIRST_WAIT;
    assert_eq!(holds.wait(later, "x"), None);
    holds.ingestor_failed(later, failed(HoldReason::Forbidden), 1.0);
    assert_eq!(holds.worst().unwrap().attempts, 2);
}

#[test]
fn a_refusal_behind_an_outage_is_a_first_one() {
    let (mut holds, mut now) = (Holds::default(), now());
    for _ in 0..20 {
        holds.ingestor_failed(now, failed(HoldReason::Unreachable), 1.0);
        now += Duration::from_secs(1);
    }
    holds.ingestor_failed(now, failed(HoldReason::Forbidden), 1.0);
    assert_eq!(holds.wait(now, "x"), Some(now + FIRST_WAIT));
    now += FIRST_WAIT;
    holds.ingestor_failed(now, failed(HoldReason::Forbidden), 1.0);
    assert_eq!(holds.wait(now, "x"), Some(now + 2 * FIRST_WAIT));
}

#[test]
fn a_success_sets_the_ingestor_free() {
    let (mut holds, now) = (Holds::default(), now());
    holds.ingestor_failed(now, failed(HoldReason::Forbidden), 1.0);
    assert!(holds.succeeded("x"));
    assert!(holds.is_free());
    assert!(!holds.succeeded("x"));
}

#[test]
fn the_server_may_ask_for_longer_but_not_for_a_day() {
    let (mut holds, now) = (Holds::default(), now());
    let mut asked = failed(HoldReason::Throttled);
    asked.retry_after = Some(Duration::from_secs(9));
    holds.ingestor_failed(now, asked, 0.0);
    assert_eq!(holds.wait(now, "x"), Some(now + Duration::from_secs(9)));
    asked.retry_after = Some(Duration::from_hours(24));
    let later = now + Duration::from_secs(9);
    holds.ingestor_failed(later, asked, 0.0);
    assert_eq!(holds.wait(later, "x"), Some(later + LONGEST_ASKED));
}

proptest::proptest! {
    #[test]
    fn waits_grow_to_their_cap_and_never_beyond(attempts in 0_u32.., jitter in 0.0_f64..1.0) {
        for reason in HoldReason::ALL {
            let wait = backoff(attempts, reason.longest_wait(), jitter);
            assert!(wait >= FIRST_WAIT / 2 && wait <= reason.longest_wait());
            let next = backoff(attempts.saturating_add(1), reason.longest_wait(), jitter);
            assert!(next >= wait);
        }
    }
}
