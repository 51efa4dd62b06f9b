use super::*;

fn answer(verb: Verb, code: u16, reason: &str, resource: &str, message: &str) -> Failure {
    Failure {
        verb,
        object: "observation team-a/x".into(),
        cause: Cause::Refused {
            code,
            reason: reason.into(),
            resource: resource.into(),
            message: message.into(),
            retry_after: None,
        },
    }
}

fn broken(cause: Cause) -> Failure {
    Failure {
        verb: Verb::Create,
        object: "observation team-a/x".into(),
        cause,
    }
}

/// One row per kind of failure of "Dead letters": what the server says, what it means.
#[test]
fn every_kind_of_failure_has_its_verdict() {
    use HoldReason as H;
    use Verb::{Create, Get, Update};
    use Verdict::{AskPlain, BeginAnew, Dead, HoldIngestor, HoldName, Look, ReadAgain};
    let obs = "observations";
    let quota = "observations.zen.watcher.io \"x\" is forbidden: exceeded quota: q, requested: 1";
    let terminating =
        "unable to create new content in namespace team-a because it is being terminated";
    let rows = [
        (answer(Create, 409, "AlreadyExists", obs, "exists"), Look),
        (
            answer(Create, 409, "Conflict", "resourcequotas", "quota changed"),
            HoldName(H::Conflict),
        ),
        (
            answer(Create, 409, "", "", "some proxy"),
            HoldName(H::Conflict),
        ),
        (
            answer(Update, 409, "Conflict", obs, "the object has been modified"),
            ReadAgain,
        ),
        (
            answer(
                Create,
                404,
                "NotFound",
                "namespaces",
                "namespaces \"team-a\" not found",
            ),
            Dead(DeadReason::NamespaceGone),
        ),
        (
            answer(
                Get,
                404,
                "NotFound",
                "namespaces",
                "namespaces \"team-a\" not found",
            ),
            Dead(DeadReason::NamespaceGone),
        ),
        (answer(Get, 404, "NotFound", obs, "not found"), BeginAnew),
        (answer(Update, 404, "NotFound", obs, "not found"), BeginAnew),
        (
            answer(Create, 404, "NotFound", "", "404 page not found"),
            HoldIngestor(H::KindMissing),
        ),
        (
            answer(Create, 400, "BadRequest", obs, "unknown field"),
            AskPlain,
        ),
        (
            answer(Create, 413, "RequestEntityTooLarge", "", "too large"),
            AskPlain,
        ),
        (
            answer(Create, 422, "Invalid", obs, "spec.severity"),
            AskPlain,
        ),
        (
            answer(Create, 401, "Unauthorized", "", "who"),
            HoldIngestor(H::Unauthenticated),
        ),
        (
            answer(Create, 403, "Forbidden", obs, "cannot create"),
            HoldIngestor(H::Forbidden),
        ),
        (
            answer(Create, 403, "Forbidden", obs, terminating),
            HoldIngestor(H::Forbidden),
        ),
        (
            answer(Create, 403, "Forbidden", obs, quota),
            HoldIngestor(H::Quota),
        ),
        (
            answer(Create, 429, "TooManyRequests", "", "slow down"),
            HoldIngestor(H::Throttled),
        ),
        (
            answer(Create, 408, "Timeout", "", "etcd"),
            HoldName(H::TimedOut),
        ),
        (
            answer(Create, 504, "Timeout", "", "etcd"),
            HoldName(H::TimedOut),
        ),
        (
            answer(Create, 500, "InternalError", obs, "failed calling webhook"),
            HoldName(H::ServerError),
        ),
        (
            answer(Create, 503, "ServiceUnavailable", "", "starting"),
            HoldName(H::ServerError),
        ),
        (
            answer(Create, 302, "", "", "a login page"),
            HoldIngestor(H::Unexpected),
        ),
        (
            answer(Create, 418, "", "", "a teapot"),
            HoldIngestor(H::Unexpected),
        ),
        (
            answer(Update, 403, "Forbidden", obs, "cannot update"),
            HoldIngestor(H::Forbidden),
        ),
        (
            answer(Update, 422, "Invalid", obs, "spec.count: never falls"),
            AskPlain,
        ),
        (
            answer(Update, 429, "TooManyRequests", "", "slow down"),
            HoldIngestor(H::Throttled),
        ),
        (
            answer(Update, 500, "InternalError", obs, "failed calling webhook"),
            HoldName(H::ServerError),
        ),
        (
            answer(Get, 401, "Unauthorized", "", "who"),
            HoldIngestor(H::Unauthenticated),
        ),
        (
            answer(Get, 403, "Forbidden", obs, "cannot get"),
            HoldIngestor(H::Forbidden),
        ),
        (
            answer(Get, 429, "TooManyRequests", "", "slow down"),
            HoldIngestor(H::Throttled),
        ),
        (
            answer(Get, 500, "InternalError", obs, "etcd"),
            HoldName(H::ServerError),
        ),
        (
            answer(Get, 503, "ServiceUnavailable", "", "starting"),
            HoldName(H::ServerError),
        ),
        (
            broken(Cause::TimedOut(Duration::from_secs(15))),
            HoldName(H::TimedOut),
        ),
        (
            broken(Cause::Unreachable("refused".into())),
            HoldName(H::Unreachable),
        ),
        (
            broken(Cause::Garbled("not JSON".into())),
            HoldName(H::Unexpected),
        ),
    ];
    for (failure, expected) in rows {
        assert_eq!(verdict(&failure), expected, "{failure}");
    }
}

#[test]
fn an_object_is_dead_only_if_a_plain_one_passes() {
    assert_eq!(after_plain(Ok(())), Verdict::Dead(DeadReason::Refused));
    for code in [400, 413, 422] {
        let refused = answer(Verb::DryRun, code, "Invalid", "observations", "a policy");
        let held = Verdict::HoldIngestor(HoldReason::Policy);
        assert_eq!(after_plain(Err(&refused)), held);
    }
    let forbidden = answer(Verb::DryRun, 403, "Forbidden", "observations", "no");
    let held = Verdict::HoldIngestor(HoldReason::Forbidden);
    assert_eq!(after_plain(Err(&forbidden)), held);
    let away = broken(Cause::Unreachable("refused".into()));
    let held = Verdict::HoldName(HoldReason::Unreachable);
    assert_eq!(after_plain(Err(&away)), held);
}

proptest::proptest! {
    /// Whatever a server, a proxy or an attacker answers: an item is lost to the dead letters by a
    /// missing namespace alone, all else is tried again.
    #[test]
    fn nothing_else_is_given_up(
        code in 0_u16..1_000, reason in "[A-Za-z]{0,20}", resource in "[a-z]{0,12}", message: String,
    ) {
        for verb in Verb::ALL {
            let failure = answer(verb, code, &reason, &resource, &message);
            if let Verdict::Dead(why) = verdict(&failure) {
                assert_eq!((code, resource.as_str(), why), (404, "namespaces", DeadReason::NamespaceGone));
            }
        }
    }
}
