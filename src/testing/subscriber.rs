//! A core that takes what it wants: for tests that need a subscription and no fleet.

use std::sync::Arc;

use crate::journal::{BUCKETS, Bucket, Claim, Holder, Journal, Subscription, SubscriptionError};

/// All buckets, as claims at the epoch that the journal hands out.
#[must_use]
pub fn everything() -> Vec<Claim> {
    claims((0..BUCKETS).map(Bucket))
}

/// Claims at the epoch that the journal hands out.
pub fn claims(buckets: impl IntoIterator<Item = Bucket>) -> Vec<Claim> {
    let claim = |bucket| Claim {
        bucket,
        epoch: None,
    };
    buckets.into_iter().map(claim).collect()
}

/// Opens a subscription and claims these buckets.
///
/// # Errors
/// The journal is closed, its disk fails, or a bucket is refused.
pub async fn subscribe(
    journal: &dyn Journal,
    holder: &str,
    claims: Vec<Claim>,
) -> Result<Arc<dyn Subscription>, SubscriptionError> {
    let subscription = journal.subscribe(Holder(holder.into()))?;
    match subscription.claim(claims).await?.pop() {
        Some(fenced) => Err(fenced.into()),
        None => Ok(subscription),
    }
}
