//! The namespace is the tenant: an event is never written into one that only has the same name.

use crate::{
    engine::{
        queue::{Batch, Home},
        shared::Shared,
        verdict::{self, DeadReason, HoldReason},
        writer::{Scope, Trouble, Writer, Written},
    },
    kube::failure::Verb,
};

/// What is known of the namespace that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    Same,
    Dead(DeadReason, String),
    Unknown(Trouble),
}

/// Asks the watch, and the server where that doesn't say that it is the same.
pub(super) async fn tenant(shared: &Shared, home: &Home) -> Tenant {
    let (name, recorded) = (&*home.namespace, &*home.uid);
    if shared.namespaces.is(name, recorded) {
        return Tenant::Same;
    }
    let writer = &shared.writer;
    let read = writer.observations().namespace_uid(name);
    match writer.call(Verb::Get, read).await {
        Ok(uid) if uid == recorded => Tenant::Same,
        Ok(uid) => Tenant::Dead(
            DeadReason::NamespaceReplaced,
            format!("namespace {name} has the UID {uid}; the event was accepted for {recorded}"),
        ),
        Err(failure) => match verdict::verdict(&failure) {
            verdict::Verdict::Dead(reason) => Tenant::Dead(reason, failure.to_string()),
            verdict::Verdict::HoldName(reason) | verdict::Verdict::HoldIngestor(reason) => {
                Tenant::Unknown(Trouble {
                    reason,
                    message: failure.to_string(),
                    scope: Scope::Ingestor,
                    retry_after: failure.cause.retry_after(),
                })
            }
            verdict::Verdict::Look
            | verdict::Verdict::ReadAgain
            | verdict::Verdict::BeginAnew
            | verdict::Verdict::AskPlain => Tenant::Unknown(Trouble {
                reason: HoldReason::Unexpected,
                message: failure.to_string(),
                scope: Scope::Ingestor,
                retry_after: None,
            }),
        },
    }
}

/// Brings a batch in, if its namespace is still the one for which its events were accepted: much may
/// have happened since they were fetched.
pub(super) async fn write(shared: &Shared, writer: &Writer, batch: &Batch) -> Written {
    let Some(first) = batch.items.first() else {
        return Written::default();
    };
    match tenant(shared, &first.home).await {
        Tenant::Same => writer.write(batch).await,
        Tenant::Dead(reason, message) => Written::given_up(&batch.items, reason, &message),
        Tenant::Unknown(trouble) => Written::not_tried(trouble),
    }
}
