//! The registry that `/metrics` serves, and what every process tells about itself.
//!
//! Rooms register their own metrics into the registry that they are given; label values are enums
//! or static words, never a name that a user chooses, so that the number of series is bounded.

pub mod journal;
mod process;

use prometheus::{Encoder as _, GaugeVec, Opts, Registry, TextEncoder};

/// Prefix of every metric's name.
pub const NAMESPACE: &str = "zen_fabric";

/// Upper bounds, in seconds, of a step within a request: from 25 µs (an HMAC over a kilobyte takes
/// a few) to the 10 s that a body may take; each about 2.5 times the one before.
pub const STEP_BUCKETS: &[f64] = &[
    0.000_025, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 10.0,
];

/// A registry with the process's own metrics.
///
/// # Errors
/// Never for a fresh registry; the library's error otherwise.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new_custom(Some(NAMESPACE.to_owned()), None)?;
    let build = GaugeVec::new(
        Opts::new("build_info", "The version of this binary; always 1"),
        &["version"],
    )?;
    build
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1.0);
    registry.register(Box::new(build))?;
    registry.register(Box::new(process::Process::new()?))?;
    Ok(registry)
}

/// The registry in Prometheus' text format.
///
/// # Errors
/// When a metric can't be written, such as one without samples.
pub fn text(registry: &Registry) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_registry_tells_version_and_memory() {
        let text = String::from_utf8(text(&registry().unwrap()).unwrap()).unwrap();
        assert!(text.contains("zen_fabric_build_info{version="));
        let resident = text
            .lines()
            .find_map(|line| line.strip_prefix("zen_fabric_process_resident_memory_bytes "))
            .unwrap();
        assert!(resident.parse::<f64>().unwrap() > 0.0);
    }
}
