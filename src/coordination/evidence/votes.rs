//! Majorities.

use super::super::{names::Holder, records::MemberState, view::View};

/// Whether this replica votes: it is in the map, and reaches at least one other; else its own
/// network may be what is broken, and only the API server may convict.
pub(super) fn may_vote(view: &View) -> bool {
    let (Some(map), Some(me)) = (&view.map, &view.holder) else {
        return false;
    };
    map.state(me).is_some_and(MemberState::votes)
        && map
            .voters()
            .any(|other| other != *me && view.reaches(&other))
}

/// How many of `all` are more than half.
pub(super) const fn majority(all: usize) -> usize {
    all / 2 + 1
}

/// Whether those who are refused are a majority of all who count, suspects included.
pub(super) fn convicted(view: &View, refused: impl Fn(&Holder) -> bool) -> bool {
    let Some(map) = &view.map else {
        return false;
    };
    let (mut all, mut votes) = (0, 0);
    for voter in map.voters() {
        all += 1;
        votes += usize::from(refused(&voter));
    }
    votes >= majority(all)
}
