//! The `zen-fabric` binary: wiring and exit, nothing else.

fn main() {}
