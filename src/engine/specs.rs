//! Compiled decision specs, by digest: compiled once, kept while they are used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::api::{DecisionSpec, SpecDigest};

use super::{pipeline::Compiled, queue::Home};

/// A compiled spec with what the writer needs of it.
#[derive(Clone, Debug)]
pub struct Decider {
    /// The spec with its expressions.
    pub compiled: Arc<Compiled>,
    /// Where its Observations are written.
    pub home: Arc<Home>,
}

/// Why a spec that the journal keeps can't decide here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no decision spec.
    #[error("the recorded decision spec {digest:?} can't be read: {why}")]
    Unreadable {
        /// Which.
        digest: SpecDigest,
        /// What the parser says.
        why: String,
    },
    /// Its expressions don't compile with this version.
    #[error(
        "the recorded decision spec {digest:?} doesn't compile here: {why}; an older release wrote it: go back to that, or drop its dead events"
    )]
    DoesNotCompile {
        /// Which.
        digest: SpecDigest,
        /// The first expression that doesn't.
        why: String,
    },
}

/// So many specs are kept: one for each of 1,000 Ingestors with work, and some for specs that
/// changed. What is beyond is compiled again when it is needed, which takes about a millisecond.
const CAPACITY: usize = 1_500;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Specs {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_digest: HashMap<SpecDigest, (u64, Decider)>,
    uses: u64,
}

impl Specs {
    /// The decider for a spec; `text` is asked for only when it must be compiled.
    ///
    /// # Errors
    /// `Ok(None)` where there is no text; an [`Error`] where it can't decide.
    pub fn get(
        &self,
        digest: SpecDigest,
        text: impl FnOnce() -> Option<Arc<str>>,
    ) -> Result<Option<Decider>, Error> {
        if let Some(known) = self.known(digest) {
            return Ok(Some(known));
        }
        let Some(text) = text() else {
            return Ok(None);
        };
        let decider = compile(digest, &text)?;
        self.keep(digest, decider.clone());
        Ok(Some(decider))
    }

    fn known(&self, digest: SpecDigest) -> Option<Decider> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let uses = kept.uses;
        let (used, decider) = kept.by_digest.get_mut(&digest)?;
        *used = uses;
        Some(decider.clone())
    }

    fn keep(&self, digest: SpecDigest, decider: Decider) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_digest.len() >= CAPACITY {
            let oldest = kept.by_digest.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                kept.by_digest.remove(&oldest);
            }
        }
        let uses = kept.uses;
        kept.by_digest.insert(digest, (uses, decider));
    }
}

fn compile(digest: SpecDigest, text: &str) -> Result<Decider, Error> {
    let spec: DecisionSpec = serde_json::from_str(text).map_err(|error| Error::Unreadable {
        digest,
        why: error.to_string(),
    })?;
    let home = Arc::new(Home {
        namespace: spec.ingestor.namespace.as_str().into(),
        uid: spec.ingestor.namespace_uid.as_str().into(),
    });
    let compiled = Compiled::new(spec).map_err(|errors| Error::DoesNotCompile {
        digest,
        why: errors.first().map(ToString::to_string).unwrap_or_default(),
    })?;
    Ok(Decider {
        compiled: Arc::new(compiled),
        home,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: usize) -> Arc<str> {
        let spec = serde_json::json!({
            "ingestor": { "uid": "u", "namespace": "team", "namespaceUid": "n", "name": name.to_string() },
            "normalize": {
                "category": { "value": "security" }, "severity": { "value": "low" },
                "eventType": { "value": "x" },
            },
            "dedup": { "window": "10m" },
        });
        spec.to_string().into()
    }

    #[test]
    fn a_spec_is_compiled_once_and_the_least_used_leaves() {
        let specs = Specs::default();
        for name in 0..CAPACITY + 100 {
            let text = text(name);
            let digest = SpecDigest::of(&text);
            assert!(specs.get(digest, || Some(text)).unwrap().is_some());
            let first = SpecDigest::of(&self::text(0));
            assert!(specs.get(first, || None).unwrap().is_some(), "in use");
        }
        assert_eq!(specs.kept.lock().unwrap().by_digest.len(), CAPACITY);
    }

    #[test]
    fn a_spec_that_cannot_be_read_says_so() {
        let error = specs_of("{}").unwrap_err();
        assert!(error.to_string().contains("can't be read"), "{error}");
        assert_eq!(
            Specs::default()
                .get(SpecDigest([0; 32]), || None)
                .unwrap()
                .map(drop),
            None
        );
    }

    fn specs_of(text: &str) -> Result<Option<Decider>, Error> {
        Specs::default().get(SpecDigest::of(text), || Some(text.into()))
    }
}
