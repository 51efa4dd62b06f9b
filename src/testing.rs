//! What tests share across test binaries (feature `testing`, never in a release binary).

pub mod cluster;
