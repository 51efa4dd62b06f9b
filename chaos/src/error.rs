//! Errors for people: what was attempted, and why it did not work.

use std::error::Error as Source;

/// Something that a scenario needs did not work: the scenario has no result.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct Error {
    attempt: String,
    #[source]
    source: Option<Box<dyn Source + Send + Sync>>,
}

/// What an attempt gives.
pub type Result<T> = std::result::Result<T, Error>;

// === impl Error ===

impl Error {
    /// Nothing failed, and it is wrong all the same.
    pub fn new(attempt: impl Into<String>) -> Self {
        Self {
            attempt: attempt.into(),
            source: None,
        }
    }

    /// The error and its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.attempt.clone();
        let mut cause = Source::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Says what was attempted when it failed.
pub trait Attempt<T> {
    /// What was attempted, on which object.
    fn attempt(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn Source + Send + Sync>>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error {
            attempt: what.into(),
            source: Some(source.into()),
        })
    }
}
