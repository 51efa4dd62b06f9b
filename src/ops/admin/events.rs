//! The guarded part: tallies, and the dead letters to look at and to replay.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::{
    token::{self, Token},
    wire,
};
use crate::{
    api::{DecisionSpec, SpecDigest},
    journal::{AppendError, DeadLetter, Event, IngestorUid, Journal, Origin, facts::FactSource},
    ops::metrics::journal::total,
};

/// Letters of a page unless said otherwise, and at most.
const PAGE: usize = 100;
const PAGE_LIMIT: usize = 500;

/// How much of the payload's digest tells a reused key's second event from its first.
const DIGEST_CHARACTERS: usize = 8;

/// The reason of a dead letter whose event id was used with another payload.
pub const KEY_REUSED: &str = "KeyReused";

/// What the guarded part works on.
#[derive(Clone, Debug)]
pub struct Events {
    /// Where dead letters lie and replays go.
    pub journal: Arc<dyn Journal>,
    /// Whether an Ingestor is there and enabled.
    pub facts: Arc<dyn FactSource>,
}

/// The guarded routes; every one needs `token`.
pub fn routes(events: Events, token: Token) -> Router {
    Router::new()
        .route("/tallies", get(tallies))
        .route("/events", get(list))
        .route("/events/{log}/{position}/{index}", get(show))
        .route("/events/{log}/{position}/{index}/replay", post(replay))
        .layer(middleware::from_fn_with_state(token, token::guard))
        .with_state(events)
}

/// The event that a replay appends: the dead letter's, under today's decision spec.
///
/// A reused key gets an id of its own, so that its Observation meets no other payload's.
#[must_use]
pub fn replay_event(letter: &DeadLetter, spec: SpecDigest) -> Event {
    let event = &letter.event;
    let event_id = if &*letter.letter.reason == KEY_REUSED {
        let digest = format!("{:?}", event.payload);
        let short: String = digest.chars().take(DIGEST_CHARACTERS).collect();
        format!("{}~{short}", event.event_id).into()
    } else {
        Arc::clone(&event.event_id)
    };
    Event {
        spec,
        event_id,
        // A replay is asked for by name; it neither takes nor meets an idempotency key.
        key: None,
        origin: Origin::Replay { letter: letter.id },
        ..event.clone()
    }
}

// === answers ===

/// A refusal.
struct Refused(StatusCode, String);

impl Refused {
    fn no_letter(name: &str) -> Self {
        Self(
            StatusCode::NOT_FOUND,
            format!(
                "there is no dead letter {name}: its time may be over; `zen-fabric events list` shows all"
            ),
        )
    }
}

impl From<wire::NoLetterName> for Refused {
    fn from(error: wire::NoLetterName) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, detail) = self;
        let problem = wire::Problem {
            status: status.as_u16(),
            detail,
        };
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, Json(problem)).into_response()
    }
}

impl Events {
    fn whose(&self, uid: &IngestorUid) -> wire::Whose {
        let name = self.journal.spec_in_force(uid).and_then(|spec| {
            let spec: DecisionSpec = serde_json::from_str(&spec.text).ok()?;
            Some(format!(
                "{}/{}",
                spec.ingestor.namespace, spec.ingestor.name
            ))
        });
        wire::Whose {
            uid: uid.to_string(),
            name,
        }
    }

    async fn letter(&self, name: &str) -> Result<DeadLetter, Refused> {
        let id = name.parse::<wire::LetterName>()?;
        self.journal
            .letter(id.0)
            .await
            .ok_or_else(|| Refused::no_letter(name))
    }
}

async fn tallies(State(events): State<Events>) -> Json<wire::Tallies> {
    let tallies = events.journal.tallies();
    let total = total(tallies.iter().map(|(_, tally)| *tally));
    let items = tallies
        .into_iter()
        .map(|(uid, tally)| {
            wire::IngestorTally::of(events.whose(&uid), tally, events.journal.share(&uid))
        })
        .collect();
    Json(wire::Tallies {
        log: events.journal.log().to_string(),
        items,
        total,
    })
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<usize>,
    after: Option<String>,
}

async fn list(
    State(events): State<Events>,
    Query(query): Query<ListQuery>,
) -> Result<Json<wire::Page>, Refused> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_LIMIT);
    let after = query
        .after
        .map(|name| name.parse::<wire::LetterName>())
        .transpose()?;
    let letters = events
        .journal
        .letters(after.map(|name| name.0), limit)
        .await;
    let mut names = wire::Names::new();
    let items: Vec<wire::Summary> = letters
        .into_iter()
        .map(|letter| {
            let whose = names
                .entry(letter.ingestor.clone())
                .or_insert_with_key(|uid| events.whose(uid));
            wire::Summary::of(letter, whose.clone())
        })
        .collect();
    let next = (items.len() == limit)
        .then(|| items.last().map(|last| last.id.clone()))
        .flatten();
    Ok(Json(wire::Page { items, next }))
}

type Name = Path<(String, String, String)>;

async fn show(
    State(events): State<Events>,
    Path((log, position, index)): Name,
) -> Result<Json<wire::Detail>, Refused> {
    let letter = events.letter(&format!("{log}/{position}/{index}")).await?;
    let event = &letter.event;
    let text = std::str::from_utf8(&event.body).ok().map(str::to_owned);
    let body_base64 = text.is_none().then(|| BASE64_STANDARD.encode(&event.body));
    let headers = event.headers.iter();
    Ok(Json(wire::Detail {
        summary: wire::Summary::of(letter.summary(), events.whose(&event.ingestor)),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        query: event.query.to_string(),
        body: text,
        body_base64,
    }))
}

async fn replay(
    State(events): State<Events>,
    Path((log, position, index)): Name,
    body: Bytes,
) -> Result<(StatusCode, Json<wire::Replayed>), Refused> {
    let asked: wire::Replay = if body.is_empty() {
        wire::Replay::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Refused(
                StatusCode::BAD_REQUEST,
                format!("read the request: {error}"),
            )
        })?
    };
    let name = format!("{log}/{position}/{index}");
    let letter = events.letter(&name).await?;
    let uid = &letter.event.ingestor;
    let routed = events
        .facts
        .facts(uid)
        .is_some_and(|facts| facts.generation.is_some());
    let spec = events.journal.spec_in_force(uid).filter(|_| routed);
    let Some(spec) = spec else {
        return Err(Refused(
            StatusCode::NOT_FOUND,
            format!(
                "the Ingestor of {name} is disabled, deleted or has no decision spec in force: enable it, or let the letter age"
            ),
        ));
    };
    let event = replay_event(&letter, spec.digest);
    let event_id = event.event_id.to_string();
    let record = events
        .journal
        .replay(event, asked.force)
        .await
        .map_err(|error| refused(&name, &error))?;
    let replayed = wire::Replayed {
        record: record.to_string(),
        event_id,
    };
    Ok((StatusCode::ACCEPTED, Json(replayed)))
}

fn refused(name: &str, error: &AppendError) -> Refused {
    match error {
        AppendError::AlreadyReplayed => Refused(
            StatusCode::CONFLICT,
            format!("{name} was replayed before; force it to do so again"),
        ),
        AppendError::ShareFull => Refused(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        AppendError::UnknownSpec(_) | AppendError::Conflict(_) => Refused(
            StatusCode::CONFLICT,
            format!("replay {name} again: {error}"),
        ),
        AppendError::TooLarge { .. } => Refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        AppendError::Full | AppendError::NoSpace | AppendError::Disk(_) | AppendError::Closing => {
            Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
    }
}
