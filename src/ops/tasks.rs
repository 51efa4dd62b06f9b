//! Every task is named, owned and joined: the only place that spawns.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, error, info_span, warn};

/// A group of tasks that stop together: cancelled by one token, joined within a bound.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// Tasks that did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} tasks did not end in time")]
pub struct Unfinished(pub usize);

impl Tasks {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled when the group is asked to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `task` in this group, in a span of its name. A panic is logged with the name.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = tokio::spawn(task.instrument(info_span!("task", name)));
        self.tracker.spawn(async move {
            if let Err(join) = inner.await
                && join.is_panic()
            {
                error!(task = name, "task panicked");
            }
        });
    }

    /// Asks every task to stop and waits until all have, at most `grace`.
    ///
    /// # Errors
    /// How many tasks were still running; they go on until the runtime ends.
    pub async fn stop(&self, grace: Duration) -> Result<(), Unfinished> {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_err()
        {
            let unfinished = Unfinished(self.tracker.len());
            warn!(count = unfinished.0, "tasks did not end in time");
            return Err(unfinished);
        }
        Ok(())
    }
}
