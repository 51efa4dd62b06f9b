//! The fleet as one replica sees it, and what an operator may ask of that replica.
//!
//! ```text
//!  GET  /fleet          anyone who reaches the port: the map, the members, this one's gate and backlog
//!  POST /fleet/drain    with the token: it gives its work away and stays
//!  POST /fleet/undrain  with the token: it may get work again
//! ```

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    middleware,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::token::{self, Token};

/// The fleet, as the replica that answers sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The fleet's name.
    pub fleet: String,
    /// The region of the replica that answers.
    pub region: String,
    /// The replica that answers: `pod#incarnation`; absent while it claims its incarnation.
    pub answered_by: Option<String>,
    /// The pod of the replica that answers.
    pub pod: String,
    /// Who leads, as the leader Lease says.
    pub leader: Option<String>,
    /// The term of that leadership.
    pub term: Option<u64>,
    /// Version of the `ShardMap` that is followed; 0: there is none yet.
    pub version: u64,
    /// How many buckets there are.
    pub buckets: u16,
    /// How many of them are on their way from one owner to another.
    pub moving: usize,
    /// Members of the map, and replicas that are not in it yet.
    pub members: Vec<Member>,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its pod.
    pub pod: String,
    /// `pod#incarnation`.
    pub holder: String,
    /// `Active`, `Draining`, `Unreachable` or `Down`; `Joining`: not in the map yet.
    pub state: String,
    /// Its zone.
    pub zone: String,
    /// Its build.
    pub build: String,
    /// Whether it leads.
    pub leads: bool,
    /// How many buckets it owns.
    pub buckets: usize,
    /// Its buckets by the epoch at which they were issued: `{"117": "0-3,9"}`.
    pub epochs: BTreeMap<u64, String>,
    /// What the replica that answers finds when it talks to it: `reached`, `refused` or `silent`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link: Option<String>,
    /// `open` or `shut`: whether it may start effects; known by itself alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gate: Option<String>,
    /// Events that wait in its buckets; known by itself alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog: Option<u64>,
}

/// A replica that can be looked at and asked.
pub trait Fleet: Send + Sync + fmt::Debug + 'static {
    /// What it sees.
    fn status(&self) -> Status;

    /// It gives its work away, and stays.
    fn drain(&self);

    /// It may get work again.
    fn undrain(&self);
}

/// The route that anyone may read.
pub fn open(fleet: Arc<dyn Fleet>) -> Router {
    Router::new().route("/fleet", get(status)).with_state(fleet)
}

/// The routes that need `token`.
pub fn guarded(fleet: Arc<dyn Fleet>, token: Token) -> Router {
    Router::new()
        .route("/fleet/drain", post(drain))
        .route("/fleet/undrain", post(undrain))
        .layer(middleware::from_fn_with_state(token, token::guard))
        .with_state(fleet)
}

async fn status(State(fleet): State<Arc<dyn Fleet>>) -> Json<Status> {
    Json(fleet.status())
}

async fn drain(State(fleet): State<Arc<dyn Fleet>>) -> Json<Status> {
    fleet.drain();
    Json(fleet.status())
}

async fn undrain(State(fleet): State<Arc<dyn Fleet>>) -> Json<Status> {
    fleet.undrain();
    Json(fleet.status())
}

// === merging ===

impl Status {
    /// One picture of several answers: the newest map's, with what each replica alone knows of itself.
    /// `None` where nobody answered.
    #[must_use]
    pub fn merged(answers: Vec<Self>) -> Option<Self> {
        let own: BTreeMap<String, Member> = answers
            .iter()
            .filter_map(|answer| {
                let me = answer.answered_by.as_ref()?;
                let member = answer.members.iter().find(|member| member.holder == *me)?;
                Some((me.clone(), member.clone()))
            })
            .collect();
        let mut newest = answers
            .into_iter()
            .max_by_key(|answer| (answer.version, answer.term))?;
        for member in &mut newest.members {
            if let Some(known) = own.get(&member.holder) {
                member.gate.clone_from(&known.gate);
                member.backlog = known.backlog;
            }
        }
        Some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(by: &str, version: u64) -> Status {
        let member = |holder: &str| Member {
            holder: holder.to_owned(),
            gate: (holder == by).then(|| "open".to_owned()),
            backlog: (holder == by).then_some(version),
            ..Member::default()
        };
        Status {
            answered_by: Some(by.to_owned()),
            version,
            members: vec![member("a#1"), member("b#2"), member("c#1")],
            ..Status::default()
        }
    }

    #[test]
    fn the_newest_map_and_what_each_knows_of_itself() {
        let merged = Status::merged(vec![answer("a#1", 7), answer("b#2", 8)]).unwrap();
        assert_eq!(merged.version, 8);
        let backlogs: Vec<_> = merged.members.iter().map(|member| member.backlog).collect();
        assert_eq!(backlogs, [Some(7), Some(8), None]);
        assert_eq!(Status::merged(Vec::new()), None);
    }
}
