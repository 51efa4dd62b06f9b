//! One replica of those that share the work: coordination, and the engine that works on what this one
//! owns. The part that `core` and `dev` share.
//!
//! ```text
//!  coordination ──own, release, drop, gate──▶ engine ──▶ Kubernetes API
//!       ▲   └──────released, fenced, load───────┘ ▲
//!  Leases, ShardMap, peers                        └── logs of gateways
//! ```

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::Client;
use tracing::{info, warn};

use super::{base::Base, error::Error, ingress::Ingress, options};
use crate::{
    config::Config,
    coordination::{
        edge::{self, Work},
        names::Holder,
        port::Input,
    },
    engine::{
        owned::Notice,
        start::{self as engine, Engine, Ports},
    },
    journal::{self, Bucket, Epoch, source::Source},
    ops::{ready::Gate, tasks::Tasks},
};

/// The gates of this part: the engine's, and being a member of the fleet.
pub(super) const GATES: [&str; 3] = [engine::GATES[0], engine::GATES[1], FLEET];

const FLEET: &str = "fleet";
