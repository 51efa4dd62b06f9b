//! `zen-fabric validate`: the verdict that a server would give, and what a server can't see.
//!
//! ```text
//!  files ──▶ documents ──▶ server: the embedded API's own store, asked to create each and keep nothing
//!                    └───▶ unseen: expressions, filters that decide nothing, paths, Secrets
//! ```

mod documents;
mod server;
mod unseen;

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

pub use documents::{Document, Input, Unreadable};
pub use unseen::Level;

use self::{
    server::{Complaint, DEFAULT_NAMESPACE, Server, Verdict},
    unseen::Accepted,
};
use super::{Exit, Failure, Streams};

/// See [`super::Command::Validate`].
#[derive(clap::Args, Debug)]
pub struct Args {
    /// YAML or JSON, of several documents perhaps; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Largest text that is read: an object may have 1.5 MiB on a server, and a file of a thousand
/// Ingestors has about one.
const MAX_BYTES: u64 = 64 * 1_024 * 1_024;

/// One complaint about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The document's number in the file, from 1.
    pub document: usize,
    /// Kind, namespace and name of the object.
    pub object: String,
    /// Whether it makes the document invalid.
    pub level: Level,
    /// The field's path; empty for the whole object.
    pub field: String,
    /// The field's line, where the text is YAML.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

/// What was found in all inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Complaints, in the order of the documents.
    pub findings: Vec<Finding>,
    /// Files that can't be read as YAML or JSON.
    pub unreadable: Vec<Unreadable>,
    /// How many documents were looked at.
    pub checked: usize,
    /// Titles of documents of kinds that are not this project's business.
    pub foreign: Vec<String>,
}

/// Validates the files.
pub(super) fn run(args: &Args, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let mut inputs = Vec::new();
    let mut unreadable = Vec::new();
    for file in &args.files {
        match read(file, streams) {
            Ok(input) => inputs.push(input),
            Err(error) => unreadable.push(Unreadable {
                file: file.display().to_string(),
                message: error.to_string(),
            }),
        }
    }
    let mut report = validate(&inputs);
    report.unreadable.splice(0..0, unreadable);
    write!(streams.out, "{report}")?;
    Ok(report.exit())
}

fn read(file: &PathBuf, streams: &mut Streams<'_>) -> io::Result<Input> {
    use io::Read as _;

    let mut text = String::new();
    let stdin = file.as_os_str() == "-";
    let size = if stdin {
        (&mut *streams.input)
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)?
    } else {
        fs::File::open(file)?
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)?
    };
    if u64::try_from(size).is_ok_and(|size| size > MAX_BYTES) {
        return Err(io::Error::other(format!(
            "is larger than {MAX_BYTES} bytes"
        )));
    }
    Ok(Input {
        name: file.display().to_string(),
        text,
    })
}

/// Validates texts. Pure: the same texts give the same report.
#[must_use]
pub fn validate(inputs: &[Input]) -> Report {
    let mut report = Report::default();
    let mut documents = Vec::new();
    for input in inputs {
        match documents::read(input) {
            Ok(found) => documents.extend(found),
            Err(error) => report.unreadable.push(error),
        }
    }
    let mut findings: Vec<Vec<Finding>> = vec![Vec::new(); documents.len()];
    let mut server = Server::new();
    let mut accepted = Vec::new();
    let mut secrets = Vec::new();
    for (document, findings) in documents.iter().zip(&mut findings) {
        let mut add = |level, complaint| findings.push(Finding::of(document, level, complaint));
        match server.judge(&document.object) {
            Verdict::Foreign => {
                report.foreign.push(document.title());
                continue;
            }
            Verdict::Refused(complaints) => {
                for complaint in complaints {
                    add(Level::Error, complaint);
                }
            }
            Verdict::Accepted(object) => match kind(&document.object) {
                "Ingestor" => match serde_json::from_value(object) {
                    Ok(ingestor) => accepted.push(Accepted { document, ingestor }),
                    Err(error) => add(Level::Error, Complaint::of_all(error.to_string())),
                },
                "Secret" => secrets.push(document),
                _ => {}
            },
        }
        report.checked += 1;
    }
    let alone = accepted.iter().flat_map(|one| {
        let found = unseen::alone(&one.ingestor).into_iter();
        found.map(|(level, complaint)| (one.document, level, complaint))
    });
    let repeated = repeated(&documents);
    for (document, level, complaint) in alone
        .chain(unseen::together(&accepted, &secrets))
        .chain(repeated)
    {
        let place = documents
            .iter()
            .position(|known| std::ptr::eq(known, document));
        if let Some(findings) = place.and_then(|place| findings.get_mut(place)) {
            findings.push(Finding::of(document, level, complaint));
        }
    }
    report.findings = findings.into_iter().flatten().collect();
    report
}

fn kind(object: &serde_json::Value) -> &str {
    object
        .get("kind")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
}

/// Documents that describe an object which an earlier one describes.
fn repeated(documents: &[Document]) -> Vec<(&Document, Level, Complaint)> {
    let mut first: BTreeMap<String, &Document> = BTreeMap::new();
    let mut found = Vec::new();
    for document in documents {
        let text = |pointer| {
            document
                .object
                .pointer(pointer)
                .and_then(serde_json::Value::as_str)
        };
        let (Some(version), Some(name)) = (text("/apiVersion"), text("/metadata/name")) else {
            continue;
        };
        let namespace = text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let key = format!("{group}/{}/{namespace}/{name}", kind(&document.object));
        match first.get(&key) {
            None => {
                first.insert(key, document);
            }
            Some(earlier) => found.push((
                document,
                Level::Error,
                Complaint {
                    field: "metadata.name".to_owned(),
                    message: format!(
                        "document {} of {} is the same object: what is applied last replaces the other",
                        earlier.number, earlier.file
                    ),
                },
            )),
        }
    }
    found
}

// === impl Complaint ===

impl Complaint {
    fn of_all(message: String) -> Self {
        Self {
            field: String::new(),
            message,
        }
    }
}

// === impl Finding ===

impl Finding {
    fn of(document: &Document, level: Level, complaint: Complaint) -> Self {
        Self {
            file: document.file.clone(),
            document: document.number,
            object: document.title(),
            level,
            line: document.line(&complaint.field),
            field: complaint.field,
            message: complaint.message,
        }
    }
}

// === impl Report ===

impl Report {
    /// 0: all valid; 1: something is invalid; 2: something can't be read.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if !self.unreadable.is_empty() {
            Exit::Usage
        } else if self.invalid() > 0 {
            Exit::Failure
        } else {
            Exit::Success
        }
    }

    /// How many documents are invalid.
    #[must_use]
    pub fn invalid(&self) -> usize {
        let mut places: Vec<(&str, usize)> = self
            .findings
            .iter()
            .filter(|finding| finding.level == Level::Error)
            .map(|finding| (finding.file.as_str(), finding.document))
            .collect();
        places.sort_unstable();
        places.dedup();
        places.len()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": document {}, {}: ", self.document, self.object)?;
        if self.level == Level::Warning {
            f.write_str("warning: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.unreadable {
            writeln!(f, "{error}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for title in &self.foreign {
            writeln!(
                f,
                "not checked, of a kind that this build does not know: {title}"
            )?;
        }
        let invalid = self.invalid();
        writeln!(
            f,
            "{} valid, {invalid} invalid",
            self.checked.saturating_sub(invalid)
        )
    }
}

#[cfg(test)]
mod tests;
