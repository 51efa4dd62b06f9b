//! The `zen-fabric` binary: wiring and exit, nothing else.

use std::{io, process::ExitCode};

use zen_fabric::{
    cli::{self, Exit, Streams},
    config,
};

/// A request makes some forty small allocations, and what one thread allocates another frees: the
/// system's allocator spends a tenth of the gateway's time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Every TLS connection of the process uses this provider; nobody installs another before.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return Exit::Failure.into();
    }
    let mut streams = Streams {
        input: &mut io::stdin(),
        out: &mut io::stdout(),
        told: Box::new(io::stdout()),
        err: &mut io::stderr(),
    };
    cli::run(std::env::args_os(), config::environment(), &mut streams).into()
}
