//! An object as this replica last heard of it.

use std::{collections::VecDeque, sync::Arc};

use super::super::port::{Moment, Record, ResourceVersion, Stored};

/// A Lease, and since when it is unchanged by this replica's own clock.
#[derive(Clone, Debug)]
pub(crate) struct Observed<T> {
    /// What it says; `None`: it is not there, or says nothing readable.
    pub(crate) record: Option<T>,
    /// At which version; `None`: it is not there.
    pub(crate) resource_version: Option<ResourceVersion>,
    pub(crate) uid: Arc<str>,
    pub(crate) changed: Moment,
    /// Versions that it had before: a watch behind shows them later than an answer did, and an answer
    /// that was overtaken later than a watch.
    past: VecDeque<ResourceVersion>,
}

/// A watch is hardly ever further behind than this many versions of one Lease; if it is, an older
/// record is believed until the next event, and a compare-and-swap on it fails.
const REMEMBERED: usize = 8;

// === impl Observed ===

impl<T> Observed<T> {
    /// One that nothing was heard of.
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            record: None,
            resource_version: None,
            uid: Arc::from(""),
            changed: now,
            past: VecDeque::new(),
        }
    }

    /// Takes in what is there; whether that is news. `asked`: when the request was sent whose answer
    /// it is; `None`: a watch shows it.
    ///
    /// An answer is as new as its request: what was seen to change since may be newer, and is where
    /// the answer's version is one that it had before.
    pub(crate) fn observe(
        &mut self,
        now: Moment,
        heard: Option<&Stored>,
        asked: Option<Moment>,
        read: impl FnOnce(&Record) -> Option<T>,
    ) -> bool {
        let version = heard.map(|stored| &stored.resource_version);
        if version == self.resource_version.as_ref() {
            return false;
        }
        let overtaken = asked.is_none_or(|asked| asked < self.changed);
        if overtaken && version.is_some_and(|version| self.past.contains(version)) {
            return false;
        }
        if let Some(before) = self.resource_version.take() {
            if self.past.len() == REMEMBERED {
                self.past.pop_front();
            }
            self.past.push_back(before);
        }
        self.record = heard.and_then(|stored| read(&stored.record));
        self.uid = heard.map_or_else(|| Arc::from(""), |stored| Arc::clone(&stored.uid));
        self.resource_version = version.cloned();
        self.changed = now;
        true
    }
}

/// An object whose presence matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known<T> {
    /// Nothing was heard yet.
    Unread,
    /// It is not there.
    Absent,
    /// It is there.
    There {
        /// What it says, where that is readable.
        record: Option<T>,
        resource_version: ResourceVersion,
        uid: Arc<str>,
    },
}

// === impl Known ===

impl<T> Known<T> {
    pub(crate) fn of(heard: Option<&Stored>, read: impl FnOnce(&Record) -> Option<T>) -> Self {
        heard.map_or(Self::Absent, |stored| Self::There {
            record: read(&stored.record),
            resource_version: Arc::clone(&stored.resource_version),
            uid: Arc::clone(&stored.uid),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(version: &str) -> Stored {
        Stored {
            record: Record::Malformed(Arc::from(version)),
            resource_version: Arc::from(version),
            uid: Arc::from("u"),
        }
    }

    #[test]
    fn a_watch_behind_an_answer_is_not_news() {
        let mut observed: Observed<()> = Observed::new(Moment(0));
        let mut hear = |at, version: &str, asked: Option<u64>| {
            let asked = asked.map(Moment);
            observed.observe(Moment(at), Some(&stored(version)), asked, |_| None)
        };
        assert!(hear(1, "a", None));
        assert!(hear(2, "b", Some(1)));
        assert!(!hear(3, "a", None), "the watch comes late");
        assert!(!hear(4, "b", None), "and shows what is known");
        assert!(hear(5, "c", None));
        assert!(
            hear(6, "a", Some(5)),
            "what was asked for since is believed"
        );
        assert_eq!(observed.changed, Moment(6));
        assert!(observed.observe(Moment(7), None, None, |_| None));
        assert!(!observed.observe(Moment(8), None, None, |_| None));
    }

    #[test]
    fn an_answer_that_the_watch_has_overtaken_is_not_news() {
        let mut observed: Observed<()> = Observed::new(Moment(0));
        let mut hear = |at, version: &str, asked: Option<u64>| {
            let asked = asked.map(Moment);
            observed.observe(Moment(at), Some(&stored(version)), asked, |_| None)
        };
        assert!(hear(1, "released", None));
        assert!(hear(3, "taken", None), "while a read is under way");
        assert!(
            !hear(4, "released", Some(2)),
            "it was read before another took it"
        );
        assert_eq!(observed.resource_version.as_deref(), Some("taken"));
    }
}
