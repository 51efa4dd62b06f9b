//! What the crate `cel` does otherwise: the reasons why this is not it (docs/adr/0002-cel.md). When one
//! of these fails after an upgrade, the reason is gone, and the decision is worth another look.

use std::{
    collections::{BTreeSet, HashMap},
    panic,
};

use cel::{Context, Program as Other, parser::Parser};

fn other(text: &str) -> String {
    let mut context = Context::default();
    context.add_variable_from_value("name", "x");
    let value = Other::compile(text).unwrap().execute(&context);
    format!("{value:?}")
}

#[test]
fn a_double_negation_negates() {
    assert_eq!(other("!!true"), "Ok(Bool(false))");
    super::holds("!!true");
}

#[test]
fn a_field_of_a_text_is_false() {
    assert_eq!(other("name.first"), "Ok(Bool(false))");
    super::fails("source.first", "is a string, which has no fields");
}

#[test]
fn a_size_counts_bytes() {
    assert_eq!(other("size('ü')"), "Ok(Int(2))");
    super::holds("size('ü') == 1");
}

#[test]
fn a_map_iterates_in_any_order() {
    let program = Other::compile("m.map(k, k)").unwrap();
    let orders: BTreeSet<String> = (0..64)
        .map(|_| {
            let entries: HashMap<String, i64> = (0..16).map(|n| (n.to_string(), n)).collect();
            let mut context = Context::default();
            context.add_variable_from_value("m", entries);
            format!("{:?}", program.execute(&context))
        })
        .collect();
    assert!(orders.len() > 1);
}

#[test]
fn a_message_literal_panics() {
    let program = Other::compile("Message{field: 1}").unwrap();
    let outcome = panic::catch_unwind(|| program.execute(&Context::default()).is_ok());
    assert!(outcome.is_err());
    super::fails("Message{field: 1}", "not declared");
}

#[test]
fn parsing_takes_twice_as_long_for_each_double_negation_in_another() {
    // The parser visits the operand twice; what it makes of it the first time still numbers nodes.
    let last_id = |depth: usize| {
        let text = format!("{}true{}", "!!(".repeat(depth), ")".repeat(depth));
        Parser::default().parse(&text).unwrap().id
    };
    assert!(last_id(10) > 1 << 9, "{}", last_id(10));
    super::holds(&format!("{}true{}", "!!(".repeat(30), ")".repeat(30)));
}
