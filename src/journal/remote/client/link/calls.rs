//! Calls: each is put on the way out with a number, and waits for the answer that carries it.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    super::{
        PATIENCE,
        answers::{Answer, Fetching},
    },
    Inner, over,
};
use crate::{
    api::SpecDigest,
    journal::{
        Bucket, Claim, Ended, Fenced, FetchLimit, Fetched, IngestorUid, Millis, Position,
        SubscriptionError,
        remote::{
            FETCH_BYTES, FETCH_RECORDS, codec,
            pb::{self, ask::What as Asked},
            pieces,
        },
    },
};

impl Inner {
    pub(super) async fn call(
        &self,
        fetching: Option<Fetching>,
        ask: impl FnOnce(u64) -> Asked,
    ) -> Result<Answer, SubscriptionError> {
        let (reply, answer) = oneshot::channel();
        let waiting = {
            let mut state = self.state();
            let Some(out) = state.out.clone() else {
                let why = "there is no connection to the gateway".to_owned();
                return Err(SubscriptionError::Unreachable(why));
            };
            let call = state.answers.expect(reply, fetching);
            if !out.put(ask(call)) {
                state.answers.forget(call);
                let why = "the gateway takes nothing".to_owned();
                return Err(SubscriptionError::Unreachable(why));
            }
            Waiting { inner: self, call }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(answer)) => answer.map_err(|error| self.unless_own(error)),
            Ok(Err(_gone)) => Err(over()),
            Err(_elapsed) => {
                // A claim that is carried out after all would be taken for one that was let go of; on
                // a new connection all is claimed anew.
                self.given_up.notify_one();
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                Err(SubscriptionError::Unreachable(why))
            }
        }
    }

    /// Fenced by itself: the bucket is about to rise to that epoch, and the call may be made again.
    pub(super) fn unless_own(&self, error: SubscriptionError) -> SubscriptionError {
        match error {
            SubscriptionError::Fenced(fenced)
                if fenced.holder == self.holder
                    && self.state().buckets.contains_key(&fenced.bucket) =>
            {
                let why = format!("the bucket rises to epoch {}", fenced.epoch.0);
                SubscriptionError::Unreachable(why)
            }
            error @ (SubscriptionError::Fenced(_)
            | SubscriptionError::Disk(_)
            | SubscriptionError::Unreachable(_)
            | SubscriptionError::Closing) => error,
        }
    }

    pub(super) async fn claim(&self, claims: Vec<Claim>) -> Result<Vec<Fenced>, SubscriptionError> {
        let _permit = self.calls.acquire().await.ok();
        let message: Vec<_> = claims.iter().map(codec::from_claim).collect();
        let answer = self.call(None, |call| {
            Asked::Claim(pb::ClaimBuckets {
                call,
                claims: message,
            })
        });
        let Answer::Claimed { held, refused } = answer.await? else {
            return Err(garbled());
        };
        let asked: BTreeSet<Bucket> = claims.iter().map(|claim| claim.bucket).collect();
        let answered = |bucket: &Bucket| {
            held.iter().any(|claim| claim.bucket == *bucket)
                || refused.iter().any(|fenced| fenced.bucket == *bucket)
        };
        if asked.iter().all(answered) {
            return Ok(refused);
        }
        let why = "a bucket changed hands while it was claimed".to_owned();
        Err(SubscriptionError::Unreachable(why))
    }

    pub(super) async fn fetch(
        &self,
        ingestor: IngestorUid,
        after: Option<Position>,
        limit: FetchLimit,
    ) -> Result<Fetched, SubscriptionError> {
        self.state().holds(&ingestor)?;
        let most = NonZeroU32::new(FETCH_RECORDS).unwrap_or(NonZeroU32::MIN);
        let limit = FetchLimit {
            records: limit.records.min(most),
            bytes: limit.bytes.min(FETCH_BYTES),
        };
        let _permit = self.fetches.acquire().await.ok();
        let fetching = Fetching::new(self.shared.log, ingestor.clone(), limit);
        let answer = self.call(Some(fetching), |call| {
            Asked::Fetch(pb::Fetch {
                call,
                ingestor: ingestor.0.as_ref().to_owned(),
                after: after.map(|after| after.0),
                records: limit.records.get(),
                bytes: u64::try_from(limit.bytes).unwrap_or(u64::MAX),
            })
        });
        let Answer::Fetched(fetched) = answer.await? else {
            return Err(garbled());
        };
        Ok(fetched)
    }

    pub(super) async fn commit(
        &self,
        ingestor: IngestorUid,
        ends: Vec<Ended>,
    ) -> Result<(), SubscriptionError> {
        self.state().holds(&ingestor)?;
        let mut lists = pieces::ends(ends);
        if lists.is_empty() {
            // Whether the bucket is held is asked all the same.
            lists.push(Vec::new());
        }
        for ends in lists {
            let _permit = self.calls.acquire().await.ok();
            let ingestor = ingestor.0.as_ref().to_owned();
            let answer = self.call(None, |call| {
                Asked::Commit(pb::Commit {
                    call,
                    ingestor,
                    ends,
                })
            });
            if !matches!(answer.await?, Answer::Committed) {
                return Err(garbled());
            }
        }
        Ok(())
    }

    pub(super) async fn spec(
        &self,
        digest: SpecDigest,
    ) -> Result<Option<Arc<str>>, SubscriptionError> {
        let _permit = self.calls.acquire().await.ok();
        let bytes = Bytes::copy_from_slice(&digest.0);
        let answer = self.call(None, |call| {
            Asked::GetSpec(pb::GetSpec {
                call,
                digest: bytes,
            })
        });
        let Answer::Spec(text) = answer.await? else {
            return Err(garbled());
        };
        if text
            .as_ref()
            .is_some_and(|text| SpecDigest::of(text) != digest)
        {
            return Err(garbled());
        }
        Ok(text.map(codec::shared))
    }

    pub(super) async fn oldest(
        &self,
        ingestor: IngestorUid,
    ) -> Result<Option<Millis>, SubscriptionError> {
        self.state().holds(&ingestor)?;
        let _permit = self.calls.acquire().await.ok();
        let ingestor = ingestor.0.as_ref().to_owned();
        let answer = self.call(None, |call| {
            Asked::GetOldest(pb::GetOldest { call, ingestor })
        });
        let Answer::Oldest(at) = answer.await? else {
            return Err(garbled());
        };
        Ok(at)
    }

    pub(super) async fn ready(&self) -> Result<Vec<IngestorUid>, SubscriptionError> {
        loop {
            let notified = self.news.notified();
            tokio::pin!(notified);
            // Before the look below, so that nothing comes unnoticed in between.
            notified.as_mut().enable();
            if let Some(news) = self.state().news() {
                return news;
            }
            notified.await;
        }
    }
}

fn garbled() -> SubscriptionError {
    SubscriptionError::Unreachable("the gateway's answer answers something else".to_owned())
}

/// Takes a call out when nobody waits for it any more.
struct Waiting<'a> {
    inner: &'a Inner,
    call: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inner.state().answers.forget(self.call);
    }
}
