use serde_json::{Value, json};

use super::*;

fn ingestor(spec: &Value) -> Ingestor {
    let mut object = json!({
        "apiVersion": "zen.watcher.io/v1", "kind": "Ingestor",
        "metadata": { "name": "github", "namespace": "team", "uid": "u", "generation": 3 },
        "spec": {
            "source": { "webhook": { "auth": [{ "github": { "secretRef": { "name": "s" } } }] } },
            "normalize": {
                "category": { "value": "security" }, "severity": { "value": "info" },
                "eventType": { "value": "x" },
            },
        },
    });
    json_patch::merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

fn serving() -> Facts {
    Facts {
        generation: Some(3),
        serving: true,
        endpoint: Some("https://hooks.example.test/hooks/team/github".into()),
        ..Facts::default()
    }
}

fn known<'a>(ingestor: &'a Ingestor, facts: Option<&'a Facts>) -> Known<'a> {
    Known {
        ingestor,
        tally: Tally::default(),
        whole: true,
        facts,
        conflict: None,
        held: None,
        letter: None,
        expression: None,
        now: Millis(1_700_000_000_000),
    }
}

fn brief(status: &IngestorStatus) -> Vec<String> {
    let conditions = status.conditions.iter();
    conditions
        .map(|c| format!("{}={} {}", c.type_, c.status, c.reason))
        .collect()
}

#[test]
fn a_healthy_one_is_accepted_ready_and_not_degraded() {
    let (ingestor, facts) = (ingestor(&json!({})), serving());
    let status = project(&known(&ingestor, Some(&facts)));
    assert_eq!(
        brief(&status),
        [
            "Accepted=True AsExpected",
            "Ready=True AsExpected",
            "Degraded=False AsExpected"
        ]
    );
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.endpoint, facts.endpoint);
}

/// What is wrong → the condition that says so.
#[test]
fn every_fault_has_its_condition() {
    let plain = ingestor(&json!({}));
    let disabled = ingestor(&json!({ "enabled": false }));
    let paused = ingestor(&json!({ "output": { "observation": { "maxPerMinute": 0 } } }));
    let open = ingestor(&json!({ "source": { "webhook": { "auth": [{ "none": {} }] } } }));
    let secret = |secret| Facts {
        serving: false,
        secret,
        ..serving()
    };
    let missing = secret(SecretState::Missing { name: "s".into() });
    let forbidden = secret(SecretState::Forbidden { name: "s".into() });
    let refused = Facts {
        refused: Some(Refusal::Expression("normalize.severity: oops".into())),
        ..serving()
    };
    let never = Facts {
        serving: false,
        ..refused.clone()
    };
    // The gateway gives exactly these, see its catalog's tests: there is no route.
    let no_route = Facts {
        endpoint: serving().endpoint,
        ..Facts::default()
    };
    let closed = Facts {
        refused: Some(Refusal::Configuration("allowedCIDRs: oops".into())),
        ..no_route.clone()
    };
    let worthless = Facts {
        refused: never.refused.clone(),
        ..no_route.clone()
    };
    let older = Facts {
        generation: Some(2),
        ..serving()
    };
    let full = Facts {
        share_full: true,
        ..serving()
    };
    let fine = serving();
    let rows = [
        (&plain, None, "Accepted=Unknown Pending"),
        (&plain, None, "Ready=Unknown Pending"),
        (&plain, Some(&missing), "Ready=False SecretMissing"),
        (&plain, Some(&forbidden), "Ready=False SecretForbidden"),
        (&plain, Some(&refused), "Accepted=False InvalidExpression"),
        (&plain, Some(&refused), "Ready=True AsExpected"),
        (&plain, Some(&older), "Accepted=Unknown Pending"),
        (&plain, Some(&full), "Degraded=True BacklogFull"),
        (&plain, Some(&never), "Ready=False InvalidExpression"),
        (&plain, Some(&closed), "Accepted=False InvalidConfiguration"),
        (&plain, Some(&closed), "Ready=False InvalidConfiguration"),
        (&plain, Some(&no_route), "Accepted=Unknown Pending"),
        (&disabled, None, "Accepted=Unknown Pending"),
        (&disabled, Some(&older), "Accepted=Unknown Pending"),
        (&disabled, Some(&no_route), "Ready=False Disabled"),
        (&disabled, Some(&no_route), "Accepted=True AsExpected"),
        (
            &disabled,
            Some(&worthless),
            "Accepted=False InvalidExpression",
        ),
        (
            &disabled,
            Some(&closed),
            "Accepted=False InvalidConfiguration",
        ),
        (&paused, Some(&fine), "Degraded=True Paused"),
        (&open, Some(&fine), "Unauthenticated=True AuthNone"),
    ];
    for (ingestor, facts, expected) in rows {
        let told = brief(&project(&known(ingestor, facts)));
        assert!(
            told.iter().any(|one| one == expected),
            "{expected} not in {told:?}"
        );
    }
}

/// Only what goes on may be said to go on.
#[test]
fn a_refusal_says_what_the_endpoint_does_meanwhile() {
    let plain = ingestor(&json!({}));
    let message = |refused, serving| {
        let facts = Facts {
            refused: Some(refused),
            serving,
            ..self::serving()
        };
        let status = project(&known(&plain, Some(&facts)));
        status.conditions[0].message.clone()
    };
    let expression = || Refusal::Expression("filters: oops".into());
    assert_eq!(
        message(expression(), true),
        "filters: oops; the last spec that compiled stays in force"
    );
    assert_eq!(message(expression(), false), "filters: oops");
    assert_eq!(
        message(Refusal::Configuration("auth: oops".into()), false),
        "auth: oops; the endpoint is closed until that is mended"
    );
}

#[test]
fn values_of_a_secret_that_are_not_used_are_told() {
    let plain = ingestor(&json!({}));
    let facts = Facts {
        unused: vec![Unused {
            secret: "hook".into(),
            values: 2,
        }],
        ..serving()
    };
    let status = project(&known(&plain, Some(&facts)));
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    let message = &ready.unwrap().message;
    assert!(
        message.contains("2 of the values of secret hook"),
        "{message}"
    );
    assert!(brief(&status).contains(&"Ready=True AsExpected".into()));
}

#[test]
fn holds_letters_and_errors_are_told_and_the_latter_fade() {
    let (ingestor, facts) = (ingestor(&json!({})), serving());
    let told = (Millis(1_700_000_000_000), "Refused: no".to_owned());
    let mut known = known(&ingestor, Some(&facts));
    known.expression = Some(&told);
    assert!(brief(&project(&known)).contains(&"Degraded=True ExpressionErrors".into()));
    known.letter = Some(&told);
    assert!(brief(&project(&known)).contains(&"Degraded=True DeadLetters".into()));
    known.held = Some("create observation team/x: 403 Forbidden: no");
    let status = project(&known);
    assert!(brief(&status).contains(&"Degraded=True WritesHeld".into()));
    assert_eq!(status.conditions[2].message, known.held.unwrap());
    known.held = None;
    known.now = Millis(told.0.0 + RECENT);
    assert!(brief(&project(&known)).contains(&"Degraded=False AsExpected".into()));
}

#[test]
fn a_conflict_names_the_owner() {
    let (mine, facts) = (ingestor(&json!({})), serving());
    let mut older = mine.clone();
    older.metadata.uid = Some("older".into());
    older.metadata.name = Some("first".into());
    older.spec.source.webhook.as_mut().unwrap().path = Some("github".into());
    let owners = paths::owners([&mine, &older]);
    let mut known = known(&mine, Some(&facts));
    known.conflict = owners.conflict(&mine);
    let status = project(&known);
    assert!(brief(&status).contains(&"Accepted=False PathConflict".into()));
    assert!(brief(&status).contains(&"Ready=False PathConflict".into()));
    assert!(status.conditions[0].message.contains("first"));
}

#[test]
fn a_transition_has_its_time_and_a_second_look_changes_nothing() {
    let (mut ingestor, facts) = (ingestor(&json!({})), serving());
    let first = project(&known(&ingestor, Some(&facts)));
    assert_eq!(change(None, &first), Change::Conditions);
    ingestor.status = Some(first.clone());
    let mut later = known(&ingestor, Some(&facts));
    later.now = Millis(later.now.0 + 60_000);
    let second = project(&later);
    assert_eq!(change(Some(&first), &second), Change::Nothing);
    later.tally.requests = 1;
    later.tally.observed = 1;
    let third = project(&later);
    assert_eq!(change(Some(&first), &third), Change::Counters);
    later.held = Some("x");
    let fourth = project(&later);
    assert_eq!(change(Some(&third), &fourth), Change::Conditions);
    let times = |status: &IngestorStatus| -> Vec<_> {
        status
            .conditions
            .iter()
            .map(|c| c.last_transition_time.clone())
            .collect()
    };
    assert_eq!(times(&third)[..2], times(&fourth)[..2]);
    assert_ne!(times(&third)[2], times(&fourth)[2]);
}

#[test]
fn conditions_of_others_are_left_alone() {
    let (mut ingestor, facts) = (ingestor(&json!({})), serving());
    let mut foreign = project(&known(&ingestor, Some(&facts))).conditions[0].clone();
    foreign.type_ = "ReviewedBySecurity".into();
    ingestor.status = Some(IngestorStatus {
        conditions: vec![foreign.clone()],
        ..IngestorStatus::default()
    });
    let status = project(&known(&ingestor, Some(&facts)));
    assert!(status.conditions.contains(&foreign));
}

/// A status that another owner has written.
fn told(tally: Tally) -> Ingestor {
    let mut ingestor = ingestor(&json!({}));
    let facts = serving();
    let mut status = project(&Known {
        tally,
        ..known(&ingestor, Some(&facts))
    });
    status.owner = Some(crate::api::Owner {
        holder: "core-0#1".into(),
        pod_uid: "p".into(),
        epoch: 7,
    });
    ingestor.status = Some(status);
    ingestor
}

const SEEN: Tally = Tally {
    requests: 10,
    observed: 6,
    dead_lettered: 1,
    backlog: 3,
    last_accepted_at: Some(Millis(1_600_000_000_000)),
    ..EMPTY
};

const EMPTY: Tally = Tally {
    requests: 0,
    replays: 0,
    observed: 0,
    filtered: 0,
    deduplicated: 0,
    dead_lettered: 0,
    damaged: 0,
    items: crate::journal::ItemTally {
        observed: 0,
        filtered: 0,
        deduplicated: 0,
        dead_lettered: 0,
    },
    backlog: 0,
    backlog_bytes: 0,
    last_accepted_at: None,
};

#[test]
fn taking_an_ingestor_over_is_no_change() {
    let (ingestor, facts) = (told(SEEN), serving());
    let after = project(&Known {
        tally: SEEN,
        ..known(&ingestor, Some(&facts))
    });
    let mut owned = after.clone();
    owned.owner = None;
    for after in [after, owned] {
        assert_eq!(change(ingestor.status.as_ref(), &after), Change::Nothing);
    }
}

#[test]
fn counters_never_fall_while_a_log_is_not_reached() {
    let (ingestor, facts) = (told(SEEN), serving());
    let before = ingestor.status.clone().unwrap();
    // One of two logs has never been reached.
    let part = Tally {
        requests: 12,
        observed: 4,
        backlog: 1,
        ..EMPTY
    };
    let after = project(&Known {
        tally: part,
        whole: false,
        ..known(&ingestor, Some(&facts))
    });
    let counters = after.counters.unwrap();
    assert_eq!((counters.accepted, counters.observed), (12, 6));
    assert_eq!(counters.dead_lettered, 1);
    assert_eq!(after.backlog, before.backlog, "nobody knows");
    assert_eq!(after.last_event_time, before.last_event_time);
    let after = project(&Known {
        tally: part,
        ..known(&ingestor, Some(&facts))
    });
    assert_eq!(after.backlog, Some(1), "all logs have told");
}
