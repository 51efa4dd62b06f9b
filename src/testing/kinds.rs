//! What the kinds admit and refuse: the cases of `tests/data/kinds`, for every server that claims to
//! hold to them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::samples::text;

/// The cases of one kind.
#[derive(Clone, Debug, Deserialize)]
pub struct Cases {
    /// A valid object.
    pub base: Value,
    /// Objects to create.
    pub creates: Vec<Case>,
    /// Objects to create and then replace.
    pub updates: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// A merge patch onto the base: what is created.
    #[serde(default)]
    set: Option<Value>,
    /// A merge patch onto the base: what is created first.
    #[serde(default)]
    from: Option<Value>,
    /// A merge patch onto the base: what replaces it.
    #[serde(default)]
    to: Option<Value>,
    /// The field that the answer complains of.
    #[serde(default)]
    pub refused: Option<String>,
    /// The unknown field that the answer names.
    #[serde(default)]
    pub unknown: Option<String>,
    /// A part of the message.
    #[serde(default)]
    pub says: String,
}

impl Cases {
    /// The cases of `ingestor` or `observation`.
    ///
    /// # Panics
    /// When they can't be read: then the test can't run.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        let path = format!("tests/data/kinds/{kind}.yaml");
        let raw: Value =
            serde_saphyr::from_str(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_value(expand(raw)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What a case of [`Cases::creates`] creates.
    #[must_use]
    pub fn object(&self, case: &Case) -> Value {
        self.with(case.set.as_ref())
    }

    /// What a case of [`Cases::updates`] creates, and what replaces it.
    #[must_use]
    pub fn change(&self, case: &Case) -> (Value, Value) {
        (self.with(case.from.as_ref()), self.with(case.to.as_ref()))
    }

    fn with(&self, patch: Option<&Value>) -> Value {
        let mut object = self.base.clone();
        if let Some(patch) = patch {
            json_patch::merge(&mut object, patch);
        }
        object
    }
}

impl Case {
    /// What is wrong with an answer, if anything: `code` and `body` as the server gave them.
    ///
    /// # Errors
    /// What was expected and what came.
    pub fn check(&self, code: u16, body: &Value) -> Result<(), String> {
        let message = body["message"].as_str().unwrap_or_default();
        let expected = match (&self.refused, &self.unknown) {
            (Some(field), _) => code == 422 && self.complains(field, body),
            (None, Some(field)) => {
                code == 400 && message.contains(&format!("unknown field \"{field}\""))
            }
            (None, None) => (200..300).contains(&code),
        };
        if expected {
            Ok(())
        } else {
            Err(format!("{}: {code} {message}", self.name))
        }
    }

    fn complains(&self, field: &str, body: &Value) -> bool {
        let causes = body["details"]["causes"].as_array();
        causes.into_iter().flatten().any(|cause| {
            let at = cause["field"].as_str().unwrap_or_default();
            let message = cause["message"].as_str().unwrap_or_default();
            at.replace("<nil>", "").starts_with(field) && message.contains(&self.says)
        })
    }
}

/// Writes out `{x*N}` everywhere.
fn expand(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(repeat(&text)),
        Value::Array(items) => items.into_iter().map(expand).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (repeat(&name), expand(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn repeat(text: &str) -> String {
    let parts = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let parts = parts.and_then(|inner| inner.split_once('*'));
    match parts.map(|(what, times)| (what, times.parse::<usize>())) {
        Some((what, Ok(times))) => what.repeat(times),
        Some((_, Err(_))) | None => text.to_owned(),
    }
}
