//! Regular expressions in RE2's dialect, as CEL has them, with bounds.

use regex::{Regex, RegexBuilder};

use super::budget::{Budget, Fault};

/// Longest pattern in bytes.
const MAX_LENGTH: usize = 512;

/// The compiled sizes that are tried, in KiB. The largest is some 2,000 states: matching takes at
/// most states × bytes, which the budget is charged.
const SIZES: [usize; 6] = [2, 4, 8, 16, 32, 64];

/// A pattern, compiled once with its expression: patterns are constants.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// The size it compiles to, in KiB.
    size: usize,
}

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_LENGTH {
            return Err(format!("a pattern longer than {MAX_LENGTH} bytes"));
        }
        let translated = from_re2(pattern);
        let mut last = String::new();
        for size in SIZES {
            let compiled = RegexBuilder::new(&translated)
                .size_limit(size * 1_024)
                // The lazy automaton's cache, per thread that matches: a few hundred states.
                .dfa_size_limit(64 * 1_024)
                // Groups within each other; the compiler recurses over them.
                .nest_limit(32)
                .build();
            match compiled {
                Ok(regex) => return Ok(Self { regex, size }),
                Err(regex::Error::CompiledTooBig(_)) => {
                    last.clear();
                    last.push_str(
                        "the pattern is too large: its repetitions or classes make more than \
                            some 2,000 states",
                    );
                }
                Err(error) => return Err(format!("no regular expression: {error}")),
            }
        }
        Err(last)
    }

    fn charge(&self, text: &str, budget: &mut Budget) -> Result<(), Fault> {
        budget.charge(1 + text.len().saturating_mul(self.size) / 4)
    }

    pub(super) fn matches(&self, text: &str, budget: &mut Budget) -> Result<bool, Fault> {
        self.charge(text, budget)?;
        Ok(self.regex.is_match(text))
    }

    pub(super) fn find<'t>(&self, text: &'t str, budget: &mut Budget) -> Result<&'t str, Fault> {
        self.charge(text, budget)?;
        Ok(self.regex.find(text).map_or("", |found| found.as_str()))
    }

    /// Up to `limit` matches. To find the next one the automaton may look at the whole rest of the
    /// text, each time (`.*[^a]|a` does), so the rest is charged each time.
    pub(super) fn find_all<'t>(
        &self,
        text: &'t str,
        limit: usize,
        budget: &mut Budget,
    ) -> Result<Vec<&'t str>, Fault> {
        let mut found = Vec::new();
        let mut at = 0;
        while found.len() < limit {
            let rest = text.get(at..).unwrap_or_default();
            self.charge(rest, budget)?;
            let Some(next) = self.regex.find_at(text, at) else {
                break;
            };
            found.push(next.as_str());
            let behind = text.get(next.end()..).unwrap_or_default();
            at = match (next.is_empty(), behind.chars().next()) {
                (false, _) => next.end(),
                (true, Some(step)) => next.end() + step.len_utf8(),
                (true, None) => break,
            };
        }
        Ok(found)
    }
}

/// `\d`, `\s`, `\w` and `\b` mean ASCII in RE2, and Unicode in the crate `regex`; the latter's
/// classes alone are larger than most patterns.
fn from_re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('s') => out.push_str(r"[\t\n\f\r ]"),
            Some('S') => out.push_str(r"[^\t\n\f\r ]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('b') => out.push_str(r"(?-u:\b)"),
            Some('B') => out.push_str(r"(?-u:\B)"),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}
