//! The same records with any mix of crashes, second owners, deletions and a server that conflicts,
//! throttles, fails and loses answers give the same objects, counts and tallies as an undisturbed
//! run.

use std::{collections::BTreeMap, time::Duration};

use kube::{Api, api::DeleteParams};
use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};
use zen_fabric::{
    api::{Ingestor, annotations},
    embedded::faults::{Fault, On, Verb},
    engine::start::Handle,
    journal::{IngestorUid, Millis, Tally},
};

use super::rig::Rig;

/// An event: which of the Ingestor's specs was in force, its id, its items.
#[derive(Clone, Debug)]
struct Input {
    spec: usize,
    event_id: u8,
    items: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Disturbance {
    Wait(u16),
    Crash,
    SecondOwner,
    DeleteIngestor,
    Fault(u8, u8, u8),
}

fn input() -> impl Strategy<Value = Input> {
    let items = prop::collection::vec(0_u8..6, 0..5);
    (0_usize..3, 0_u8..12, items).prop_map(|(spec, event_id, items)| Input {
        spec,
        event_id,
        items,
    })
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    prop_oneof![
        4 => (0_u16..3_000).prop_map(Disturbance::Wait),
        2 => Just(Disturbance::Crash),
        2 => Just(Disturbance::SecondOwner),
        1 => Just(Disturbance::DeleteIngestor),
        6 => (0_u8..3, 0_u8..7, 1_u8..12).prop_map(|(on, what, n)| Disturbance::Fault(on, what, n)),
    ]
}

fn specs() -> [Value; 3] {
    let with = |dedup: Value| {
        json!({
            "explode": "body.results",
            "normalize": {
                "eventType": { "expression": "item.kind" },
                "details": { "n": { "expression": "string(item.n)" } },
            },
            "filters": [{ "name": "no-noise", "keepIf": "item.kind != 'noise'" }],
            "dedup": dedup,
        })
    };
    [
        with(json!({ "strategy": "event" })),
        with(json!({ "strategy": "fingerprint", "fields": ["eventType"], "window": "24h" })),
        with(
            json!({ "strategy": "aggregate", "fields": ["eventType", "severity"], "window": "24h" }),
        ),
    ]
}

/// Item 4 is dropped by the filter; item 5 lacks a required field.
fn body(input: &Input) -> Value {
    let item = |n: &u8| match n {
        4 => json!({ "kind": "noise", "n": n }),
        5 => json!({ "n": n }),
        _ => json!({ "kind": format!("k{n}"), "n": n }),
    };
    json!({ "results": input.items.iter().map(item).collect::<Vec<_>>() })
}

fn fault(which: u8) -> Fault {
    match which {
        0 => Fault::Conflict,
        1 => Fault::TooManyRequests(Duration::from_secs(2)),
        2 => Fault::InternalError,
        3 => Fault::Timeout,
        4 => Fault::Forbidden,
        5 => Fault::Silence,
        _ => Fault::AnswerLost,
    }
}

/// Objects by the record that made them, and the tally.
type Outcome = (BTreeMap<String, Value>, Tally);

async fn run(inputs: &[Input], disturbances: &[Disturbance]) -> Outcome {
    let mut rig = Rig::new().await;
    // The names of the objects follow from it: the same in both runs.
    let uid = IngestorUid("0b5c7c1e-7f53-4d3c-9c7c-4f0f6f1f0a11".into());
    let mut digests = Vec::new();
    for (n, spec) in specs().into_iter().enumerate() {
        let ingestor = rig.ingestor(&format!("s{n}"), spec).await;
        digests.push(rig.accept_under(&ingestor, &uid).await);
    }
    let mut engines: Vec<Handle> = vec![rig.engine().await];
    let mut left = disturbances.iter();
    let mut at = Millis(1_767_225_600_000);
    for chunk in inputs.chunks(inputs.len().div_ceil(disturbances.len().max(1)).max(1)) {
        for input in chunk {
            let id = format!("e{}", input.event_id);
            // Disturbances stretch the simulated time; when an event was accepted is part of it.
            at.0 += 250;
            rig.append_at(at, &uid, digests[input.spec], &id, &body(input))
                .await;
        }
        if let Some(one) = left.next() {
            disturb(&mut rig, &mut engines, one).await;
        }
    }
    for one in left {
        disturb(&mut rig, &mut engines, one).await;
    }
    rig.faults().clear();
    if engines.iter().all(|engine| engine.stopped().is_cancelled()) {
        engines.push(rig.engine().await);
    }
    let tally = rig.finished(&uid).await;
    let mut objects = BTreeMap::new();
    for object in rig.observations().await {
        let made_by = object.metadata.annotations.as_ref().unwrap()[annotations::RECORD].clone();
        let (meta, spec) = (object.metadata, object.spec);
        let seen = json!({
            "name": meta.name, "labels": meta.labels, "annotations": meta.annotations, "spec": spec,
        });
        assert!(
            objects.insert(made_by, seen).is_none(),
            "two objects of one record"
        );
    }
    rig.close().await;
    (
        objects,
        Tally {
            last_accepted_at: None,
            ..tally
        },
    )
}

async fn disturb(rig: &mut Rig, engines: &mut Vec<Handle>, what: &Disturbance) {
    match what {
        Disturbance::Wait(millis) => {
            tokio::time::sleep(Duration::from_millis(u64::from(*millis))).await;
        }
        Disturbance::Crash => {
            for engine in engines.drain(..) {
                engine.stopped().cancel();
            }
            engines.push(rig.engine().await);
        }
        // The first one doesn't know yet, and goes on until its commits are refused.
        Disturbance::SecondOwner => engines.push(rig.engine().await),
        Disturbance::DeleteIngestor => {
            let api: Api<Ingestor> = Api::namespaced(rig.client.clone(), "team");
            api.delete("s1", &DeleteParams::default()).await.ok();
        }
        Disturbance::Fault(on, what, count) => {
            let verb = [Verb::Create, Verb::Update, Verb::Get][usize::from(*on)];
            let on = On::verb(verb).resource("observations");
            rig.faults().plan(usize::from(*count), on, fault(*what));
        }
    }
}

fn check(inputs: &[Input], disturbances: &[Disturbance]) -> TestCaseResult {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let calm = runtime().block_on(run(inputs, &[]));
    let disturbed = runtime().block_on(run(inputs, disturbances));
    let sum = calm.1.observed + calm.1.filtered + calm.1.deduplicated + calm.1.dead_lettered;
    prop_assert_eq!(sum, u64::try_from(inputs.len()).unwrap());
    prop_assert_eq!(calm, disturbed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn disturbances_change_nothing_that_counts(
        inputs in prop::collection::vec(input(), 1..60),
        disturbances in prop::collection::vec(disturbance(), 1..25),
    ) {
        check(&inputs, &disturbances)?;
    }
}
