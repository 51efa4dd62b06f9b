//! Scenarios in one process: real components on loopback, no cluster.

#[cfg(test)]
mod embedded;
