//! The shortest of the scenarios, as a test: real processes, a real kube-apiserver, a few kills.
//!
//! It holds what must hold anywhere. How fast a takeover is depends on the machine, and is measured by
//! `make chaos`.

use std::path::PathBuf;

use chaos::{
    outcome::Taken,
    scenario::{ALL, Options},
};

/// The program beside this test, which `cargo test --workspace` builds.
fn binary() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let binary = test.parent()?.parent()?.join("zen-fabric");
    binary.is_file().then_some(binary)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replicas_are_taken_over_and_nothing_is_lost() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("no other crypto provider is installed");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let options = Options {
        binary: binary().expect(
            "zen-fabric beside the tests: `cargo build --bin zen-fabric`, or test the whole workspace",
        ),
        scratch: scratch.path().to_owned(),
        short: true,
        taken: Taken::default(),
    };
    let kill = ALL
        .iter()
        .find(|scenario| scenario.name == "kill")
        .expect("the scenario");
    let outcome = (kill.run)(&options).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.chain()));
    for checked in &outcome.checks {
        assert!(checked.holds(), "{checked:#?}\n{:#?}", outcome.steps);
    }
    let kills = outcome.counts.get("kills").copied();
    assert_eq!(kills, Some(6));
}
