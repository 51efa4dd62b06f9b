use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::journal::BUCKETS;

fn pod(name: &str) -> PodName {
    PodName(Arc::from(name))
}

fn ring<'a>(pods: impl IntoIterator<Item = (&'a str, u32, &'a str)>) -> Ring {
    let seat = |(name, weight, zone)| Seat {
        pod: pod(name),
        weight,
        zone: Arc::from(zone),
    };
    Ring::new(BUCKETS, pods.into_iter().map(seat).collect())
}

fn seats(pods: &BTreeMap<String, (u32, String)>) -> Ring {
    ring(
        pods.iter()
            .map(|(name, (weight, zone))| (name.as_str(), *weight, zone.as_str())),
    )
}

fn all() -> impl Iterator<Item = Bucket> {
    (0..BUCKETS).map(Bucket)
}

fn share(ring: &Ring, name: &str) -> usize {
    all().filter(|b| ring.first(*b) == Some(&pod(name))).count()
}

/// What every platform must compute: change it, and a rolling update moves every bucket.
#[test]
fn the_order_is_pinned() {
    let ring = ring([
        ("core-0", 100, "a"),
        ("core-1", 100, "b"),
        ("core-2", 250, "b"),
    ]);
    let digits: String = [0, 1, 2, 3, 511, 512, 1022, 1023]
        .into_iter()
        .flat_map(|n| ring.order(Bucket(n)))
        .filter_map(|pod| pod.0.chars().last())
        .collect();
    assert_eq!(digits, "102120201012120021201021");
    assert_eq!(fnv1a(b"core-0"), 0xe61c_68da_e956_777b);
    assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
}

#[test]
fn the_logarithm_is_right_to_its_last_bits() {
    let one = 1_u64 << FRACTION;
    assert_eq!(negative_log2(1 << 63), one);
    assert_eq!(negative_log2(1), 64 * one);
    assert_eq!(negative_log2(0), 64 * one);
    assert_eq!(negative_log2(u64::MAX), 1);
    for n in 1..2_000_u64 {
        let u = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[expect(
            clippy::cast_precision_loss,
            reason = "what it is compared with is a float"
        )]
        let (exact, found) = (
            64.0 - (u as f64).log2(),
            negative_log2(u) as f64 / one as f64,
        );
        assert!((exact - found).abs() < 1e-9, "{u}: {exact} {found}");
    }
}

#[test]
fn shares_follow_weights() {
    let five: Vec<String> = (0..5).map(|n| format!("core-{n}")).collect();
    let even = ring(five.iter().map(|name| (name.as_str(), 100, "a")));
    for name in &five {
        // 1024 / 5 = 205, with a standard deviation of 12.8: four of them.
        assert!((154..=256).contains(&share(&even, name)), "{name}");
    }
    let uneven = ring([("a", 100, ""), ("b", 200, ""), ("c", 100, ""), ("d", 0, "")]);
    // Half of them: 512 with a deviation of 16.
    assert!((448..=576).contains(&share(&uneven, "b")));
    assert_eq!(share(&uneven, "d"), 0);
}

#[test]
fn the_second_is_in_another_zone_where_there_is_one() {
    let two = ring([("a", 1, "x"), ("b", 1, "x"), ("c", 1, "x"), ("d", 1, "y")]);
    let one = ring([("a", 1, "x"), ("b", 1, "x")]);
    for bucket in all() {
        let first = two.first(bucket).unwrap();
        let second = two.second(bucket).unwrap();
        assert_ne!(first, second);
        assert_eq!(*second == pod("d"), *first != pod("d"));
        assert_eq!(one.second(bucket), one.order(bucket).nth(1));
    }
    assert_eq!(ring([("a", 1, "x")]).second(Bucket(0)), None);
    assert_eq!(ring([]).first(Bucket(0)), None);
    assert_eq!(two.first(Bucket(BUCKETS)), None);
}

fn pods() -> impl Strategy<Value = BTreeMap<String, (u32, String)>> {
    prop::collection::btree_map("[a-z]{1,8}", (1_u32..=1000, "[abc]"), 1..12)
}

/// Equal weights are ranked without logarithms: as they would be with them.
#[test]
fn the_short_way_gives_the_same_order() {
    let long = ring([("a", 7, ""), ("b", 7, ""), ("c", 7, ""), ("d", 9, "")]);
    let short = ring([("a", 7, ""), ("b", 7, ""), ("c", 7, "")]);
    for bucket in all() {
        let rest: Vec<&PodName> = long.order(bucket).filter(|p| **p != pod("d")).collect();
        assert_eq!(rest, short.order(bucket).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn who_goes_changes_no_order_among_the_others(pods in pods(), who in any::<prop::sample::Index>()) {
        let gone = pods.keys().nth(who.index(pods.len())).unwrap().clone();
        let mut fewer = pods.clone();
        fewer.remove(&gone);
        let (before, after) = (seats(&pods), seats(&fewer));
        for bucket in all() {
            let rest: Vec<&PodName> = before.order(bucket).filter(|p| *p.0 != *gone).collect();
            prop_assert_eq!(rest, after.order(bucket).collect::<Vec<_>>());
        }
    }

    #[test]
    fn more_weight_takes_and_never_gives(pods in pods(), who in any::<prop::sample::Index>(), more in 1_u32..1000) {
        let heavier = pods.keys().nth(who.index(pods.len())).unwrap().clone();
        let mut changed = pods.clone();
        changed.get_mut(&heavier).unwrap().0 += more;
        let (before, after) = (seats(&pods), seats(&changed));
        for bucket in all() {
            let (old, new) = (before.first(bucket), after.first(bucket));
            prop_assert!(old == new || new == Some(&pod(&heavier)));
        }
    }

    #[test]
    fn everyone_has_a_place_in_every_order(pods in pods()) {
        let ring = seats(&pods);
        for bucket in all() {
            let mut order: Vec<&PodName> = ring.order(bucket).collect();
            order.sort();
            prop_assert!(order.iter().map(|p| &*p.0).eq(pods.keys().map(String::as_str)));
        }
    }

    #[test]
    fn scores_are_ordered(a in (1_u64..=1 << 38, 1_u32..), b in (1_u64..=1 << 38, 1_u32..), c in (1_u64..=1 << 38, 1_u32..)) {
        let [a, b, c] = [a, b, c].map(|(length, weight)| Score { length, weight, u: length });
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert!(!(a <= b && b <= c) || a <= c);
    }
}
