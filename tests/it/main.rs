//! Scenarios in one process: real components on loopback, no cluster.

mod admin;
mod cli;
mod command;
mod crds;
mod embedded;
#[cfg(test)]
mod journal;
mod octokit;
mod samples;
