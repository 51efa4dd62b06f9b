//! Waiting until a fleet does its work again, which is where each measurement begins.

use std::{collections::BTreeSet, time::Duration};

use zen_fabric::{
    coordination::{
        names::Holder,
        records::{MemberState, ShardMapSpec},
    },
    journal::BUCKETS,
};

use super::Run;
use crate::{
    bed::fleet::Core,
    clock::At,
    error::{Error, Result},
    ledger::{Key, Makes},
};

/// How long a fleet may take until all of it works: a start, the moves that follow from it, an outage
/// behind it. What is measured has its own limits.
const SETTLED_WITHIN: Duration = Duration::from_mins(3);

/// Loads are told every 30 s, and the leader looks as often whether they ask for a move.
const CALM: Duration = Duration::from_secs(65);

/// A fleet that has just started balances itself in a round or two.
const CALM_WITHIN: Duration = Duration::from_mins(5);

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Run {
    /// Waits until every running core is Active in the map, all buckets lie with them, nothing moves,
    /// and every key is worked on.
    pub async fn settled(&mut self) -> Result<()> {
        let begun = At::now();
        loop {
            self.look_after()?;
            let why = match self.unsettled() {
                Some(why) => why,
                None => match self.idle_key() {
                    Some(key) => format!("{key} is not worked on"),
                    None => return Ok(()),
                },
            };
            if begun.passed() > SETTLED_WITHIN {
                return Err(Error::new(format!(
                    "wait until the fleet works: not within {SETTLED_WITHIN:?}, {why}"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the map has not changed for as long as loads take to be told and followed: what moves
    /// from then on is moved by something.
    pub async fn calm(&mut self) -> Result<()> {
        let begun = At::now();
        loop {
            self.pass(Duration::from_secs(1)).await?;
            let newest = self.history.lock().maps().map(|(at, _)| at).max();
            if newest.is_some_and(|newest| newest.passed() > CALM) {
                return Ok(());
            }
            if begun.passed() > CALM_WITHIN {
                return Err(Error::new(format!(
                    "wait until nothing moves for {CALM:?}: not within {CALM_WITHIN:?}"
                )));
            }
        }
    }

    /// What is not as it should be, by the map.
    fn unsettled(&self) -> Option<String> {
        let Some(map) = self.history.lock().map() else {
            return Some("there is no ShardMap".to_owned());
        };
        let wanted: BTreeSet<&str> = self
            .fleet
            .cores
            .iter()
            .filter(|core| core.node.is_wanted())
            .map(Core::name)
            .collect();
        settled(&map, &wanted)
    }

    /// A key of which nothing was seen in the last two seconds.
    fn idle_key(&self) -> Option<String> {
        let history = self.history.lock();
        let since = At(At::now().0.saturating_sub(IDLE_AFTER));
        let busy = |key: &Key| {
            history
                .newest(&key.name)
                .is_some_and(|newest| newest >= since)
        };
        let single = self.keys.iter().filter(|key| key.makes == Makes::Each);
        single
            .filter(|key| !busy(key))
            .map(|key| key.name.clone())
            .next()
    }
}

/// Microseconds.
const IDLE_AFTER: u64 = 2_000_000;

/// What of a map is not as it should be when these pods, and no others, run.
fn settled(map: &ShardMapSpec, wanted: &BTreeSet<&str>) -> Option<String> {
    let active: BTreeSet<Holder> = map
        .holders()
        .filter(|(_, member)| member.state == MemberState::Active)
        .map(|(holder, _)| holder)
        .collect();
    let pods: BTreeSet<&str> = active.iter().map(|holder| &*holder.pod.0).collect();
    if pods != *wanted {
        return Some(format!("Active are {pods:?}, running are {wanted:?}"));
    }
    if !map.moves.is_empty() {
        return Some(format!("{} buckets move", map.moves.len()));
    }
    let placed = map
        .grants
        .values()
        .filter(|grant| active.contains(&grant.owner))
        .count();
    let all = usize::from(BUCKETS);
    (placed != all).then(|| format!("{placed} of {all} buckets have a live owner"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{What, tests::map};

    #[test]
    fn a_fleet_is_settled_when_all_of_it_works() {
        let all = |owner: &'static str| -> Vec<(u16, &str, u64)> {
            (0..BUCKETS).map(|bucket| (bucket, owner, 1)).collect()
        };
        let of = |grants: &[(u16, &str, u64)]| {
            let What::Map(map) = map(1, 1, "a#1", grants) else {
                panic!("a map");
            };
            map
        };
        let wanted = BTreeSet::from(["a"]);
        assert_eq!(settled(&of(&all("a#1")), &wanted), None);
        let missing = settled(&of(&all("a#1")[1..]), &wanted).unwrap();
        assert_eq!(missing, "1023 of 1024 buckets have a live owner");
        let both = BTreeSet::from(["a", "b"]);
        assert!(settled(&of(&all("a#1")), &both).is_some(), "b doesn't work");
    }
}
