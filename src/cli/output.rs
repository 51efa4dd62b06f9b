//! What a subcommand writes to, and how a failure is told to people.

use std::{
    error::Error,
    fmt,
    io::{self, Read, Write},
};

use super::Exit;

/// The three streams of a process, or a test's, one of them twice.
pub struct Streams<'a> {
    /// Standard input.
    pub input: &'a mut (dyn Read + Send),
    /// Standard output: what was asked for.
    pub out: &'a mut (dyn Write + Send),
    /// Standard output once more, for what runs on: a thread of its own writes to it, and may hang there.
    pub told: Box<dyn Write + Send>,
    /// Standard error: what went wrong.
    pub err: &'a mut (dyn Write + Send),
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

/// Why a subcommand could not do what was asked, with all causes.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn Error + Send + Sync>,
    exit: Exit,
}

impl Failure {
    /// Not asked properly.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            error: error.into(),
            exit: Exit::Usage,
        }
    }

    /// The code to exit with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether the reader of the output went away.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        self.error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            exit: Exit::Failure,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            writeln!(f, "  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
