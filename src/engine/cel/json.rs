//! Between JSON and values.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::{
    budget::{Budget, Fault},
    functions,
    value::{Key, Map, Value},
};

/// What limits a document.
#[derive(Debug)]
struct Limits {
    depth: usize,
    values: usize,
}

/// Reads a JSON document: at most `depth` arrays and objects within each other, and `values`
/// values. Integers that 64 bits hold stay exact; other numbers become doubles.
///
/// # Errors
/// What is wrong with the text.
pub fn from_json(text: &str, depth: usize, values: usize) -> serde_json::Result<Value> {
    let mut limits = Limits { depth, values };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Seed {
        limits: &mut limits,
        build: Build,
    }
    .deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Comes to the same verdict as [`from_json`], through the same code, and builds nothing.
///
/// # Errors
/// What is wrong with the text.
pub(in crate::engine) fn check_json(
    text: &str,
    depth: usize,
    values: usize,
) -> serde_json::Result<()> {
    let mut limits = Limits { depth, values };
    let mut reader = serde_json::Deserializer::from_str(text);
    Seed {
        limits: &mut limits,
        build: Discard,
    }
    .deserialize(&mut reader)?;
    reader.end()
}

/// What is made of the parts of a document: one walk serves those who want a value and those who
/// want to know that there is one.
trait Make: Copy {
    type Out;
    type List: Default;
    type Map: Default;
    fn scalar(self, value: impl FnOnce() -> Value) -> Self::Out;
    fn push(self, list: &mut Self::List, item: Self::Out);
    fn insert(self, map: &mut Self::Map, key: &str, item: Self::Out);
    fn list(self, list: Self::List) -> Self::Out;
    fn map(self, map: Self::Map) -> Self::Out;
}

#[derive(Clone, Copy)]
struct Build;

impl Make for Build {
    type Out = Value;
    type List = Vec<Value>;
    type Map = Vec<(Key, Value)>;

    fn scalar(self, value: impl FnOnce() -> Value) -> Value {
        value()
    }

    fn push(self, list: &mut Vec<Value>, item: Value) {
        list.push(item);
    }

    fn insert(self, map: &mut Vec<(Key, Value)>, key: &str, item: Value) {
        map.push((Key::String(Arc::from(key)), item));
    }

    fn list(self, list: Vec<Value>) -> Value {
        Value::list(list)
    }

    fn map(self, map: Vec<(Key, Value)>) -> Value {
        Value::Map(Arc::new(Map::new(map)))
    }
}

#[derive(Clone, Copy)]
struct Discard;

impl Make for Discard {
    type Out = ();
    type List = ();
    type Map = ();

    fn scalar(self, _: impl FnOnce() -> Value) {}

    fn push(self, (): &mut (), (): ()) {}

    fn insert(self, (): &mut (), _: &str, (): ()) {}

    fn list(self, (): ()) {}

    fn map(self, (): ()) {}
}

struct Seed<'l, M> {
    limits: &'l mut Limits,
    build: M,
}

impl<M: Make> Seed<'_, M> {
    /// One level further in; the caller steps out again.
    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        self.limits.depth =
            self.limits.depth.checked_sub(1).ok_or_else(|| {
                E::custom("more arrays and objects within each other than are read")
            })?;
        Ok(())
    }

    fn next(&mut self) -> Seed<'_, M> {
        Seed {
            limits: &mut *self.limits,
            build: self.build,
        }
    }
}

impl<'de, M: Make> DeserializeSeed<'de> for Seed<'_, M> {
    type Value = M::Out;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<M::Out, D::Error> {
        self.limits.values = self
            .limits
            .values
            .checked_sub(1)
            .ok_or_else(|| de::Error::custom("more values than are read"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de, M: Make> Visitor<'de> for Seed<'_, M> {
    type Value = M::Out;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<M::Out, E> {
        Ok(self.build.scalar(|| Value::Null))
    }

    fn visit_bool<E>(self, bool: bool) -> Result<M::Out, E> {
        Ok(self.build.scalar(|| Value::Bool(bool)))
    }

    fn visit_i64<E>(self, int: i64) -> Result<M::Out, E> {
        Ok(self.build.scalar(|| Value::Int(int)))
    }

    fn visit_u64<E>(self, uint: u64) -> Result<M::Out, E> {
        Ok(self
            .build
            .scalar(|| i64::try_from(uint).map_or(Value::Uint(uint), Value::Int)))
    }

    fn visit_f64<E>(self, double: f64) -> Result<M::Out, E> {
        Ok(self.build.scalar(|| Value::Double(double)))
    }

    fn visit_str<E>(self, text: &str) -> Result<M::Out, E> {
        Ok(self.build.scalar(|| Value::text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<M::Out, A::Error> {
        self.enter()?;
        let mut list = M::List::default();
        while let Some(item) = items.next_element_seed(self.next())? {
            self.build.push(&mut list, item);
        }
        self.limits.depth += 1;
        Ok(self.build.list(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<M::Out, A::Error> {
        self.enter()?;
        let mut map = M::Map::default();
        while let Some(key) = entries.next_key_seed(Name)? {
            let item = entries.next_value_seed(self.next())?;
            self.build.insert(&mut map, &key, item);
        }
        self.limits.depth += 1;
        Ok(self.build.map(map))
    }
}

/// A key, borrowed from the document where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }
}

/// A value as JSON: times and durations become texts, bytes base64, an optional value itself or
/// null, NaN and infinities their names, and other keys texts.
///
/// # Errors
/// When the budget is spent: a small expression can make a value that is small in memory, because
/// its parts are shared, and large as JSON.
pub fn to_json(value: &Value, budget: &mut Budget) -> Result<Json, Fault> {
    budget.charge(1 + value.weight())?;
    Ok(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Int(int) => Json::from(*int),
        Value::Uint(uint) => Json::from(*uint),
        Value::Double(double) => {
            serde_json::Number::from_f64(*double).map_or_else(|| text_of(value), Json::Number)
        }
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(general_purpose::STANDARD.encode(bytes)),
        Value::List(items) => {
            let items: Result<_, _> = items.iter().map(|item| to_json(item, budget)).collect();
            Json::Array(items?)
        }
        Value::Map(map) => {
            let entries: Result<_, Fault> = map
                .iter()
                .map(|(key, item)| Ok((key.to_string(), to_json(item, budget)?)))
                .collect();
            Json::Object(entries?)
        }
        Value::Timestamp(_) | Value::Duration(_) => text_of(value),
        Value::Optional(Some(inner)) => to_json(inner, budget)?,
        Value::Type(name) => Json::String((*name).to_owned()),
    })
}

fn text_of(value: &Value) -> Json {
    functions::plain(value).map_or(Json::Null, Json::String)
}
