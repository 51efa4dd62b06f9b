//! Every task is named, owned and joined: the only place that spawns.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, error, info_span, warn};

/// A group of tasks that stop together: cancelled by one token, joined within a bound.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    broken: Arc<Broken>,
    /// Where they run; `None`: where they are begun.
    on: Option<Handle>,
}

/// The first task whose panic left a hole in the group.
#[derive(Debug, Default)]
struct Broken {
    by: OnceLock<&'static str>,
    told: CancellationToken,
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

    /// An empty group whose tasks run there, whoever begins them.
    #[must_use]
    pub fn on(runtime: Handle) -> Self {
        Self {
            on: Some(runtime),
            ..Self::default()
        }
    }

    /// A token that is cancelled when the group is asked to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `task` in this group, in a span of its name. A panic leaves a part of the process undone
    /// that nobody else does: it is logged, and [`Tasks::broken`] tells it.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let broken = Arc::clone(&self.broken);
        self.run(name, task, move || {
            if broken.by.set(name).is_ok() {
                broken.told.cancel();
            }
        });
    }

    /// The same for one task of many, such as a connection: a panic is logged and stays its own.
    pub fn spawn_contained<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run(name, task, || {});
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    fn run<F>(&self, name: &'static str, task: F, panicked: impl FnOnce() + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let on = self.on.clone().unwrap_or_else(Handle::current);
        let inner = on.spawn(task.instrument(info_span!("task", name)));
        let joined = async move {
            if let Err(join) = inner.await
                && join.is_panic()
            {
                error!(task = name, "task panicked");
                panicked();
            }
        };
        self.tracker.spawn_on(joined, &on);
    }

    /// Waits until a task has panicked that the group can't be without, and names it.
    pub async fn broken(&self) -> &'static str {
        self.broken.told.cancelled().await;
        self.broken.by.get().copied().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_a_task_is_told_by_its_name() {
        let tasks = Tasks::new();
        tasks.spawn("lives", std::future::pending());
        tasks.spawn("ends", async {});
        tasks.spawn_contained("one of many", async { panic!("planted") });
        let quiet = tokio::time::timeout(LONG, tasks.broken()).await;
        assert!(quiet.is_err(), "nothing is broken by one of many");
        tasks.clone().spawn("dies", async { panic!("planted") });
        assert_eq!(tasks.broken().await, "dies");
        assert_eq!(tasks.broken().await, "dies", "it stays broken");
    }
}
