//! `proto/fleet.proto` as the build compiles it.

#![allow(
    clippy::allow_attributes,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::derive_partial_eq_without_eq,
    clippy::str_to_string,
    clippy::use_self,
    clippy::wildcard_enum_match_arm,
    elided_lifetimes_in_paths,
    missing_docs,
    missing_debug_implementations,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code; which of these it needs changes with the generator"
)]

tonic::include_proto!("zen.fabric.fleet.v1");
