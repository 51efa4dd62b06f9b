//! The rules of the house, as a test: which files are pure, and what pure files may not name.
//!
//! Pure code has no async, no clock, no randomness, no sockets, no kube client, no file system, so
//! that tests and the cluster simulation can drive it with time and identity of their own.

#![allow(
    clippy::allow_attributes,
    reason = "which of these a test needs changes with the tests"
)]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::cast_possible_truncation,
    clippy::clone_on_ref_ptr,
    clippy::cloned_ref_to_slice_refs,
    clippy::default_trait_access,
    clippy::disallowed_methods,
    clippy::doc_markdown,
    clippy::duration_suboptimal_units,
    clippy::expect_used,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    clippy::manual_is_multiple_of,
    clippy::match_wild_err_arm,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::redundant_closure_for_method_calls,
    clippy::semicolon_if_nothing_returned,
    clippy::single_match,
    clippy::single_match_else,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    let_underscore_drop,
    reason = "a test fails by panicking, and reads as a scenario"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files that are pure, relative to `src/`; a trailing `/` stands for every file below.
const PURE: &[&str] = &[
    "api.rs",
    "api/",
    "cli/send/sign.rs",
    "config/bounds.rs",
    "config/relations.rs",
    "config/value.rs",
    "coordination.rs",
    "coordination/assign.rs",
    "coordination/assign/",
    "coordination/buckets.rs",
    "coordination/chance.rs",
    "coordination/contact.rs",
    "coordination/damping.rs",
    "coordination/drain.rs",
    "coordination/edge/snapshot.rs",
    "coordination/elector.rs",
    "coordination/elector/",
    "coordination/event.rs",
    "coordination/evidence.rs",
    "coordination/evidence/",
    "coordination/explain.rs",
    "coordination/gate.rs",
    "coordination/layout.rs",
    "coordination/leader.rs",
    "coordination/leader/",
    "coordination/message.rs",
    "coordination/names.rs",
    "coordination/out.rs",
    "coordination/owner.rs",
    "coordination/owner/",
    "coordination/port.rs",
    "coordination/preview.rs",
    "coordination/protocol.rs",
    "coordination/records.rs",
    "coordination/refusals.rs",
    "coordination/register.rs",
    "coordination/register/",
    "coordination/replica.rs",
    "coordination/replica/",
    "coordination/ring.rs",
    "coordination/text.rs",
    "coordination/timing.rs",
    "coordination/view.rs",
    "coordination/view/",
    "coordination/wire.rs",
    "coordination/wire/",
    "embedded/builtin.rs",
    "embedded/definition.rs",
    "embedded/definition/",
    "embedded/discovery.rs",
    "embedded/jsonpath.rs",
    "embedded/kind.rs",
    "embedded/meta.rs",
    "embedded/names.rs",
    "embedded/openapi.rs",
    "embedded/patch.rs",
    "embedded/protobuf.rs",
    "embedded/refusal.rs",
    "embedded/refusal/",
    "embedded/registry.rs",
    "embedded/schema.rs",
    "embedded/schema/",
    "embedded/selector.rs",
    "embedded/store.rs",
    "embedded/store/",
    "embedded/table.rs",
    "embedded/view.rs",
    "embedded/wire.rs",
    "embedded/wire/",
    "engine/aggregate.rs",
    "engine/body.rs",
    "engine/cel.rs",
    "engine/cel/",
    "engine/decide.rs",
    "engine/dedup.rs",
    "engine/details.rs",
    "engine/explode.rs",
    "engine/field.rs",
    "engine/filter.rs",
    "engine/hold.rs",
    "engine/load/rates.rs",
    "engine/names.rs",
    "engine/normalize.rs",
    "engine/owned.rs",
    "engine/owned/",
    "engine/pace.rs",
    "engine/pipeline.rs",
    "engine/queue.rs",
    "engine/status.rs",
    "engine/sum.rs",
    "engine/text.rs",
    "engine/times.rs",
    "engine/verdict.rs",
    "engine/vocabulary.rs",
    "engine/writer/object.rs",
    "gateway/address.rs",
    "gateway/answer.rs",
    "gateway/catalog.rs",
    "gateway/catalog/",
    "gateway/frames.rs",
    "gateway/framing.rs",
    "gateway/limits.rs",
    "gateway/prefer.rs",
    "gateway/problem.rs",
    "gateway/replay.rs",
    "gateway/routes.rs",
    "gateway/routes/",
    "gateway/secrets.rs",
    "gateway/sign.rs",
    "gateway/verify.rs",
    "gateway/verify/",
    "journal/ids.rs",
    "journal/remote/client/backoff.rs",
    "journal/remote/client/table.rs",
    "journal/remote/codec.rs",
    "journal/remote/codec/",
    "journal/remote/pieces.rs",
    "journal/remote/resolve/roster.rs",
    "journal/wal/cache.rs",
    "journal/wal/entry.rs",
    "journal/wal/entry/",
    "journal/wal/format.rs",
    "journal/wal/index.rs",
    "journal/wal/index/",
    "journal/wal/options.rs",
    "journal/wal/scan.rs",
    "kube/failure.rs",
    "peer/identity.rs",
    "peer/refusal.rs",
    "retention/due.rs",
];

/// What a pure file may not contain outside its tests and comments, with the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    ("async ", "pure code is synchronous"),
    (".await", "pure code is synchronous"),
    ("tokio::", "pure code has no runtime"),
    ("TcpStream", "pure code has no sockets"),
    ("TcpListener", "pure code has no sockets"),
    ("UdpSocket", "pure code has no sockets"),
    ("std::fs", "pure code has no files"),
    ("File::", "pure code has no files"),
    ("Instant::now", "time is a parameter"),
    ("SystemTime", "time is a parameter"),
    ("Timestamp::now", "time is a parameter"),
    ("rand::", "randomness is a parameter"),
    ("Uuid::new_v4", "identity is a parameter"),
    ("kube::Client", "pure code knows no API server"),
    ("kube::Api", "pure code knows no API server"),
    ("kube::runtime", "pure code knows no API server"),
    ("std::env", "configuration enters through config.rs"),
    ("std::thread", "pure code starts nothing"),
];

/// Which room may not name which other room: the direction in which data passes.
const DIRECTIONS: &[(&str, &[&str])] = &[
    (
        "api/",
        &[
            "crate::gateway",
            "crate::roles",
            "crate::cli",
            "crate::ops",
            "crate::embedded",
        ],
    ),
    (
        "journal/",
        &[
            "crate::gateway",
            "crate::engine",
            "crate::roles",
            "crate::cli",
            "crate::embedded",
        ],
    ),
    (
        "engine/",
        &[
            "crate::gateway",
            "crate::roles",
            "crate::cli",
            "crate::embedded",
            "crate::journal::wal",
        ],
    ),
    (
        "gateway/",
        &[
            "crate::roles",
            "crate::cli",
            "crate::embedded",
            "crate::journal::wal",
        ],
    ),
    (
        "embedded/",
        &[
            "crate::gateway",
            "crate::engine",
            "crate::roles",
            "crate::cli",
            "crate::journal::wal",
        ],
    ),
    (
        "peer/",
        &[
            "crate::gateway",
            "crate::engine",
            "crate::coordination",
            "crate::journal",
            "crate::roles",
            "crate::cli",
            "crate::embedded",
        ],
    ),
    (
        "ops/",
        &[
            "crate::roles",
            "crate::cli",
            "crate::embedded",
            "crate::journal::wal",
        ],
    ),
];

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    line: usize,
    word: &'static str,
}

/// The code of a file: what stands before its unit tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
}

/// The code with each `use` tree written out, a path a line: `use a::{b, c::d}` names `a::b` and
/// `a::c::d`, and what `super` stands for in `file`.
fn named(file: &str, text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, code) in code(text) {
        let (start, statement) = match open.take() {
            Some((start, begun)) => (start, format!("{begun} {}", code.trim())),
            None => (line, code.to_owned()),
        };
        let Some(tree) = use_tree(&statement) else {
            lines.push((start, statement));
            continue;
        };
        match tree.split_once(';') {
            Some((tree, _)) => {
                let paths = expanded(tree);
                lines.extend(paths.into_iter().map(|path| (start, absolute(file, &path))));
            }
            None => open = Some((start, statement)),
        }
    }
    lines
}

/// What stands behind `use`, with or without a visibility.
fn use_tree(statement: &str) -> Option<&str> {
    let statement = statement.trim_start();
    let behind = match statement.strip_prefix("pub") {
        Some(behind) if behind.starts_with('(') => behind.split_once(')')?.1.trim_start(),
        Some(behind) => behind.trim_start(),
        None => statement,
    };
    behind.strip_prefix("use ")
}

/// The paths of a `use` tree.
fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let inner = inner.trim_end().trim_end_matches('}');
    // Each level takes off its own brace; what was nested ends with its own again.
    let missing = inner.matches('{').count() - inner.matches('}').count();
    let inner = format!("{inner}{}", "}".repeat(missing));
    let (mut depth, mut items, mut item) = (0_i32, Vec::new(), String::new());
    for char in inner.chars() {
        depth += i32::from(char == '{') - i32::from(char == '}');
        if char == ',' && depth == 0 {
            items.push(std::mem::take(&mut item));
        } else {
            item.push(char);
        }
    }
    items.push(item);
    items
        .iter()
        .filter(|item| !item.trim().is_empty())
        .flat_map(|item| expanded(&format!("{prefix}{}", item.trim())))
        .collect()
}

/// A path with `super` written out.
fn absolute(file: &str, path: &str) -> String {
    let ups = path.matches("super::").count();
    if ups == 0 {
        return path.to_owned();
    }
    let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let parts: Vec<&str> = module.split('/').collect();
    let above = parts
        .get(..parts.len().saturating_sub(ups))
        .unwrap_or_default();
    let parents = above
        .iter()
        .flat_map(|part| ["::", part])
        .collect::<String>();
    format!("crate{parents}::{}", path.trim_start_matches("super::"))
}

fn breaches(
    file: &str,
    text: &str,
    words: impl Iterator<Item = &'static str> + Clone,
) -> Vec<Breach> {
    named(file, text)
        .into_iter()
        .flat_map(|(line, code)| {
            words
                .clone()
                .filter(move |word| code.contains(word))
                .map(move |word| Breach { line, word })
        })
        .collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn relative(path: &Path) -> String {
    path.strip_prefix(source())
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

fn covers(rule: &str, file: &str) -> bool {
    if rule.ends_with('/') {
        file.starts_with(rule)
    } else {
        file == rule
    }
}

/// Unit tests that live beside their file.
fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

#[test]
fn pure_files_name_nothing_impure() {
    let mut found = Vec::new();
    for path in rust_files(&source()) {
        let file = relative(&path);
        if is_test_file(&file) || !PURE.iter().any(|rule| covers(rule, &file)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for breach in breaches(&file, &text, FORBIDDEN.iter().map(|(word, _)| *word)) {
            let why = FORBIDDEN
                .iter()
                .find(|(word, _)| *word == breach.word)
                .unwrap()
                .1;
            found.push(format!(
                "src/{file}:{}: `{}`: {why}",
                breach.line, breach.word
            ));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_entry_of_the_table_exists() {
    let files: Vec<String> = rust_files(&source())
        .iter()
        .map(|path| relative(path))
        .collect();
    for rule in PURE.iter().chain(DIRECTIONS.iter().map(|(room, _)| room)) {
        assert!(
            files.iter().any(|file| covers(rule, file)),
            "no file of src/ is covered by `{rule}`"
        );
    }
}

#[test]
fn rooms_depend_in_the_direction_of_the_data() {
    let mut found = Vec::new();
    for path in rust_files(&source()) {
        let file = relative(&path);
        if is_test_file(&file) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (_, words) in DIRECTIONS.iter().filter(|(room, _)| covers(room, &file)) {
            for breach in breaches(&file, &text, words.iter().copied()) {
                found.push(format!("src/{file}:{}: `{}`", breach.line, breach.word));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A decision that code refers to can be read.
#[test]
fn every_adr_that_is_cited_exists() {
    let folder = source().with_file_name("docs").join("adr");
    let names = fs::read_dir(folder).unwrap();
    let known: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for path in rust_files(&source()) {
        let text = fs::read_to_string(&path).unwrap();
        for cited in text.split("ADR ").skip(1) {
            let number: String = cited.chars().take_while(char::is_ascii_digit).collect();
            let found = known.iter().any(|name| name.starts_with(&number));
            assert!(found, "src/{} cites ADR {number}", relative(&path));
        }
    }
}

/// The one file that writes a status: always with its owner, always at the version that was read.
const STATUS_WRITER: &str = "kube/status.rs";

/// How else a status could be written: the subresource's path, and what the client has for it.
const STATUS_WRITES: [&str; 4] = ["/status?", "/status\"", "patch_status(", "replace_status("];

/// The embedded API serves statuses, and tests stand for people who edit them.
fn writes_no_status(file: &str) -> bool {
    let exempt = ["embedded.rs", "embedded/", "testing/", STATUS_WRITER];
    !exempt.iter().any(|rule| covers(rule, file)) && !is_test_file(file)
}

#[test]
fn a_status_is_written_in_one_place() {
    let mut found = Vec::new();
    let files = rust_files(&source());
    for path in files
        .iter()
        .filter(|path| writes_no_status(&relative(path)))
    {
        let text = fs::read_to_string(path).unwrap();
        for (line, code) in code(&text) {
            if STATUS_WRITES.iter().any(|way| code.contains(way)) {
                found.push(format!("src/{}:{line}", relative(path)));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let writer = fs::read_to_string(source().join(STATUS_WRITER)).unwrap();
    assert!(code(&writer).any(|(_, code)| code.contains(STATUS_WRITES[0])));
}

#[test]
fn the_rules_bite() {
    let words = || FORBIDDEN.iter().map(|(word, _)| *word);
    let pure = |text: &str| breaches("engine/filter.rs", text, words());
    let impure = "fn f() -> Instant {\n    Instant::now()\n}\n";
    assert_eq!(
        pure(impure),
        [Breach {
            line: 2,
            word: "Instant::now"
        }]
    );
    assert_eq!(pure("// async fn in a comment\n"), []);
    assert_eq!(pure("#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"), []);
    for (word, _) in FORBIDDEN {
        assert!(
            !pure(&format!("let x = {word}x;")).is_empty(),
            "`{word}` is not found"
        );
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let cli =
        |file: &str, text: &str| breaches(file, text, ["crate::cli", "std::fs"].into_iter()).len();
    for (found, text) in [
        (1, "use crate::cli::x;\n"),
        (1, "pub(crate) use crate::cli;\n"),
        (1, "use crate::{api, cli::{a as c}};\n"),
        (2, "use crate::{\n    api,\n    cli::{a, b},\n};\n"),
        (1, "use std::{\n    fs,\n    io,\n};\n"),
        (1, "use super::super::cli;\n"),
        (1, "use super::{super::{cli, api}, decide};\n"),
        (0, "use super::cli;\n"),
        (0, "use crate::{api::cli, engine};\n"),
        (0, "// use crate::cli;\n"),
    ] {
        assert_eq!(cli("engine/filter.rs", text), found, "{text}");
    }
}

/// Files that hold one idea stay readable: at most 500 lines before their tests.
#[test]
fn files_stay_short() {
    let long: Vec<String> = rust_files(&source())
        .into_iter()
        .filter(|path| !is_test_file(&relative(path)))
        .filter_map(|path| {
            let lines = code(&fs::read_to_string(&path).unwrap()).count();
            (lines > 500).then(|| format!("src/{}: {lines} lines", relative(&path)))
        })
        .collect();
    assert!(
        long.is_empty(),
        "more than 500 lines before the tests:\n{}",
        long.join("\n")
    );
}
