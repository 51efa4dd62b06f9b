//! An engine under a name, as whoever coordinates it sees it.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::mpsc;
use zen_fabric::{
    engine::start::{Handle, Notice},
    journal::{BUCKETS, Bucket, Epoch, Holder},
};

use super::rig::Rig;

/// Simulated.
const PATIENCE: Duration = Duration::from_hours(1);

pub(super) struct Replica {
    pub(super) engine: Handle,
    notices: mpsc::Receiver<Vec<Notice>>,
    /// Received, and not looked at.
    told: VecDeque<Notice>,
}

impl Replica {
    /// One whose gate is open, without a log.
    pub(super) fn new(rig: &mut Rig, name: &str) -> Self {
        let engine = rig.idle_engine();
        engine.gate(true);
        let notices = engine.notices().unwrap();
        let replica = Self {
            engine,
            notices,
            told: VecDeque::new(),
        };
        replica.became(name);
        replica
    }

    pub(super) fn became(&self, name: &str) {
        self.engine.became(Some(Holder(name.into())));
    }

    pub(super) fn own_all(&self, epoch: u64) {
        let all = (0..BUCKETS).map(|bucket| (Bucket(bucket), Epoch(epoch)));
        self.engine.own(&all.collect::<Vec<_>>());
    }

    async fn next(&mut self) -> Notice {
        loop {
            match self.told.pop_front() {
                None => {
                    let next = tokio::time::timeout(PATIENCE, self.notices.recv()).await;
                    let next = next.expect("nothing is told").expect("the engine is gone");
                    self.told.extend(next);
                }
                Some(Notice::Load(_)) => {}
                Some(notice) => return notice,
            }
        }
    }

    /// The next notice, which is a release's.
    pub(super) async fn released(&mut self) -> (Bucket, Epoch) {
        match self.next().await {
            Notice::Released { bucket, epoch } => (bucket, epoch),
            other => panic!("{other:?}"),
        }
    }

    /// The next notice, which is a fence's.
    pub(super) async fn fence(&mut self) -> (Bucket, Epoch, String) {
        match self.next().await {
            Notice::Fenced {
                bucket,
                epoch,
                holder,
            } => (bucket, epoch, holder.0.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// All that was told so far.
    pub(super) async fn told_all(&mut self) -> Vec<Notice> {
        let mut told: Vec<Notice> = self.told.drain(..).collect();
        let soon = Duration::from_millis(1);
        while let Ok(notice) = tokio::time::timeout(soon, self.notices.recv()).await {
            told.extend(notice.expect("the engine is gone"));
        }
        told
    }

    /// The same without loads.
    pub(super) async fn told(&mut self) -> Vec<Notice> {
        let mut told = self.told_all().await;
        told.retain(|notice| !matches!(notice, Notice::Load(_)));
        told
    }
}
