//! Counting ends, and making counts add up where the disk lost entries.

use crate::journal::{End, Items, Tally};

pub(super) fn count_end(tally: &mut Tally, end: End, items: &Items) {
    match end {
        End::Filtered => tally.filtered += 1,
        End::Deduplicated => tally.deduplicated += 1,
        End::Observed => tally.observed += 1,
        End::DeadLettered => tally.dead_lettered += 1,
    }
    tally.items.observed += u64::from(items.observed);
    tally.items.filtered += u64::from(items.filtered);
    tally.items.deduplicated += u64::from(items.deduplicated);
    tally.items.dead_lettered += u64::from(items.dead_lettered);
}

/// Makes accepted = ends + damaged + backlog hold where the disk lost entries: records that are
/// missing are damaged; ends that are missing will come again, and are counted then. Says how many
/// were damaged.
pub(super) fn balance(tally: &mut Tally, backlog: u64) -> u64 {
    let accepted = tally.requests + tally.replays;
    let ends = tally.observed + tally.filtered + tally.deduplicated + tally.dead_lettered;
    let known = ends + tally.damaged + backlog;
    if accepted >= known {
        tally.damaged += accepted - known;
        return accepted - known;
    }
    let mut surplus = known - accepted;
    for end in [
        &mut tally.observed,
        &mut tally.deduplicated,
        &mut tally.filtered,
        &mut tally.dead_lettered,
    ] {
        let less = surplus.min(*end);
        *end -= less;
        surplus -= less;
    }
    tally.requests += surplus;
    0
}
