//! Stand-in.
use std::collections::BTreeMap;
use zen_fabric::{
    coordination::{
        layout::{Layout, Place, Wanted},
        names::Holder,
    },
    journal::Bucket,
};

pub(crate) fn assign(wanted: &Wanted) -> Layout {
    let mut layout: BTreeMap<Bucket, Holder> = BTreeMap::new();
    let all: Vec<&Holder> = wanted.candidates.keys().collect();
    if all.is_empty() {
        return Layout::new();
    }
    let share = usize::from(wanted.buckets).div_ceil(all.len());
    let mut count: BTreeMap<&Holder, usize> = all.iter().map(|one| (*one, 0)).collect();
    let mut open = Vec::new();
    for bucket in (0..wanted.buckets).map(Bucket) {
        let current = wanted.current.get(&bucket);
        match current.and_then(|one| count.get_mut(one)) {
            Some(n) if *n < share => {
                *n += 1;
                layout.insert(bucket, current.unwrap().clone());
            }
            _ => open.push(bucket),
        }
    }
    for bucket in open {
        let (owner, n) = count.iter_mut().min_by_key(|(_, n)| **n).unwrap();
        *n += 1;
        layout.insert(bucket, (*owner).clone());
    }
    layout
        .into_iter()
        .map(|(bucket, owner)| {
            let standby = all.iter().find(|one| **one != &owner).map(|one| (*one).clone());
            (bucket, Place { owner, standby })
        })
        .collect()
}
