//! The API server of the model: one object per name, compare-and-swap, the rule of the map's
//! definition. Versions count per object, so that requests about two objects commute.

use std::{collections::BTreeMap, sync::Arc};

use zen_fabric::coordination::port::{Answer, Object, Op, Record, Stored};

/// What is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<Object, (u64, Option<Record>)>,
}

impl Store {
    /// As a read finds it.
    pub(crate) fn read(&self, object: &Object) -> Option<Stored> {
        let (version, record) = self.objects.get(object)?;
        Some(Stored {
            record: record.clone()?,
            resource_version: version.to_string().into(),
            uid: Arc::from("uid"),
        })
    }

    /// Everything that is there.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Object, Option<Stored>)> {
        self.objects
            .keys()
            .map(|object| (object, self.read(object)))
    }

    /// Carries out a request.
    pub(crate) fn apply(&mut self, object: &Object, op: &Op) -> Answer {
        let found = self.read(object);
        match op {
            Op::Read => found.map_or(Answer::Absent, Answer::Done),
            Op::Create(_) if found.is_some() => Answer::Exists,
            Op::Create(record) => self.write(object, Some(record.clone())),
            Op::Replace {
                record,
                resource_version,
            } => {
                let Some(found) = found else {
                    return Answer::Absent;
                };
                // Only mutants write without a version.
                if !resource_version.is_empty() && *resource_version != found.resource_version {
                    return Answer::Conflict;
                }
                if !rises(&found.record, record) {
                    return Answer::Refused("the rule of the definition".into());
                }
                self.write(object, Some(record.clone()))
            }
            Op::Delete {
                resource_version, ..
            } => match found {
                Some(found) if found.resource_version == *resource_version => {
                    self.write(object, None)
                }
                Some(_) => Answer::Conflict,
                None => Answer::Absent,
            },
        }
    }

    fn write(&mut self, object: &Object, record: Option<Record>) -> Answer {
        let entry = self.objects.entry(object.clone()).or_default();
        *entry = (entry.0 + 1, record);
        self.read(object).map_or(Answer::Absent, Answer::Done)
    }
}

fn rises(old: &Record, new: &Record) -> bool {
    let (Record::Map(old), Record::Map(new)) = (old, new) else {
        return true;
    };
    let same = new.term == old.term && new.leader == old.leader;
    new.version > old.version && (new.term > old.term || same)
}
