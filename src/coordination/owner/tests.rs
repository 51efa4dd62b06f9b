use proptest::prelude::*;

use super::*;
use crate::coordination::{
    assign::assign,
    message::Message,
    records::{Grant, Move, Stage as Ladder},
    tests::fixtures::{drain, holder, map, out, secs, view},
};

fn owner() -> Owner {
    Owner::new(Protocol::default())
}

fn carry(owner: &mut Owner, view: &mut View, map: ShardMapSpec, out: &mut Out) -> Vec<Action> {
    view.follow(secs(1), Arc::new(map));
    owner.step(secs(1), view, assign, out);
    drain(out)
}

fn moving(map: &mut ShardMapSpec, bucket: u16, to: usize) {
    map.version += 1;
    let of = Move {
        from: map.grants[&Bucket(bucket)].owner.clone(),
        to: holder(to),
        since: map.version,
        stage: Ladder::Ask,
    };
    map.moves.insert(Bucket(bucket), of);
}

fn acknowledged(actions: &[Action]) -> Vec<(Holder, u64)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send {
            to,
            message:
                Message {
                    body: Body::Released { version, .. },
                    ..
                },
        } => Some((to.clone(), *version)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn it_starts_what_the_map_grants() {
    let (mut owner, mut view, mut out) = (owner(), view(2, 1), out());
    let actions = carry(&mut owner, &mut view, map(2), &mut out);
    let own = |n| Action::Own {
        bucket: Bucket(n),
        epoch: Epoch(1),
    };
    for n in (0..16).step_by(2) {
        assert!(actions.contains(&own(n)));
    }
    assert!(!actions.contains(&own(1)));
    let again = carry(&mut owner, &mut view, map(2), &mut out);
    assert_eq!(again, [], "the same map asks for nothing");
}

#[test]
fn it_stops_then_acknowledges_again_and_again_and_lets_go() {
    let (mut owner, mut view, mut out) = (owner(), view(3, 2), out());
    let mut map = map(3);
    carry(&mut owner, &mut view, map.clone(), &mut out);
    moving(&mut map, 0, 1);
    let actions = carry(&mut owner, &mut view, map.clone(), &mut out);
    let (bucket, epoch) = (Bucket(0), Epoch(1));
    assert_eq!(actions[0], Action::Release { bucket, epoch });
    assert_eq!(
        acknowledged(&actions),
        [],
        "not before its workers have stopped"
    );
    owner.released(secs(1), (bucket, Epoch(7)), &view, &mut out);
    assert_eq!(drain(&mut out), [], "of another time");
    owner.released(secs(1), (bucket, epoch), &view, &mut out);
    let told = [(holder(1), 2), (holder(2), 2)];
    assert_eq!(acknowledged(&drain(&mut out)), told);
    owner.step(secs(1), &view, assign, &mut out);
    assert_eq!(acknowledged(&drain(&mut out)), [], "once is enough for now");
    owner.step(secs(2), &view, assign, &mut out);
    owner.step(secs(3), &view, assign, &mut out);
    assert_eq!(acknowledged(&drain(&mut out)).len(), 4, "again and again");
    map.version += 1;
    let actions = carry(&mut owner, &mut view, map.clone(), &mut out);
    assert_eq!(acknowledged(&actions), [(holder(1), 3), (holder(2), 3)]);
    map.version += 1;
    map.moves.clear();
    let grant = Grant {
        owner: holder(1),
        epoch: Epoch(map.version),
    };
    map.grants.insert(bucket, grant);
    let actions = carry(&mut owner, &mut view, map, &mut out);
    assert!(actions.contains(&Action::Drop { bucket }));
    assert!(acknowledged(&actions).is_empty());
}

#[test]
fn it_resumes_only_where_it_is_named_and_nothing_moves() {
    let (mut owner, mut view, mut out) = (owner(), view(3, 2), out());
    let mut map = map(3);
    carry(&mut owner, &mut view, map.clone(), &mut out);
    moving(&mut map, 0, 1);
    carry(&mut owner, &mut view, map.clone(), &mut out);
    map.version += 1;
    map.moves.clear();
    let (bucket, epoch) = (Bucket(0), Epoch(1));
    let actions = carry(&mut owner, &mut view, map.clone(), &mut out);
    assert!(
        !actions.contains(&Action::Own { bucket, epoch }),
        "they still stop"
    );
    owner.released(secs(1), (bucket, epoch), &view, &mut out);
    assert_eq!(drain(&mut out), [Action::Own { bucket, epoch }]);
}

#[test]
fn a_higher_epoch_raises_it_and_a_lower_one_does_not() {
    let (mut owner, mut view, mut out) = (owner(), view(3, 2), out());
    let mut map = map(3);
    carry(&mut owner, &mut view, map.clone(), &mut out);
    let bucket = Bucket(0);
    map.version = 9;
    map.grants.get_mut(&bucket).unwrap().epoch = Epoch(9);
    let actions = carry(&mut owner, &mut view, map.clone(), &mut out);
    let epoch = Epoch(9);
    assert_eq!(actions, [Action::Own { bucket, epoch }]);
    map.version = 10;
    map.grants.get_mut(&bucket).unwrap().epoch = Epoch(3);
    assert_eq!(carry(&mut owner, &mut view, map, &mut out), []);
}

#[test]
fn an_editors_slip_is_not_started_on() {
    let (mut owner, mut view, mut out) = (owner(), view(2, 1), out());
    let mut map = map(2);
    carry(&mut owner, &mut view, map.clone(), &mut out);
    map.version = 2;
    map.grants.get_mut(&Bucket(1)).unwrap().owner = holder(0);
    let actions = carry(&mut owner, &mut view, map.clone(), &mut out);
    let starts = |action: &Action| matches!(action, Action::Own { .. });
    assert!(!actions.iter().any(starts), "{actions:?}");
    map.version = 3;
    map.grants.get_mut(&Bucket(1)).unwrap().epoch = Epoch(3);
    let (bucket, epoch) = (Bucket(1), Epoch(3));
    let actions = carry(&mut owner, &mut view, map, &mut out);
    assert!(actions.contains(&Action::Own { bucket, epoch }));
}

/// What may happen to one bucket of two pods.
#[derive(Clone, Debug)]
enum Step {
    List,
    Cancel,
    Commit,
    GiveBack,
    Raise,
    Stopped,
    Again,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::List),
        Just(Step::Cancel),
        Just(Step::Commit),
        Just(Step::GiveBack),
        Just(Step::Raise),
        Just(Step::Stopped),
        Just(Step::Again),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever the leader writes and whenever workers stop: work goes on only where the map names
    /// this pod, an acknowledgement is never said while workers work, and epochs of work never fall.
    #[test]
    fn work_follows_the_map(steps in steps()) {
        let (mut owner, mut view, mut out) = (owner(), view(2, 1), out());
        let mut map = map(2);
        let bucket = Bucket(0);
        let (mut working, mut stopping) = (None::<Epoch>, None::<Epoch>);
        carry(&mut owner, &mut view, map.clone(), &mut out);
        working = working.or(Some(Epoch(1)));
        let mut highest = Epoch(1);
        for step in steps {
            let mine = map.grants[&bucket].owner == holder(0);
            let actions = match step {
                Step::List if mine => {
                    moving(&mut map, 0, 1);
                    carry(&mut owner, &mut view, map.clone(), &mut out)
                }
                Step::Cancel | Step::List => {
                    map.version += 1;
                    map.moves.clear();
                    carry(&mut owner, &mut view, map.clone(), &mut out)
                }
                Step::Commit | Step::GiveBack => {
                    map.version += 1;
                    map.moves.clear();
                    let to = usize::from(matches!(step, Step::Commit));
                    let epoch = Epoch(map.version);
                    map.grants.insert(bucket, Grant { owner: holder(to), epoch });
                    carry(&mut owner, &mut view, map.clone(), &mut out)
                }
                Step::Raise => {
                    map.version += 1;
                    map.grants.get_mut(&bucket).unwrap().epoch = Epoch(map.version);
                    carry(&mut owner, &mut view, map.clone(), &mut out)
                }
                Step::Stopped => {
                    if let Some(epoch) = stopping.take() {
                        owner.released(secs(1), (bucket, epoch), &view, &mut out);
                    }
                    owner.step(secs(1), &view, assign, &mut out);
                    drain(&mut out)
                }
                Step::Again => {
                    owner.step(secs(9), &view, assign, &mut out);
                    drain(&mut out)
                }
            };
            for action in actions {
                match action {
                    Action::Own { bucket: Bucket(0), epoch } => {
                        prop_assert!(stopping.is_none(), "started while it still stops");
                        prop_assert!(epoch >= highest);
                        highest = epoch;
                        working = Some(epoch);
                    }
                    Action::Release { bucket: Bucket(0), epoch } => {
                        prop_assert_eq!(working.take(), Some(epoch));
                        stopping = Some(epoch);
                    }
                    Action::Drop { bucket: Bucket(0) } => (working, stopping) = (None, None),
                    Action::Send { message: Message { body: Body::Released { .. }, .. }, .. } => {
                        prop_assert!(working.is_none() && stopping.is_none());
                    }
                    _ => {}
                }
            }
            let mine = map.grants[&bucket].owner == holder(0);
            prop_assert!(mine || working.is_none(), "the map names another");
            let still = mine && map.moves.is_empty() && stopping.is_none();
            prop_assert_eq!(working.is_some(), still, "{:?}", map.moves);
        }
    }
}
