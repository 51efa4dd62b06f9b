//! Words for severities and categories: what the usual tools write, and what it is here.
//!
//! Words are compared without case, blanks, dashes and underscores. `docs/severity.md` is made from
//! these tables, and a test holds the two together.

use crate::api::observation::{Category, Severity};

/// Words for a severity; each stands once.
pub const SEVERITIES: &[(Severity, &[&str])] = &[
    (
        Severity::Critical,
        &[
            "critical",
            "crit",
            "emergency",
            "emerg",
            "alert",
            "fatal",
            "panic",
            "severe",
            "blocker",
            "disaster",
            "catastrophic",
            "urgent",
            "p0",
            "p1",
            "sev0",
            "sev1",
            "page",
        ],
    ),
    (
        Severity::High,
        &[
            "high",
            "error",
            "err",
            "important",
            "major",
            "failure",
            "failed",
            "fail",
            "p2",
            "sev2",
        ],
    ),
    (
        Severity::Medium,
        &[
            "medium", "med", "moderate", "warning", "warn", "average", "p3", "sev3", "ticket",
        ],
    ),
    (
        Severity::Low,
        &["low", "minor", "notice", "note", "p4", "sev4"],
    ),
    (
        Severity::Info,
        &[
            "info",
            "information",
            "informational",
            "informative",
            "debug",
            "trace",
            "verbose",
            "none",
            "ok",
            "okay",
            "pass",
            "passed",
            "success",
            "resolved",
            "negligible",
            "trivial",
            "unknown",
            "unassigned",
            "undefined",
            "unspecified",
            "notclassified",
            "notapplicable",
            "skip",
            "skipped",
            "p5",
            "sev5",
        ],
    ),
];

/// Words for a category; each stands once.
pub const CATEGORIES: &[(Category, &[&str])] = &[
    (
        Category::Security,
        &[
            "security",
            "sec",
            "vulnerability",
            "vulnerabilities",
            "vuln",
            "vulns",
            "cve",
            "threat",
            "intrusion",
            "malware",
            "attack",
            "exploit",
            "secret",
            "secrets",
            "exposedsecret",
            "access",
            "authentication",
            "authorization",
            "iam",
            "runtime",
            "runtimesecurity",
            "sast",
            "dast",
            "sca",
            "podsecurity",
            "podsecuritystandards",
            "podsecuritystandardsbaseline",
            "podsecuritystandardsrestricted",
        ],
    ),
    (
        Category::Compliance,
        &[
            "compliance",
            "policy",
            "policies",
            "policyviolation",
            "policyreport",
            "audit",
            "governance",
            "regulatory",
            "bestpractice",
            "bestpractices",
            "configuration",
            "config",
            "configaudit",
            "misconfiguration",
            "misconfig",
            "benchmark",
            "cis",
            "license",
            "licensing",
            "validation",
        ],
    ),
    (
        Category::Infrastructure,
        &[
            "infrastructure",
            "infra",
            "node",
            "nodes",
            "host",
            "hardware",
            "network",
            "networking",
            "storage",
            "disk",
            "volume",
            "compute",
            "cluster",
            "kubernetes",
            "cloud",
            "dns",
            "database",
        ],
    ),
    (
        Category::Performance,
        &[
            "performance",
            "perf",
            "latency",
            "saturation",
            "capacity",
            "throughput",
            "slo",
            "sla",
            "slowness",
            "resource",
            "resources",
            "utilization",
            "scaling",
            "autoscaling",
        ],
    ),
    (
        Category::Operations,
        &[
            "operations",
            "operation",
            "operational",
            "ops",
            "deployment",
            "deploy",
            "release",
            "rollout",
            "change",
            "incident",
            "availability",
            "reliability",
            "outage",
            "monitoring",
            "alerting",
            "maintenance",
            "backup",
            "build",
            "ci",
            "cd",
            "cicd",
            "pipeline",
            "git",
            "code",
            "workflow",
            "application",
            "app",
            "system",
            "general",
            "other",
        ],
    ),
    (
        Category::Cost,
        &[
            "cost",
            "costs",
            "billing",
            "budget",
            "finops",
            "finance",
            "financial",
            "spend",
            "spending",
            "money",
            "usage",
        ],
    ),
];

/// The severity that a word or CVSS score (0.0 to 10.0, CVSS v3's ranges) stands for.
#[must_use]
pub fn severity(word: &str) -> Option<Severity> {
    let plain = plain(word)?;
    if let Some(known) = look_up(SEVERITIES, &plain) {
        return Some(known);
    }
    let digits = word.trim();
    let number = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    number
        .then(|| digits.parse().ok())
        .flatten()
        .and_then(score)
}

/// CVSS v3.1, section 5: none, low, medium, high, critical.
#[must_use]
pub fn score(score: f64) -> Option<Severity> {
    Some(match score {
        0.0 => Severity::Info,
        s if s > 0.0 && s < 4.0 => Severity::Low,
        s if (4.0..7.0).contains(&s) => Severity::Medium,
        s if (7.0..9.0).contains(&s) => Severity::High,
        s if (9.0..=10.0).contains(&s) => Severity::Critical,
        _ => return None,
    })
}

/// The category that a word stands for.
#[must_use]
pub fn category(word: &str) -> Option<Category> {
    look_up(CATEGORIES, &plain(word)?)
}

/// The canonical word for a severity, as it is stored.
#[must_use]
pub const fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
        Severity::Info => "info",
    }
}

/// The canonical word for a category, as it is stored.
#[must_use]
pub const fn category_word(category: Category) -> &'static str {
    match category {
        Category::Security => "security",
        Category::Compliance => "compliance",
        Category::Infrastructure => "infrastructure",
        Category::Performance => "performance",
        Category::Operations => "operations",
        Category::Cost => "cost",
    }
}

fn look_up<T: Copy>(table: &[(T, &[&str])], plain: &str) -> Option<T> {
    let row = table.iter().find(|(_, words)| words.contains(&plain))?;
    Some(row.0)
}

/// A word without case, blanks, dashes and underscores. No word of the tables is longer than 64.
fn plain(word: &str) -> Option<String> {
    if word.len() > 64 {
        return None;
    }
    let kept = word
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '_' | '(' | ')'));
    Some(kept.map(|c| c.to_ascii_lowercase()).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _};

    use super::*;

    #[test]
    fn every_word_stands_once_and_finds_its_row() {
        let mut seen = BTreeSet::new();
        for (severity, words) in SEVERITIES {
            for word in *words {
                assert!(seen.insert(*word), "{word}");
                assert_eq!(super::severity(&word.to_uppercase()), Some(*severity));
            }
            assert_eq!(
                serde_json::to_value(severity).unwrap(),
                severity_word(*severity)
            );
        }
        seen.clear();
        for (category, words) in CATEGORIES {
            for word in *words {
                assert!(seen.insert(*word), "{word}");
                assert_eq!(super::category(word), Some(*category));
            }
            assert_eq!(
                serde_json::to_value(category).unwrap(),
                category_word(*category)
            );
        }
    }

    #[test]
    fn vocabularies_of_the_usual_tools_are_known() {
        for words in [
            // Falco's priorities, which are syslog's.
            &[
                "Emergency",
                "Alert",
                "Critical",
                "Error",
                "Warning",
                "Notice",
                "Informational",
                "Debug",
            ][..],
            // syslog, short.
            &[
                "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
            ],
            // Trivy, Snyk, GitHub advisories and code scanning, Kyverno and PolicyReport.
            &[
                "CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN", "moderate", "note",
            ],
            // Alertmanager's customs.
            &["critical", "warning", "info", "none", "page", "ticket"],
            // Red Hat, Clair, Zabbix, SonarQube.
            &[
                "Important",
                "Moderate",
                "Low",
                "Negligible",
                "Disaster",
                "Average",
                "Not classified",
                "BLOCKER",
                "MAJOR",
                "MINOR",
            ],
        ] {
            for word in words.iter().filter(|word| !word.is_empty()) {
                assert!(severity(word).is_some(), "{word}");
            }
        }
    }

    #[test]
    fn scores_follow_cvss() {
        for (text, wanted) in [
            ("0", Some(Severity::Info)),
            ("0.1", Some(Severity::Low)),
            ("3.9", Some(Severity::Low)),
            ("4.0", Some(Severity::Medium)),
            ("6.9", Some(Severity::Medium)),
            ("7", Some(Severity::High)),
            ("8.9", Some(Severity::High)),
            ("9.0", Some(Severity::Critical)),
            ("10", Some(Severity::Critical)),
            ("10.1", None),
            ("-1", None),
            ("", None),
            ("high-ish", None),
        ] {
            assert_eq!(severity(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_table_for_users_is_this_one() {
        let mut text = String::new();
        let mut rows = |title: &str, rows: Vec<(String, &[&str])>| {
            let _ = writeln!(text, "| {title} | words |\n|---|---|");
            for (name, words) in rows {
                let _ = writeln!(text, "| `{name}` | {} |", words.join(", "));
            }
            text.push('\n');
        };
        let severities = SEVERITIES.iter();
        rows(
            "severity",
            severities
                .map(|(severity, words)| (severity_word(*severity).to_owned(), *words))
                .collect(),
        );
        let categories = CATEGORIES.iter();
        rows(
            "category",
            categories
                .map(|(category, words)| (category_word(*category).to_owned(), *words))
                .collect(),
        );
        let document = include_str!("../../docs/severity.md");
        for line in text.lines() {
            assert!(
                document.contains(line),
                "docs/severity.md lacks the line\n{line}"
            );
        }
    }
}
