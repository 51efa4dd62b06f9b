//! Scenarios in one process: real components on loopback, no cluster.

mod crds;
mod embedded;
#[cfg(test)]
mod journal;
mod octokit;
mod samples;
