//! What an expression may not do, whatever it is: panic, hang, overflow the stack, grow memory.

use proptest::prelude::*;

use super::*;

const SCOPE: Scope = Scope::REQUEST.with(Variable::Item).with(Variable::Event);

/// Half of what a thread has by default, and what the tokio workers have.
const STACK: usize = 1_024 * 1_024;

/// Runs `test` with little stack: an overflow would abort the whole process.
fn with_little_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(test);
    thread.unwrap().join().unwrap();
}

fn inputs(body: Value) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.set(Variable::Body, body);
    inputs.set(Variable::Source, Value::text("github"));
    inputs.set(
        Variable::Now,
        Value::Timestamp("2026-11-23T10:00:00Z".parse().unwrap()),
    );
    inputs
}

/// Compiles, evaluates, compares, writes as JSON and drops it; how it ends is its own affair.
fn exercise(text: &str, body: &Value) {
    let Ok(program) = Program::compile(text, SCOPE) else {
        return;
    };
    let mut budget = Budget::default();
    if let Ok(value) = program.evaluate(&inputs(body.clone()), &mut budget) {
        budget.begin();
        let _ = to_json(&value, &mut budget).is_ok();
        budget.begin();
        let _ = eval::equal(&value, &value.clone(), &mut budget).is_ok();
    }
}

#[test]
fn deep_texts_are_refused_or_evaluated_but_never_overflow() {
    with_little_stack(|| {
        let repeat = |times: usize, before: &str, middle: &str, after: &str| {
            format!("{}{middle}{}", before.repeat(times), after.repeat(times))
        };
        let nested = from_json(&repeat(64, "[", "1", "]"), 64, 1_000).unwrap();
        for times in [10, 30, 39, 40, 60, 90, 95, 96, 100, 200, 500, 1_000, 4_000] {
            for text in [
                repeat(times, "(", "1", ")"),
                repeat(times, "[", "1", "]"),
                repeat(times, "{1:", "1", "}"),
                repeat(times, "!", "true", ""),
                repeat(times, "-", "1", ""),
                repeat(times, "!(", "true", ")"),
                repeat(times, "!!(", "true", ")"),
                repeat(times, "true?", "1", ":1"),
                repeat(times, "true?1:", "1", ""),
                repeat(times, "has(a.b)&&", "true", ""),
                repeat(times, "body", "", ".a"),
                repeat(times, "", "body", ".a"),
                repeat(times, "", "body", ".?a"),
                repeat(times, "", "body", "[0]"),
                repeat(times, "", "1", "+1"),
                repeat(times, "", "1", "||1"),
                repeat(times, "", "1", "<1"),
                repeat(times, "[1].map(x,", "x", ")"),
                repeat(times, "", "[1]", ".map(x,[x])"),
                repeat(times, "", "[1]", ".map(x,[x,x])"),
                repeat(times, "size(", "body", ")"),
                repeat(times, "", "optional.of(1)", ".optMap(x,x)"),
                repeat(times, "'", "", "'"),
                repeat(times, "\"\"\"", "", ""),
                repeat(times, "`", "", ""),
                repeat(times, "{", "", ""),
                repeat(times, ".", "", ""),
            ] {
                exercise(&text, &nested);
            }
        }
    });
}

#[test]
fn work_is_bounded_whatever_the_expression() {
    let long = "x".repeat(10_000);
    let body = Value::list((0..10_000).map(Value::Int).collect());
    let doubling = format!("[0]{}", ".map(x, [x, x])".repeat(80));
    for text in [
        "body.map(a, body.map(b, a + b))".to_owned(),
        "body.all(a, body.all(b, body.all(c, true)))".to_owned(),
        "body.map(a, body) == body.map(a, body)".to_owned(),
        "body.map(a, body.map(b, '%s'.format([body])))".to_owned(),
        "body.map(a, string(a)).map(s, body.map(x, s)).flatten().join(',')".to_owned(),
        "lists.range(1000000000).sum()".to_owned(),
        "body.map(a, body).flatten().distinct()".to_owned(),
        "body.map(a, body).flatten().sort()".to_owned(),
        format!("{doubling} == {doubling}"),
        format!("'%s'.format([{doubling}])"),
        format!("{doubling}.flatten(128)"),
        format!(
            "'{0}'.replace('', '{0}').replace('', '{0}')",
            &long[..1_000]
        ),
        format!("body.map(x, '{}'.replace('x', 'xxxxxxxx'))", &long[..3_000]),
        "body.map(x, body.map(y, 'aaaaaaaaaaaaaaaaaaaaaaaaa'.matches('(a*)*b')))".to_owned(),
    ] {
        let program = Program::compile(&text, SCOPE).unwrap_or_else(|e| panic!("{text:.80}: {e}"));
        let fault = program
            .evaluate(&inputs(body.clone()), &mut Budget::default())
            .err();
        match fault {
            Some(Fault::Budget(_)) => {}
            other => panic!("{text:.80}: {other:?}"),
        }
    }
}

#[test]
fn a_small_value_that_is_a_large_text_is_not_written() {
    let text = format!("[0]{}", ".map(x, [x, x])".repeat(80));
    let program = Program::compile(&text, SCOPE).unwrap();
    let value = program
        .evaluate(&inputs(Value::Null), &mut Budget::default())
        .unwrap();
    assert!(matches!(
        to_json(&value, &mut Budget::for_output()),
        Err(Fault::Budget(_))
    ));
}

#[test]
fn the_work_of_an_event_is_bounded_over_all_its_expressions() {
    let program = Program::compile("lists.range(900000).size()", SCOPE).unwrap();
    let mut budget = Budget::default();
    let results: Vec<bool> = (0..20)
        .map(|_| program.evaluate(&inputs(Value::Null), &mut budget).is_ok())
        .collect();
    assert_eq!(results.iter().filter(|ok| **ok).count(), 11);
}

#[test]
fn no_operator_makes_up_for_a_spent_budget() {
    for text in [
        "lists.range(2000000).size() > 0 || true",
        "!(lists.range(2000000).size() > 0 && false)",
        "[1, 2].exists(x, lists.range(2000000).size() > 0 || x == 2)",
        "[1, 2].all(x, lists.range(2000000).size() > 0)",
    ] {
        fails(text, "operations on this event");
    }
}

#[test]
fn patterns_are_constants_of_bounded_size() {
    for (text, part) in [
        ("'a'.matches(source)", "must be a text written out"),
        ("'a'.matches('(')", "no regular expression"),
        ("'a'.matches('((a{100}){100}){100}')", "too large"),
        ("'a'.matches('[[:alpha:]]{5000}')", "too large"),
        ("'a'.matches('\\\\p{L}{900}')", "too large"),
    ] {
        fails(text, part);
    }
    fails(
        &format!("'a'.matches('{}')", "(".repeat(500)),
        "no regular expression",
    );
    fails(
        &format!("'a'.matches('{}')", "a".repeat(513)),
        "longer than 512",
    );
    holds(r"'zähler_1 2'.find(r'\w+') == 'z' && ' \t'.matches(r'^\s+$')");
    holds(r"'a.b-c'.matches(r'^[\w.-]+$') && 'x'.matches(r'[^\W]') && 'a b'.matches(r'\bb')");
}

#[test]
fn mistakes_are_explained_where_they_are() {
    for (text, message) in [
        (
            "body.",
            "line 1, column 6: the end instead of a field's name",
        ),
        (
            "body.a = 1",
            "line 1, column 8: a single \"=\" means nothing here: write ==",
        ),
        (
            "1 +\n  'a",
            "line 2, column 3: a text doesn't end: its closing quote is missing",
        ),
        (
            "foo",
            "line 1, column 1: \"foo\" is not declared; there are headers, headerValues, query, queryValues, body, item, source, now, event",
        ),
        (
            "body.Size()",
            "line 1, column 6: there is no function Size(); did you mean size()?",
        ),
        ("matches(body)", "matches() takes a text and a pattern"),
        (
            "upperAscii('a')",
            "upperAscii() is a method: write value.upperAscii()",
        ),
        (
            "body.timestamp()",
            "timestamp() is no method: write timestamp(value)",
        ),
        (
            "body.map(1, x)",
            "map() begins with a new name for the element, such as map(x, …)",
        ),
        ("map(body, x)", "\"x\" is not declared"),
        ("has(body)", "has() takes a field, such as has(body.name)"),
        (
            "body.split(1, 2, 3)",
            "split() takes 1 to 2 arguments, not 3",
        ),
        ("if(body)", "\"if\" is a reserved word of CEL"),
        (
            "9223372036854775808",
            "9223372036854775808 is more than 64 bits hold",
        ),
        ("body # x", "unexpected character '#'"),
        ("'\\q'", "line 1, column 2: unknown escape \\q"),
        ("body }", "\"}\" is not expected here"),
        ("", "the end is not expected here"),
    ] {
        fails(text, message);
    }
    fails(&"1".repeat(MAX_LENGTH + 1), "longer than 4096 bytes");
}

/// Pieces of expressions, so that some of what is put together compiles.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "body",
        "item",
        "event",
        "now",
        "source",
        "headers",
        "x",
        ".a",
        ".b",
        ".?a",
        "[0]",
        "[?'a']",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        " in ",
        "1",
        "-9223372036854775808",
        "0u",
        "1.5",
        "1e308",
        "'a'",
        "\"ü\"",
        "b'\\x00'",
        "r'\\d'",
        "true",
        "null",
        ".map(x, x)",
        ".filter(x, ",
        ".all(i, x, ",
        ".size()",
        "size(",
        "string(",
        "int(",
        "timestamp(",
        "duration('1h')",
        ".matches('a*')",
        ".split('')",
        ".substring(1)",
        ".format([",
        "optional.of(",
        ".orValue(",
        ".value()",
        "has(body.a)",
        ".optMap(x, ",
        ".sort()",
        ".flatten()",
        ".reverse()",
        ".lowerAscii()",
        ".getMonth()",
        "lists.range(",
        "math.greatest(",
        "type(",
        "'''",
        "\\",
        "\u{0}",
        "// c\n",
        "`a`",
        ".transformMap(k, v, ",
    ]);
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// Expressions that compile, made from the inside out.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "body",
        "body.a",
        "body.?a",
        "now",
        "source",
        "1",
        "-1",
        "2u",
        "0.5",
        "'a,b'",
        "''",
        "true",
        "null",
        "[1, 2]",
        "{'a': 1}",
        "duration('1h')",
        "b'ab'",
        "optional.none()",
        "9223372036854775807",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let one = prop::sample::select(vec![
            "size(%)",
            "string(%)",
            "int(%)",
            "uint(%)",
            "double(%)",
            "bool(%)",
            "bytes(%)",
            "type(%)",
            "timestamp(%)",
            "duration(%)",
            "dyn(%)",
            "!(%)",
            "-(%)",
            "(%).sort()",
            "(%).reverse()",
            "(%).distinct()",
            "(%).flatten()",
            "(%).sum()",
            "(%).max()",
            "(%).isSorted()",
            "(%).trim()",
            "(%).lowerAscii()",
            "(%).matches('a|b')",
            "(%).findAll('.')",
            "(%).first()",
            "(%).value()",
            "(%).hasValue()",
            "optional.of(%)",
            "optional.ofNonZeroValue(%)",
            "(%).getMonth()",
            "(%).getHours()",
            "(%).map(x, x)",
            "(%).filter(x, x == 1)",
            "(%).all(k, v, k == v)",
            "(%).optMap(x, [x])",
            "has((%).a)",
            "(%).a",
            "(%).?a",
            "(%)[0]",
            "base64.encode(%)",
            "'%s %d %e'.format(%)",
            "math.abs(%)",
            "strings.quote(%)",
            "lists.range(%)",
            "(%).join()",
        ]);
        let two = prop::sample::select(vec![
            "(%) + (#)",
            "(%) - (#)",
            "(%) * (#)",
            "(%) / (#)",
            "(%) % (#)",
            "(%) == (#)",
            "(%) < (#)",
            "(%) in (#)",
            "(%) && (#)",
            "(%) || (#)",
            "(%) ? (#) : (%)",
            "[%, #]",
            "{%: #}",
            "[?%, #]",
            "(%).orValue(#)",
            "(%).or(#)",
            "(%).split(#)",
            "(%).contains(#)",
            "(%).startsWith(#)",
            "(%).indexOf(#)",
            "(%).lastIndexOf(#, 1)",
            "(%).substring(#)",
            "(%).charAt(#)",
            "(%).replace(#, %)",
            "(%).map(x, #)",
            "(%).exists(x, x == #)",
            "(%).transformMap(k, v, #)",
            "math.greatest(%, #)",
            "sets.contains(%, #)",
            "(%)[#]",
            "(%)[?#]",
            "math.bitShiftLeft(%, #)",
            "(%).slice(#, 2)",
        ]);
        prop_oneof![
            (one, inner.clone()).prop_map(|(shape, a)| shape.replace('%', &a)),
            (two, inner.clone(), inner).prop_map(|(shape, a, b)| shape
                .replace('%', "\u{1}")
                .replace('#', &b)
                .replace('\u{1}', &a)),
        ]
    })
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[ab]{1,2}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,60}") {
        exercise(&text, &Value::Null);
    }

    #[test]
    fn any_soup_of_pieces_is_compiled_or_refused(text in soup()) {
        let _ = Program::compile(&text, SCOPE).is_ok();
        exercise(&text, &from_json(r#"{"a":{"b":[1,"x",null]}}"#, 64, 100).unwrap());
    }

    #[test]
    fn any_expression_on_any_body_ends_and_always_alike(text in expression(), body in any_json()) {
        let body = from_json(&body.to_string(), 64, 1_000).unwrap();
        let run = || {
            let program = Program::compile(&text, SCOPE).map_err(|error| error.to_string())?;
            let mut budget = Budget::default();
            let value = program.evaluate(&inputs(body.clone()), &mut budget);
            Ok::<_, String>((format!("{value:?}"), format!("{budget:?}")))
        };
        prop_assert_eq!(run(), run());
        exercise(&text, &body);
    }

    #[test]
    fn json_survives_the_way_in_and_out(body in any_json()) {
        let text = body.to_string();
        let value = from_json(&text, 64, 1_000).unwrap();
        // The reader may take a double's neighbor: what it made of the text is what must stay.
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(to_json(&value, &mut Budget::for_output()).unwrap(), read);
    }
}
