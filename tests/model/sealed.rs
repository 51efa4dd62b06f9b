//! A value with its fingerprint: what a state is made of is compared and hashed by that alone.
//!
//! The cores have no `Hash`; what they print in `Debug` is all that they are.

use std::{
    cmp::Ordering,
    fmt::{self, Debug, Write},
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// Shared, immutable, with a fingerprint.
#[derive(Clone)]
pub(crate) struct Sealed<T> {
    value: Arc<T>,
    print: u64,
}

/// FNV-1a over 64 bits, eight bytes at a time: the same in every run.
struct Print(u64);

impl Write for Print {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = (self.0 ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 29);
        }
        Ok(())
    }
}

impl<T: Debug> Sealed<T> {
    pub(crate) fn new(value: T) -> Self {
        let mut print = Print(0xcbf2_9ce4_8422_2325);
        write!(print, "{value:?}").unwrap();
        Self {
            value: Arc::new(value),
            print: print.0,
        }
    }
}

impl<T: Debug + Clone> Sealed<T> {
    /// The same, changed by `change`.
    pub(crate) fn with<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut value = (*self.value).clone();
        let result = change(&mut value);
        *self = Self::new(value);
        result
    }
}

impl<T> Deref for Sealed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Sealed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl<T> Eq for Sealed<T> {}

impl<T> PartialOrd for Sealed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Sealed<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.print.cmp(&other.print)
    }
}

impl<T> Hash for Sealed<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

impl<T: Debug> Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
