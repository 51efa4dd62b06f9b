//! One replica of those that share the work: coordination, and the engine that works on what this one
//! owns. The part that `core` and `dev` share.
//!
//! ```text
//!  coordination ──own, release, drop, gate──▶ engine ──▶ Kubernetes API
//!       ▲   └──────released, fenced, load───────┘ ▲
//!  Leases, ShardMap, peers                        └── logs of gateways
//! ```

use std::{sync::Arc, time::Duration};

use axum::Router;
use futures::{FutureExt as _, future::BoxFuture};
use kube::Client;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{base::Base, error::Error, ingress::Ingress, options};
use crate::{
    config::Config,
    coordination::{
        edge::{self, Work},
        names::Holder,
        port::Input,
    },
    engine::start::{self as engine, Engine, Notice, Ports},
    journal::{self, Bucket, Epoch, Local, wal::Wal},
    ops::{
        admin::{self, token::Token},
        tasks::Tasks,
    },
};

/// The gates of this part: the engine's, and being a member of the fleet.
pub(super) const GATES: [&str; 3] = [engine::GATES[0], engine::GATES[1], FLEET];

const FLEET: &str = "fleet";

/// What coordination decides, carried out by the engine.
#[derive(Debug)]
struct Worker(engine::Handle);

impl Work for Worker {
    fn became(&self, holder: Holder) {
        self.0.became(Some(journal::Holder::from(&holder)));
    }

    fn own(&self, bucket: Bucket, epoch: Epoch) {
        self.0.own(bucket, epoch);
    }

    fn release(&self, bucket: Bucket, epoch: Epoch) {
        self.0.release(bucket, epoch);
    }

    fn drop_bucket(&self, bucket: Bucket) {
        self.0.drop_bucket(bucket);
    }

    fn gate(&self, open: bool) {
        self.0.gate(open);
    }

    fn standby(&self, buckets: Vec<Bucket>) {
        self.0.standby(buckets);
    }

    fn survey(&self) -> BoxFuture<'_, Vec<Epoch>> {
        self.0.survey().boxed()
    }
}
