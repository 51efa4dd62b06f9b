//! How the Ingestors of a gateway stand, as it told.

use std::collections::HashMap;

use crate::journal::{
    IngestorUid, Tally,
    facts::Facts,
    remote::{
        codec::{self, Malformed},
        pb,
    },
};

/// Ingestors of one gateway: ten times of what a fleet is built for.
const MOST: usize = 100_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) tallies: HashMap<IngestorUid, Tally>,
    pub(super) facts: HashMap<IngestorUid, Facts>,
}

impl Table {
    /// Takes what is told; true: what was told up to here is of one moment.
    pub(super) fn take(&mut self, standing: pb::Standing) -> Result<bool, Malformed> {
        for ingestor in standing.ingestors {
            let uid = codec::ingestor(ingestor.uid)?;
            if let Some(tally) = &ingestor.tally {
                self.tallies.insert(uid.clone(), codec::tally(tally));
            }
            if let Some(facts) = ingestor.facts {
                self.facts.insert(uid, codec::facts(facts)?);
            }
        }
        for uid in standing.without_tally {
            self.tallies.remove(&codec::ingestor(uid)?);
        }
        for uid in standing.without_facts {
            self.facts.remove(&codec::ingestor(uid)?);
        }
        if self.tallies.len() > MOST || self.facts.len() > MOST {
            return Err(Malformed("more Ingestors than any gateway has"));
        }
        Ok(standing.complete)
    }

    /// Whether it says something of facts.
    pub(super) fn tells_facts(standing: &pb::Standing) -> bool {
        let told = |one: &pb::Ingestor| one.facts.is_some();
        !standing.without_facts.is_empty() || standing.ingestors.iter().any(told)
    }
}
