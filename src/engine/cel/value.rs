//! Values of the expression language, and how they are compared.
//!
//! A clone is a counter: an expression that reads one field of a large body copies nothing.

use std::{cmp::Ordering, fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<Vec<Self>>),
    /// A map; it iterates in the order of its keys.
    Map(Arc<Map>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A span of time.
    Duration(SignedDuration),
    /// A value that may be absent, as `?.` makes it.
    Optional(Option<Arc<Self>>),
    /// The type of a value.
    Type(&'static str),
}

/// A map, sorted by key, so that nothing depends on the order of insertion or on a hash.
#[derive(Clone, Debug, Default)]
pub struct Map(Vec<(Key, Value)>);

/// A key of a map. A number that fits is always [`Key::Int`], so that equal numbers are one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A boolean.
    Bool(bool),
    /// An integer that fits into 64 bits with sign.
    Int(i64),
    /// A larger one.
    Uint(u64),
    /// A text.
    String(Arc<str>),
}

// === impl Key ===

impl Key {
    /// The key that `value` is, if it can be one; a whole double is the integer.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(b) => Some(Self::Bool(*b)),
            Value::Int(i) => Some(Self::Int(*i)),
            Value::Uint(u) => Some(Self::uint(*u)),
            Value::Double(d) => whole(*d).map(Self::Int),
            Value::String(s) => Some(Self::String(Arc::clone(s))),
            Value::Null
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Map(_)
            | Value::Timestamp(_)
            | Value::Duration(_)
            | Value::Optional(_)
            | Value::Type(_) => None,
        }
    }

    fn uint(u: u64) -> Self {
        i64::try_from(u).map_or(Self::Uint(u), Self::Int)
    }

    /// The key as a value.
    #[must_use]
    pub fn value(&self) -> Value {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Int(*i),
            Self::Uint(u) => Value::Uint(*u),
            Self::String(s) => Value::String(Arc::clone(s)),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::Int(i) => i.fmt(f),
            Self::Uint(u) => u.fmt(f),
            Self::String(s) => f.write_str(s),
        }
    }
}

/// The integer that a double is, if it is one and fits.
#[must_use]
pub fn whole(d: f64) -> Option<i64> {
    // −2^63 is a double; 2^63 is the first that doesn't fit.
    const LIMIT: f64 = 9_223_372_036_854_776_000.0;
    if d.fract() != 0.0 || !(-LIMIT..LIMIT).contains(&d) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked above: whole and in range"
    )]
    let int = d as i64;
    Some(int)
}

// === impl Map ===

impl Map {
    /// A map of these entries; of equal keys the last one counts, as in most JSON readers.
    #[must_use]
    pub fn new(mut entries: Vec<(Key, Value)>) -> Self {
        // Stable: among equal keys the order of insertion stays, and `dedup` below keeps the first
        // of the reversed run.
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|(later, _), (kept, _)| later == kept);
        Self(entries)
    }

    /// The value of a text key.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.position(|key| match key {
            Key::String(s) => s.as_ref().cmp(name),
            Key::Bool(_) | Key::Int(_) | Key::Uint(_) => Ordering::Less,
        })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, wanted: &Key) -> Option<&Value> {
        self.position(|key| key.cmp(wanted))
    }

    fn position(&self, compare: impl Fn(&Key) -> Ordering) -> Option<&Value> {
        let index = self.0.binary_search_by(|(key, _)| compare(key)).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// The entry at a place in the order of the keys.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(&Key, &Value)> {
        self.0.get(index).map(|(key, value)| (key, value))
    }

    /// Entries in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Key, Value)> {
        self.0.iter()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// === impl Value ===

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(Arc::from(text))
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map.
    #[must_use]
    pub fn map(entries: Vec<(Key, Self)>) -> Self {
        Self::Map(Arc::new(Map::new(entries)))
    }

    /// A map with text keys.
    #[must_use]
    pub fn record(entries: Vec<(&str, Self)>) -> Self {
        let keyed = |(key, value)| (Key::String(Arc::from(key)), value);
        Self::map(entries.into_iter().map(keyed).collect())
    }

    /// The name of its type, as `type()` gives it and as errors say it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
        }
    }

    /// How much work it is to read the top level of it, in the budget's units.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::String(s) => s.len() / 16,
            Self::Bytes(b) => b.len() / 16,
            Self::List(l) => l.len(),
            Self::Map(m) => m.len(),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::Timestamp(_)
            | Self::Duration(_)
            | Self::Optional(_)
            | Self::Type(_) => 0,
        }
    }
}

/// The order of two numbers; `None` for NaN and for what is no number. An integer meets a double as
/// the nearest double, as in CEL's specification.
#[must_use]
pub(in crate::engine::cel) fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        _ => nearest(a)?.partial_cmp(&nearest(b)?),
    }
}

/// The double that is nearest to a number.
#[must_use]
pub(in crate::engine::cel) fn nearest(number: &Value) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest double is what is asked for"
    )]
    match number {
        Value::Int(int) => Some(*int as f64),
        Value::Uint(uint) => Some(*uint as f64),
        Value::Double(double) => Some(*double),
        _ => None,
    }
}
