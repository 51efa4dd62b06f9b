//! What a request over HTTP asks for: paths, queries, media types. Pure.

mod json;
mod media;
mod query;

use http::{HeaderMap, Method, Uri};
use serde_json::Value;

use self::{
    media::{accept, accepted, content, content_type},
    query::{Query, percent_decode},
};
use super::{
    faults::Verb,
    meta,
    patch::Patch,
    refusal::{FieldError, Refusal},
    store::{Action, AsOf, Delete, Fields, List, Part, Request, Target, Write},
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Something of the store.
    Store(Box<Request>, As),
    /// To follow changes.
    Watch(Box<WatchAsk>, As),
    /// What there is: `/api`, `/apis` and below.
    Discovery(Discovery),
    /// An `OpenAPI` document.
    OpenApi(OpenApi),
    /// `/version`.
    Version,
    /// `/livez`, `/readyz`, `/healthz`.
    Health,
}

/// Which part of discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    /// `/api`.
    Core,
    /// `/apis`.
    Groups,
    /// `/api` or `/apis` in the aggregated form.
    Aggregated { core: bool },
    /// `/apis/GROUP`.
    Group(String),
    /// `/apis/GROUP/VERSION` or `/api/v1`.
    Version(String, String),
}

/// Which `OpenAPI` document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenApi {
    /// `/openapi/v2`.
    Two,
    /// `/openapi/v3`: the index.
    Index,
    /// `/openapi/v3/…`: group and version.
    Three(String, String),
}

/// How objects are to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// As they are.
    Object,
    /// As they are, in YAML.
    Yaml,
    /// As rows of a table.
    Table(Rows),
    /// Their metadata alone.
    Metadata,
}

/// How much of an object is beside its row in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    Bare,
}

/// A watch that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WatchAsk {
    pub(super) target: Target,
    pub(super) labels: String,
    pub(super) fields: String,
    /// From which version on; absent or 0: from what is there now.
    pub(super) version: Option<u64>,
    pub(super) bookmarks: bool,
    /// Whether what is there now comes first, and a bookmark behind it.
    pub(super) initial: bool,
    pub(super) timeout: Option<u64>,
}

// === impl Ask ===

impl Ask {
    /// Understands a request.
    ///
    /// # Errors
    /// 400, 404, 405, 406 or 415, by what is wrong with it.
    pub(super) fn read(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let parts: Vec<&str> = uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        match parts.as_slice() {
            ["version"] => return Ok(Self::Version),
            ["livez" | "readyz" | "healthz", ..] => return Ok(Self::Health),
            ["openapi", rest @ ..] => return open_api(rest).map(Self::OpenApi),
            _ => {}
        }
        if let Some(discovery) = discovery(&parts, headers) {
            return if *method == Method::GET {
                Ok(Self::Discovery(discovery))
            } else {
                Err(Refusal::method_not_allowed())
            };
        }
        let target = target(&parts)?;
        let query = Query::parse(uri.query().unwrap_or_default());
        let rows = match query.get("includeObject") {
            Some("Object") => Rows::Object,
            Some("None") => Rows::Bare,
            Some(_) | None => Rows::Metadata,
        };
        let shown = accepted(headers, rows)?;
        if *method == Method::GET && query.flag("watch") {
            return watch(target, &query).map(|ask| Self::Watch(Box::new(ask), shown));
        }
        let action = action(method, &target, &query, headers, body)?;
        Ok(Self::Store(Box::new(Request { target, action }), shown))
    }

    /// What it is to a planned fault: verb, resource, name.
    pub(super) fn aim(&self) -> Option<(Verb, &str, &str)> {
        match self {
            Self::Store(request, _) => {
                let named = request.target.name.as_deref().unwrap_or_default();
                let (verb, name) = match &request.action {
                    Action::Get(_) => (Verb::Get, named),
                    Action::List(_) => (Verb::List, named),
                    Action::Create(object, _) => (Verb::Create, meta::text(object, "name")),
                    Action::Update(..) => (Verb::Update, named),
                    Action::Patch(..) => (Verb::Patch, named),
                    Action::Delete(_) => (Verb::Delete, named),
                    Action::DeleteCollection(..) => (Verb::DeleteCollection, named),
                };
                Some((verb, &request.target.plural, name))
            }
            Self::Watch(ask, _) => {
                let name = ask.target.name.as_deref().unwrap_or_default();
                Some((Verb::Watch, &ask.target.plural, name))
            }
            Self::Discovery(_) | Self::OpenApi(_) | Self::Version | Self::Health => None,
        }
    }
}

fn open_api(parts: &[&str]) -> Result<OpenApi, Refusal> {
    match parts {
        ["v2"] => Ok(OpenApi::Two),
        ["v3"] => Ok(OpenApi::Index),
        ["v3", "api", version] => Ok(OpenApi::Three(String::new(), (*version).to_owned())),
        ["v3", "apis", group, version] => {
            Ok(OpenApi::Three((*group).to_owned(), (*version).to_owned()))
        }
        _ => Err(Refusal::no_page()),
    }
}

fn discovery(parts: &[&str], headers: &HeaderMap) -> Option<Discovery> {
    let aggregated = accept(headers).any(|one| {
        one.contains("as=APIGroupDiscoveryList") && one.contains("v=v2") && !one.contains("v2beta1")
    });
    match parts {
        ["api"] if aggregated => Some(Discovery::Aggregated { core: true }),
        ["apis"] if aggregated => Some(Discovery::Aggregated { core: false }),
        ["api"] => Some(Discovery::Core),
        ["apis"] => Some(Discovery::Groups),
        ["api", version] => Some(Discovery::Version(String::new(), (*version).to_owned())),
        ["apis", group] => Some(Discovery::Group((*group).to_owned())),
        ["apis", group, version] => Some(Discovery::Version(
            (*group).to_owned(),
            (*version).to_owned(),
        )),
        _ => None,
    }
}

fn target(parts: &[&str]) -> Result<Target, Refusal> {
    let (group, version, rest) = match parts {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(Refusal::no_page()),
    };
    let (namespace, rest) = match rest {
        // A namespace itself, or one of its subresources.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (plural, name, part) = match rest {
        [plural] => (*plural, None, Part::Whole),
        [plural, name] => (*plural, Some(*name), Part::Whole),
        [plural, name, "status"] => (*plural, Some(*name), Part::Status),
        [plural, name, "finalize"] => (*plural, Some(*name), Part::Finalize),
        _ => return Err(Refusal::no_page()),
    };
    let decoded = |text: &str| percent_decode(text, false);
    Ok(Target {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        namespace: namespace.map(decoded),
        name: name.map(decoded),
        part,
    })
}

fn watch(target: Target, query: &Query) -> Result<WatchAsk, Refusal> {
    let version = query.number("resourceVersion")?;
    let initial = query.flag("sendInitialEvents");
    let matched = query.get("resourceVersionMatch");
    if initial && matched != Some("NotOlderThan") {
        return Err(Refusal::bad_option(
            "ListOptions",
            FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
        ));
    }
    Ok(WatchAsk {
        target,
        labels: query.text("labelSelector"),
        fields: query.text("fieldSelector"),
        version,
        bookmarks: query.flag("allowWatchBookmarks"),
        initial,
        timeout: query.number("timeoutSeconds")?,
    })
}

fn action(
    method: &Method,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Action, Refusal> {
    match (method.as_str(), &target.name) {
        ("GET", Some(_)) => Ok(Action::Get(query.number("resourceVersion")?)),
        ("GET", None) => list(query).map(Action::List),
        ("POST", _) => {
            let (object, write) = written(query, "CreateOptions", (headers, body))?;
            Ok(Action::Create(object, write))
        }
        ("PUT", Some(_)) => {
            let (object, write) = written(query, "UpdateOptions", (headers, body))?;
            Ok(Action::Update(object, write))
        }
        ("PATCH", Some(_)) => {
            let media_type = content_type(headers);
            Ok(Action::Patch(
                Patch::read(media_type, body)?,
                write(query, "PatchOptions")?,
            ))
        }
        ("DELETE", Some(_)) => delete(query, headers, body).map(Action::Delete),
        ("DELETE", None) => Ok(Action::DeleteCollection(
            list(query)?,
            delete(query, headers, body)?,
        )),
        _ => Err(Refusal::method_not_allowed()),
    }
}

fn list(query: &Query) -> Result<List, Refusal> {
    let version = query.number("resourceVersion")?;
    let limit = query.number("limit")?.unwrap_or(0);
    if version.is_none() && query.get("resourceVersionMatch").is_some() {
        return Err(Refusal::bad_option(
            "ListOptions",
            FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        ));
    }
    let as_of = match (version, query.get("resourceVersionMatch")) {
        (Some(version), Some("Exact")) if version > 0 => AsOf::Exactly(version),
        (_, Some("Exact")) => {
            return Err(Refusal::bad_option(
                "ListOptions",
                FieldError::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ),
            ));
        }
        (None, _) => AsOf::Newest,
        // Older clients page through an exact version by its number and a limit alone.
        (Some(version), None) if version > 0 && limit > 0 => AsOf::Exactly(version),
        (Some(version), _) => AsOf::NotOlderThan(version),
    };
    Ok(List {
        labels: query.text("labelSelector"),
        fields: query.text("fieldSelector"),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        token: query.get("continue").map(str::to_owned),
        as_of,
    })
}

fn write(query: &Query, options: &str) -> Result<Write, Refusal> {
    let fields = match query.get("fieldValidation") {
        None | Some("" | "Warn") => Fields::Warn,
        Some("Strict") => Fields::Strict,
        Some("Ignore") => Fields::Ignore,
        Some(other) => {
            return Err(unknown_word(
                options,
                "fieldValidation",
                other,
                &["Ignore", "Strict", "Warn"],
            ));
        }
    };
    Ok(Write {
        dry_run: dry_run(query, options)?,
        fields,
        repeated: Vec::new(),
    })
}

fn unknown_word(options: &str, option: &str, found: &str, known: &[&str]) -> Refusal {
    let known: Vec<String> = known.iter().map(|one| (*one).to_owned()).collect();
    // A repeatable option is shown as the list that it is.
    let found = if option == "dryRun" {
        Value::from(vec![found])
    } else {
        Value::from(found)
    };
    let error = FieldError::not_supported(option, &found, &known);
    Refusal::bad_option(options, error)
}

fn dry_run(query: &Query, options: &str) -> Result<bool, Refusal> {
    match query.get("dryRun") {
        None | Some("") => Ok(false),
        Some("All") => Ok(true),
        Some(other) => Err(unknown_word(options, "dryRun", other, &["All"])),
    }
}

fn delete(query: &Query, headers: &HeaderMap, body: &[u8]) -> Result<Delete, Refusal> {
    let options: Value = if body.is_empty() {
        Value::Null
    } else {
        content(headers, body)?.0
    };
    let text = |pointer: &str| options.pointer(pointer)?.as_str().map(str::to_owned);
    let dry = options
        .get("dryRun")
        .and_then(Value::as_array)
        .is_some_and(|all| all.iter().any(|one| one == "All"));
    Ok(Delete {
        dry_run: dry || dry_run(query, "DeleteOptions")?,
        uid: text("/preconditions/uid"),
        version: text("/preconditions/resourceVersion"),
    })
}

/// An object to write, and how.
fn written(
    query: &Query,
    options: &str,
    (headers, body): (&HeaderMap, &[u8]),
) -> Result<(Value, Write), Refusal> {
    let options = write(query, options)?;
    let (object, repeated) = content(headers, body)?;
    Ok((
        object,
        Write {
            repeated,
            ..options
        },
    ))
}
