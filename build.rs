//! Compiles `proto/` into the messages and services that replicas and gateways speak, with protox:
//! no `protoc` has to be installed.

use std::error::Error;

const FILES: [&str; 2] = ["proto/journal.proto", "proto/fleet.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(FILES, ["proto"])?;
    // Bodies are handed on, not copied.
    tonic_prost_build::configure()
        .bytes(".zen.fabric.journal.v1")
        .compile_fds(descriptors)?;
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
