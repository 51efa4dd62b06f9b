use std::io::Cursor;

use super::*;

const VALID: &str = "\
apiVersion: zen.watcher.io/v1
kind: Ingestor
metadata: { name: github, namespace: demo }
spec:
  source:
    webhook:
      auth:
        - github: { secretRef: { name: hook } }
  normalize:
    category: { value: security }
    severity: { value: HIGH }
    eventType: { expression: \"'github_' + headers['x-github-event']\" }
";

fn check(text: &str) -> Report {
    validate(&[Input {
        name: "f.yaml".to_owned(),
        text: text.to_owned(),
    }])
}

/// The only finding of a text.
fn only(text: &str) -> Finding {
    let report = check(text);
    assert_eq!(report.unreadable, [], "{report}");
    assert_eq!(report.findings.len(), 1, "{report}");
    report.findings.into_iter().next().unwrap()
}

fn with(more: &str) -> String {
    format!("{VALID}{more}")
}

#[test]
fn a_valid_document_gives_no_finding() {
    let report = check(VALID);
    assert_eq!(report.to_string(), "1 valid, 0 invalid\n");
    assert_eq!(report.exit(), Exit::Success);
}

#[test]
fn a_rule_of_the_kind_is_told_with_file_document_line_and_field() {
    let text = format!(
        "{VALID}---\n{}",
        VALID
            .replace("name: github,", "name: b,")
            .replace("{ value: HIGH }", "{ value: a, expression: b }")
    );
    let finding = only(&text);
    assert_eq!(
        finding.to_string(),
        "f.yaml:24: document 2, Ingestor demo/b: spec.normalize.severity: Invalid value: \"object\": exactly one of value and expression must be set"
    );
}

#[test]
fn an_unknown_field_is_refused_as_the_server_does() {
    let finding = only(&VALID.replace("      auth:", "      handshake: slack\n      auth:"));
    assert_eq!(finding.field, "spec.source.webhook.handshake");
    assert_eq!(finding.line, Some(7));
}

#[test]
fn a_missing_field_is_told_at_the_nearest_that_is_there() {
    let report = check(&VALID.replace("    category: { value: security }\n", ""));
    let finding = &report.findings[0];
    assert_eq!(finding.field, "spec.normalize.category");
    assert_eq!(finding.line, Some(10), "{finding}");
}

#[test]
fn an_expression_that_does_not_compile_is_found_where_a_server_sees_a_text() {
    let finding = only(&VALID.replace("'github_' + ", "'github_' ++ "));
    assert_eq!(finding.field, "spec.normalize.eventType.expression");
    assert_eq!(finding.level, Level::Error);
    assert_eq!(finding.line, Some(12));
}

#[test]
fn a_constant_that_is_no_severity_is_found() {
    let finding = only(&VALID.replace("HIGH", "purple"));
    assert_eq!(finding.field, "spec.normalize.severity.value");
}

#[test]
fn filters_that_decide_nothing_are_found() {
    let filter = |keep_if: &str| {
        with(&format!(
            "  filters:\n    - {{ name: f, keepIf: \"{keep_if}\" }}\n"
        ))
    };
    for never in [
        "false",
        "1 > 2",
        "event.severity == 'low'",
        "event.severity in ['low', 'info'] && body.action == 'opened'",
        "body.action == 'opened' && event.category != 'security'",
        "event.source == 'gitlab'",
        "event.severity.startsWith('c')",
    ] {
        let finding = only(&filter(never));
        assert!(finding.message.contains("never true"), "{never}: {finding}");
        assert_eq!(
            (finding.level, finding.line),
            (Level::Error, Some(14)),
            "{never}"
        );
    }
    for always in [
        "true",
        "event.severity == 'high' || body.action == 'opened'",
    ] {
        let finding = only(&filter(always));
        assert!(
            finding.message.contains("always true"),
            "{always}: {finding}"
        );
        assert_eq!(finding.level, Level::Warning);
    }
    assert!(
        only(&filter("'yes'"))
            .message
            .contains("neither true nor false")
    );
}

#[test]
fn filters_that_may_decide_are_left_alone() {
    for may in [
        "body.action == 'opened'",
        "event.eventType == 'github_push'",
        "event.severity == 'high' && body.action == 'opened'",
        "event.?resource.?name.orValue('') == 'x'",
        "has(event.resource)",
        "'resource' in event",
        "event.size() > 3",
        "event.details.size() > 1",
        "event.detectedAt < now",
        "headers['x'] == 'event'",
    ] {
        let report = check(&with(&format!(
            "  filters:\n    - {{ name: f, keepIf: \"{may}\" }}\n"
        )));
        assert_eq!(report.findings, [], "{may}");
    }
}

#[test]
fn an_explosion_that_nothing_looks_into_is_a_warning() {
    let finding = only(&with("  explode: body.items\n"));
    assert_eq!(
        (finding.field.as_str(), finding.level),
        ("spec.explode", Level::Warning)
    );
    assert_eq!(
        check(&with("  explode: body.items\n")).exit(),
        Exit::Success
    );
}

#[test]
fn two_ingestors_of_one_path_conflict_across_files() {
    let other = VALID
        .replace("name: github,", "name: other,")
        .replace("      auth:", "      path: github\n      auth:");
    let report = validate(&[
        Input {
            name: "a.yaml".to_owned(),
            text: VALID.to_owned(),
        },
        Input {
            name: "b.yaml".to_owned(),
            text: other.clone(),
        },
    ]);
    let finding = &report.findings[0];
    assert_eq!(report.findings.len(), 1, "{report}");
    assert_eq!((finding.file.as_str(), finding.line), ("b.yaml", Some(7)));
    assert!(finding.message.contains("/hooks/demo/github"), "{finding}");
    let elsewhere = other.replace("namespace: demo", "namespace: team");
    assert_eq!(check(&format!("{VALID}---\n{elsewhere}")).findings, []);
}

#[test]
fn one_object_twice_is_an_error() {
    let finding = only(&format!("{VALID}---\n{VALID}"));
    assert_eq!(
        (finding.document, finding.field.as_str()),
        (2, "metadata.name")
    );
}

#[test]
fn secrets_of_the_same_files_are_looked_into() {
    let secret = |namespace: &str, key: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: hook, namespace: {namespace} }}\nstringData: {{ {key}: x }}\n"
        )
    };
    let keyed = VALID.replace("{ name: hook }", "{ name: hook, key: current }");
    assert_eq!(
        check(&format!("{keyed}{}", secret("demo", "current"))).findings,
        []
    );
    let wrong = only(&format!("{keyed}{}", secret("demo", "old")));
    assert_eq!(
        wrong.field,
        "spec.source.webhook.auth[0].github.secretRef.key"
    );
    assert_eq!(wrong.level, Level::Error);
    let elsewhere = only(&format!("{VALID}{}", secret("team", "a")));
    assert_eq!(elsewhere.level, Level::Warning);
}

#[test]
fn none_beside_a_scheme_is_a_warning() {
    let finding = only(&VALID.replace("        - github", "        - none: {}\n        - github"));
    assert_eq!(finding.field, "spec.source.webhook.auth[0]");
    assert_eq!(finding.level, Level::Warning);
}

#[test]
fn lists_and_json_are_read() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        VALID
            .replace("HIGH", "purple")
            .trim_end()
            .replace('\n', "\n  ")
    );
    let finding = only(&list);
    assert_eq!((finding.document, finding.line), (1, Some(14)), "{finding}");

    let object: serde_json::Value = serde_saphyr::from_str(VALID).unwrap();
    let json = format!(
        "{object}\n{}",
        object
            .to_string()
            .replace("\"github\",\"namespace", "\"b\",\"namespace")
    );
    let report = check(&json);
    assert_eq!((report.checked, report.findings.len()), (2, 0), "{report}");
    let wrong = only(&object.to_string().replace("HIGH", "purple"));
    assert_eq!(wrong.line, None);
}

#[test]
fn kinds_of_others_are_said_not_to_be_checked() {
    let report = check("apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\n");
    assert_eq!(report.foreign, ["Deployment a"]);
    assert_eq!(report.exit(), Exit::Success);
    assert!(report.to_string().contains("not checked"), "{report}");
}

#[test]
fn a_kind_or_version_that_this_group_does_not_have_is_an_error() {
    for (from, to) in [
        ("kind: Ingestor", "kind: Ingester"),
        ("io/v1", "io/v1alpha1"),
    ] {
        let finding = only(&VALID.replace(from, to));
        assert!(finding.message.contains("no matches for kind"), "{finding}");
    }
}

#[test]
fn what_is_no_object_at_all_is_an_error() {
    for text in ["[1, 2]\n", "just text\n", "a: b\n"] {
        assert_eq!(check(text).exit(), Exit::Failure, "{text}");
    }
    assert_eq!(check("# nothing\n").exit(), Exit::Success);
    assert_eq!(check("").exit(), Exit::Success);
}

#[test]
fn what_cannot_be_read_is_exit_code_2() {
    for text in ["a: [1\n", "a: 1\na: 2\n", "{\"a\": ", "a: &x [*x]\n"] {
        let report = check(text);
        assert_eq!(report.exit(), Exit::Usage, "{text}: {report}");
        assert_eq!(report.unreadable[0].file, "f.yaml");
    }
}

#[test]
fn deep_nesting_is_refused_without_a_crash() {
    for text in [
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        "- ".repeat(10_000),
    ] {
        assert_eq!(check(&text).exit(), Exit::Usage);
    }
}

#[test]
fn the_subcommand_reads_files_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.yaml");
    fs::write(&good, VALID).unwrap();
    let run_with = |files: Vec<PathBuf>, stdin: &str| {
        let mut input = Cursor::new(stdin.to_owned());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            input: &mut input,
            out: &mut out,
            told: Box::new(io::sink()),
            err: &mut err,
        };
        let exit = run(&Args { files }, &mut streams).unwrap();
        (exit, String::from_utf8(out).unwrap())
    };
    assert_eq!(run_with(vec![good.clone()], "").0, Exit::Success);
    let bad = VALID
        .replace("HIGH", "purple")
        .replace("name: github,", "name: b,");
    let (exit, out) = run_with(vec![good.clone(), "-".into()], &bad);
    assert_eq!(exit, Exit::Failure);
    assert!(
        out.starts_with("-:11: document 1, Ingestor demo/b: spec.normalize.severity.value"),
        "{out}"
    );
    assert!(out.ends_with("1 valid, 1 invalid\n"), "{out}");
    let (exit, out) = run_with(vec![folder.path().join("none.yaml"), good], "");
    assert_eq!(exit, Exit::Usage);
    assert!(out.contains("none.yaml"), "{out}");
}

#[test]
fn what_a_gateway_refuses_to_serve_is_found_with_its_field() {
    let auth = |entry: &str| VALID.replace("github: { secretRef: { name: hook } }", entry);
    let hmac = |more: &str| {
        auth(&format!(
            "hmac: {{ header: X-Sig, secretRef: {{ name: s }}, {more} }}"
        ))
    };
    let webhook = |more: &str| VALID.replace("      auth:", &format!("      {more}\n      auth:"));
    for (text, field) in [
        (hmac("template: '{nonce}.{body}'"), "auth[0].hmac.template"),
        (hmac("template: '{timestamp}.{body}'"), "auth[0].hmac"),
        (webhook("allowedCIDRs: [10.0.0.0/40]"), "allowedCIDRs"),
        (
            webhook("idempotency: { header: X-Hub-Signature-256 }"),
            "idempotency.header",
        ),
    ] {
        let report = check(&text);
        let fields: Vec<_> = report.findings.iter().map(|it| it.field.as_str()).collect();
        let named = format!("spec.source.webhook.{field}");
        let found = fields.iter().any(|field| field.starts_with(&named));
        assert!(found, "{named}: {report}");
        assert_eq!(report.exit(), Exit::Failure, "{named}");
    }
}
