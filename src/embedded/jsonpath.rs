//! The part of kubectl's `JSONPath` that printer columns use.
//!
//! Fields, quoted fields, indices, `[*]` and filters of the form `[?(@.type=='Ready')]`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter {
        path: JsonPath,
        equal: bool,
        value: Value,
    },
}

/// A path that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't read the JSONPath {path:?}: {why}")]
pub(super) struct BadPath {
    path: String,
    why: &'static str,
}

// === impl JsonPath ===

impl JsonPath {
    /// Parses `.spec.a`, with or without the leading dot and braces.
    ///
    /// # Errors
    /// What is not part of the supported language.
    pub(super) fn parse(text: &str) -> Result<Self, BadPath> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        steps(inner).map(Self).map_err(|why| BadPath {
            path: text.to_owned(),
            why,
        })
    }

    /// A path of plain fields, from `.spec.a` that is known to be well-formed.
    #[must_use]
    pub(super) fn fields(text: &str) -> Self {
        Self(
            text.split('.')
                .filter(|part| !part.is_empty())
                .map(|part| Step::Field(part.to_owned()))
                .collect(),
        )
    }

    /// All values at this path.
    #[must_use]
    pub(super) fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| step.apply(value))
                .collect();
        }
        found
    }

    /// The first value at this path.
    #[must_use]
    pub(super) fn first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.find(root).into_iter().next()
    }
}

// === impl Step ===

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(at) => {
                let Some(list) = value.as_array() else {
                    return Vec::new();
                };
                let at = if *at < 0 {
                    usize::try_from(at.unsigned_abs())
                        .ok()
                        .and_then(|back| list.len().checked_sub(back))
                } else {
                    usize::try_from(*at).ok()
                };
                at.and_then(|at| list.get(at)).into_iter().collect()
            }
            Self::All => match value {
                Value::Array(list) => list.iter().collect(),
                Value::Object(map) => map.values().collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
            },
            Self::Filter {
                path,
                equal,
                value: wanted,
            } => value
                .as_array()
                .into_iter()
                .flatten()
                .filter(|item| {
                    path.first(item)
                        .is_some_and(|found| (found == wanted) == *equal)
                })
                .collect(),
        }
    }
}

fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, behind) = bracket(after)?;
            steps.push(bracketed(inside)?);
            rest = behind;
        } else {
            let after = rest.strip_prefix('.').unwrap_or(rest);
            let (name, behind) = field(after);
            if name.is_empty() {
                if behind.starts_with('[') || (behind.is_empty() && steps.is_empty()) {
                    rest = behind;
                    continue;
                }
                return Err("an empty field name");
            }
            steps.push(if name == "*" {
                Step::All
            } else {
                Step::Field(name)
            });
            rest = behind;
        }
    }
    Ok(steps)
}

fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => {
                if let Some((_, escaped)) = chars.next() {
                    name.push(escaped);
                }
            }
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Splits what stands before the closing bracket from what stands behind it.
fn bracket(text: &str) -> Result<(&str, &str), &'static str> {
    let mut quote = None;
    let mut depth = 0_u32;
    for (at, char) in text.char_indices() {
        match (quote, char) {
            (Some(open), char) if char == open => quote = None,
            (None, '\'' | '"') => quote = Some(char),
            (None, '[') => depth = depth.saturating_add(1),
            (None, ']') if depth > 0 => depth -= 1,
            (None, ']') => {
                return text
                    .split_at_checked(at)
                    .and_then(|(inside, behind)| Some((inside, behind.strip_prefix(']')?)))
                    .ok_or("a broken bracket");
            }
            (Some(_) | None, _) => {}
        }
    }
    Err("a bracket that is not closed")
}

fn bracketed(inside: &str) -> Result<Step, &'static str> {
    let inside = inside.trim();
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquote(inside) {
        return Ok(Step::Field(name));
    }
    if let Ok(at) = inside.parse() {
        return Ok(Step::Index(at));
    }
    let condition = inside
        .strip_prefix("?(")
        .and_then(|inside| inside.strip_suffix(')'))
        .ok_or("neither index nor filter in brackets")?;
    let (left, equal, right) = condition
        .split_once("==")
        .map(|(left, right)| (left, true, right))
        .or_else(|| {
            condition
                .split_once("!=")
                .map(|(left, right)| (left, false, right))
        })
        .ok_or("a filter without == or !=")?;
    let path = left
        .trim()
        .strip_prefix('@')
        .ok_or("a filter that does not begin with @")?;
    let right = right.trim();
    let value = unquote(right)
        .map(Value::String)
        .or_else(|| serde_json::from_str(right).ok())
        .ok_or("a filter that compares with neither text nor number")?;
    Ok(Step::Filter {
        path: JsonPath(steps(path)?),
        equal,
        value,
    })
}

fn unquote(text: &str) -> Option<String> {
    ['\'', '"'].iter().find_map(|quote| {
        let inner = text.strip_prefix(*quote)?.strip_suffix(*quote)?;
        Some(inner.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(path: &str, value: &Value) -> Vec<Value> {
        let path = JsonPath::parse(path).unwrap();
        path.find(value).into_iter().cloned().collect()
    }

    #[test]
    fn fields_indices_and_filters() {
        let object = json!({
            "spec": {"a": 1, "list": [1, 2, 3], "a.b/c": "dotted"},
            "status": {"conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Degraded", "status": "False"}]},
        });
        assert_eq!(shown(".spec.a", &object), [json!(1)]);
        assert_eq!(shown("{.spec.list[-1]}", &object), [json!(3)]);
        assert_eq!(shown(".spec['a.b/c']", &object), [json!("dotted")]);
        assert_eq!(shown(r".spec.a\.b/c", &object), [json!("dotted")]);
        assert_eq!(
            shown(".spec.list[*]", &object),
            [json!(1), json!(2), json!(3)]
        );
        assert_eq!(
            shown(".status.conditions[?(@.type=='Ready')].status", &object),
            [json!("True")]
        );
        assert_eq!(
            shown(".status.conditions[?(@.type != \"Ready\")].status", &object),
            [json!("False")]
        );
        assert!(shown(".spec.missing.deeper", &object).is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [".a[", ".a[?(x)]", ".a[?(b==1)]", "..a"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
