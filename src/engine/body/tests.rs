use proptest::prelude::*;

use super::*;
use crate::engine::cel::{Budget, to_json};

fn json(content_type: &str, body: &[u8]) -> serde_json::Value {
    let value = parse(content_type, body).unwrap();
    let mut budget = Budget::for_output();
    to_json(&value, &mut budget).unwrap()
}

#[test]
fn json_is_read_by_type_and_suffix() {
    for content_type in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/cloudevents+json",
        "text/json",
    ] {
        assert_eq!(
            json(content_type, b"{\"a\":[1,2.5]}"),
            serde_json::json!({"a": [1, 2.5]})
        );
    }
    assert_eq!(json("text/plain", b"{}"), "{}");
    assert_eq!(json("", b"x\xff"), "x\u{fffd}");
}

#[test]
fn numbers_stay_exact_where_64_bits_hold_them() {
    assert_eq!(
        json(
            "application/json",
            b"[9223372036854775807,18446744073709551615,-1,1.0]"
        )
        .to_string(),
        "[9223372036854775807,18446744073709551615,-1,1.0]"
    );
}

#[test]
fn a_form_is_a_map_and_repeated_names_are_joined() {
    assert_eq!(
        json(
            "application/x-www-form-urlencoded",
            b"a=1&b=%C3%BC+x&a=2&c&%zz=%4"
        ),
        serde_json::json!({"a": "1, 2", "b": "\u{fc} x", "c": "", "%zz": "%4"})
    );
}

#[test]
fn sixty_four_levels_are_read_and_sixty_five_are_not() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse("application/json", nested(64).as_bytes()).is_ok());
    let error = parse("application/json", nested(65).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("within each other"), "{error}");
    assert!(check("application/json", nested(100_000).as_bytes()).is_err());
}

#[test]
fn what_is_no_json_is_refused() {
    for body in [
        &b""[..],
        b"{",
        b"{}x",
        b"\xff",
        b"nul",
        b"[1,]",
        b"\"\\ud800\"",
        b"1e999",
        b"\xef\xbb\xbf{}",
    ] {
        assert!(parse("application/json", body).is_err(), "{body:?}");
        assert!(check("application/json", body).is_err(), "{body:?}");
    }
}

#[test]
fn a_body_of_very_many_values_is_refused() {
    let many = format!("[{}0]", "0,".repeat(VALUES));
    assert!(check("application/json", many.as_bytes()).is_err());
    let form = "a=1&".repeat(FIELDS);
    assert!(parse("application/x-www-form-urlencoded", form.as_bytes()).is_ok());
    let form = "a=1&".repeat(FIELDS + 1);
    assert_eq!(
        parse("application/x-www-form-urlencoded", form.as_bytes()).unwrap_err(),
        BodyError::TooManyFields
    );
}

const TYPES: [&str; 3] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
];

/// Texts that are nearly JSON: parts of it, in any order.
fn nearly_json() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "1",
        "-0",
        "1.5e3",
        "1e999",
        "18446744073709551616",
        "null",
        "true",
        "fals",
        " ",
        "\n",
        "\\",
        "\"",
        "\u{0}",
        "\u{fc}",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn both_readers_come_to_one_verdict(
        body in prop_oneof![
            nearly_json().prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..64),
        ],
        content_type in prop::sample::select(TYPES.to_vec()),
    ) {
        prop_assert_eq!(parse(content_type, &body).err(), check(content_type, &body).err());
    }

    #[test]
    fn agrees_with_serde_json(body in nearly_json()) {
        let ours = parse("application/json", body.as_bytes()).ok();
        let theirs = serde_json::from_str::<serde_json::Value>(&body).ok();
        let ours = ours.map(|value| to_json(&value, &mut Budget::for_output()).unwrap());
        prop_assert_eq!(ours, theirs);
    }
}
