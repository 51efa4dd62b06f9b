//! What tests share across test binaries (feature `testing`, never in a release binary).

pub mod cluster;
//! What tests share: clocks that tests move, builders, fakes. Never in a release binary (feature `testing`).

pub mod clock;
