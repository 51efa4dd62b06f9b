use proptest::prelude::*;

use super::{work::MOST_TOLD, *};

const A: LogId = LogId(0xa);
const B: LogId = LogId(0xb);
const BUCKET: Bucket = Bucket(7);

#[expect(clippy::disallowed_methods, reason = "any moment will do as the first")]
fn now() -> Instant {
    Instant::now()
}

fn holder(name: &str) -> Holder {
    Holder(name.into())
}

fn fenced(bucket: Bucket, epoch: u64, by: &str) -> Fenced {
    Fenced {
        bucket,
        epoch: Epoch(epoch),
        holder: holder(by),
    }
}

fn released(epoch: u64) -> Notice {
    Notice::Released {
        bucket: BUCKET,
        epoch: Epoch(epoch),
    }
}

fn told(epoch: u64, by: &str) -> Notice {
    Notice::Fenced {
        bucket: BUCKET,
        epoch: Epoch(epoch),
        holder: holder(by),
    }
}

fn notices(owned: &mut Owned) -> Vec<Notice> {
    std::iter::from_fn(|| owned.notice()).collect()
}

/// Claims what is wanted in a log, and it is granted.
fn granted(owned: &mut Owned, log: LogId, session: u64) -> Vec<Act> {
    let claims = owned.claims(log, session);
    owned.answered(log, session, &claims, Some(&[]))
}

/// One that works on the bucket at epoch 5 in two logs.
fn working() -> (Owned, u64, u64) {
    let mut owned = Owned::default();
    owned.became(Some(holder("me#1")));
    let (a, b) = (owned.opened(A), owned.opened(B));
    assert_eq!(owned.own(BUCKET, Epoch(5)), []);
    assert_eq!(granted(&mut owned, A, a), [Act::Begin(A, BUCKET)]);
    assert_eq!(granted(&mut owned, B, b), [Act::Begin(B, BUCKET)]);
    assert_eq!(notices(&mut owned), []);
    (owned, a, b)
}

#[test]
fn many_buckets_are_one_claim_for_each_log() {
    let mut owned = Owned::default();
    owned.became(Some(holder("me#1")));
    let a = owned.opened(A);
    for bucket in 0..341 {
        owned.own(Bucket(bucket), Epoch(9));
    }
    let claims = owned.claims(A, a);
    assert_eq!(claims.len(), 341);
    assert!(claims.iter().all(|claim| claim.epoch == Some(Epoch(9))));
    assert_eq!(owned.claims(A, a), [], "they are asked already");
    assert_eq!(owned.answered(A, a, &claims, Some(&[])).len(), 341);
    assert_eq!(owned.claims(A, a), []);
}

#[test]
fn nobody_owns_without_a_name() {
    let mut owned = Owned::default();
    let a = owned.opened(A);
    owned.own(BUCKET, Epoch(5));
    assert_eq!(owned.claims(A, a), []);
    assert_eq!(owned.epoch(BUCKET), None);
}

#[test]
fn a_higher_epoch_rises_log_by_log_without_a_pause() {
    let (mut owned, a, b) = working();
    assert_eq!(owned.own(BUCKET, Epoch(4)), []);
    assert_eq!(owned.claims(A, a), [], "what isn't above is ignored");
    assert_eq!(owned.own(BUCKET, Epoch(6)), []);
    assert_eq!(granted(&mut owned, A, a), [], "its queues go on");
    assert_eq!(granted(&mut owned, B, b), []);
    assert_eq!(owned.epoch(BUCKET), Some(Epoch(6)));
}

#[test]
fn an_epoch_that_rises_while_it_is_claimed_is_claimed_again() {
    let mut owned = Owned::default();
    owned.became(Some(holder("me#1")));
    let a = owned.opened(A);
    owned.own(BUCKET, Epoch(5));
    let claims = owned.claims(A, a);
    owned.own(BUCKET, Epoch(6));
    let acts = owned.answered(A, a, &claims, Some(&[]));
    assert_eq!(acts, [Act::Begin(A, BUCKET)]);
    let again = owned.claims(A, a);
    assert_eq!(again.first().and_then(|claim| claim.epoch), Some(Epoch(6)));
}

#[test]
fn a_release_ends_with_the_last_queue_of_all_logs() {
    let (mut owned, ..) = working();
    let acts = owned.release(BUCKET, Epoch(5), now());
    assert_eq!(acts, [Act::Drain(A, BUCKET), Act::Drain(B, BUCKET)]);
    assert_eq!(owned.epoch(BUCKET), None, "no effect is started");
    assert_eq!(owned.idle(B, BUCKET), [Act::Stop(B, BUCKET)]);
    assert_eq!(notices(&mut owned), []);
    assert_eq!(owned.idle(A, BUCKET), [Act::Stop(A, BUCKET)]);
    assert_eq!(notices(&mut owned), [released(5)]);
    assert_eq!(owned.idle(A, BUCKET), []);
    assert_eq!(notices(&mut owned), [], "once");
}

#[test]
fn what_was_never_begun_is_released_at_once() {
    let mut owned = Owned::default();
    owned.became(Some(holder("me#1")));
    assert_eq!(owned.release(BUCKET, Epoch(5), now()), []);
    assert_eq!(notices(&mut owned), [released(5)]);
    let a = owned.opened(A);
    owned.own(BUCKET, Epoch(6));
    let claims = owned.claims(A, a);
    owned.release(BUCKET, Epoch(6), now());
    assert_eq!(notices(&mut owned), [released(6)], "its claim is under way");
    let acts = owned.answered(A, a, &claims, Some(&[]));
    assert_eq!(acts, [Act::Stop(A, BUCKET)], "and is given back");
}

#[test]
fn a_release_waits_a_second_for_a_log_that_cannot_be_reached() {
    let (mut owned, ..) = working();
    let since = now();
    owned.release(BUCKET, Epoch(5), since);
    owned.idle(A, BUCKET);
    let unreachable = |log| log == B;
    let early = since + Duration::from_millis(999);
    assert_eq!(owned.overdue(early, unreachable), (vec![], BTreeMap::new()));
    let late = since + Duration::from_secs(1);
    assert_eq!(
        owned.overdue(late, |_| false),
        (vec![], BTreeMap::new()),
        "one that is only slow is waited for"
    );
    let given_up = BTreeMap::from([(B, 1)]);
    let acts = vec![Act::Stop(B, BUCKET)];
    assert_eq!(owned.overdue(late, unreachable), (acts, given_up));
    assert_eq!(notices(&mut owned), [released(5)]);
    assert!(!owned.is_releasing());
}

#[test]
fn a_released_that_was_not_sent_is_taken_back() {
    let release = || {
        let (mut owned, ..) = working();
        owned.release(BUCKET, Epoch(5), now());
        owned.idle(A, BUCKET);
        owned.idle(B, BUCKET);
        assert!(owned.has_notice());
        owned
    };
    let mut owned = release();
    owned.own(BUCKET, Epoch(6));
    assert_eq!(notices(&mut owned), []);
    let mut owned = release();
    owned.drop_bucket(BUCKET);
    assert_eq!(notices(&mut owned), []);
    let mut owned = release();
    owned.became(None);
    assert_eq!(notices(&mut owned), []);
}

#[test]
fn one_that_is_owned_while_it_is_released_begins_anew() {
    let (mut owned, a, _) = working();
    owned.release(BUCKET, Epoch(5), now());
    let acts = owned.own(BUCKET, Epoch(5));
    assert_eq!(acts, [Act::Stop(A, BUCKET), Act::Stop(B, BUCKET)]);
    assert_eq!(granted(&mut owned, A, a), [Act::Begin(A, BUCKET)]);
    assert_eq!(notices(&mut owned), []);
}

#[test]
fn a_log_that_refuses_ends_the_bucket_there_and_is_told_once() {
    let (mut owned, a, b) = working();
    let refused = owned.refused(A, &fenced(BUCKET, 6, "other#1"));
    assert_eq!(refused.acts, [Act::Stop(A, BUCKET)]);
    assert!(refused.above && !refused.strange);
    assert_eq!(owned.refused(A, &fenced(BUCKET, 6, "other#1")).acts, []);
    let refused = owned.refused(B, &fenced(BUCKET, 6, "other#1"));
    assert_eq!(refused.acts, [Act::Stop(B, BUCKET)]);
    assert_eq!(notices(&mut owned), [told(6, "other#1")]);
    assert_eq!(owned.claims(A, a), [], "not under this epoch");
    assert_eq!(owned.epoch(BUCKET), None);
    owned.own(BUCKET, Epoch(7));
    assert_eq!(granted(&mut owned, A, a), [Act::Begin(A, BUCKET)]);
    assert_eq!(granted(&mut owned, B, b), [Act::Begin(B, BUCKET)]);
}

#[test]
fn a_claim_that_is_refused_leaves_the_other_buckets() {
    let mut owned = Owned::default();
    owned.became(Some(holder("me#1")));
    let a = owned.opened(A);
    owned.own(BUCKET, Epoch(5));
    owned.own(Bucket(8), Epoch(5));
    let claims = owned.claims(A, a);
    let refused = [fenced(BUCKET, 5, "other#1")];
    let acts = owned.answered(A, a, &claims, Some(&refused));
    assert_eq!(acts, [Act::Begin(A, Bucket(8))]);
    assert_eq!(notices(&mut owned), [told(5, "other#1")]);
    assert_eq!(owned.claims(A, a), []);
}

#[test]
fn old_news_of_a_fence_changes_nothing_while_the_next_epoch_is_claimed() {
    let (mut owned, a, _) = working();
    owned.own(BUCKET, Epoch(9));
    let claims = owned.claims(A, a);
    let refused = owned.refused(A, &fenced(BUCKET, 7, "other#1"));
    assert_eq!(refused.acts, [Act::Stop(A, BUCKET)], "its epoch before is");
    assert!(!refused.above && !refused.strange);
    let acts = owned.answered(A, a, &claims, Some(&[]));
    assert_eq!(acts, [Act::Begin(A, BUCKET)]);
    assert_eq!(notices(&mut owned), []);
}

#[test]
fn a_log_that_does_not_serve_what_is_ours_is_asked_again() {
    let (mut owned, a, _) = working();
    let refused = owned.refused(A, &fenced(BUCKET, 5, "me#1"));
    assert!(refused.strange && !refused.above);
    assert_eq!(refused.acts, [Act::Stop(A, BUCKET)]);
    assert_eq!(notices(&mut owned), []);
    assert_eq!(granted(&mut owned, A, a), [Act::Begin(A, BUCKET)]);
}

#[test]
fn a_status_above_us_is_told_once_for_each_stored_owner() {
    let (mut owned, ..) = working();
    let other = holder("other#1");
    assert!(!owned.stored(BUCKET, Epoch(5), &holder("me#1")));
    assert!(!owned.stored(BUCKET, Epoch(4), &other));
    assert!(owned.stored(BUCKET, Epoch(5), &other));
    assert!(owned.stored(BUCKET, Epoch(5), &other));
    assert_eq!(notices(&mut owned), [told(5, "other#1")]);
    assert_eq!(
        owned.epoch(BUCKET),
        Some(Epoch(5)),
        "one status is not the bucket"
    );
    for epoch in 100..200 {
        owned.stored(BUCKET, Epoch(epoch), &other);
    }
    assert!(notices(&mut owned).len() < MOST_TOLD);
}

#[test]
fn a_claim_of_an_earlier_life_is_given_back() {
    let (mut owned, a, _) = working();
    owned.own(BUCKET, Epoch(6));
    let claims = owned.claims(A, a);
    owned.drop_bucket(BUCKET);
    owned.own(BUCKET, Epoch(8));
    let acts = owned.answered(A, a, &claims, Some(&[]));
    assert_eq!(acts, [Act::Stop(A, BUCKET)]);
    owned.became(Some(holder("me#2")));
    assert_eq!(owned.answered(A, a, &claims, Some(&[])), []);
    assert_eq!(owned.claims(A, a), [], "its subscription is over");
}

/// What happens to one replica, in any order.
#[derive(Clone, Debug)]
enum Step {
    Own(u16, u64),
    Release(u16),
    Drop(u16),
    Became,
    Open(bool),
    Close(bool),
    Claim(bool),
    /// The answer to a claim that is under way: lost, granted, or one bucket of it refused.
    Answer(bool, u8),
    Refuse(bool, u16, u64),
    Idle(bool, u16),
    Send,
}

fn step() -> impl Strategy<Value = Step> {
    let log = any::<bool>;
    let bucket = || 0_u16..3;
    prop_oneof![
        4 => (bucket(), 1_u64..20).prop_map(|(b, e)| Step::Own(b, e)),
        3 => bucket().prop_map(Step::Release),
        1 => bucket().prop_map(Step::Drop),
        1 => Just(Step::Became),
        2 => log().prop_map(Step::Open),
        1 => log().prop_map(Step::Close),
        4 => log().prop_map(Step::Claim),
        4 => (log(), 0_u8..4).prop_map(|(l, how)| Step::Answer(l, how)),
        1 => (log(), bucket(), 1_u64..25).prop_map(|(l, b, e)| Step::Refuse(l, b, e)),
        3 => (log(), bucket()).prop_map(|(l, b)| Step::Idle(l, b)),
        2 => Just(Step::Send),
    ]
}

/// Stands for the edge and checks what it is told to do.
#[derive(Default)]
struct Edge {
    owned: Owned,
    lives: u64,
    sessions: BTreeMap<LogId, u64>,
    under_way: BTreeMap<LogId, Vec<Claim>>,
    /// Stints, and whether they drain.
    stints: BTreeMap<(LogId, Bucket), bool>,
    /// Releases that are to be answered.
    releases: BTreeMap<Bucket, Epoch>,
    epochs: BTreeMap<Bucket, Epoch>,
}

impl Edge {
    fn act(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Begin(log, bucket) => {
                    let before = self.stints.insert((log, bucket), false);
                    assert_eq!(before, None, "begun twice");
                    assert!(self.epochs.contains_key(&bucket), "not ours");
                }
                Act::Drain(log, bucket) => {
                    let before = self.stints.insert((log, bucket), true);
                    assert_eq!(before, Some(false), "drained what doesn't work");
                }
                Act::Stop(log, bucket) => drop(self.stints.remove(&(log, bucket))),
            }
        }
    }

    fn send(&mut self) {
        match self.owned.notice() {
            Some(Notice::Released { bucket, epoch }) => {
                assert_eq!(self.releases.remove(&bucket), Some(epoch));
                let busy = self.stints.keys().any(|(_, of)| *of == bucket);
                assert!(!busy, "released while it is worked on");
            }
            Some(Notice::Fenced { .. } | Notice::Load(_)) | None => {}
        }
    }

    fn step(&mut self, step: Step) {
        let log = |first: bool| if first { A } else { B };
        match step {
            Step::Own(bucket, epoch) => {
                let (bucket, epoch) = (Bucket(bucket), Epoch(epoch));
                let releasing = self.releases.remove(&bucket).is_some();
                let acts = self.owned.own(bucket, epoch);
                if self.owned.holder().is_some() {
                    let known = self.epochs.entry(bucket).or_insert(epoch);
                    *known = if releasing { epoch } else { epoch.max(*known) };
                }
                self.act(acts);
            }
            Step::Release(bucket) => {
                let bucket = Bucket(bucket);
                if self.releases.contains_key(&bucket) {
                    return;
                }
                let epoch = self.epochs.remove(&bucket).unwrap_or(Epoch(1));
                self.releases.insert(bucket, epoch);
                let acts = self.owned.release(bucket, epoch, now());
                self.act(acts);
            }
            Step::Drop(bucket) => {
                let bucket = Bucket(bucket);
                self.releases.remove(&bucket);
                self.epochs.remove(&bucket);
                let acts = self.owned.drop_bucket(bucket);
                self.act(acts);
                assert!(self.stints.keys().all(|(_, of)| *of != bucket));
            }
            Step::Became => {
                self.lives += 1;
                self.releases.clear();
                self.epochs.clear();
                self.sessions.clear();
                self.under_way.clear();
                let name = holder(&format!("me#{}", self.lives));
                let acts = self.owned.became(Some(name));
                self.act(acts);
                assert!(self.stints.is_empty());
            }
            Step::Open(first) => {
                if !self.sessions.contains_key(&log(first)) {
                    let session = self.owned.opened(log(first));
                    self.sessions.insert(log(first), session);
                }
            }
            Step::Close(first) => {
                let log = log(first);
                self.under_way.remove(&log);
                if let Some(session) = self.sessions.remove(&log) {
                    let acts = self.owned.closed(log, session);
                    self.act(acts);
                    assert!(self.stints.keys().all(|(of, _)| *of != log));
                }
            }
            Step::Claim(first) => self.claim(log(first)),
            Step::Answer(first, how) => self.answer(log(first), how),
            Step::Refuse(first, bucket, epoch) => {
                let by = fenced(Bucket(bucket), epoch, "other#1");
                let refused = self.owned.refused(log(first), &by);
                self.act(refused.acts);
            }
            Step::Idle(first, bucket) => {
                let place = (log(first), Bucket(bucket));
                if self.stints.get(&place) == Some(&true) {
                    let acts = self.owned.idle(place.0, place.1);
                    self.act(acts);
                }
            }
            Step::Send => self.send(),
        }
    }

    fn claim(&mut self, log: LogId) {
        if let Some(session) = self.sessions.get(&log)
            && !self.under_way.contains_key(&log)
        {
            let claims = self.owned.claims(log, *session);
            if !claims.is_empty() {
                self.under_way.insert(log, claims);
            }
        }
    }

    fn answer(&mut self, log: LogId, how: u8) {
        let (Some(claims), Some(session)) = (self.under_way.remove(&log), self.sessions.get(&log))
        else {
            return;
        };
        let refused: Vec<Fenced> = claims
            .iter()
            .take(usize::from(how == 1))
            .map(|claim| fenced(claim.bucket, claim.epoch.unwrap().0 + 1, "other#1"))
            .collect();
        let answer = (how != 0).then_some(&*refused);
        let acts = self.owned.answered(log, *session, &claims, answer);
        self.act(acts);
    }

    /// Everything that is asked is granted and ends; then all is told, and what is ours is worked on.
    fn settle(mut self) {
        if self.owned.holder().is_none() {
            return;
        }
        for (bucket, epoch) in &mut self.epochs {
            // Above all refusals, so that refused ones are claimed again.
            *epoch = Epoch(100);
            let acts = self.owned.own(*bucket, *epoch);
            assert_eq!(acts, []);
        }
        for log in [A, B] {
            self.answer(log, 2);
            self.step(Step::Open(log == A));
            self.claim(log);
            self.answer(log, 2);
            assert_eq!(self.owned.claims(log, self.sessions[&log]), []);
        }
        let draining: Vec<_> = self.stints.iter().filter(|(_, drains)| **drains).collect();
        let draining: Vec<_> = draining.into_iter().map(|(place, _)| *place).collect();
        for (log, bucket) in draining {
            let acts = self.owned.idle(log, bucket);
            self.act(acts);
        }
        while self.owned.has_notice() {
            self.send();
        }
        assert_eq!(self.releases, BTreeMap::new(), "every release is told");
        for log in [A, B] {
            let worked: Vec<Bucket> = self
                .stints
                .keys()
                .filter(|(of, _)| *of == log)
                .map(|(_, bucket)| *bucket)
                .collect();
            let ours: Vec<Bucket> = self.epochs.keys().copied().collect();
            assert_eq!(worked, ours);
        }
        assert_eq!(self.owned.epochs(), self.epochs);
    }
}

proptest! {
    #[test]
    fn whatever_happens_what_is_ours_is_worked_on_and_each_release_is_told_once(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut edge = Edge::default();
        edge.step(Step::Became);
        for step in steps {
            edge.step(step);
        }
        edge.settle();
    }
}
