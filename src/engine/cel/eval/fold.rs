//! Loops, and patterns: what looks at a value many times.

use std::sync::Arc;

use super::{Machine, Outcome, map_key};
use crate::engine::cel::{
    budget::Fault,
    pattern::Pattern,
    tree::{Fold, FoldKind, Node, RegexOperation},
    value::{Key, Map, Value},
};

// === loops ===

impl Machine<'_> {
    pub(super) fn opt_map(&mut self, of: &Node, body: &Node, flat: bool) -> Outcome {
        let inner = match self.eval(of)? {
            Value::Optional(inner) => inner,
            other => {
                return Fault::new(format!(
                    "optMap needs an optional value, and {of} is a {}",
                    other.type_name()
                ));
            }
        };
        let Some(inner) = inner else {
            return Ok(Value::Optional(None));
        };
        self.locals.push(inner.as_ref().clone());
        let made = self.eval(body);
        self.locals.pop();
        let made = made?;
        match (flat, made) {
            (false, made) => Ok(Value::Optional(Some(Arc::new(made)))),
            (true, made @ Value::Optional(_)) => Ok(made),
            (true, other) => Fault::new(format!(
                "optFlatMap needs an optional result, and this is a {}",
                other.type_name()
            )),
        }
    }

    pub(super) fn fold(&mut self, fold: &Fold) -> Outcome {
        let range = self.eval(&fold.range)?;
        let depth = self.locals.len();
        let mut tally = Tally::new(fold.kind);
        let length = match &range {
            Value::List(items) => items.len(),
            Value::Map(map) => map.len(),
            other => {
                return Fault::new(format!(
                    "a loop needs a list or map, and {} is a {}",
                    fold.range,
                    other.type_name()
                ));
            }
        };
        for index in 0..length {
            let (first, second) = step(&range, index, fold.two);
            self.budget.charge(1)?;
            self.locals.push(first.clone());
            self.locals.extend(second.clone());
            let more = self.turn(fold, &mut tally, &first, second.as_ref());
            self.locals.truncate(depth);
            if !more? {
                break;
            }
        }
        tally.finish()
    }

    /// One turn of the loop; whether there is to be another.
    fn turn(
        &mut self,
        fold: &Fold,
        tally: &mut Tally,
        first: &Value,
        second: Option<&Value>,
    ) -> Result<bool, Fault> {
        if let Some(filter) = &fold.filter
            && !self.bool(filter, "the condition of a loop")?
        {
            return Ok(true);
        }
        match fold.kind {
            FoldKind::All | FoldKind::Exists => {
                let decisive = fold.kind == FoldKind::Exists;
                match self.bool(&fold.body, "the condition of a loop") {
                    Ok(value) if value == decisive => {
                        tally.decided = Some(decisive);
                        return Ok(false);
                    }
                    Ok(_) => {}
                    Err(spent @ Fault::Budget(_)) => return Err(spent),
                    Err(error) => tally.failed = tally.failed.take().or(Some(error)),
                }
            }
            FoldKind::ExistsOne => {
                tally.found += usize::from(self.bool(&fold.body, "existsOne")?);
            }
            FoldKind::Filter => {
                if self.bool(&fold.body, "filter")? {
                    tally.items.push(first.clone());
                }
            }
            FoldKind::Map => {
                let value = self.eval(&fold.body)?;
                tally.items.push(value);
            }
            FoldKind::TransformMap => {
                let value = self.eval(&fold.body)?;
                let key = map_key(second.map_or(&Value::Null, |_| first))?;
                tally.entries.push((key, value));
            }
        }
        Ok(true)
    }
}

/// The variables of one turn: the element, or index and element; the key, or key and value.
fn step(range: &Value, index: usize, two: bool) -> (Value, Option<Value>) {
    let position = || Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
    match range {
        Value::List(items) => {
            let item = items.get(index).cloned().unwrap_or(Value::Null);
            if two {
                (position(), Some(item))
            } else {
                (item, None)
            }
        }
        Value::Map(map) => match map.at(index) {
            Some((key, value)) => (key.value(), two.then(|| value.clone())),
            None => (Value::Null, None),
        },
        _ => (Value::Null, None),
    }
}

/// What a loop has found so far.
struct Tally {
    kind: FoldKind,
    items: Vec<Value>,
    entries: Vec<(Key, Value)>,
    found: usize,
    decided: Option<bool>,
    failed: Option<Fault>,
}

impl Tally {
    const fn new(kind: FoldKind) -> Self {
        Self {
            kind,
            items: Vec::new(),
            entries: Vec::new(),
            found: 0,
            decided: None,
            failed: None,
        }
    }

    fn finish(self) -> Outcome {
        match self.kind {
            FoldKind::All | FoldKind::Exists => match (self.decided, self.failed) {
                (Some(value), _) => Ok(Value::Bool(value)),
                (None, Some(error)) => Err(error),
                (None, None) => Ok(Value::Bool(self.kind == FoldKind::All)),
            },
            FoldKind::ExistsOne => Ok(Value::Bool(self.found == 1)),
            FoldKind::Map | FoldKind::Filter => Ok(Value::list(self.items)),
            FoldKind::TransformMap => Ok(Value::Map(Arc::new(Map::new(self.entries)))),
        }
    }
}

// === patterns ===

impl Machine<'_> {
    pub(super) fn regex(
        &mut self,
        operation: RegexOperation,
        args: &[Node],
        pattern: &Pattern,
    ) -> Outcome {
        let args = self.all(args)?;
        let text = match args.first() {
            Some(Value::String(text)) => text,
            other => {
                return Fault::new(format!(
                    "a pattern is matched against a text, and this is a {}",
                    other.map_or("nothing", Value::type_name)
                ));
            }
        };
        Ok(match operation {
            RegexOperation::Matches => Value::Bool(pattern.matches(text, self.budget)?),
            RegexOperation::Find => {
                let found = pattern.find(text, self.budget)?;
                self.budget.charge_bytes(found.len())?;
                Value::text(found)
            }
            RegexOperation::FindAll => {
                let limit = match args.get(1) {
                    None => usize::MAX,
                    Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
                    Some(other) => {
                        return Fault::new(format!(
                            "findAll takes a number, not a {}",
                            other.type_name()
                        ));
                    }
                };
                let found = pattern.find_all(text, limit, self.budget)?;
                Value::list(found.into_iter().map(Value::text).collect())
            }
        })
    }
}
