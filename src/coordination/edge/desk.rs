//! What workers and operators say to the driver: never waiting, never lost, bounded by the number of
//! buckets.
//!
//! Of each bucket the last word of each kind is kept: an earlier one of the same kind is answered by
//! it. Of drains and their taking back the last counts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    coordination::{names::Holder, port::Input},
    journal::{Bucket, Epoch},
};

/// Where it lies until the driver takes it.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pile: Mutex<Pile>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Pile {
    /// It was told to drain and end.
    ends: bool,
    ready: bool,
    drain: Option<Input>,
    released: BTreeMap<Bucket, Epoch>,
    fenced: BTreeMap<Bucket, (Epoch, Holder)>,
    load: BTreeMap<Bucket, u32>,
}

// === impl Desk ===

impl Desk {
    /// Puts something down.
    pub(super) fn put(&self, input: Input) {
        let mut pile = self.pile.lock().unwrap_or_else(PoisonError::into_inner);
        pile.put(input);
        drop(pile);
        self.news.notify_one();
    }

    /// Waits until something lies there.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Vec<Input> {
        let mut pile = self.pile.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = pile.ends;
        let taken = std::mem::take(&mut *pile);
        pile.ends = ends;
        taken.inputs()
    }
}

// === impl Pile ===

impl Pile {
    fn put(&mut self, input: Input) {
        match input {
            Input::Ready => self.ready = true,
            // A process that was told to end does so, whatever an operator says meanwhile.
            Input::Drain => {
                self.ends = true;
                self.drain = Some(input);
            }
            Input::Vacate | Input::Undrain if self.ends => {}
            Input::Vacate | Input::Undrain => self.drain = Some(input),
            Input::Released { bucket, epoch } => {
                let latest = self.released.entry(bucket).or_default();
                *latest = epoch.max(*latest);
            }
            Input::Fenced {
                bucket,
                epoch,
                holder,
            } => {
                let known = self.fenced.get(&bucket);
                if known.is_none_or(|(known, _)| *known <= epoch) {
                    self.fenced.insert(bucket, (epoch, holder));
                }
            }
            Input::Load(loads) => self.load.extend(loads),
            Input::Answer { .. }
            | Input::Seen { .. }
            | Input::Current
            | Input::Link { .. }
            | Input::Message { .. }
            | Input::Surveyed(_) => {
                tracing::warn!("a worker said what only watches, peers and the API server say");
            }
        }
    }

    fn inputs(self) -> Vec<Input> {
        let ready = self.ready.then_some(Input::Ready);
        let released = self.released.into_iter();
        let fenced = self.fenced.into_iter();
        let load = (!self.load.is_empty()).then(|| Input::Load(self.load.into_iter().collect()));
        ready
            .into_iter()
            .chain(self.drain)
            .chain(released.map(|(bucket, epoch)| Input::Released { bucket, epoch }))
            .chain(fenced.map(|(bucket, (epoch, holder))| Input::Fenced {
                bucket,
                epoch,
                holder,
            }))
            .chain(load)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_word_of_each_kind_is_taken_once() {
        let desk = Desk::default();
        let holder: Holder = "core-0#2".parse().unwrap();
        let released = |bucket, epoch| Input::Released {
            bucket: Bucket(bucket),
            epoch: Epoch(epoch),
        };
        let fenced = |epoch| Input::Fenced {
            bucket: Bucket(1),
            epoch: Epoch(epoch),
            holder: holder.clone(),
        };
        for input in [
            Input::Vacate,
            released(1, 4),
            released(2, 4),
            released(1, 7),
            fenced(9),
            fenced(8),
            Input::Load(vec![(Bucket(1), 5), (Bucket(2), 6)]),
            Input::Load(vec![(Bucket(1), 7)]),
            Input::Undrain,
            Input::Ready,
            Input::Current,
        ] {
            desk.put(input);
        }
        desk.news().await;
        let taken = [
            Input::Ready,
            Input::Undrain,
            released(1, 7),
            released(2, 4),
            fenced(9),
            Input::Load(vec![(Bucket(1), 7), (Bucket(2), 6)]),
        ];
        assert_eq!(desk.take(), taken);
        assert_eq!(desk.take(), []);
    }

    #[tokio::test]
    async fn who_was_told_to_end_is_not_kept_by_an_operator() {
        let desk = Desk::default();
        for input in [Input::Drain, Input::Undrain, Input::Vacate] {
            desk.put(input);
        }
        assert_eq!(desk.take(), [Input::Drain]);
        desk.put(Input::Undrain);
        assert_eq!(desk.take(), []);
    }
}
