use super::*;

mod abuse;
mod conformance;
mod other;
mod textproto;

fn eval_with(text: &str, body: &str) -> Result<Value, String> {
    let scope = Scope::REQUEST.with(Variable::Item).with(Variable::Event);
    let program = Program::compile(text, scope).map_err(|error| error.to_string())?;
    let mut inputs = Inputs::default();
    inputs.set(Variable::Body, from_json(body, 64, 1_000_000).unwrap());
    inputs.set(Variable::Source, Value::text("github"));
    inputs.set(
        Variable::Now,
        Value::Timestamp("2026-11-23T10:00:00Z".parse().unwrap()),
    );
    program
        .evaluate(&inputs, &mut Budget::default())
        .map_err(|fault| fault.to_string())
}

fn eval(text: &str) -> Result<Value, String> {
    eval_with(text, "null")
}

fn json(text: &str, body: &str) -> serde_json::Value {
    let value = eval_with(text, body).unwrap_or_else(|error| panic!("{text}: {error}"));
    to_json(&value, &mut {
        let mut budget = Budget::default();
        budget.begin();
        budget
    })
    .unwrap()
}

#[track_caller]
fn holds(text: &str) {
    match eval(text) {
        Ok(Value::Bool(true)) => {}
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn fails(text: &str, part: &str) {
    match eval(text) {
        Err(error) if error.contains(part) => {}
        other => panic!("{text}: {other:?} instead of {part:?}"),
    }
}

#[test]
fn reads_the_fields_of_a_body() {
    let body = r#"{"alert":{"severity":"high","tags":["a","b"]},"n":3}"#;
    assert_eq!(json("body.alert.severity", body), "high");
    assert_eq!(json("body['alert']['tags'][1]", body), "b");
    assert_eq!(json("body.n + 1", body), 4);
    assert_eq!(
        json("body.alert.tags.map(t, t + '!')", body),
        serde_json::json!(["a!", "b!"])
    );
    assert_eq!(json("body.?alert.?missing.orValue('none')", body), "none");
    assert_eq!(
        json("has(body.alert.severity) && !has(body.alert.owner)", body),
        true
    );
}

#[test]
fn says_what_is_missing_by_its_path() {
    let body = r#"{"sender":{"id":1},"name":"x"}"#;
    assert_eq!(
        eval_with("body.sender.login", body).unwrap_err(),
        "body.sender has no field \"login\""
    );
    assert_eq!(
        eval_with("body.name.first", body).unwrap_err(),
        "body.name is a string, which has no fields, so no \"first\""
    );
}

#[test]
fn computes_as_cel_does() {
    for text in [
        "1 + 2 * 3 == 7",
        "-9223372036854775808 < 0",
        "--5 == 5",
        "!!true",
        "5 % 3 == 2 && -5 % 3 == -2 && 7 / 2 == 3",
        "1 == 1.0 && 1u == 1 && 9007199254740993 != 9007199254740992",
        "'a' + 'b' == 'ab'",
        "[1, 2] + [3] == [1, 2, 3]",
        "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
        "'b' in {'b': 1} && 2 in [1, 2] && !(3 in [1, 2])",
        "size('h\\u00fc') == 2 && 'abc'.size() == 3",
        "true || 1 / 0 > 0",
        "1 / 0 > 0 || true",
        "!(false && 1 / 0 > 0)",
        "[1, 2, 3].exists(x, x > 2) && [1, 2].all(x, x > 0)",
        "[0, 2].exists(x, 4 / x == 2)",
        "[1, 2, 3].existsOne(x, x > 2)",
        "[1, 2, 3].filter(x, x > 1).map(x, x * 2) == [4, 6]",
        "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "{'b': 1, 'a': 2}.map(k, k) == ['a', 'b']",
        "{'a': 1}.all(k, v, k == 'a' && v == 1)",
        "['x', 'y'].transformList(i, v, string(i) + v) == ['0x', '1y']",
        "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "timestamp('2026-11-23T10:00:00Z') == now",
        "now + duration('1h') == timestamp('2026-11-23T11:00:00Z')",
        "now.getHours() == 10 && now.getHours('+02:00') == 12 && now.getDayOfWeek() == 1",
        "duration('90m').getHours() == 1",
        "string(duration('1h30m')) == '5400s' && string(now) == '2026-11-23T10:00:00Z'",
        "int('42') == 42 && double('1.5') == 1.5 && string(1.0) == '1'",
        "'Abc'.lowerAscii() == 'abc' && 'a,b'.split(',') == ['a', 'b']",
        "['a', 'b'].join('-') == 'a-b' && 'aXbX'.replace('X', '') == 'ab'",
        "'refs/heads/main'.substring(11) == 'main'",
        "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3",
        "'v1.2'.matches('^v[0-9]+') && 'abc 123'.find('\\\\d+') == '123'",
        "'a1b2'.findAll('[0-9]') == ['1', '2']",
        "[3, 1, 2].sort() == [1, 2, 3] && [1, 2].sum() == 3 && [1, 3].max() == 3",
        "optional.of(1).optMap(x, x + 1).value() == 2",
        "optional.none().or(optional.of(2)).orValue(3) == 2",
        "[?optional.none(), 1] == [1] && {?'a': optional.of(1)} == {'a': 1}",
        "type(1) == int && type('') == string && type(null) == null_type",
        "\"%s is %d%%\".format(['x', 5]) == 'x is 5%'",
        "base64.decode(base64.encode(b'hi')) == b'hi'",
        "true ? 1 == 1 : 1 / 0 == 0",
        "r'\\d' == '\\\\d' && '''a\nb''' == 'a\\nb' // comment",
        "0x10 == 16 && 1e3 == 1000.0 && .5 == 0.5",
    ] {
        holds(text);
    }
}
