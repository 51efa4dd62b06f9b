//! What is wrong with one field, in the words of `k8s.io/apimachinery/pkg/util/validation/field`.

use serde_json::{Value, json};

/// One fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, for example `spec.source`.
    pub path: String,
    /// What kind of fault.
    pub fault: Fault,
    /// The message without the path.
    pub body: String,
}

/// The kinds of fault that Kubernetes tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A required field is absent.
    Required,
    /// A value that is not allowed.
    Invalid,
    /// A value of the wrong type.
    TypeInvalid,
    /// A value outside of an enumeration.
    NotSupported,
    /// Something that must not be done.
    Forbidden,
    /// A value that occurs twice.
    Duplicate,
    /// A string that is too long.
    TooLong,
    /// Too many items.
    TooMany,
}

// === impl Fault ===

impl Fault {
    /// `metav1.CauseType`.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }

    /// Whether rules are left unchecked beside such a fault (`hasBlockingErr` in the CRD strategy).
    #[must_use]
    pub const fn blocks_rules(self) -> bool {
        matches!(
            self,
            Self::NotSupported | Self::Required | Self::TooLong | Self::TooMany | Self::TypeInvalid
        )
    }
}

// === impl FieldError ===

impl FieldError {
    /// `path: Required value`, with a detail where there is one.
    #[must_use]
    pub fn required(path: impl Into<String>, detail: &str) -> Self {
        let body = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        Self::of(path, Fault::Required, body)
    }

    /// `path: Invalid value: <value>: detail`.
    #[must_use]
    pub fn invalid(path: impl Into<String>, value: &Value, detail: impl AsRef<str>) -> Self {
        let body = format!("Invalid value: {}: {}", go_value(value), detail.as_ref());
        Self::of(path, Fault::Invalid, body)
    }

    /// A value whose text is already in Go's form.
    #[must_use]
    pub fn invalid_shown(path: impl Into<String>, shown: &str, detail: impl AsRef<str>) -> Self {
        Self::of(
            path,
            Fault::Invalid,
            format!("Invalid value: {shown}: {}", detail.as_ref()),
        )
    }

    /// A value of the wrong type.
    #[must_use]
    pub fn type_invalid(path: impl Into<String>, shown: &str, detail: impl AsRef<str>) -> Self {
        Self::of(
            path,
            Fault::TypeInvalid,
            format!("Invalid value: {shown:?}: {}", detail.as_ref()),
        )
    }

    /// A value outside of an enumeration.
    #[must_use]
    pub fn not_supported(path: impl Into<String>, value: &Value, allowed: &[String]) -> Self {
        let allowed = allowed
            .iter()
            .map(|one| format!("{one:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self::of(
            path,
            Fault::NotSupported,
            format!(
                "Unsupported value: {}: supported values: {allowed}",
                go_value(value)
            ),
        )
    }

    /// Something that must not be done.
    #[must_use]
    pub fn forbidden(path: impl Into<String>, detail: impl AsRef<str>) -> Self {
        Self::of(
            path,
            Fault::Forbidden,
            format!("Forbidden: {}", detail.as_ref()),
        )
    }

    /// A value that occurs twice.
    #[must_use]
    pub fn duplicate(path: impl Into<String>, shown: &str) -> Self {
        Self::of(path, Fault::Duplicate, format!("Duplicate value: {shown}"))
    }

    /// A string longer than `max` bytes.
    #[must_use]
    pub fn too_long(path: impl Into<String>, max: u64) -> Self {
        Self::of(
            path,
            Fault::TooLong,
            format!("Too long: may not be more than {max} bytes"),
        )
    }

    /// More than `max` items.
    #[must_use]
    pub fn too_many(path: impl Into<String>, actual: usize, max: u64) -> Self {
        Self::of(
            path,
            Fault::TooMany,
            format!("Too many: {actual}: must have at most {max} items"),
        )
    }

    fn of(path: impl Into<String>, fault: Fault, body: String) -> Self {
        Self {
            path: path.into(),
            fault,
            body,
        }
    }

    pub(super) fn cause(&self) -> Value {
        json!({"reason": self.fault.cause(), "message": self.body, "field": self.path})
    }
}

/// A value as Go's `%v`/`%q` in field errors shows it.
#[must_use]
pub(in crate::embedded) fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
