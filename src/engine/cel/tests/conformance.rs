//! The conformance tests of CEL's specification: what comes out otherwise is listed, with reasons.

use std::collections::BTreeMap;

use super::{
    super::{eval, parser},
    textproto::{self, Field, Message},
    *,
};

const FILES: [(&str, &str); 20] = [
    (
        "basic",
        include_str!("../../../../tests/data/cel-spec/basic.textproto"),
    ),
    (
        "comparisons",
        include_str!("../../../../tests/data/cel-spec/comparisons.textproto"),
    ),
    (
        "conversions",
        include_str!("../../../../tests/data/cel-spec/conversions.textproto"),
    ),
    (
        "encoders_ext",
        include_str!("../../../../tests/data/cel-spec/encoders_ext.textproto"),
    ),
    (
        "fields",
        include_str!("../../../../tests/data/cel-spec/fields.textproto"),
    ),
    (
        "fp_math",
        include_str!("../../../../tests/data/cel-spec/fp_math.textproto"),
    ),
    (
        "integer_math",
        include_str!("../../../../tests/data/cel-spec/integer_math.textproto"),
    ),
    (
        "lists",
        include_str!("../../../../tests/data/cel-spec/lists.textproto"),
    ),
    (
        "lists_ext",
        include_str!("../../../../tests/data/cel-spec/lists_ext.textproto"),
    ),
    (
        "logic",
        include_str!("../../../../tests/data/cel-spec/logic.textproto"),
    ),
    (
        "macros",
        include_str!("../../../../tests/data/cel-spec/macros.textproto"),
    ),
    (
        "macros2",
        include_str!("../../../../tests/data/cel-spec/macros2.textproto"),
    ),
    (
        "math_ext",
        include_str!("../../../../tests/data/cel-spec/math_ext.textproto"),
    ),
    (
        "namespace",
        include_str!("../../../../tests/data/cel-spec/namespace.textproto"),
    ),
    (
        "optionals",
        include_str!("../../../../tests/data/cel-spec/optionals.textproto"),
    ),
    (
        "parse",
        include_str!("../../../../tests/data/cel-spec/parse.textproto"),
    ),
    (
        "plumbing",
        include_str!("../../../../tests/data/cel-spec/plumbing.textproto"),
    ),
    (
        "string",
        include_str!("../../../../tests/data/cel-spec/string.textproto"),
    ),
    (
        "string_ext",
        include_str!("../../../../tests/data/cel-spec/string_ext.textproto"),
    ),
    (
        "timestamps",
        include_str!("../../../../tests/data/cel-spec/timestamps.textproto"),
    ),
];

/// A value of the suite; `None` for a protocol buffer message.
fn value(message: &Message) -> Option<Value> {
    let (kind, field) = message.fields().first()?;
    Some(match (kind.as_str(), field) {
        ("null_value", _) => Value::Null,
        ("bool_value", Field::Word(word)) => Value::Bool(word == "true"),
        ("int64_value", Field::Word(word)) => Value::Int(word.parse().unwrap()),
        ("uint64_value", Field::Word(word)) => Value::Uint(word.parse().unwrap()),
        ("double_value", Field::Word(word)) => Value::Double(word.parse().unwrap()),
        ("string_value", Field::Text(text)) => Value::text(std::str::from_utf8(text).unwrap()),
        ("bytes_value", Field::Text(text)) => Value::Bytes(text.as_slice().into()),
        ("type_value", Field::Text(text)) => {
            Value::Type(functions::type_named(std::str::from_utf8(text).unwrap())?)
        }
        ("list_value", Field::Message(list)) => {
            Value::list(list.messages("values").map(value).collect::<Option<_>>()?)
        }
        ("map_value", Field::Message(map)) => {
            let entries = map.messages("entries").map(|entry| {
                Some((
                    Key::of(&value(entry.message("key")?)?)?,
                    value(entry.message("value")?)?,
                ))
            });
            Value::map(entries.collect::<Option<_>>()?)
        }
        ("object_value", Field::Message(object)) => {
            let (kind, field) = object.fields().first()?;
            let Field::Message(parts) = field else {
                return None;
            };
            let number = |name: &str| match parts.get(name) {
                Some(Field::Word(word)) => word.parse::<i64>().unwrap(),
                _ => 0,
            };
            let nanos = i32::try_from(number("nanos")).unwrap();
            match kind.as_str() {
                "type.googleapis.com/google.protobuf.Timestamp" => {
                    Value::Timestamp(jiff::Timestamp::new(number("seconds"), nanos).ok()?)
                }
                "type.googleapis.com/google.protobuf.Duration" => {
                    Value::Duration(jiff::SignedDuration::new(number("seconds"), nanos))
                }
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// Equal, of one type, and NaN is NaN.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Double(a), Value::Double(b)) => a == b || (a.is_nan() && b.is_nan()),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|((k, a), (l, b))| k == l && same(a, b))
        }
        (one, other) => {
            one.type_name() == other.type_name()
                && eval::equal(one, other, &mut Budget::for_output()).unwrap()
        }
    }
}

/// What is wrong with the outcome of a test, if anything.
fn verdict(test: &Message) -> Result<(), String> {
    let expression = test.text("expr").unwrap();
    let mut names = Vec::new();
    let mut values = Vec::new();
    for binding in test.messages("bindings") {
        names.push(Arc::from(binding.text("key").unwrap()));
        let bound = binding
            .message("value")
            .and_then(|bound| value(bound.message("value")?));
        values.push(bound.ok_or("a message is bound")?);
    }
    let outcome = parser::parse(&expression, Scope::default(), names)
        .map_err(|error| error.message)
        .and_then(|tree| {
            let mut budget = Budget::for_output();
            eval::evaluate(&tree, &Inputs::default(), values, &mut budget)
                .map_err(|fault| fault.to_string())
        });
    if test.message("eval_error").is_some() {
        return outcome.map_or(Ok(()), |value| Err(format!("no error, but {value:?}")));
    }
    let wanted = match (test.message("value"), test.message("typed_result")) {
        (Some(wanted), _) => value(wanted).ok_or("a message is wanted")?,
        (None, Some(typed)) => match typed.message("result") {
            Some(result) => value(result).ok_or("a message is wanted")?,
            None => return Ok(()),
        },
        (None, None) => Value::Bool(true),
    };
    match outcome {
        Ok(value) if same(&value, &wanted) => Ok(()),
        other => Err(format!("{other:?} instead of {wanted:?}")),
    }
}

#[test]
fn every_case_of_the_specification_passes_or_is_listed() {
    let list = include_str!("../../../../tests/data/cel-spec/differences.txt");
    let mut reason = "";
    let mut listed = BTreeMap::new();
    for line in list.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(text) => reason = text,
            None => assert!(
                listed.insert(line, reason).is_none(),
                "{line} is listed twice"
            ),
        }
    }
    let (mut passed, mut report) = (0, String::new());
    for (file, text) in FILES {
        let suite = textproto::parse(text);
        for section in suite.messages("section") {
            for test in section.messages("test") {
                let (section, name) = (section.text("name").unwrap(), test.text("name").unwrap());
                let id = format!("{file}/{section}/{name}");
                match (verdict(test), listed.remove(id.as_str())) {
                    (Ok(()), None) => passed += 1,
                    (Err(_), Some(_)) => {}
                    (Err(error), None) => {
                        report += &format!(
                            "{id}\n    {:?}\n    {error:.200}\n",
                            test.text("expr").unwrap()
                        );
                    }
                    (Ok(()), Some(reason)) => report += &format!("{id} passes, but: {reason}\n"),
                }
            }
        }
    }
    assert!(report.is_empty(), "{passed} pass, but:\n{report}");
    assert!(listed.is_empty(), "there are no such cases: {listed:?}");
    assert!(passed > 1_000, "{passed}");
}
