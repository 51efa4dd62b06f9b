//! I5 and I6, at every assignment that any replica computes: the leader's for its next map, and
//! everybody's for their standbys.
//!
//! The cores take the assignment as a function; this one is the product's, looked at from outside.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use zen_fabric::coordination::{
    assign::{accounts, assign},
    layout::{Layout, Wanted},
};

thread_local! {
    /// What was answered in this schedule, by question; and the rule that an answer broke.
    static SEEN: RefCell<Seen> = RefCell::default();
}

#[derive(Default)]
struct Seen {
    answers: BTreeMap<u64, u64>,
    broken: Option<(&'static str, String)>,
}

/// A schedule begins on this thread.
pub(crate) fn forget() {
    SEEN.take();
}

/// The rule that an answer broke since it was last asked.
pub(crate) fn broken() -> Option<(&'static str, String)> {
    SEEN.with_borrow_mut(|seen| seen.broken.take())
}

fn print(of: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{of:?}").hash(&mut hasher);
    hasher.finish()
}

/// The product's assignment.
pub(crate) fn checked(wanted: &Wanted) -> Layout {
    let layout = assign(wanted);
    let (question, answer) = (print(wanted), print(&layout));
    SEEN.with_borrow_mut(|seen| {
        let known = seen.answers.insert(question, answer);
        if known.is_some_and(|known| known != answer) {
            let what = format!("equal inputs, two assignments: {wanted:?}");
            seen.broken = Some(("I6", what));
        } else if known.is_none()
            && let Some(what) = unbound(wanted, &layout)
        {
            seen.broken = Some(("I5", what));
        }
    });
    layout
}

/// What leaves a pod that isn't above its bound, or takes one above its bound. Of buckets with load.
fn unbound(wanted: &Wanted, layout: &Layout) -> Option<String> {
    let before = accounts(wanted);
    let mut after: BTreeMap<_, u64> = BTreeMap::new();
    let load = |bucket| u64::from(wanted.loads.get(bucket).copied().unwrap_or(0));
    for (bucket, place) in layout {
        *after.entry(&place.owner).or_default() += load(bucket);
    }
    for (bucket, place) in layout.iter().filter(|(bucket, _)| load(bucket) > 0) {
        let Some(from) = wanted
            .current
            .get(bucket)
            .filter(|from| **from != place.owner)
        else {
            continue;
        };
        let stays = before
            .get(from)
            .and_then(|one| Some((one.load, one.bound?)));
        if let Some((carries, bound)) = stays.filter(|(carries, bound)| carries <= bound) {
            return Some(format!(
                "bucket {} leaves {from}, which carries {carries} of {bound}",
                bucket.0
            ));
        }
        let bound = before.get(&place.owner).and_then(|one| one.bound);
        let carries = after.get(&place.owner).copied().unwrap_or_default();
        if bound.is_none_or(|bound| carries > bound) {
            return Some(format!(
                "bucket {} goes to {}, which then carries {carries} of {bound:?}",
                bucket.0, place.owner
            ));
        }
    }
    None
}
