//! Who waits for the end of a record.

use tokio::sync::oneshot;

use super::{Wal, engine::Engine, stage::State};
use crate::journal::{Ended, Position, RecordId};

impl Wal {
    /// See [`crate::journal::Journal::ended`].
    pub(super) async fn wait_for_end(&self, record: RecordId) -> Option<Ended> {
        let position = record.position.0;
        let (token, answer) = {
            let mut state = self.engine.state();
            if record.log != self.engine.log {
                return None;
            }
            match state.known_end(position) {
                Some(ended) => return Some(ended),
                None if state.closing || !state.is_open(position) => return None,
                None => {}
            }
            let token = state.next_waiter;
            state.next_waiter += 1;
            let (tell, answer) = oneshot::channel();
            state
                .waiters
                .entry(position)
                .or_default()
                .push((token, tell));
            (token, answer)
        };
        let guard = Waiting {
            engine: &self.engine,
            position,
            token,
        };
        let ended = answer.await.ok();
        drop(guard);
        ended
    }
}

/// Takes a waiter out when it stops waiting.
struct Waiting<'a> {
    engine: &'a Engine,
    position: u64,
    token: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.engine.state();
        if let Some(waiters) = state.waiters.get_mut(&self.position) {
            waiters.retain(|(token, _)| *token != self.token);
            if waiters.is_empty() {
                state.waiters.remove(&self.position);
            }
        }
    }
}

impl State {
    /// The end of a record, as long as its key or its dead letter is remembered.
    fn known_end(&self, position: u64) -> Option<Ended> {
        let (end, items) = self.index.keys.end_of(position)?;
        Some(Ended {
            position: Position(position),
            end,
            items,
            letters: Vec::new(),
            observation: None,
        })
    }

    /// Whether a record has no end yet.
    fn is_open(&self, position: u64) -> bool {
        let holds = |number| {
            self.index
                .ingestor(number)
                .is_some_and(|ingestor| ingestor.queue.get(position).is_some())
        };
        match self.recent.get(position) {
            Some(number) => holds(number),
            None => self
                .index
                .ingestors
                .iter()
                .any(|ingestor| ingestor.queue.get(position).is_some()),
        }
    }
}
