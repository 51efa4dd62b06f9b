//! The segment log: the conformance suite on both disks, and crashes.

mod crash;
mod faults;
mod model;
mod panics;
mod remote;
mod trim;

use std::{path::PathBuf, sync::Arc};

use zen_fabric::{
    journal::{
        Journal, Millis,
        cases::{CASES, Limits, Storage},
        wal::{Options, Wal},
    },
    testing::{
        clock::ManualClock,
        disk::{Faults, SimDisk},
    },
};

fn options(limits: Limits) -> Options {
    Options {
        // Small, so that every case rotates and trims.
        segment_bytes: 16 * 1024,
        total_bytes: limits.total_bytes,
        share_bytes: limits.share_bytes,
        record_bytes: limits.record_bytes,
        keys: limits.keys,
        keys_per_ingestor: limits.keys_per_ingestor,
        letter_bytes: limits.letter_bytes,
        ..Options::default()
    }
}

fn clock() -> ManualClock {
    ManualClock::at(Millis(1_790_000_000_000))
}

#[derive(Debug)]
struct OnDisk {
    dir: PathBuf,
    clock: ManualClock,
}

impl Storage for OnDisk {
    fn open(&self, limits: Limits) -> Arc<dyn Journal> {
        Wal::open(&self.dir, options(limits), Arc::new(self.clock.clone())).unwrap()
    }

    // A process that is killed loses nothing that it wrote; the simulated disk cuts the power.
    fn cut_power(&self) {}

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

#[derive(Debug)]
struct Simulated {
    disk: SimDisk,
    clock: ManualClock,
}

impl Storage for Simulated {
    fn open(&self, limits: Limits) -> Arc<dyn Journal> {
        if self.disk.is_down() {
            self.disk.crash();
        }
        Wal::open_on(
            Arc::new(self.disk.clone()),
            options(limits),
            Arc::new(self.clock.clone()),
            7,
        )
        .unwrap()
    }

    fn cut_power(&self) {
        self.disk.set_faults(Faults {
            crash_after: Some(0),
            ..Faults::default()
        });
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_on_a_real_disk() {
    for (name, case) in CASES {
        println!("case: {name}");
        let dir = tempfile::tempdir().unwrap();
        case(&OnDisk {
            dir: dir.path().join("journal"),
            clock: clock(),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_on_a_simulated_disk() {
    for seed in 0..8 {
        for (name, case) in CASES {
            println!("case: {name}, seed {seed}");
            case(&Simulated {
                disk: SimDisk::new(seed),
                clock: clock(),
            })
            .await;
        }
    }
}
