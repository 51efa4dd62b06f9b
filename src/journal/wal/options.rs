//! Sizes and bounds of a log, each with its reason.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Sizes and bounds of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment's size on disk. 64 MiB: at 30,000 records of 1 KiB a second a new one every two
    /// seconds, so that a rotation is rare, while the slack of two segments stays small beside the total.
    pub segment_bytes: u64,
    /// The journal's size on disk; what comes beyond is [`Full`](crate::journal::AppendError::Full).
    pub total_bytes: u64,
    /// Uncommitted records of one Ingestor; beyond it is [`ShareFull`](crate::journal::AppendError::ShareFull).
    /// A quarter of the total, so that one paused Ingestor can't close the others' endpoints.
    pub share_bytes: u64,
    /// One record, encoded. 32 MiB: above the 25 MiB that an endpoint may take, so that headers and
    /// encoding fit.
    pub record_bytes: usize,
    /// Remembered keys. A million of about 110 bytes each in memory.
    pub keys: usize,
    /// Remembered keys of one Ingestor: a quarter, for the same reason as the share.
    pub keys_per_ingestor: usize,
    /// Dead letters, on disk.
    pub letter_bytes: u64,
    /// How long a dead letter is kept.
    pub letter_age: Duration,
    /// Recent records kept in memory, so that an engine that keeps up never reads the disk. 8 MiB: a
    /// quarter of a second at 30,000 records of 1 KiB, longer than a healthy engine lags.
    pub cache_bytes: usize,
    /// Whether appends wait for the disk's sync.
    pub durability: Durability,
    /// Planted mistakes that the crash suite must find.
    #[cfg(feature = "testing")]
    pub mutant: Option<Mutant>,
}

/// Whether appends wait for the disk's sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// An answer comes after the sync.
    #[default]
    Synced,
    /// No sync at all: a power cut loses what was answered. Only for measuring what the sync costs.
    Unsafe,
}

/// A planted mistake.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Data is never synced.
    NoDataSync,
    /// The directory is not synced after a new segment.
    NoDirectorySync,
    /// Appends are answered before the sync.
    AnswerBeforeSync,
    /// A segment is used again after a failed sync.
    ReuseAfterFailedSync,
    /// The header of a segment that could not be begun is left as it is.
    KeepHeaderAfterFailedSync,
    /// A start syncs what it found, and doesn't write it again first.
    TrustCleanPages,
    /// A segment is removed before the removal of the one before it is durable.
    UnorderedRemovals,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            total_bytes: 8 * GIB,
            share_bytes: 2 * GIB,
            record_bytes: 32 * 1024 * 1024,
            keys: 1_000_000,
            keys_per_ingestor: 250_000,
            letter_bytes: 256 * MIB,
            letter_age: Duration::from_hours(7 * 24),
            cache_bytes: 8 * 1024 * 1024,
            durability: Durability::Synced,
            #[cfg(feature = "testing")]
            mutant: None,
        }
    }
}

/// Options that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal's {field} is {value}: {rule}")]
pub struct OptionsError {
    /// Which field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What it must be.
    pub rule: &'static str,
}

impl Options {
    /// Checks the relations between the fields.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let size = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let rules = [
            (
                "segment_bytes",
                self.segment_bytes,
                self.segment_bytes >= 4 * KIB,
                "at least 4 KiB",
            ),
            (
                "segment_bytes",
                self.segment_bytes,
                self.segment_bytes <= GIB,
                "at most 1 GiB: offsets have 32 bits",
            ),
            (
                "total_bytes",
                self.total_bytes,
                self.total_bytes / 8 >= self.segment_bytes,
                "at least eight segments, else trimming has no room",
            ),
            (
                "share_bytes",
                self.share_bytes,
                self.share_bytes <= self.total_bytes,
                "at most the total",
            ),
            (
                "record_bytes",
                size(self.record_bytes),
                size(self.record_bytes) <= 64 * MIB,
                "at most 64 MiB",
            ),
            (
                "keys",
                size(self.keys),
                size(self.keys) <= size(1 << 26),
                "at most 67,108,864",
            ),
            (
                "keys_per_ingestor",
                size(self.keys_per_ingestor),
                self.keys_per_ingestor <= self.keys,
                "at most `keys`",
            ),
            (
                "letter_bytes",
                self.letter_bytes,
                self.letter_bytes <= self.total_bytes / 2,
                "at most half of the total",
            ),
        ];
        for (field, value, holds, rule) in rules {
            if !holds {
                return Err(OptionsError { field, value, rule });
            }
        }
        Ok(())
    }

    /// How much may be staged for one group commit before appends wait for it: half a segment, so
    /// that a segment never grows much beyond its size, and 16 MiB, so that memory stays bounded.
    pub(super) fn stage_bytes(&self) -> usize {
        usize::try_from((self.segment_bytes / 2).min(16 * MIB)).unwrap_or(usize::MAX)
    }

    /// Up to where a segment takes appends. The last sixteenth is kept for commits and carried
    /// records, which free room when the disk has none for another segment.
    pub(super) fn append_limit(&self) -> u64 {
        self.segment_bytes - self.segment_bytes / 16
    }

    /// How much may be live: an eighth of the total is what trimming needs to make headway.
    pub(super) fn live_limit(&self) -> u64 {
        self.total_bytes.saturating_sub(2 * self.segment_bytes) / 8 * 7
    }

    #[cfg(feature = "testing")]
    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
