//! What workers were told, over all replicas, in one order; and what must be true of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use zen_fabric::{
    coordination::{
        edge::{Handle, Work},
        names::Holder,
        port::Input,
    },
    journal::{BUCKETS, Bucket, Epoch},
};

/// How long a bucket's last work takes.
const FINISHING: Duration = Duration::from_millis(3);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Became,
    Own(Bucket, Epoch),
    Release(Bucket),
    /// Workers have stopped.
    Stopped(Bucket),
    Drop(Bucket),
    Gate(bool),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at: Instant,
    pub(super) by: Holder,
    pub(super) what: What,
}

/// Shared by all replicas of a fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Entry>>>);

/// The workers of one replica.
pub(super) struct Recorder {
    log: Log,
    holder: Mutex<Option<Holder>>,
    handle: OnceLock<Handle>,
    remembers: Option<Epoch>,
}

impl Log {
    fn add(&self, by: Holder, what: What) {
        let at = Instant::now();
        self.0.lock().unwrap().push(Entry { at, by, what });
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Who works on what now.
    pub(super) fn owners(&self) -> BTreeMap<Bucket, (Holder, Epoch)> {
        let mut owners: BTreeMap<Bucket, (Holder, Epoch)> = BTreeMap::new();
        for Entry { by, what, .. } in self.0.lock().unwrap().iter() {
            match what {
                What::Own(bucket, epoch) => {
                    let before = owners.get(bucket);
                    if before.is_none_or(|(_, before)| before <= epoch) {
                        owners.insert(*bucket, (by.clone(), *epoch));
                    }
                }
                What::Drop(bucket) => {
                    if owners.get(bucket).is_some_and(|(owner, _)| owner == by) {
                        owners.remove(bucket);
                    }
                }
                What::Became | What::Release(_) | What::Stopped(_) | What::Gate(_) => {}
            }
        }
        owners
    }

    /// How many buckets these pods work on, each on its own.
    pub(super) fn shares(&self) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for (owner, _) in self.owners().into_values() {
            *shares.entry(owner.pod.to_string()).or_default() += 1;
        }
        shares
    }

    /// Whether each bucket is worked on by one of these.
    pub(super) fn covered_by(&self, pods: &[&str]) -> bool {
        let owners = self.owners();
        owners.len() == usize::from(BUCKETS)
            && owners
                .values()
                .all(|(owner, _)| pods.contains(&&*owner.pod.0))
    }

    /// Nobody ever works on a bucket under an epoch that another has had, and nobody starts below
    /// what another started before, unless it is cut off.
    pub(super) fn check(&self, cut_off: &[&str]) {
        let mut issued: BTreeMap<(Bucket, Epoch), Holder> = BTreeMap::new();
        let mut newest: BTreeMap<Bucket, Epoch> = BTreeMap::new();
        for Entry { by, what, .. } in self.entries() {
            let What::Own(bucket, epoch) = what else {
                continue;
            };
            let first = issued.entry((bucket, epoch)).or_insert_with(|| by.clone());
            assert_eq!(*first, by, "{bucket:?} at {epoch:?} has two owners");
            let newest = newest.entry(bucket).or_default();
            if !cut_off.contains(&&*by.pod.0) {
                assert!(
                    epoch >= *newest,
                    "{by} starts {bucket:?} at {epoch:?}, below {newest:?}"
                );
            }
            *newest = epoch.max(*newest);
        }
    }

    /// From entry `since` on: each bucket that went from one live pod to another was stopped before
    /// it was started; and for how long nobody worked on it.
    pub(super) fn gaps(&self, since: usize) -> Vec<Duration> {
        let mut stopped: BTreeMap<Bucket, Option<Instant>> = BTreeMap::new();
        let mut owner: BTreeMap<Bucket, Holder> = BTreeMap::new();
        let mut gaps = Vec::new();
        for (n, Entry { at, by, what }) in self.entries().into_iter().enumerate() {
            match what {
                What::Own(bucket, _) => {
                    let before = owner.insert(bucket, by.clone());
                    let stop = stopped.remove(&bucket).flatten();
                    if n < since || before.is_none_or(|before| before == by) {
                        continue;
                    }
                    let stop =
                        stop.unwrap_or_else(|| panic!("{bucket:?} starts at {by} unstopped"));
                    gaps.push(at.duration_since(stop));
                }
                What::Stopped(bucket) => {
                    stopped.insert(bucket, Some(at));
                }
                What::Became | What::Release(_) | What::Drop(_) | What::Gate(_) => {}
            }
        }
        gaps.sort();
        gaps
    }

    pub(super) fn lives(&self) -> BTreeSet<Holder> {
        let became = self.entries().into_iter();
        became
            .filter(|entry| entry.what == What::Became)
            .map(|entry| entry.by)
            .collect()
    }

    /// Which gates are open.
    pub(super) fn open_gates(&self) -> BTreeSet<String> {
        let mut open = BTreeSet::new();
        for Entry { by, what, .. } in self.entries() {
            match what {
                What::Gate(true) => drop(open.insert(by.pod.to_string())),
                What::Gate(false) => drop(open.remove(&by.pod.to_string())),
                _ => {}
            }
        }
        open
    }
}

impl Recorder {
    pub(super) fn new(log: &Log, remembers: Option<Epoch>) -> Arc<Self> {
        Arc::new(Self {
            log: log.clone(),
            holder: Mutex::new(None),
            handle: OnceLock::new(),
            remembers,
        })
    }

    pub(super) fn begin(&self, handle: Handle) {
        self.handle.set(handle).unwrap();
    }

    fn add(&self, what: What) {
        let holder = self.holder.lock().unwrap().clone();
        self.log.add(holder.expect("only holders work"), what);
    }
}

/// The workers as the driver knows them.
pub(super) struct Workers(pub(super) Arc<Recorder>);

impl Work for Workers {
    fn became(&self, holder: Holder) {
        *self.0.holder.lock().unwrap() = Some(holder);
        self.0.add(What::Became);
    }

    fn own(&self, buckets: &[(Bucket, Epoch)]) {
        for (bucket, epoch) in buckets {
            self.0.add(What::Own(*bucket, *epoch));
        }
    }

    fn release(&self, buckets: &[(Bucket, Epoch)]) {
        for (bucket, epoch) in buckets.iter().copied() {
            self.0.add(What::Release(bucket));
            let recorder = Arc::clone(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep(FINISHING).await;
                recorder.add(What::Stopped(bucket));
                let handle = recorder.handle.get().unwrap();
                handle.input(Input::Released { bucket, epoch });
            });
        }
    }

    fn drop_buckets(&self, buckets: &[Bucket]) {
        for bucket in buckets {
            self.0.add(What::Drop(*bucket));
        }
    }

    fn gate(&self, open: bool) {
        // A gate shuts also after a life has ended.
        if self.0.holder.lock().unwrap().is_some() {
            self.0.add(What::Gate(open));
        }
    }

    fn standby(&self, _buckets: Vec<Bucket>) {}

    fn survey(&self) -> BoxFuture<'_, Vec<Epoch>> {
        Box::pin(async { self.0.remembers.into_iter().collect() })
    }
}
