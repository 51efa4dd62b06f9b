//! What the tests of all cores share, and whole replicas in a small world.

pub(super) mod fixtures;
pub(super) mod harness;
mod scenarios;
