//! What is held at this moment, read when it is asked for: a request pays nothing for it.

use std::sync::Arc;

use prometheus::{
    IntGauge,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::sync::Semaphore;

use super::{body::Budget, limits::Addresses};

/// What grows with the requests under way, and falls back when they are done.
#[derive(Debug)]
pub(super) struct Levels {
    bodies: Arc<Budget>,
    addresses: Arc<Addresses>,
    waiters: Arc<Semaphore>,
    /// Places to wait when nobody does.
    places: usize,
    body_bytes: IntGauge,
    failing: IntGauge,
    waiting: IntGauge,
}

impl Levels {
    /// To be registered.
    pub(super) fn new(
        bodies: Arc<Budget>,
        addresses: Arc<Addresses>,
        waiters: Arc<Semaphore>,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            bodies,
            addresses,
            places: waiters.available_permits(),
            waiters,
            body_bytes: IntGauge::new(
                "gateway_bodies_bytes",
                "Bytes of bodies in memory: being read, or on their way into the journal",
            )?,
            failing: IntGauge::new(
                "gateway_failing_addresses",
                "Client addresses whose failing requests are remembered",
            )?,
            waiting: IntGauge::new(
                "gateway_waiting",
                "Requests that wait for their event's end",
            )?,
        })
    }

    const fn gauges(&self) -> [&IntGauge; 3] {
        [&self.body_bytes, &self.failing, &self.waiting]
    }
}

impl Collector for Levels {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter();
        gauges.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let waiting = self.places.saturating_sub(self.waiters.available_permits());
        let levels = [self.bodies.used(), self.addresses.len(), waiting];
        let gauges = self.gauges().into_iter().zip(levels);
        gauges
            .flat_map(|(gauge, level)| {
                gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
                gauge.collect()
            })
            .collect()
    }
}
