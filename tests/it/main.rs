//! Scenarios in one process: real components on loopback, no cluster.

mod admin;
mod cli;
mod command;
mod crds;
mod embedded;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod journal;
mod kinds;
mod octokit;
mod samples;
