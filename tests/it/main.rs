//! Scenarios in one process: real components on loopback, no cluster.

mod crds;
mod embedded;
mod kinds;
mod octokit;
mod samples;
