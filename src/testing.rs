//! What tests share: clocks that tests move, builders, fakes. Never in a release binary (feature `testing`).

pub mod clock;
