//! Sets of buckets, and the text by which the `ShardMap` holds them: `0-3,9,17-20`.

use std::{fmt, str::FromStr};

use crate::journal::{BUCKETS, Bucket};

/// Buckets in a word of the set.
const WORD: u16 = 64;

/// Words of a set: 1024 / 64.
const WORDS: usize = 16;

/// Longest text of a set, in bytes: 341 pairs with one bucket between any two, `0-1,3-4,…,1020-1021`,
/// and `1023` behind; a test counts them. No single buckets with gaps and no longer runs are longer.
pub const LONGEST_TEXT: usize = 2_673;

/// A set of buckets. Its text is canonical: one set has one text, and equal texts are equal sets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Buckets([u64; WORDS]);

/// Text that is no set of buckets, with what is wrong about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBuckets {
    /// Nothing may be said by leaving it out, not by an empty text.
    #[error("is empty")]
    Empty,
    /// Longer than any set's text.
    #[error("has {0} bytes, more than the {LONGEST_TEXT} of the longest set")]
    TooLong(usize),
    /// A part that is neither a number nor two with `-` between them.
    #[error("`{0}` is neither a bucket nor a range of buckets such as 17-20")]
    NotARange(String),
    /// A number without a bucket.
    #[error("`{0}` is no bucket: they are 0 to 1023")]
    OutOfBounds(String),
    /// Ranges must rise, without overlap, and what touches is written as one.
    #[error("`{0}` does not stand behind what is before it, with a gap between")]
    Disordered(String),
}

// === impl Buckets ===

impl Buckets {
    /// No bucket.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Every bucket.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Adds a bucket; whether it was not there. One that is out of bounds is never added.
    pub fn insert(&mut self, bucket: Bucket) -> bool {
        let added = self
            .word(bucket)
            .is_some_and(|word| word & bit(bucket) == 0);
        if let Some(word) = self.word_mut(bucket) {
            *word |= bit(bucket);
        }
        added
    }

    /// Takes a bucket out; whether it was there.
    pub fn remove(&mut self, bucket: Bucket) -> bool {
        let found = self.contains(bucket);
        if let Some(word) = self.word_mut(bucket) {
            *word &= !bit(bucket);
        }
        found
    }

    /// Whether the bucket is in the set.
    #[must_use]
    pub fn contains(&self, bucket: Bucket) -> bool {
        self.word(bucket)
            .is_some_and(|word| word & bit(bucket) != 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        // At most 1024: fits wherever a usize has 16 bits.
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// All of them, rising.
    pub fn iter(&self) -> impl Iterator<Item = Bucket> + use<'_> {
        self.runs()
            .flat_map(|(first, last)| (first.0..=last.0).map(Bucket))
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in this one alone.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Runs of neighbours, rising: first and last.
    fn runs(&self) -> impl Iterator<Item = (Bucket, Bucket)> + use<'_> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.from(next, |word| word)?;
            next = self.from(first, |word| !word).unwrap_or(BUCKETS);
            Some((Bucket(first), Bucket(next.saturating_sub(1))))
        })
    }

    /// The first number, `least` or behind it, whose bit is set once `read` has had its word.
    fn from(&self, least: u16, read: impl Fn(u64) -> u64) -> Option<u16> {
        let mut at = least;
        while at < BUCKETS {
            let word = read(self.word(Bucket(at))?) >> (at % WORD);
            if word != 0 {
                // Fewer than 64.
                return Some(at + u16::try_from(word.trailing_zeros()).unwrap_or(0));
            }
            at = (at / WORD + 1) * WORD;
        }
        None
    }

    fn zip(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut joined = *self;
        for (word, other) in joined.0.iter_mut().zip(other.0) {
            *word = join(*word, other);
        }
        joined
    }

    fn word(&self, bucket: Bucket) -> Option<u64> {
        self.0.get(usize::from(bucket.0 / WORD)).copied()
    }

    fn word_mut(&mut self, bucket: Bucket) -> Option<&mut u64> {
        self.0.get_mut(usize::from(bucket.0 / WORD))
    }
}

const fn bit(bucket: Bucket) -> u64 {
    1 << (bucket.0 % WORD)
}

impl FromIterator<Bucket> for Buckets {
    fn from_iter<I: IntoIterator<Item = Bucket>>(buckets: I) -> Self {
        let mut set = Self::EMPTY;
        for bucket in buckets {
            set.insert(bucket);
        }
        set
    }
}

impl fmt::Display for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.runs().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{}", first.0)?;
            } else {
                write!(f, "{}-{}", first.0, last.0)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl FromStr for Buckets {
    type Err = NotBuckets;

    /// Reads what [`fmt::Display`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, NotBuckets> {
        if text.is_empty() {
            return Err(NotBuckets::Empty);
        }
        if text.len() > LONGEST_TEXT {
            return Err(NotBuckets::TooLong(text.len()));
        }
        let mut set = Self::EMPTY;
        // The lowest bucket that may come: behind the last range, with a gap.
        let mut lowest = 0;
        for part in text.split(',') {
            let (first, last) = range(part)?;
            if first < lowest {
                return Err(NotBuckets::Disordered(part.to_owned()));
            }
            for n in first..=last {
                set.insert(Bucket(n));
            }
            lowest = last.saturating_add(2);
        }
        Ok(set)
    }
}

/// `17-20` or `9`; never `9-9`, which has a shorter text.
fn range(part: &str) -> Result<(u16, u16), NotBuckets> {
    let Some((first, last)) = part.split_once('-') else {
        let only = number(part, part)?;
        return Ok((only, only));
    };
    let (first, last) = (number(first, part)?, number(last, part)?);
    if first < last {
        Ok((first, last))
    } else {
        Err(NotBuckets::NotARange(part.to_owned()))
    }
}

fn number(text: &str, part: &str) -> Result<u16, NotBuckets> {
    let plain = text == "0" || (!text.starts_with('0') && !text.is_empty());
    if !plain || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotBuckets::NotARange(part.to_owned()));
    }
    let number = text.parse().ok().filter(|n| *n < BUCKETS);
    number.ok_or_else(|| NotBuckets::OutOfBounds(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> Buckets {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_set_are_one() {
        let buckets = set("0-3,9,17-20,1023");
        let numbers: Vec<u16> = buckets.iter().map(|b| b.0).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 9, 17, 18, 19, 20, 1023]);
        assert_eq!(buckets.to_string(), "0-3,9,17-20,1023");
        assert_eq!(buckets.len(), 10);
        assert_eq!(Buckets::ALL.to_string(), "0-1023");
        assert_eq!(set("0-1023"), Buckets::ALL);
        assert_eq!(Buckets::EMPTY.to_string(), "");
    }

    #[test]
    fn what_is_no_set_is_refused_with_its_part() {
        let wrong = |text: &str| text.parse::<Buckets>().unwrap_err();
        assert_eq!(wrong(""), NotBuckets::Empty);
        for text in [
            ",", "1,", "a", "1-", "-1", "1-2-3", " 1", "1 ", "+1", "01", "1-1", "3-2", "1,,3",
            "0x1", "1..2", "\u{663}", "00", "1-02",
        ] {
            assert!(matches!(wrong(text), NotBuckets::NotARange(_)), "{text}");
        }
        for text in ["1024", "0-1024", "99999999999999999999", "65536"] {
            assert!(matches!(wrong(text), NotBuckets::OutOfBounds(_)), "{text}");
        }
        for text in ["2,1", "1,1", "1-3,2-4", "1-3,4", "1,2", "1-3,2"] {
            assert!(matches!(wrong(text), NotBuckets::Disordered(_)), "{text}");
        }
        assert_eq!(wrong(&"1,".repeat(500_000)), NotBuckets::TooLong(1_000_000));
        assert_eq!(
            wrong("5,17-x").to_string(),
            "`17-x` is neither a bucket nor a range of buckets such as 17-20"
        );
    }

    #[test]
    fn the_longest_text_has_its_bound() {
        let pairs: Buckets = (0..BUCKETS).filter(|n| n % 3 != 2).map(Bucket).collect();
        let singles: Buckets = (0..BUCKETS).filter(|n| n % 2 == 0).map(Bucket).collect();
        let longest = pairs.to_string();
        assert_eq!(longest.len(), LONGEST_TEXT);
        assert_eq!(set(&longest), pairs);
        assert!(singles.to_string().len() < LONGEST_TEXT);
    }

    #[test]
    fn one_out_of_bounds_is_in_no_set() {
        let mut all = Buckets::ALL;
        assert!(!all.insert(Bucket(1024)) && !all.contains(Bucket(1024)));
        assert!(!all.remove(Bucket(u16::MAX)));
        assert_eq!(all, Buckets::ALL);
    }

    fn sets() -> impl Strategy<Value = Buckets> {
        // From sparse to dense.
        (1_u64..1024, any::<u64>()).prop_map(|(density, seed)| {
            let mut state = seed;
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) % 1024
            };
            (0..BUCKETS)
                .map(Bucket)
                .filter(|_| next() < density)
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_set_reads_back(buckets in sets()) {
            let text = buckets.to_string();
            prop_assert!(text.len() <= LONGEST_TEXT);
            if buckets.is_empty() {
                prop_assert!(text.is_empty());
            } else {
                prop_assert_eq!(set(&text), buckets);
            }
        }

        #[test]
        fn what_is_read_is_written_as_it_was(text in "[0-9,-]{0,24}|\\PC{0,24}") {
            if let Ok(buckets) = text.parse::<Buckets>() {
                prop_assert_eq!(buckets.to_string(), text);
            }
        }

        #[test]
        fn it_is_a_set(a in sets(), b in sets()) {
            let both = a.intersection(&b);
            prop_assert_eq!(a.union(&b).len() + both.len(), a.len() + b.len());
            prop_assert_eq!(a.minus(&b).union(&both), a);
            prop_assert!(a.minus(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.iter().collect::<Buckets>(), a);
        }
    }
}
