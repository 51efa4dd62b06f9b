//! Scenarios in one process: real components on loopback, no cluster.

mod admin;
mod cli;
mod command;
mod crds;
#[cfg(test)]
mod embedded;
