use jiff::Timestamp;

use super::*;

fn at(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).unwrap())
}

fn serving() -> Facts {
    Facts {
        generation: 3,
        enabled: true,
        endpoint: Some(Endpoint {
            generation: Some(3),
            serving: true,
            ..Endpoint::default()
        }),
        ..Facts::default()
    }
}

fn of(facts: &Facts, condition: ConditionType) -> (Status, Reason) {
    let found = findings(facts)
        .into_iter()
        .find(|f| f.condition == condition)
        .unwrap();
    (found.status, found.reason)
}

use ConditionType::{Accepted, Degraded, Ready, Unauthenticated};

#[test]
fn a_serving_endpoint_is_accepted_ready_and_not_degraded() {
    let facts = serving();
    assert_eq!(of(&facts, Accepted), (Status::True, Reason::AsExpected));
    assert_eq!(of(&facts, Ready), (Status::True, Reason::AsExpected));
    assert_eq!(of(&facts, Degraded), (Status::False, Reason::AsExpected));
    assert_eq!(findings(&facts).len(), 3, "no Unauthenticated");
}

#[test]
fn auth_none_is_shown() {
    let facts = Facts {
        auth_none: true,
        ..serving()
    };
    assert_eq!(
        of(&facts, Unauthenticated),
        (Status::True, Reason::AuthNone)
    );
}

#[test]
fn nothing_known_is_unknown_not_false() {
    let facts = Facts {
        endpoint: None,
        ..serving()
    };
    assert_eq!(of(&facts, Ready), (Status::Unknown, Reason::Pending));
}

#[test]
fn a_route_of_an_older_generation_is_pending() {
    let mut facts = serving();
    facts.generation = 4;
    assert_eq!(of(&facts, Ready), (Status::Unknown, Reason::Pending));
}

#[test]
fn each_obstacle_has_its_reason() {
    let endpoint = |secrets| Facts {
        endpoint: Some(Endpoint {
            generation: Some(3),
            secrets,
            ..Endpoint::default()
        }),
        ..serving()
    };
    let conflict = Refusal::PathConflict {
        path: "github".to_owned(),
        holder: "older".to_owned(),
    };
    let cases = [
        (
            Facts {
                enabled: false,
                ..serving()
            },
            Reason::Disabled,
        ),
        (
            Facts {
                refusal: Some(conflict),
                ..serving()
            },
            Reason::PathConflict,
        ),
        (
            endpoint(Secrets::Missing("s".to_owned())),
            Reason::SecretMissing,
        ),
        (
            endpoint(Secrets::Forbidden("s".to_owned())),
            Reason::SecretForbidden,
        ),
        (
            Facts {
                refusal: Some(Refusal::InvalidExpression("bad".to_owned())),
                ..endpoint(Secrets::Usable)
            },
            Reason::InvalidExpression,
        ),
        (endpoint(Secrets::Usable), Reason::Pending),
    ];
    for (facts, reason) in cases {
        assert_eq!(of(&facts, Ready), (Status::False, reason), "{facts:?}");
    }
}

#[test]
fn a_refused_spec_leaves_the_last_one_serving() {
    let facts = Facts {
        refusal: Some(Refusal::InvalidExpression(
            "normalize.severity.expression: syntax error".to_owned(),
        )),
        ..serving()
    };
    assert_eq!(
        of(&facts, Accepted),
        (Status::False, Reason::InvalidExpression)
    );
    assert_eq!(of(&facts, Ready).0, Status::True);
}

#[test]
fn the_worst_trouble_names_the_reason_and_all_are_told() {
    let facts = Facts {
        paused: true,
        dead_letters: 2,
        writes_held: Some("403 Forbidden".to_owned()),
        expression_error: Some("normalize.resource.name: no such key".to_owned()),
        ..serving()
    };
    let found = degraded(&facts);
    assert_eq!(found.reason, Reason::WritesHeld);
    for part in ["403 Forbidden", "maxPerMinute", "no such key", "2 events"] {
        assert!(found.message.contains(part), "{}", found.message);
    }
}

#[test]
fn a_transition_time_moves_only_with_the_status() {
    let first = merge(&[], &findings(&serving()), Some(3), &at(100));
    assert!(first.iter().all(|c| c.last_transition_time == at(100)));

    let other_reason = Facts {
        generation: 3,
        paused: true,
        ..serving()
    };
    let second = merge(&first, &findings(&other_reason), Some(3), &at(200));
    let time = |list: &[Condition], t: ConditionType| {
        list.iter()
            .find(|c| c.type_ == t.as_str())
            .unwrap()
            .last_transition_time
            .clone()
    };
    assert_eq!(time(&second, Ready), at(100));
    assert_eq!(time(&second, Degraded), at(200));

    let worse = Facts {
        writes_held: Some("500".to_owned()),
        ..other_reason
    };
    let third = merge(&second, &findings(&worse), Some(4), &at(300));
    assert_eq!(time(&third, Degraded), at(200), "still True");
    assert!(third.iter().all(|c| c.observed_generation == Some(4)));
    assert!(
        third
            .iter()
            .any(|c| c.reason == Reason::WritesHeld.as_str()),
        "the reason follows at once"
    );
}

#[test]
fn merging_twice_changes_nothing() {
    let found = findings(&serving());
    let once = merge(&[], &found, Some(3), &at(100));
    assert_eq!(merge(&once, &found, Some(3), &at(500)), once);
}

#[test]
fn ours_go_when_they_no_longer_apply_and_others_stay() {
    let facts = Facts {
        auth_none: true,
        ..serving()
    };
    let mut before = merge(&[], &findings(&facts), Some(3), &at(100));
    before.push(Condition {
        type_: "example.com/Audited".to_owned(),
        ..before[0].clone()
    });
    let after = merge(&before, &findings(&serving()), Some(3), &at(200));
    let types: Vec<&str> = after.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(
        types,
        ["Accepted", "Ready", "Degraded", "example.com/Audited"]
    );
}

#[test]
fn names_on_the_wire_match_the_pattern_of_the_crd() {
    for condition in ConditionType::ALL {
        assert!(condition.as_str().bytes().all(|b| b.is_ascii_alphabetic()));
    }
}
