//! The cluster simulation: the product's coordination cores in a world that is drawn from a seed.
//!
//! ```text
//! seed ─▶ plan ─▶ world ─┬─ pods: a process each, its core, its workers      (pods, process, worker)
//!                        ├─ API servers over the embedded API's own store    (api, calls)
//!                        ├─ journals                                          (log, work)
//!                        ├─ network, probes                                   (net, probe)
//!                        └─ faults, an operator                               (plan, faults)
//!          after every event: the invariants                                  (check)
//! ```
//!
//! Everything is in one thread and one queue, so a seed is a schedule, byte for byte:
//! `ZEN_SIM_SEED=7 cargo test --features testing --test sim replay -- --nocapture` prints its trace.
//! `make sim N=1000000` runs many. What is planted and has to be found is in `mutants`.

#![allow(
    clippy::allow_attributes,
    reason = "which of these a test needs changes with the tests"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::clone_on_ref_ptr,
    clippy::default_trait_access,
    clippy::disallowed_methods,
    clippy::enum_glob_use,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::large_enum_variant,
    clippy::match_same_arms,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::result_large_err,
    clippy::string_slice,
    clippy::struct_excessive_bools,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::wrong_self_convention,
    reason = "a test fails by panicking, and reads as a scenario"
)]

/// Half of a schedule is small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod api;
mod assigned;
mod brain;
mod calls;
mod check;
mod edits;
mod effects;
mod faults;
mod lanes;
mod log;
mod mutants;
mod naive;
mod net;
mod plan;
mod pods;
mod probe;
mod process;
mod queue;
mod report;
mod run;
mod status;
mod time;
mod trace;
mod work;
mod worker;
mod world;
