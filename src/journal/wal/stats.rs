//! Sizes and counts, for metrics and readiness.

use std::time::Duration;

use super::{engine::Engine, index::count};
use crate::journal::{AppendError, Stats};

impl Engine {
    /// See [`crate::journal::Journal::stats`].
    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        let now = self.clock.now();
        let window = state
            .index
            .keys
            .oldest()
            .map(|at| now.0.saturating_sub(at.0));
        Stats {
            disk_bytes: state.disk_bytes(),
            live_bytes: state.live_bytes(),
            segments: count(state.index.segments.len()),
            backlog: state.index.backlog,
            keys: count(state.index.keys.len()),
            keys_evicted: state.index.keys.evicted,
            key_window: window
                .map(|window| Duration::from_millis(u64::try_from(window).unwrap_or(0))),
            letters: state.index.letter_count,
            letters_evicted: state.index.letters_evicted,
            torn_bytes: state.torn_bytes,
            damaged: state.index.damaged,
            syncs: state.syncs,
            appended: state.appended,
            claims: state.claims.taken,
            claims_refused: state.claims.refused,
            commits_refused: state.claims.commits_refused,
            unavailable: state
                .refusal
                .as_ref()
                .map(|failure| AppendError::from(failure.clone()).to_string()),
        }
    }
}
