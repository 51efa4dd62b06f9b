//! Threads for a part of the process: what runs there delays nothing that runs elsewhere.

use std::{future::Future, io};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::context::TokioContext;

use super::tasks::Tasks;

/// A commit of the journal answers hundreds of senders from its own thread: their tasks go through
/// the runtime's global queue, which is looked at every so many tasks. The runtime's own choice, 61
/// and more while it is busy, leaves some waiting behind the new requests of others.
const GLOBAL_QUEUE_INTERVAL: u32 = 8;

/// After so many tasks sockets are looked at again; 61, the default, is longer than a commit takes.
const EVENT_INTERVAL: u32 = 16;

/// So many threads and what runs on them, until this is dropped.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

/// A runtime with `count` threads for tasks, or with one per CPU.
///
/// # Errors
/// The threads can't be started.
pub fn runtime(name: &str, count: Option<usize>) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(count) = count {
        builder.worker_threads(count);
    }
    builder
        .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .thread_name(name)
        .build()
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// They can't be started.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let runtime = runtime(name, Some(count))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// A group of tasks that runs here, whoever begins them.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        Tasks::on(self.handle.clone())
    }

    /// Makes something whose connections and tasks are to be served here.
    pub async fn make<F: Future>(&self, making: F) -> F::Output {
        TokioContext::new(making, self.handle.clone()).await
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Whoever drops this may itself be a task, which must not wait for others.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_computes_there_delays_nothing_here_and_is_left_when_they_go() {
        let threads = Threads::start("busy", 1).unwrap();
        let tasks = threads.tasks();
        let (began, begun) = tokio::sync::oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        tasks.spawn("computes", async move {
            began
                .send(std::thread::current().name().map(str::to_owned))
                .unwrap();
            // As one that never yields.
            ended.recv_timeout(Duration::from_secs(60)).ok();
        });
        assert_eq!(begun.await.unwrap().as_deref(), Some("busy"));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let made = threads.make(async { Handle::current().id() }).await;
        assert_ne!(made, Handle::current().id());
        drop(threads);
        drop(end);
    }
}
