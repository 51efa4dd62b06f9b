//! What a subscription holds and has lost, as the gateway told, in its order: no connection is here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;

use super::super::{
    answers::{Answer, Answers},
    queue::Queue,
};
use crate::journal::{
    Bucket, Epoch, Fenced, Holder, IngestorUid, SubscriptionError,
    remote::{
        codec::{self, Malformed},
        pb::{self, ask::What as Asked},
    },
};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<Bucket, Epoch>,
    /// Who has what this subscription has not, as far as it is known.
    pub(super) others: BTreeMap<Bucket, Fenced>,
    pub(super) lost: VecDeque<Fenced>,
    /// Queues with news; also of buckets whose claim is not answered yet.
    pub(super) dirty: BTreeSet<IngestorUid>,
    pub(super) answers: Answers,
    /// The way out, while there is a connection on which all is claimed.
    pub(super) out: Option<Arc<Queue>>,
    /// The claim that is made again, and the way out that it opens.
    pub(super) again: Option<(u64, Arc<Queue>)>,
}

impl State {
    /// Takes over what a claim came to, in the order in which the gateway tells. What was let go of
    /// or given up meanwhile is let go of there too.
    pub(super) fn claimed(
        &mut self,
        claimed: pb::Claimed,
        holder: &Holder,
    ) -> Result<(), Malformed> {
        let held = codec::claims(claimed.held)?;
        let refused = claimed.refused.into_iter().map(codec::fenced);
        let refused: Vec<Fenced> = refused.collect::<Result<_, _>>()?;
        let again = self.again.take_if(|(call, _)| *call == claimed.call);
        let new = again.is_none() && self.answers.expects(claimed.call);
        let mut unwanted = Vec::new();
        for claim in &held {
            if !new && !self.buckets.contains_key(&claim.bucket) {
                unwanted.push(claim.bucket);
                continue;
            }
            let epoch = claim.epoch.unwrap_or_default();
            let known = self.buckets.entry(claim.bucket).or_insert(epoch);
            *known = (*known).max(epoch);
            // Old news, if it was lost before.
            self.lost.retain(|fenced| fenced.bucket != claim.bucket);
            self.others.remove(&claim.bucket);
        }
        let others = refused
            .iter()
            .filter(|fenced| !self.buckets.contains_key(&fenced.bucket));
        let others = others.map(|fenced| (fenced.bucket, fenced.clone()));
        self.others.extend(others.collect::<Vec<_>>());
        if let Some((_, out)) = again {
            self.out = Some(out);
            // It is how one hears of what was lost while there was no connection.
            for fenced in &refused {
                self.lose(fenced.clone(), holder);
            }
        }
        if let Some(out) = self.out.as_ref().filter(|_| !unwanted.is_empty()) {
            out.release(&unwanted);
        }
        self.answers
            .answer(claimed.call, Ok(Answer::Claimed { held, refused }));
        Ok(())
    }

    /// Another has the bucket. Where it is this very holder, at a higher epoch, a claim of its own was
    /// carried out and the answer was lost: the bucket rises to that.
    pub(super) fn lose(&mut self, fenced: Fenced, holder: &Holder) {
        if fenced.holder == *holder
            && let Some(out) = &self.out
            && self.buckets.contains_key(&fenced.bucket)
        {
            let claim = pb::Claim {
                bucket: u32::from(fenced.bucket.0),
                epoch: Some(fenced.epoch.0),
            };
            let (reply, _nobody) = oneshot::channel();
            let call = self.answers.expect(reply, None);
            self.answers.forget(call);
            let claims = vec![claim];
            if out.put(Asked::Claim(pb::ClaimBuckets { call, claims })) {
                return;
            }
        }
        if self.buckets.remove(&fenced.bucket).is_some() {
            self.others.insert(fenced.bucket, fenced.clone());
            self.lost.push_back(fenced);
        }
    }

    /// Refuses what is asked of a bucket that is known not to be held: a release may still be on its
    /// way. Of any other the gateway knows.
    pub(super) fn holds(&self, ingestor: &IngestorUid) -> Result<(), SubscriptionError> {
        let bucket = Bucket::of(ingestor);
        match self.others.get(&bucket) {
            Some(other) if !self.buckets.contains_key(&bucket) => Err(other.clone().into()),
            Some(_) | None => Ok(()),
        }
    }

    /// The next bucket that was lost, or queues with news; `None`: neither.
    pub(super) fn news(&mut self) -> Option<Result<Vec<IngestorUid>, SubscriptionError>> {
        if let Some(fenced) = self.lost.pop_front() {
            return Some(Err(fenced.into()));
        }
        let buckets = &self.buckets;
        let named: Vec<IngestorUid> = self
            .dirty
            .extract_if(.., |uid| buckets.contains_key(&Bucket::of(uid)))
            .collect();
        (!named.is_empty()).then_some(Ok(named))
    }
}
