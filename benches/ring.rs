//! The ring and the assignment beside `hashring` 0.3 and plain modulo.
//!
//! `cargo bench --features testing --bench ring` first prints how evenly each deals out 300 keys over 5
//! pods and what moves when one dies or one more comes, then measures lookup and rebuild. The figures
//! of docs/adr/0009-rendezvous-over-buckets.md come from here.

#![allow(
    clippy::allow_attributes,
    missing_docs,
    reason = "criterion's macros make undocumented items"
)]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement: its output is its result"
)]

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use hashring::HashRing;
use zen_fabric::{
    coordination::{
        assign::{assign, counted},
        layout::{Candidate, Wanted},
        names::{Holder, PodName},
        preview::owners,
        ring::{Ring, Seat},
    },
    journal::{BUCKETS, Bucket, IngestorUid},
    testing::seeded::Seeded,
};

const PODS: usize = 5;
const KEYS: usize = 300;
const TRIALS: u64 = 200;

/// Which pod has which key: by number, for the keys in their order.
type Places = Vec<usize>;

type Deal = fn(&[IngestorUid], &[usize], Option<&Today>) -> (Places, Option<Today>);

/// A way to deal out keys. It is given today's places, which most don't look at.
struct Scheme {
    name: &'static str,
    place: Deal,
}

/// What the assignment remembers.
type Today = BTreeMap<Bucket, Holder>;

fn main_table() {
    println!(
        "{PODS} pods, {KEYS} keys, {TRIALS} trials: most loaded pod against the mean, and keys moved against the least possible\n"
    );
    println!(
        "{:<34} {:>8} {:>8}   {:>9} {:>9}   {:>9} {:>9}",
        "", "max/mean", "", "a death", "", "one more", ""
    );
    println!(
        "{:<34} {:>8} {:>8}   {:>9} {:>9}   {:>9} {:>9}",
        "", "p50", "p99", "p50", "p99", "p50", "p99"
    );
    for scheme in SCHEMES {
        let mut rows: [Vec<f64>; 3] = Default::default();
        for seed in 0..TRIALS {
            let trial = trial(scheme, seed);
            for (row, value) in rows.iter_mut().zip(trial) {
                row.push(value);
            }
        }
        let [balance, death, more] = rows.map(|row| (quantile(&row, 0.5), quantile(&row, 0.99)));
        println!(
            "{:<34} {:>8.2} {:>8.2}   {:>9.2} {:>9.2}   {:>9.2} {:>9.2}",
            scheme.name, balance.0, balance.1, death.0, death.1, more.0, more.1
        );
    }
    println!();
}

/// Balance, movement when a pod dies against what it had, movement when one comes against its share.
fn trial(scheme: &Scheme, seed: u64) -> [f64; 3] {
    let keys = keys(seed, KEYS);
    let all: Vec<usize> = (0..PODS).collect();
    let (before, today) = (scheme.place)(&keys, &all, None);
    let load = |pod: usize, places: &Places| places.iter().filter(|at| **at == pod).count();
    let most = all.iter().map(|pod| load(*pod, &before)).max().unwrap();
    let dead = seed as usize % PODS;
    let left: Vec<usize> = all.iter().copied().filter(|pod| *pod != dead).collect();
    let (after, _) = (scheme.place)(&keys, &left, today.as_ref());
    let least = load(dead, &before).max(1);
    let more: Vec<usize> = (0..=PODS).collect();
    let (grown, _) = (scheme.place)(&keys, &more, today.as_ref());
    let share = KEYS as f64 / (PODS + 1) as f64;
    [
        most as f64 * PODS as f64 / KEYS as f64,
        moved(&before, &after) as f64 / least as f64,
        moved(&before, &grown) as f64 / share,
    ]
}

fn moved(before: &Places, after: &Places) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = ((values.len() - 1) as f64 * q).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

const SCHEMES: &[Scheme] = &[
    Scheme {
        name: "modulo",
        place: |keys, pods, _| {
            let at = |key: &IngestorUid| pods.get(modulo(key, pods.len())).copied();
            (keys.iter().filter_map(at).collect(), None)
        },
    },
    Scheme {
        name: "hashring 0.3, 1 point a pod",
        place: |keys, pods, _| (by_hashring(keys, pods, 1), None),
    },
    Scheme {
        name: "hashring 0.3, 100 points a pod",
        place: |keys, pods, _| (by_hashring(keys, pods, 100), None),
    },
    Scheme {
        name: "this ring alone (no bound)",
        place: |keys, pods, _| {
            let ring = Ring::new(BUCKETS, pods.iter().map(|pod| seat(*pod)).collect());
            let at = |key: &IngestorUid| ring.first(Bucket::of(key)).and_then(number);
            (keys.iter().filter_map(at).collect(), None)
        },
    },
    Scheme {
        name: "this assignment",
        place: |keys, pods, today| {
            let mut wanted = wanted(pods.iter().copied(), counted(keys));
            wanted.current = today.cloned().unwrap_or_default();
            let owners = owners(&assign(&wanted));
            let at = |key: &IngestorUid| owners.get(&Bucket::of(key)).and_then(|h| number(&h.pod));
            (keys.iter().filter_map(at).collect(), Some(owners))
        },
    },
];

fn modulo(key: &IngestorUid, pods: usize) -> usize {
    let hash = key.0.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash % pods as u64) as usize
}

/// A pod's point on `hashring`'s circle: the crate has one per node, and more are the caller's affair.
#[derive(Clone, Hash, PartialEq, Eq)]
struct Point {
    pod: String,
    number: u32,
}

fn hashring(pods: &[usize], points: u32) -> HashRing<Point> {
    let mut ring = HashRing::new();
    let all = pods.iter().flat_map(|pod| {
        (0..points).map(move |number| Point {
            pod: format!("core-{pod}"),
            number,
        })
    });
    ring.batch_add(all.collect());
    ring
}

fn by_hashring(keys: &[IngestorUid], pods: &[usize], points: u32) -> Places {
    let ring = hashring(pods, points);
    let at = |key: &IngestorUid| ring.get(key).and_then(|point| number_of(&point.pod));
    keys.iter().filter_map(at).collect()
}

fn number(pod: &PodName) -> Option<usize> {
    number_of(&pod.0)
}

fn number_of(pod: &str) -> Option<usize> {
    pod.rsplit('-').next()?.parse().ok()
}

fn seat(pod: usize) -> Seat {
    Seat {
        pod: PodName(Arc::from(format!("core-{pod}"))),
        weight: 100,
        zone: Arc::from(""),
    }
}

fn wanted(pods: impl Iterator<Item = usize>, loads: BTreeMap<Bucket, u32>) -> Wanted {
    let candidate = Candidate {
        zone: Arc::from(""),
        region: Arc::from(""),
        weight: 100,
        build: Arc::from("1"),
    };
    let holder = |pod| Holder {
        pod: PodName(Arc::from(format!("core-{pod}"))),
        incarnation: 1,
    };
    Wanted {
        buckets: BUCKETS,
        candidates: pods.map(|pod| (holder(pod), candidate.clone())).collect(),
        loads,
        gain_percent: 5,
        ..Wanted::default()
    }
}

fn keys(seed: u64, number: usize) -> Vec<IngestorUid> {
    let mut choices = Seeded::new(seed);
    (0..number).map(|_| choices.uid()).collect()
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    let keys = keys(1, 1_000);
    let pods: Vec<usize> = (0..PODS).collect();
    let mut turn = keys.iter().cycle();
    group.bench_function("modulo", |b| {
        b.iter(|| black_box(modulo(turn.next().unwrap(), PODS)));
    });
    let ring = hashring(&pods, 100);
    group.bench_function("hashring, 100 points", |b| {
        b.iter(|| black_box(ring.get(turn.next().unwrap())));
    });
    let ring = Ring::new(BUCKETS, pods.iter().map(|pod| seat(*pod)).collect());
    group.bench_function("this ring", |b| {
        b.iter(|| black_box(ring.first(Bucket::of(turn.next().unwrap()))));
    });
    group.finish();
}

fn rebuild(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rebuild");
    let pods: Vec<usize> = (0..PODS).collect();
    group.bench_function("hashring, 5 pods, 100 points", |b| {
        b.iter(|| black_box(hashring(&pods, 100)));
    });
    for (name, odd) in [("equal weights", 100), ("one of another weight", 150)] {
        group.bench_function(format!("this ring, 5 pods, {name}"), |b| {
            b.iter(|| {
                let mut seats: Vec<Seat> = pods.iter().map(|pod| seat(*pod)).collect();
                seats.iter_mut().take(1).for_each(|seat| seat.weight = odd);
                black_box(Ring::new(BUCKETS, seats))
            });
        });
    }
    group.finish();
}

fn assignment(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("assign");
    for (name, ingestors, before, after) in [
        ("10,000 Ingestors, 3 pods, nothing to do", 10_000, 3, 3),
        ("10,000 Ingestors, 3 pods, from nothing", 10_000, 0, 3),
        ("10,000 Ingestors, 2 pods and one more", 10_000, 2, 3),
        ("10,000 Ingestors, 3 pods less one", 10_000, 3, 2),
        ("10,000 Ingestors, 1 pod and 24 more", 10_000, 1, 25),
    ] {
        let loads = counted(&keys(1, ingestors));
        let today = owners(&assign(&wanted(0..before, loads.clone())));
        let mut wanted = wanted(0..after, loads);
        wanted.current = today;
        group.bench_function(name, |b| b.iter(|| black_box(assign(&wanted))));
    }
    group.bench_function("counting 10,000 Ingestors", |b| {
        let keys = keys(1, 10_000);
        b.iter(|| black_box(counted(&keys)));
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    main_table();
    lookup(criterion);
    rebuild(criterion);
    assignment(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
