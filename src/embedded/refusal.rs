//! What the API answers when it says no: Kubernetes' `Status`, with its messages word for word.
//!
//! Clients decide by `reason`, people read `message`, and controllers look into `details.causes`;
//! all three follow `k8s.io/apimachinery/pkg/api/errors` and `…/util/validation/field`.

mod field;

use serde_json::{Map, Value, json};

pub(super) use self::field::go_value;
pub use self::field::{Fault, FieldError};
use super::kind::Kind;

/// What the API server's router says.
const NO_PAGE: &str = "404 page not found";

/// A request that was not done. Nothing in the store has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable reason, as in `metav1.StatusReason`.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// Object, causes and when to try again.
    pub details: Option<Box<Value>>,
}

// === impl Refusal ===

impl Refusal {
    /// A refusal without details.
    #[must_use]
    pub fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, kind: &Kind, name: &str, more: Value) -> Self {
        let mut details = Map::new();
        if !name.is_empty() {
            details.insert("name".to_owned(), json!(name));
        }
        if !kind.group.is_empty() {
            details.insert("group".to_owned(), json!(kind.group));
        }
        details.insert("kind".to_owned(), json!(kind.plural));
        if let Value::Object(more) = more {
            details.extend(more);
        }
        self.details = Some(Box::new(Value::Object(details)));
        self
    }

    /// 400, the request can't be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// 404 for one object.
    #[must_use]
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.qualified());
        Self::plain(404, "NotFound", message).about(kind, name, Value::Null)
    }

    /// 404 for a namespace that an object should go into.
    #[must_use]
    pub fn no_namespace(namespace: &str) -> Self {
        let mut refusal = Self::plain(
            404,
            "NotFound",
            format!("namespaces {namespace:?} not found"),
        );
        refusal.details = Some(Box::new(json!({"name": namespace, "kind": "namespaces"})));
        refusal
    }

    /// 409 for a name that is taken.
    #[must_use]
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.qualified());
        Self::plain(409, "AlreadyExists", message).about(kind, name, Value::Null)
    }

    /// 409 for a precondition that does not hold.
    #[must_use]
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.qualified()
        );
        Self::plain(409, "Conflict", message).about(kind, name, Value::Null)
    }

    /// 409 for a precondition of a deletion, which names the kind in place of the resource.
    #[must_use]
    pub fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.qualified_kind()
        );
        Self::plain(409, "Conflict", message).about(kind, name, json!({"kind": kind.kind}))
    }

    /// 409 for a resourceVersion that is not the latest.
    #[must_use]
    pub fn modified(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403 for one object.
    #[must_use]
    pub fn forbidden(kind: &Kind, name: &str, why: &str, causes: &Value) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", kind.qualified());
        let more = if causes.is_null() {
            Value::Null
        } else {
            json!({"causes": causes})
        };
        Self::plain(403, "Forbidden", message).about(kind, name, more)
    }

    /// 422 with the faults of the object's fields.
    #[must_use]
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_as(
            &kind.qualified_kind(),
            &kind.group,
            &kind.kind,
            name,
            errors,
        )
    }

    /// 422 for an object described by the given words.
    #[must_use]
    pub fn invalid_as(
        qualified: &str,
        group: &str,
        kind: &str,
        name: &str,
        errors: &[FieldError],
    ) -> Self {
        let shown: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.path, error.body))
            .collect();
        let all = match shown.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), json!(value));
            }
        }
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        details.insert("causes".to_owned(), Value::Array(causes));
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("{qualified} {name:?} is invalid: {all}"),
            details: Some(Box::new(Value::Object(details))),
        }
    }

    /// 404 of the router, for a path behind which there is nothing.
    #[must_use]
    pub fn no_page() -> Self {
        Self::plain(404, "", NO_PAGE)
    }

    /// 404 for a resource that a group doesn't have. Only the core group, whose kinds are all
    /// known, answers with a Status.
    #[must_use]
    pub fn no_resource(group: &str) -> Self {
        if group.is_empty() {
            Self::plain(
                404,
                "NotFound",
                "the server could not find the requested resource",
            )
        } else {
            Self::no_page()
        }
    }

    /// 404 for a part that the objects of a kind don't have.
    #[must_use]
    pub fn no_part(kind: &Kind, name: &str) -> Self {
        Self::no_resource("").about(kind, name, Value::Null)
    }

    /// The text that is answered in place of a Status, where that is so.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        (self.code == 404 && self.message == NO_PAGE).then(|| format!("{NO_PAGE}\n"))
    }

    /// 422 for an option of a request.
    #[must_use]
    pub fn bad_option(options: &str, error: FieldError) -> Self {
        Self::invalid_as(
            &format!("{options}.meta.k8s.io"),
            "meta.k8s.io",
            options,
            "",
            &[error],
        )
    }

    /// 405 for a verb that the resource does not have.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::plain(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 410 for a version whose history is gone.
    #[must_use]
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::plain(
            410,
            "Expired",
            format!("too old resource version: {asked} ({oldest})"),
        )
    }

    /// 410 for a continue token whose snapshot is gone; `again` goes on without consistency.
    #[must_use]
    pub fn continue_expired() -> Self {
        Self::plain(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result. You \
             can start a new list without the continue parameter.",
        )
    }

    /// 504 for a version that lies in the future.
    #[must_use]
    pub fn too_large(asked: u64, current: u64) -> Self {
        let mut refusal = Self::plain(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {asked}, current: {current}"),
        );
        refusal.details = Some(Box::new(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        })));
        refusal
    }

    /// After how many seconds to try again, where the refusal says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.details.as_ref()?.get("retryAfterSeconds")?.as_u64()
    }

    /// The `Status` object.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if let (false, Some(status)) = (self.reason.is_empty(), status.as_object_mut()) {
            status.insert("reason".to_owned(), json!(self.reason));
        }
        if let (Some(details), Some(status)) = (&self.details, status.as_object_mut()) {
            status.insert("details".to_owned(), (**details).clone());
        }
        status
    }
}
