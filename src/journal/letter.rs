//! Dead letters as the journal shows them.

use std::sync::Arc;

use super::{Event, IngestorUid, Letter, LetterId, Millis};

/// A dead letter as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its name.
    pub id: LetterId,
    /// Why.
    pub letter: Letter,
    /// When it was put there.
    pub at: Millis,
    /// Whether it was replayed.
    pub replayed: bool,
    /// The event, whole.
    pub event: Event,
}

/// What a list shows of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterSummary {
    /// Its name.
    pub id: LetterId,
    /// Why.
    pub letter: Letter,
    /// When it was put there.
    pub at: Millis,
    /// Whether it was replayed.
    pub replayed: bool,
    /// Whose event it was.
    pub ingestor: IngestorUid,
    /// The event's id.
    pub event_id: Arc<str>,
    /// When the event was accepted.
    pub accepted_at: Millis,
    /// Size of the event's body.
    pub body_bytes: usize,
}

impl DeadLetter {
    /// What a list shows of it.
    #[must_use]
    pub fn summary(&self) -> LetterSummary {
        LetterSummary {
            id: self.id,
            letter: self.letter.clone(),
            at: self.at,
            replayed: self.replayed,
            ingestor: self.event.ingestor.clone(),
            event_id: Arc::clone(&self.event.event_id),
            accepted_at: self.event.accepted_at,
            body_bytes: self.event.body.len(),
        }
    }
}
