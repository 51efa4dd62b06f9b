//! One suite of named cases about what a Kubernetes API does for its clients, run on the embedded
//! API and, with the feature `real-cluster`, on a real kube-apiserver: both must give the same
//! observable result. What the embedded API deliberately does less is in [`lesser`].
//!
//! A case is a function over a [`bench::Bench`]: a client, and a namespace of the case's own.
//! [`cases`] is the table of all of them.

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

mod bench;
mod cases;
mod embedded;
mod lesser;
mod tls;

#[cfg(feature = "real-cluster")]
mod fence;
#[cfg(feature = "real-cluster")]
mod identities;
#[cfg(feature = "real-cluster")]
mod kubectl;
#[cfg(feature = "real-cluster")]
mod path;
#[cfg(feature = "real-cluster")]
mod real;
#[cfg(feature = "real-cluster")]
mod testbed;

// The cases, by what they are about.
mod builtins;
mod concurrency;
mod create;
mod definitions;
mod delete;
mod discovery;
mod kinds;
mod list;
mod namespaces;
mod patch;
mod protocol;
mod schema;
mod status;
mod tables;
mod update;
mod watch;
