//! How items are added to an Observation that counts: pure.
//!
//! `count`, `firstSeen`, `lastSeen` and `applied` are written together by compare-and-swap. What
//! `applied` covers is in the count already, whoever put it there, so an item is counted once
//! through crashes and hand-overs. It covers by position: items of one log and one name are added
//! in order, and none is skipped before its record has its end in the journal.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{ObservationSpec, observation::Applied},
    journal::RecordId,
};

/// Which item of which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemId {
    /// The record.
    pub record: RecordId,
    /// The index in its explosion.
    pub index: u32,
}

impl std::fmt::Display for ItemId {
    /// As the annotation `zen.io/record` has it: `log/position/index`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.record, self.index)
    }
}

impl ItemId {
    fn place(self) -> (i64, i64) {
        // Positions stay below 2^52.
        let position = i64::try_from(self.record.position.0).unwrap_or(i64::MAX);
        (position, i64::from(self.index))
    }
}

/// Whether the item is in the count already.
#[must_use]
pub fn covers(applied: &[Applied], item: ItemId) -> bool {
    let log = item.record.log.to_string();
    applied
        .iter()
        .filter(|entry| entry.log == log)
        .any(|entry| (entry.position, entry.index) >= item.place())
}

/// Whether the object was made by a later item (`log/position/index`) of the same record. Items of a
/// record are tried in order: then this one was refused, though its place is covered.
#[must_use]
pub fn behind(item: ItemId, made_by: &str) -> bool {
    let Some((record, index)) = made_by.rsplit_once('/') else {
        return false;
    };
    let index = index.parse::<u32>().ok();
    record == item.record.to_string() && index.is_some_and(|index| index > item.index)
}

/// The sum of `base` and the items, which it must not cover yet. Each item's spec is what the item
/// alone would create.
#[must_use]
pub fn add<'a>(
    mut base: ObservationSpec,
    items: impl IntoIterator<Item = (ItemId, &'a ObservationSpec)>,
) -> ObservationSpec {
    for (id, spec) in items {
        base.count = base.count.saturating_add(spec.count);
        base.first_seen = earlier(base.first_seen, spec.first_seen.as_ref());
        base.last_seen = later(base.last_seen, spec.last_seen.as_ref());
        apply(&mut base.applied, id);
    }
    base
}

fn apply(applied: &mut Vec<Applied>, item: ItemId) {
    let log = item.record.log.to_string();
    let (position, index) = item.place();
    match applied.iter_mut().find(|entry| entry.log == log) {
        Some(entry) if (entry.position, entry.index) < (position, index) => {
            entry.position = position;
            entry.index = index;
        }
        Some(_) => {}
        None => applied.push(Applied {
            log,
            position,
            index,
        }),
    }
}

fn earlier(one: Option<Time>, other: Option<&Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 < one.0 { other.clone() } else { one }),
        (one, other) => one.or_else(|| other.cloned()),
    }
}

fn later(one: Option<Time>, other: Option<&Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 > one.0 { other.clone() } else { one }),
        (one, other) => one.or_else(|| other.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::journal::{LogId, Position};

    fn id(log: u32, position: u64, index: u32) -> ItemId {
        let record = RecordId {
            log: LogId(log),
            position: Position(position),
        };
        ItemId { record, index }
    }

    fn alone(id: ItemId, second: u32) -> ObservationSpec {
        let seen = format!("2026-01-01T00:00:{:02}Z", second % 60);
        serde_json::from_value(json!({
            "source": "s", "category": "security", "severity": "low", "eventType": "x",
            "detectedAt": seen, "count": 1, "firstSeen": seen, "lastSeen": seen,
            "applied": [{
                "log": id.record.log.to_string(), "position": id.record.position.0, "index": id.index,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn only_a_later_item_of_the_same_record_tells_of_a_refusal() {
        let item = id(7, 12, 3);
        assert!(behind(item, "00000007/12/4"));
        for made_by in [
            "00000007/12/3",
            "00000007/12/2",
            "00000007/13/4",
            "00000008/12/4",
            "",
            "x",
        ] {
            assert!(!behind(item, made_by), "{made_by}");
        }
    }

    #[test]
    fn three_items_of_two_logs_add_up() {
        let (a, b, c) = (id(1, 5, 0), id(1, 7, 2), id(2, 3, 0));
        let (later, earliest) = (alone(b, 30), alone(c, 10));
        let sum = add(alone(a, 20), [(b, &later), (c, &earliest)]);
        assert_eq!(sum.count, 3);
        assert_eq!(sum.first_seen, earliest.first_seen);
        assert_eq!(sum.last_seen, later.last_seen);
        assert!(covers(&sum.applied, a) && covers(&sum.applied, b) && covers(&sum.applied, c));
        assert!(!covers(&sum.applied, id(1, 7, 3)) && !covers(&sum.applied, id(1, 8, 0)));
        assert!(!covers(&sum.applied, id(3, 0, 0)));
    }

    proptest! {
        /// However the items are cut into writes, and however often each is offered again.
        #[test]
        fn any_cut_and_any_repetition_gives_the_same_sum(
            steps in prop::collection::vec((0_u64..3, 0_u32..3, 0_u32..60), 1..40),
            cuts in prop::collection::vec(1_usize..6, 40),
            again in prop::collection::vec(0_usize..8, 40),
        ) {
            let mut place = (0, 0);
            let items: Vec<_> = steps.iter().map(|(position, index, second)| {
                place = if *position == 0 { (place.0, place.1 + index + 1) } else { (place.0 + position, *index) };
                let id = id(9, place.0, place.1);
                (id, alone(id, *second))
            }).collect();
            let mut whole = items[0].1.clone();
            whole = add(whole, items[1..].iter().map(|(id, spec)| (*id, spec)));

            let mut object: Option<ObservationSpec> = None;
            let (mut from, mut turn) = (0, 0);
            while from < items.len() {
                let to = (from + cuts[turn % cuts.len()]).min(items.len());
                let begin = from.saturating_sub(again[turn % again.len()]);
                let open: Vec<_> = items[begin..to].iter().filter(|(id, _)| {
                    object.as_ref().is_none_or(|spec| !covers(&spec.applied, *id))
                }).collect();
                object = Some(match object {
                    Some(spec) => add(spec, open.iter().map(|(id, spec)| (*id, spec))),
                    None => add(open[0].1.clone(), open[1..].iter().map(|(id, spec)| (*id, spec))),
                });
                (from, turn) = (to, turn + 1);
            }
            prop_assert_eq!(object.unwrap(), whole);
        }
    }
}
