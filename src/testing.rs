//! What tests share across test binaries: clocks that they move, a real API server, builders, fakes.
//!
//! Compiled with the feature `testing` only, never into a release binary.

pub mod clock;
pub mod cluster;
pub mod disk;
pub mod samples;
pub mod seeded;
pub mod subscriber;
