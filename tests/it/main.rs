//! Scenarios in one process: real components on loopback, no cluster.

mod crds;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod engine;
