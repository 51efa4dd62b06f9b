//! What retention asks of the logs.

use std::num::NonZeroU32;

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    journal::{Bucket, FetchLimit, IngestorUid, Millis, Position, RecordId},
    retention::Backlog,
};

use super::shared::Shared;

impl Backlog for Shared {
    fn is_ours(&self, ingestor: &IngestorUid) -> bool {
        self.may_start() && self.epoch(Bucket::of(ingestor)).is_some()
    }

    fn oldest(&self, ingestor: &IngestorUid) -> BoxFuture<'_, Option<Option<Millis>>> {
        let ingestor = ingestor.clone();
        async move {
            let mut oldest: Option<Millis> = None;
            for log in self.logs.all() {
                // One whose bucket isn't claimed, or that can't be reached, may have anything.
                let stint = log.stint(Bucket::of(&ingestor))?;
                let found = stint.subscription.oldest(&ingestor).await.ok()?;
                oldest = oldest.into_iter().chain(found).min();
            }
            Some(oldest)
        }
        .boxed()
    }

    fn is_committed(&self, ingestor: &IngestorUid, record: RecordId) -> BoxFuture<'_, bool> {
        let ingestor = ingestor.clone();
        async move {
            let Some(log) = self.logs.get(record.log) else {
                return true;
            };
            let Some(stint) = log.stint(Bucket::of(&ingestor)) else {
                return false;
            };
            let after = record.position.0.checked_sub(1).map(Position);
            let limit = FetchLimit {
                records: NonZeroU32::MIN,
                bytes: 1,
            };
            let found = stint.subscription.fetch(&ingestor, after, limit).await;
            found.is_ok_and(|found| found.records.first().is_none_or(|first| first.id != record))
        }
        .boxed()
    }
}
