//! `details`: any JSON, cut where it is too large.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::api::limits::DETAILS_BYTES;

/// The entry that says that details were cut, and what the whole was.
pub(super) const MARKER: &str = "zenTruncated";

/// Room that is kept for the marker: hash, size, and up to sixteen names of 63 characters.
const MARKER_BYTES: usize = 2_048;

/// Names that the marker lists at most.
const MARKER_NAMES: usize = 16;

/// The details as they are stored: the whole if it is at most 64 KiB as JSON, else the entries that
/// fit, smallest first, with a marker that has the size and the SHA-256 of the whole.
#[must_use]
pub(super) fn cut(details: Map<String, Json>) -> Map<String, Json> {
    let whole = Json::Object(details);
    let text = whole.to_string();
    let Json::Object(details) = whole else {
        return Map::new();
    };
    if text.len() <= DETAILS_BYTES {
        return details;
    }
    // Key, colon, comma and quotes; an escape in a name is rare and at most six bytes long.
    let size = |name: &str, value: &Json| value.to_string().len() + 6 * name.len() + 4;
    let mut sized: Vec<(usize, String, Json)> = details
        .into_iter()
        .map(|(name, value)| (size(&name, &value), name, value))
        .collect();
    sized.sort_by(|(a, one, _), (b, other, _)| a.cmp(b).then_with(|| one.cmp(other)));
    let mut left = DETAILS_BYTES - MARKER_BYTES;
    let mut kept = Map::new();
    let mut missing = Vec::new();
    for (size, name, value) in sized {
        match left.checked_sub(size) {
            Some(rest) => {
                left = rest;
                kept.insert(name, value);
            }
            None => missing.push(name),
        }
    }
    missing.sort();
    let count = missing.len();
    missing.truncate(MARKER_NAMES);
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    kept.insert(
        MARKER.to_owned(),
        json!({ "sha256": hex, "bytes": text.len(), "missing": count, "names": missing }),
    );
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_entries_stay_and_large_ones_are_named() {
        let details = json!({ "log": "x".repeat(70_000), "user": "root" });
        let Json::Object(details) = details else {
            panic!()
        };
        let cut = cut(details);
        assert_eq!(cut["user"], "root");
        assert!(!cut.contains_key("log"));
        assert_eq!(cut[MARKER]["names"], json!(["log"]));
        assert_eq!(
            cut[MARKER]["bytes"],
            70_000 + r#"{"log":"","user":"root"}"#.len()
        );
        assert_eq!(cut[MARKER]["sha256"].as_str().unwrap().len(), 64);
    }

    proptest! {
        #[test]
        fn what_is_stored_fits(
            entries in prop::collection::btree_map("[a-zA-Z0-9\"\u{1}]{1,63}", 0_usize..40_000, 0..64),
        ) {
            let details: Map<String, Json> = entries
                .iter()
                .map(|(name, size)| (name.clone(), Json::String("\n".repeat(*size / 2))))
                .collect();
            let whole = Json::Object(details.clone()).to_string().len();
            let cut = cut(details.clone());
            prop_assert!(Json::Object(cut.clone()).to_string().len() <= DETAILS_BYTES);
            prop_assert_eq!(whole <= DETAILS_BYTES, cut == details);
        }
    }
}
