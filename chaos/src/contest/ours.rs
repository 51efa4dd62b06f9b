//! The contest with this project's elector: two replicas, the very cores of production, each on a
//! clock of its own that this file moves, with real requests to the real API server.
//!
//! Because each clock is moved to whatever its replica waits for next, what staggers candidates in
//! production (300 ms by rank) is worth nothing here: both find the Lease expired, both decide, and
//! both writes are held until both have read. What is left is the compare-and-swap.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http::Method;
use serde_json::Value;
use tokio::sync::Barrier;
use zen_fabric::{
    coordination::{
        assign::assign,
        message::PROTOCOL,
        names::{Holder, PodName},
        port::{Action, Answer, Input, Moment, Object, Op, Record, RequestId},
        protocol::{Mutation, Protocol},
        records::LeaderRecord,
        replica::{Me, Replica},
        timing::Timing,
        wire::{self, Place, Seconds},
    },
    journal::BUCKETS,
};

use super::Score;
use crate::{
    api::{self, LEASES, Objects},
    error::{Attempt as _, Error, Result},
};

/// Turns of one candidate: an expiry takes about ten; many more mean that it doesn't contend.
const TURNS: u32 = 1_000;

/// How long one candidate waits with its write for the other: it decides within a few requests.
const PATIENCE: Duration = Duration::from_secs(10);

/// With or without its compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elector {
    /// As it is.
    Shipped,
    /// It takes the Lease by a patch without a version, as that crate does.
    WithoutCompareAndSwap,
}

/// One round: from an expired Lease to both candidates' verdict.
pub async fn round(
    objects: &Objects,
    number: u32,
    elector: Elector,
    score: &mut Score,
) -> Result<()> {
    let place = Place {
        namespace: objects.namespace().into(),
        release: format!("{elector:?}-{number}").to_lowercase().into(),
        owned: false,
    };
    let gone = LeaderRecord {
        holder: Some(Holder {
            pod: PodName("gone".into()),
            incarnation: 1,
        }),
        pod_uid: "gone".into(),
        term: 1,
        renewals: 1,
        renewed: Moment(0),
        heir: None,
    };
    let lease = place
        .encode(&Object::Leader, &Record::Leader(gone), Seconds(15))
        .ok_or_else(|| Error::new("write down a leader Lease"))?;
    objects.create(LEASES, &lease).await?;
    let gate = Barrier::new(2);
    let (one, two) = (
        Candidate::new(1, number, elector, objects, &place)?,
        Candidate::new(2, number, elector, objects, &place)?,
    );
    let (one, two) = tokio::join!(one.contend(&gate), two.contend(&gate));
    score.round(usize::from(one?) + usize::from(two?));
    Ok(())
}

struct Candidate<'a> {
    replica: Replica,
    now: Moment,
    waiting: VecDeque<(RequestId, Object, Op)>,
    objects: &'a Objects,
    place: &'a Place,
}

// === impl Candidate ===

impl<'a> Candidate<'a> {
    fn new(
        which: u64,
        round: u32,
        elector: Elector,
        objects: &'a Objects,
        place: &'a Place,
    ) -> Result<Self> {
        let me = Me {
            fleet: "contest".into(),
            pod: PodName(format!("ours-{which}").into()),
            pod_uid: format!("uid-{which}").into(),
            address: "127.0.0.1:1".into(),
            region: "r".into(),
            zone: "z".into(),
            weight: 100,
            build: "1".into(),
            protocol: PROTOCOL,
            buckets: BUCKETS,
        };
        let protocol = match elector {
            Elector::Shipped => Protocol::default(),
            Elector::WithoutCompareAndSwap => Protocol::with(Mutation::TakeByPatch),
        };
        let seed = u64::from(round) * 2 + which;
        let replica = Replica::new(me, Timing::default(), assign, seed, protocol)
            .attempt("make a replica")?;
        Ok(Self {
            replica,
            now: Moment(1_000_000),
            waiting: VecDeque::new(),
            objects,
            place,
        })
    }

    /// Until it has tried to take the Lease and knows what came of it: whether it leads.
    async fn contend(mut self, gate: &Barrier) -> Result<bool> {
        self.replica.handle_timeout(self.now);
        self.replica.handle(self.now, Input::Ready);
        let mut tried = false;
        for _turn in 0..TURNS {
            self.collect();
            let about_leader = |(_, object, _): &(_, Object, _)| *object == Object::Leader;
            if tried && !self.waiting.iter().any(about_leader) {
                return Ok(self.replica.standing().term.is_some());
            }
            let Some((request, object, op)) = self.waiting.pop_front() else {
                self.wait();
                continue;
            };
            if object == Object::Leader && op != Op::Read {
                if !tried {
                    tokio::time::timeout(PATIENCE, gate.wait()).await.attempt(
                        "wait for the other candidate: it never tried to take the Lease",
                    )?;
                }
                tried = true;
            }
            let answer = self.ask(&object, op).await?;
            self.now = self.now.after(Duration::from_millis(1));
            self.replica
                .handle(self.now, Input::Answer { request, answer });
        }
        Err(Error::new(format!(
            "a candidate did not contend within {TURNS} turns"
        )))
    }

    fn collect(&mut self) {
        while let Some(action) = self.replica.poll_action() {
            if let Action::Request { id, object, op } = action {
                self.waiting.push_back((id, object, op));
            }
        }
    }

    /// Moves its clock to what it waits for.
    fn wait(&mut self) {
        let soon = self.now.after(Duration::from_millis(1));
        self.now = self
            .replica
            .poll_timeout()
            .map_or(soon, |next| next.max(soon));
        self.replica.handle(self.now, Input::Current);
    }

    async fn ask(&self, object: &Object, op: Op) -> Result<Answer> {
        let (group, version, plural) = wire::resource(object);
        let namespace = self.objects.namespace();
        let all = format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}");
        let one = format!("{all}/{}", self.place.name(object));
        let encode = |record: &Record| {
            self.place
                .encode(object, record, Seconds(15))
                .ok_or_else(|| Error::new(format!("write down {object:?}")))
        };
        let json = "application/json";
        let answer = match op {
            Op::Read => self.objects.send(Method::GET, &one, None).await,
            Op::Create(record) => {
                let body = encode(&record)?;
                let answer = self
                    .objects
                    .send(Method::POST, &all, Some((json, &body)))
                    .await;
                return Ok(understood(object, answer, Answer::Exists));
            }
            Op::Replace {
                record,
                resource_version,
            } if resource_version.is_empty() => {
                // The control: no version, so whatever is there is overwritten.
                let (body, merge) = (encode(&record)?, "application/merge-patch+json");
                self.objects
                    .send(Method::PATCH, &one, Some((merge, &body)))
                    .await
            }
            Op::Replace {
                record,
                resource_version,
            } => {
                let mut body = encode(&record)?;
                if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.insert(
                        "resourceVersion".to_owned(),
                        Value::from(&*resource_version),
                    );
                }
                self.objects
                    .send(Method::PUT, &one, Some((json, &body)))
                    .await
            }
            Op::Delete { .. } => return Err(Error::new("a candidate deletes nothing")),
        };
        Ok(understood(object, answer, Answer::Conflict))
    }
}

fn understood(object: &Object, answer: api::Answer, taken: Answer) -> Answer {
    match answer {
        api::Answer::Done(value) => Answer::Done(wire::decode(object, &value)),
        api::Answer::Refused(404, _) => Answer::Absent,
        api::Answer::Refused(409, _) => taken,
        api::Answer::Refused(429 | 500.., _) | api::Answer::Lost(_) => Answer::Unknown,
        api::Answer::Refused(_, why) => Answer::Refused(Arc::from(why)),
    }
}
