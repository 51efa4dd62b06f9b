//! Evaluates a tree. Every step is charged before it is done.

use std::{cmp::Ordering, sync::Arc};

use super::{
    Inputs,
    budget::{Budget, Fault},
    functions::arithmetic,
    tree::{Element, Entry, Fold, FoldKind, Kind, Node, Operator, RegexOperation},
    value::{Key, Map, Value, compare_numbers},
};

type Outcome = Result<Value, Fault>;

/// `locals` is what lies on the stack for the names that the parser was given.
pub(super) fn evaluate(
    tree: &Node,
    inputs: &Inputs,
    locals: Vec<Value>,
    budget: &mut Budget,
) -> Outcome {
    let mut machine = Machine {
        inputs,
        budget,
        locals,
    };
    machine.eval(tree)
}

struct Machine<'a> {
    inputs: &'a Inputs,
    budget: &'a mut Budget,
    locals: Vec<Value>,
}

impl Machine<'_> {
    fn eval(&mut self, node: &Node) -> Outcome {
        self.budget.charge(1)?;
        match &node.kind {
            Kind::Const(value) => Ok(value.clone()),
            Kind::Root(variable) => match self.inputs.get(*variable) {
                Some(value) => Ok(value.clone()),
                None => Fault::new(format!("{} is not there", variable.name())),
            },
            Kind::Local { slot, name } => match self.locals.get(*slot) {
                Some(value) => Ok(value.clone()),
                None => Fault::new(format!("{name} is not there")),
            },
            Kind::Select { of, field } => self.select(of, field),
            Kind::OptSelect { of, field } => {
                let of = self.eval(of)?;
                Ok(optional_field(&of, |value| field_of(value, field).cloned()))
            }
            Kind::Has { of, field } => self.has(of, field),
            Kind::Index(pair) => self.index(pair),
            Kind::OptIndex(pair) => {
                let [of, key] = pair.as_ref();
                let (of, key) = (self.eval(of)?, self.eval(key)?);
                Ok(optional_field(&of, |value| element(value, &key)))
            }
            Kind::Not(of) => Ok(Value::Bool(!self.bool(of, "!")?)),
            Kind::Negate(of) => arithmetic::negate(&self.eval(of)?),
            Kind::And(terms) => self.logic(terms, false),
            Kind::Or(terms) => self.logic(terms, true),
            Kind::If(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let chosen = if self.bool(condition, "?")? {
                    then
                } else {
                    otherwise
                };
                self.eval(chosen)
            }
            Kind::Binary(operator, pair) => self.binary(*operator, pair),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptMap { of, body, flat } => self.opt_map(of, body, *flat),
            Kind::Call { function, args } => {
                let args = self.all(args)?;
                function.call(&args, self.budget)
            }
            Kind::Regex {
                operation,
                args,
                pattern,
            } => self.regex(*operation, args, pattern),
        }
    }

    fn all(&mut self, nodes: &[Node]) -> Result<Vec<Value>, Fault> {
        nodes.iter().map(|node| self.eval(node)).collect()
    }

    fn bool(&mut self, node: &Node, operator: &str) -> Result<bool, Fault> {
        match self.eval(node)? {
            Value::Bool(b) => Ok(b),
            other => Fault::new(format!(
                "{operator} needs a bool, and {node} is a {}",
                other.type_name()
            )),
        }
    }

    /// `&&` (`decisive` false) and `||` (`decisive` true): a term that decides makes up for one that
    /// fails, whichever comes first.
    fn logic(&mut self, terms: &[Node], decisive: bool) -> Outcome {
        let mut failed = None;
        for term in terms {
            match self.bool(term, if decisive { "||" } else { "&&" }) {
                Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(spent @ Fault::Budget(_)) => return Err(spent),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }
}

// === fields and elements ===

fn field_of<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    match value {
        Value::Map(map) => map.field(field),
        _ => None,
    }
}

fn element(value: &Value, key: &Value) -> Option<Value> {
    match value {
        Value::Map(map) => map.get(&Key::of(key)?).cloned(),
        Value::List(items) => match Key::of(key)? {
            Key::Int(index) => items.get(usize::try_from(index).ok()?).cloned(),
            Key::Bool(_) | Key::Uint(_) | Key::String(_) => None,
        },
        _ => None,
    }
}

/// What `get` finds in `of`, or in what `of` holds where it is optional. Absent is no error, and
/// neither is what can have no fields: senders write `null`, and sometimes a text, where others have
/// an object.
fn optional_field(of: &Value, get: impl Fn(&Value) -> Option<Value>) -> Value {
    let found = match of {
        Value::Optional(inner) => inner.as_deref().and_then(get),
        other => get(other),
    };
    Value::Optional(found.map(Arc::new))
}

/// A field or element behind `?`: none of none, and an error of what can have none.
fn within(of: &Node, inner: Option<&Value>, get: impl Fn(&Value) -> Option<Value>) -> Outcome {
    match inner {
        Some(scalar) if !matches!(scalar, Value::Map(_) | Value::List(_)) => Fault::new(format!(
            "{of} is a {}, which has no fields",
            scalar.type_name()
        )),
        inner => Ok(Value::Optional(inner.and_then(get).map(Arc::new))),
    }
}

impl Machine<'_> {
    fn select(&mut self, of: &Node, field: &str) -> Outcome {
        let value = self.eval(of)?;
        match &value {
            Value::Map(map) => match map.field(field) {
                Some(found) => Ok(found.clone()),
                None => Fault::new(format!("{of} has no field {field:?}")),
            },
            Value::Optional(inner) => within(of, inner.as_deref(), |inner| {
                field_of(inner, field).cloned()
            }),
            other => Fault::new(format!(
                "{of} is a {}, which has no fields, so no {field:?}",
                other.type_name()
            )),
        }
    }

    fn has(&mut self, of: &Node, field: &str) -> Outcome {
        match self.eval(of)? {
            Value::Map(map) => Ok(Value::Bool(map.field(field).is_some())),
            Value::Optional(inner) => Ok(Value::Bool(
                inner.is_some_and(|inner| field_of(&inner, field).is_some()),
            )),
            other => Fault::new(format!(
                "has(): {of} is a {}, which has no fields",
                other.type_name()
            )),
        }
    }

    fn index(&mut self, pair: &[Node; 2]) -> Outcome {
        let [of, key] = pair;
        let (value, index) = (self.eval(of)?, self.eval(key)?);
        if let Value::Optional(inner) = &value {
            return within(of, inner.as_deref(), |inner| element(inner, &index));
        }
        if !matches!(value, Value::Map(_) | Value::List(_)) {
            return Fault::new(format!(
                "{of} is a {}, which has no elements",
                value.type_name()
            ));
        }
        element(&value, &index).map_or_else(|| Fault::new(format!("{of} has no element {key}")), Ok)
    }

    fn list(&mut self, elements: &[Element]) -> Outcome {
        let mut items = Vec::with_capacity(elements.len());
        for element in elements {
            let value = self.eval(&element.value)?;
            items.extend(present(element.optional, value)?);
        }
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &[Entry]) -> Outcome {
        let mut made = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let key = map_key(&key)?;
            if made.iter().any(|(known, _)| *known == key) {
                return Fault::new(format!("a map has the key {key} twice"));
            }
            let value = self.eval(&entry.value)?;
            if let Some(value) = present(entry.optional, value)? {
                self.budget.charge(made.len())?;
                made.push((key, value));
            }
        }
        Ok(Value::map(made))
    }
}

fn map_key(value: &Value) -> Result<Key, Fault> {
    // A double finds an integer's entry, but makes none.
    let key = Key::of(value).filter(|_| !matches!(value, Value::Double(_)));
    match key {
        Some(key) => Ok(key),
        None => Fault::new(format!("a {} can be no key", value.type_name())),
    }
}

/// What `?` in a list or map literal keeps.
fn present(optional: bool, value: Value) -> Result<Option<Value>, Fault> {
    match (optional, value) {
        (false, value) => Ok(Some(value)),
        (true, Value::Optional(inner)) => Ok(inner.map(|inner| inner.as_ref().clone())),
        (true, other) => Fault::new(format!(
            "? needs an optional value, and this is a {}",
            other.type_name()
        )),
    }
}

// === operators ===

impl Machine<'_> {
    fn binary(&mut self, operator: Operator, pair: &[Node; 2]) -> Outcome {
        let (left, right) = (self.eval(&pair[0])?, self.eval(&pair[1])?);
        match operator {
            Operator::Equal => Ok(Value::Bool(equal(&left, &right, self.budget)?)),
            Operator::NotEqual => Ok(Value::Bool(!equal(&left, &right, self.budget)?)),
            Operator::In => Ok(Value::Bool(contains(&right, &left, self.budget)?)),
            Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
                self.compare(operator, &left, &right)
            }
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo => arithmetic::binary(operator, left, &right, self.budget),
        }
    }

    fn compare(&mut self, operator: Operator, left: &Value, right: &Value) -> Outcome {
        let order = match order(left, right, self.budget)? {
            Compared::Order(order) => order,
            Compared::Unordered => return Ok(Value::Bool(false)),
            Compared::Different => {
                return Fault::new(format!(
                    "{} can't compare a {} and a {}",
                    operator.symbol(),
                    left.type_name(),
                    right.type_name()
                ));
            }
        };
        Ok(Value::Bool(match operator {
            Operator::Less => order.is_lt(),
            Operator::LessEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            _ => order.is_ge(),
        }))
    }
}

pub(super) enum Compared {
    Order(Ordering),
    /// NaN.
    Unordered,
    /// Types that have no common order.
    Different,
}

/// The order of two values of one type, or of two numbers.
pub(super) fn order(a: &Value, b: &Value, budget: &mut Budget) -> Result<Compared, Fault> {
    budget.charge(a.weight().min(b.weight()))?;
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => Compared::Order(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Compared::Order(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Compared::Order(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Compared::Order(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Compared::Order(a.cmp(b)),
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => compare_numbers(a, b).map_or(Compared::Unordered, Compared::Order),
        _ => Compared::Different,
    })
}

/// Equality; values of different types are not equal, but numbers are compared by value.
pub(super) fn equal(a: &Value, b: &Value, budget: &mut Budget) -> Result<bool, Fault> {
    budget.charge(1)?;
    match (a, b) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Type(a), Value::Type(b)) => Ok(a == b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => Ok(true),
            (Some(a), Some(b)) => equal(a, b, budget),
            (None, Some(_)) | (Some(_), None) => Ok(false),
        },
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            all_equal(a.iter().zip(b.iter()), budget)
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key, _), (other, _)) in a.iter().zip(b.iter()) {
                budget.charge(1)?;
                if key != other {
                    return Ok(false);
                }
            }
            let values = a.iter().zip(b.iter()).map(|((_, a), (_, b))| (a, b));
            all_equal(values, budget)
        }
        _ => Ok(matches!(
            order(a, b, budget)?,
            Compared::Order(Ordering::Equal)
        )),
    }
}

fn all_equal<'a>(
    pairs: impl Iterator<Item = (&'a Value, &'a Value)>,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    for (a, b) in pairs {
        if !equal(a, b, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `value in container`.
pub(super) fn contains(
    container: &Value,
    value: &Value,
    budget: &mut Budget,
) -> Result<bool, Fault> {
    match container {
        Value::List(items) => {
            for item in items.iter() {
                if equal(item, value, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => Ok(Key::of(value).is_some_and(|key| map.get(&key).is_some())),
        other => Fault::new(format!(
            "`in` needs a list or map, and this is a {}",
            other.type_name()
        )),
    }
}

// === loops ===

impl Machine<'_> {
    fn opt_map(&mut self, of: &Node, body: &Node, flat: bool) -> Outcome {
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

    fn fold(&mut self, fold: &Fold) -> Outcome {
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
    fn regex(
        &mut self,
        operation: RegexOperation,
        args: &[Node],
        pattern: &super::pattern::Pattern,
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
