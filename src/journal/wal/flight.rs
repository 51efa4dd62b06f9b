//! One group commit, as those see it who wait for it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::journal::{AppendError, SubscriptionError};

/// Why a group commit failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NoSpace,
    Disk(Arc<str>),
}

/// See the module. Shared by all who staged into the same commit: one allocation for hundreds of them.
#[derive(Debug, Default)]
pub(super) struct Flight {
    done: OnceLock<Result<(), Failure>>,
    notify: Notify,
}

impl Flight {
    pub(super) fn land(&self, result: Result<(), Failure>) {
        // Set once, by the committer.
        if self.done.set(result).is_ok() {
            self.notify.notify_waiters();
        }
    }

    pub(super) async fn landed(&self) -> Result<(), Failure> {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if let Some(result) = self.done.get() {
            return result.clone();
        }
        notified.await;
        self.done
            .get()
            .cloned()
            .unwrap_or_else(|| Err(Failure::Disk("the commit was lost".into())))
    }
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSpace => Self::NoSpace,
            Failure::Disk(error) => Self::Disk(error.as_ref().to_owned()),
        }
    }
}

impl From<Failure> for SubscriptionError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSpace => Self::Disk("no room".to_owned()),
            Failure::Disk(error) => Self::Disk(error.as_ref().to_owned()),
        }
    }
}
