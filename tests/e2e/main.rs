//! The whole program as a process: what a user, a sender and an operator see.

#![allow(
    clippy::allow_attributes,
    reason = "which of these a test needs changes with the tests"
)]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::cast_possible_truncation,
    clippy::clone_on_ref_ptr,
    clippy::cloned_ref_to_slice_refs,
    clippy::default_trait_access,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::duration_suboptimal_units,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    clippy::manual_is_multiple_of,
    clippy::match_wild_err_arm,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::redundant_closure_for_method_calls,
    clippy::semicolon_if_nothing_returned,
    clippy::single_match,
    clippy::single_match_else,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    let_underscore_drop,
    reason = "a test fails by panicking, and reads as a scenario"
)]

mod crash;
mod octokit;
mod operations;
mod process;
mod quickstart;
mod replicas;
mod traces;
