//! JSON whose repeated fields are remembered: the last value counts, and strict clients are told.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many repeated fields are remembered: enough to show what is wrong.
const MAX_REPEATED: usize = 32;

/// Reads a document; gives the paths of the fields that it has more than once.
pub(super) fn read(text: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut repeated = Vec::new();
    let mut path = String::new();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let seed = Tracked {
        path: &mut path,
        repeated: &mut repeated,
    };
    let value = seed.deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, repeated))
}

struct Tracked<'t> {
    path: &'t mut String,
    repeated: &'t mut Vec<String>,
}

impl Tracked<'_> {
    /// Reads what lies at `step` below this.
    fn below(&mut self, step: &str) -> (usize, Tracked<'_>) {
        let before = self.path.len();
        self.path.push_str(step);
        let below = Tracked {
            path: self.path,
            repeated: self.repeated,
        };
        (before, below)
    }
}

impl<'de> DeserializeSeed<'de> for Tracked<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tracked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let (before, below) = self.below(&format!("[{}]", list.len()));
            let item = items.next_element_seed(below)?;
            self.path.truncate(before);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let (before, below) = self.below(&format!("{dot}{key}"));
            let value = entries.next_value_seed(below)?;
            if map.insert(key, value).is_some() && self.repeated.len() < MAX_REPEATED {
                self.repeated.push(self.path.clone());
            }
            self.path.truncate(before);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn repeated_fields_are_named_and_the_last_counts() {
        let text = br#"{"a":{"b":1,"b":2},"c":[{"d":1},{"d":1,"d":null}],"a":{"b":3}}"#;
        let (value, repeated) = read(text).unwrap();
        assert_eq!(value, json!({"a": {"b": 3}, "c": [{"d": 1}, {"d": null}]}));
        assert_eq!(repeated, ["a.b", "c[1].d", "a"]);
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_reads(text in "[\\[\\]{}:,\"a-c0-9.e+ -]{0,40}") {
            let plain: Result<Value, _> = serde_json::from_str(&text);
            let tracked = read(text.as_bytes());
            prop_assert_eq!(plain.ok(), tracked.ok().map(|(value, _)| value));
        }
    }
}
