//! What happened, for a reader: one line each, only when somebody reads it.

use std::fmt::{self, Write as _};

use crate::time::Time;

/// The trace of one schedule.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: Option<String>,
}

impl Trace {
    /// One that is written.
    pub(crate) fn written() -> Self {
        Self {
            text: Some(String::new()),
        }
    }

    /// Writes a line. `what` is formatted only when the trace is written.
    pub(crate) fn line(&mut self, at: Time, who: &str, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
            writeln!(text, "{seconds:>5}.{micros:06} {who:<8} {what}").unwrap();
        }
    }

    /// Whether lines are kept.
    pub(crate) fn is_written(&self) -> bool {
        self.text.is_some()
    }

    /// The lines so far.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}
