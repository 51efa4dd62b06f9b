//! Scenarios in one process: real components on loopback, no cluster.

mod embedded;
mod crds;
