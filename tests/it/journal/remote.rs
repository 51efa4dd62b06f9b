//! The journal over gRPC and mutual TLS: the conformance suite, breaks of all kinds, and peers that
//! behave badly.

mod bad;
mod breaks;
mod map;
mod resolve;
mod standing;
mod world;

use std::sync::{Arc, Mutex};

use futures::{FutureExt as _, future::BoxFuture};
use zen_fabric::{
    journal::{
        Journal, Local, Source,
        cases::{CASES, Limits, Nothing, Storage},
    },
    testing::{clock::ManualClock, disk::SimDisk},
};

use self::world::{Fleet, Gateway, Switch};
use super::{Simulated, clock};

/// A log on a simulated disk, behind a gateway.
#[derive(Debug)]
struct Networked {
    disk: Simulated,
    fleet: Fleet,
    switch: Arc<Switch>,
    gateway: Mutex<Option<Gateway>>,
}

impl Networked {
    fn new(seed: u64) -> Self {
        Self {
            disk: Simulated {
                disk: SimDisk::new(seed),
                clock: clock(),
            },
            fleet: Fleet::new(),
            switch: Arc::default(),
            gateway: Mutex::default(),
        }
    }

    async fn connect(&self) -> Arc<dyn Source> {
        let served = self.gateway.lock().unwrap().as_ref().map(Gateway::address);
        let address = match served {
            Some(address) => address,
            None => {
                let source = Arc::clone(&self.switch) as Arc<dyn Source>;
                let gateway = self.fleet.gateway(source).await;
                let address = gateway.address();
                *self.gateway.lock().unwrap() = Some(gateway);
                address
            }
        };
        let core = self.fleet.core(None).await;
        core.connect(address).await
    }
}

impl Storage for Networked {
    fn open(&self, limits: Limits) -> Arc<dyn Journal> {
        self.disk.open(limits)
    }

    fn cut_power(&self) {
        self.switch.set(None);
        self.disk.cut_power();
    }

    fn clock(&self) -> &ManualClock {
        self.disk.clock()
    }

    fn source(&self, journal: Arc<dyn Journal>) -> BoxFuture<'_, Arc<dyn Source>> {
        let local = Local::new(journal, Arc::new(Nothing::default()));
        self.switch.set(Some(Arc::new(local)));
        self.connect().boxed()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// On one thread, so that a journal that is dropped is gone when it is opened again.
#[tokio::test]
async fn the_conformance_suite_over_the_network() {
    for seed in 0..2 {
        for (name, case) in CASES {
            println!("case: {name}, seed {seed}");
            case(&Networked::new(seed)).await;
        }
    }
}
