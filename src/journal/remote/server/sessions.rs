//! Which subscriptions stand, by pod: so that a core that comes back finds room, and none takes all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Subscriptions of one pod: the one in use, and those whose connections are not noticed to be gone.
const PER_POD: usize = 4;

/// Subscriptions in all: sixty pods with four each.
const ALL: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Standing>);

#[derive(Debug, Default)]
struct Standing {
    by_pod: BTreeMap<String, VecDeque<(u64, CancellationToken)>>,
    next: u64,
    count: usize,
}

/// A subscription's place; dropped, it is free.
#[derive(Debug)]
pub(super) struct Place<'a> {
    sessions: &'a Sessions,
    pod: String,
    id: u64,
    /// Cancelled when a newer one of the pod takes the place.
    pub(super) ended: CancellationToken,
}

impl Sessions {
    /// A place for one more subscription of a pod, and whether its oldest had to end for it; `None`:
    /// there are too many of others.
    pub(super) fn enter(&self, pod: &str) -> Option<(Place<'_>, bool)> {
        let mut standing = self.lock();
        let own = standing.by_pod.get(pod).map_or(0, VecDeque::len);
        if standing.count >= ALL && own < PER_POD {
            return None;
        }
        let id = standing.next;
        standing.next += 1;
        standing.count += 1;
        let ended = CancellationToken::new();
        let places = standing.by_pod.entry(pod.to_owned()).or_default();
        places.push_back((id, ended.clone()));
        let replaced = places.len() > PER_POD;
        if replaced && let Some((_, oldest)) = places.pop_front() {
            oldest.cancel();
            standing.count -= 1;
        }
        drop(standing);
        let place = Place {
            sessions: self,
            pod: pod.to_owned(),
            id,
            ended,
        };
        Some((place, replaced))
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut standing = self.sessions.lock();
        let Some(places) = standing.by_pod.get_mut(&self.pod) else {
            return;
        };
        let before = places.len();
        places.retain(|(id, _)| *id != self.id);
        let left = before - places.len();
        if places.is_empty() {
            standing.by_pod.remove(&self.pod);
        }
        standing.count = standing.count.saturating_sub(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_pod_leaves_and_others_keep_their_places() {
        let sessions = Sessions::default();
        let other = sessions.enter("other").unwrap().0;
        let mine: Vec<_> = (0..PER_POD)
            .map(|_| {
                let (place, replaced) = sessions.enter("mine").unwrap();
                assert!(!replaced);
                place
            })
            .collect();
        let (newest, replaced) = sessions.enter("mine").unwrap();
        assert!(replaced);
        let ended: Vec<bool> = mine
            .iter()
            .map(|place| place.ended.is_cancelled())
            .collect();
        assert_eq!(ended, [true, false, false, false]);
        assert!(!other.ended.is_cancelled() && !newest.ended.is_cancelled());
        drop(mine);
        assert_eq!(sessions.lock().count, 2);
        drop((newest, other));
        let standing = sessions.lock();
        assert_eq!((standing.count, standing.by_pod.len()), (0, 0));
    }

    #[test]
    fn there_is_a_bound_over_all_pods() {
        let sessions = Sessions::default();
        let places: Vec<_> = (0..ALL)
            .map(|n| sessions.enter(&n.to_string()).unwrap())
            .collect();
        assert!(sessions.enter("one more").is_none());
        drop(places);
        assert!(sessions.enter("one more").is_some());
    }
}
