//! The kinds of `zen.watcher.io`, as pure data: what users write and what the fabric writes back.
//!
//! Nothing here does I/O. Doc comments on fields are what `kubectl explain` shows.

pub mod annotations;
pub mod condition;
mod crds;
pub mod decision;
pub mod duration;
pub mod ingestor;
pub mod limits;
pub mod names;
pub mod observation;
pub mod owner;
pub mod paths;
mod schema;
pub mod shardmap;

/// The API group of every kind of this project.
pub const GROUP: &str = "zen.watcher.io";

pub use crds::{CrdFile, crd_files, crds};
pub use decision::{DecisionSpec, SpecDigest};
pub use ingestor::{Ingestor, IngestorSpec, IngestorStatus};
pub use observation::{Observation, ObservationSpec, ObservationStatus};
pub use owner::Owner;
pub use shardmap::{ShardMap, ShardMapText};
