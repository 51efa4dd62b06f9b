//! The same records with any mix of crashes of engine and journal, second owners, a deletion, and a
//! server that conflicts, throttles, fails and loses answers give the same objects, counts and
//! tallies as an undisturbed run.

use std::{collections::BTreeMap, time::Duration};

use kube::{Api, api::DeleteParams};
use proptest::{prelude::*, test_runner::TestCaseResult};
use serde_json::{Value, json};
use zen_fabric::{
    api::{Ingestor, annotations},
    embedded::faults::{Fault, On, Verb},
    engine::start::Handle,
    journal::{IngestorUid, Journal as _, Millis, Tally},
};

use super::rig::{Rig, uid};

/// The one Ingestor.
const NAME: &str = "github";

/// An event: which spec its Ingestor has when it comes, its id, its items.
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
    /// The machine's: the journal loses what was not synced.
    PowerCut,
    SecondOwner,
    /// All events have come; their Ingestor is deleted. The rest is done without it.
    Delete,
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
        2 => Just(Disturbance::PowerCut),
        2 => Just(Disturbance::SecondOwner),
        1 => Just(Disturbance::Delete),
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
        // A merge patch: what the others name is taken away.
        with(json!({ "strategy": "event", "fields": null, "window": null })),
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

/// A run under way.
struct Run {
    rig: Rig,
    engines: Vec<Handle>,
    uid: IngestorUid,
    at: Millis,
    deleted: bool,
    /// The tally when all was over; what is finished and deleted may leave the journal.
    over: Option<Tally>,
}

async fn run(inputs: &[Input], disturbances: &[Disturbance]) -> Outcome {
    let mut rig = Rig::new().await;
    let [first, ..] = specs();
    let ingestor = rig.ingestor(NAME, first).await;
    let engines = vec![rig.engine().await];
    let mut run = Run {
        rig,
        engines,
        uid: uid(&ingestor),
        at: Millis(1_767_225_600_000),
        deleted: false,
        over: None,
    };
    let mut coming = inputs.iter();
    let chunk = inputs.len().div_ceil(disturbances.len().max(1)).max(1);
    for disturbance in disturbances {
        for input in coming.by_ref().take(chunk) {
            run.accept(input).await;
        }
        if matches!(disturbance, Disturbance::Delete) {
            for input in coming.by_ref() {
                run.accept(input).await;
            }
        }
        run.disturb(disturbance).await;
    }
    for input in coming {
        run.accept(input).await;
    }
    run.outcome().await
}

impl Run {
    /// An event comes, under a spec that may have been edited since the last one.
    async fn accept(&mut self, input: &Input) {
        let specs = specs();
        let ingestor = self.rig.edit(NAME, &specs[input.spec]).await;
        let digest = self.rig.accept_under(&ingestor, &self.uid).await;
        let id = format!("e{}", input.event_id);
        // Disturbances stretch the simulated time; when an event was accepted is part of it.
        self.at.0 += 250;
        self.rig
            .append_at(self.at, &self.uid, digest, &id, &body(input))
            .await;
    }

    async fn disturb(&mut self, what: &Disturbance) {
        match what {
            Disturbance::Wait(millis) => {
                tokio::time::sleep(Duration::from_millis(u64::from(*millis))).await;
            }
            Disturbance::Crash => {
                self.stop_engines();
                self.engines.push(self.rig.engine().await);
            }
            Disturbance::PowerCut => {
                let tally = self.rig.journal.tally(&self.uid);
                if self.deleted && tally.backlog == 0 && self.over.is_none() {
                    self.over = Some(tally);
                }
                self.stop_engines();
                self.rig.cut_power().await;
                self.engines.push(self.rig.engine().await);
            }
            // The first one doesn't know yet, and goes on until its commits are refused.
            Disturbance::SecondOwner => self.engines.push(self.rig.engine().await),
            Disturbance::Delete if self.deleted => {}
            Disturbance::Delete => {
                let api: Api<Ingestor> = Api::namespaced(self.rig.client.clone(), "team");
                api.delete(NAME, &DeleteParams::default()).await.unwrap();
                // As the gateway does. The records keep the specs that they name.
                self.rig.journal.forget(&self.uid).await.unwrap();
                self.deleted = true;
            }
            Disturbance::Fault(on, what, count) => {
                let verb = [Verb::Create, Verb::Update, Verb::Get][usize::from(*on)];
                let on = On::verb(verb).resource("observations");
                let count = usize::from(*count);
                self.rig.faults().plan(count, on, fault(*what));
            }
        }
    }

    fn stop_engines(&mut self) {
        for engine in self.engines.drain(..) {
            engine.stopped().cancel();
        }
    }

    async fn outcome(mut self) -> Outcome {
        self.rig.faults().clear();
        let stopped = |engine: &Handle| engine.stopped().is_cancelled();
        if self.engines.iter().all(stopped) {
            self.engines.push(self.rig.engine().await);
        }
        let tally = self.rig.finished(&self.uid).await;
        let tally = self.over.unwrap_or(tally);
        let mut objects = BTreeMap::new();
        for object in self.rig.observations().await {
            let made_by =
                object.metadata.annotations.as_ref().unwrap()[annotations::RECORD].clone();
            let (meta, spec) = (object.metadata, object.spec);
            let seen = json!({
                "name": meta.name, "labels": meta.labels, "annotations": meta.annotations, "spec": spec,
            });
            assert!(
                objects.insert(made_by, seen).is_none(),
                "two objects of one record"
            );
        }
        if self.deleted {
            assert!(self.rig.journal.spec_in_force(&self.uid).is_none());
        }
        self.rig.close().await;
        (
            objects,
            Tally {
                last_accepted_at: None,
                ..tally
            },
        )
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
