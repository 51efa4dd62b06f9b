//! `CustomResourceDefinitions`: what they may say, and the kinds that they define.

mod status;

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

pub(super) use self::status::{settle, taken, terminating};
use super::{
    builtin, discovery,
    jsonpath::JsonPath,
    kind::{Column, Kind, Source, Traits},
    names,
    refusal::FieldError,
    schema::Schema,
};

/// The finalizer under which a definition waits until its objects are gone.
pub(super) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in the names that may be left out.
pub(super) fn fill_defaults(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    spec.entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) else {
        return;
    };
    let kind = names
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    for (field, default) in [
        ("singular", kind.to_lowercase()),
        ("listKind", format!("{kind}List")),
    ] {
        let absent = names
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty();
        if absent && !kind.is_empty() {
            names.insert(field.to_owned(), json!(default));
        }
    }
}

/// What a client is warned of: formats that nobody checks.
pub(super) fn warnings(definition: &Value) -> Vec<String> {
    /// `supportedFormats` of the API server, by their normalized names.
    const KNOWN: [&str; 26] = [
        "bsonobjectid",
        "byte",
        "cidr",
        "creditcard",
        "date",
        "datetime",
        "duration",
        "email",
        "hexcolor",
        "hostname",
        "ipv4",
        "ipv6",
        "isbn",
        "isbn10",
        "isbn13",
        "k8slongname",
        "k8sshortname",
        "mac",
        "password",
        "rgbcolor",
        "ssn",
        "uri",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
    ];
    let mut unknown = BTreeSet::new();
    let mut rest: Vec<&Value> = definition.pointer("/spec/versions").into_iter().collect();
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(map) => {
                let format = map
                    .get("format")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let normal = format.replace('-', "");
                if !normal.is_empty() && !KNOWN.contains(&normal.as_str()) {
                    unknown.insert(format);
                }
                // A column's format is a hint for printers.
                let below = map
                    .iter()
                    .filter(|(name, _)| *name != "additionalPrinterColumns");
                rest.extend(below.map(|(_, value)| value));
            }
            Value::Array(list) => rest.extend(list),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    unknown
        .into_iter()
        .map(|format| format!("unrecognized format {format:?}"))
        .collect()
}

/// The shelf of the objects that a definition defines.
pub(super) fn shelf(definition: &Value) -> Option<Arc<str>> {
    let spec = definition.get("spec")?;
    let plural = spec.get("names")?.get("plural")?.as_str()?;
    let group = spec.get("group")?.as_str()?;
    Some(format!("{plural}.{group}").into())
}

/// Reads a definition.
///
/// # Errors
/// Every fault, with the path of the field.
pub(super) fn kinds(definition: &Value, epoch: u64) -> Result<Vec<Kind>, Vec<FieldError>> {
    let mut errors = check_names(definition);
    let empty = json!({});
    let spec = definition.get("spec").unwrap_or(&empty);
    let versions = spec
        .get("versions")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let stored: Vec<&str> = versions
        .iter()
        .filter(|version| version.get("storage") == Some(&json!(true)))
        .filter_map(|version| version.get("name")?.as_str())
        .collect();
    let [storage] = stored.as_slice() else {
        errors.push(FieldError::invalid(
            "spec.versions",
            &json!(versions.len()),
            "must have exactly one version marked as storage version",
        ));
        return Err(errors);
    };
    if spec
        .pointer("/conversion/strategy")
        .is_some_and(|found| found != "None")
    {
        errors.push(FieldError::not_supported(
            "spec.conversion.strategy",
            spec.pointer("/conversion/strategy").unwrap_or(&Value::Null),
            &["None".to_owned()],
        ));
    }
    let mut kinds = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{at}]");
        match version_kind(spec, version, storage, &path, epoch) {
            Ok(kind) if version.get("served") == Some(&json!(true)) => kinds.push(kind),
            Ok(_) => {}
            Err(found) => errors.extend(found),
        }
    }
    // A schema that versions share has the same faults in each.
    let mut seen = Vec::new();
    errors.retain(|error| {
        let new = !seen.contains(error);
        seen.push(error.clone());
        new
    });
    if errors.is_empty() {
        Ok(kinds)
    } else {
        Err(errors)
    }
}

fn check_names(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let text = |pointer: &str| {
        definition
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (name, plural, group) = (
        text("/metadata/name"),
        text("/spec/names/plural"),
        text("/spec/group"),
    );
    for (path, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural),
        ("spec.names.kind", text("/spec/names/kind")),
        ("spec.scope", text("/spec/scope")),
    ] {
        if value.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
    }
    if name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid(
            "metadata.name",
            &json!(name),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if let Some(why) = names::dns_label(plural) {
        errors.push(FieldError::invalid(
            "spec.names.plural",
            &json!(plural),
            why,
        ));
    }
    if !group.contains('.') || names::dns_subdomain(group).is_some() {
        errors.push(FieldError::invalid(
            "spec.group",
            &json!(group),
            "should be a domain with at least one dot",
        ));
    }
    errors.extend(unapproved(definition, group));
    let scope = text("/spec/scope");
    if !scope.is_empty() && !matches!(scope, "Namespaced" | "Cluster") {
        let allowed = ["Cluster".to_owned(), "Namespaced".to_owned()];
        errors.push(FieldError::not_supported(
            "spec.scope",
            &json!(scope),
            &allowed,
        ));
    }
    errors
}

/// Groups of Kubernetes itself are not to be used by chance.
fn unapproved(definition: &Value, group: &str) -> Option<FieldError> {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    let approved = definition
        .pointer("/metadata/annotations/api-approved.kubernetes.io")
        .is_some();
    (protected && !approved).then(|| {
        FieldError::required(
            "metadata.annotations[api-approved.kubernetes.io]",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        )
    })
}

fn version_kind(
    spec: &Value,
    version: &Value,
    storage: &str,
    path: &str,
    epoch: u64,
) -> Result<Kind, Vec<FieldError>> {
    let names = spec.get("names").cloned().unwrap_or_default();
    let text = |name: &str| {
        names
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let list = |name: &str| -> Vec<String> {
        let found = names.get(name).and_then(Value::as_array);
        found
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    let group = spec
        .get("group")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let schema = version_schema(spec, version, path)?;
    let (columns, selectable) = (columns(version, path)?, selectable(version, &schema, path)?);
    Ok(Kind {
        shelf: format!("{}.{group}", text("plural")).into(),
        group,
        version: version
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        plural: text("plural"),
        singular: text("singular"),
        kind: text("kind"),
        list_kind: text("listKind"),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: spec.get("scope") == Some(&json!("Namespaced")),
        status: version.pointer("/subresources/status").is_some(),
        storage_version: storage.to_owned(),
        schema,
        traits: Traits::Custom,
        columns,
        selectable,
        deprecation: deprecation(spec, version),
        epoch,
    })
}

/// The best served version that is newer and not deprecated itself.
fn successor<'v>(spec: &'v Value, name: &str) -> Option<&'v str> {
    spec.get("versions")?
        .as_array()?
        .iter()
        .filter(|version| version.get("served") == Some(&json!(true)))
        .filter(|version| version.get("deprecated") != Some(&json!(true)))
        .filter_map(|version| version.get("name")?.as_str())
        .filter(|newer| discovery::priority(newer) > discovery::priority(name))
        .max_by_key(|newer| discovery::priority(newer))
}

fn deprecation(spec: &Value, version: &Value) -> Option<String> {
    if version.get("deprecated") != Some(&json!(true)) {
        return None;
    }
    let given = version.get("deprecationWarning").and_then(Value::as_str);
    let text = |pointer: &str| {
        spec.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let name = version
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Some(given.map_or_else(
        || {
            let (group, kind) = (text("/group"), text("/names/kind"));
            let instead = successor(spec, name)
                .map(|newer| format!("; use {group}/{newer} {kind}"))
                .unwrap_or_default();
            format!("{group}/{name} {kind} is deprecated{instead}")
        },
        str::to_owned,
    ))
}

fn version_schema(spec: &Value, version: &Value, path: &str) -> Result<Schema, Vec<FieldError>> {
    // A schema that all versions share is named as the one that it was in v1beta1.
    let versions = spec.get("versions").and_then(Value::as_array);
    let shared = versions
        .into_iter()
        .flatten()
        .all(|other| other.get("schema") == version.get("schema"));
    let path = if shared {
        "spec.validation.openAPIV3Schema".to_owned()
    } else {
        format!("{path}.schema.openAPIV3Schema")
    };
    let raw = version
        .pointer("/schema/openAPIV3Schema")
        .ok_or_else(|| vec![FieldError::required(path.as_str(), "schemas are required")])?;
    if raw.get("type") != Some(&json!("object")) {
        let found = raw.get("type").cloned().unwrap_or_else(|| json!(""));
        return Err(vec![FieldError::invalid(
            format!("{path}.type"),
            &found,
            "must be object at the root",
        )]);
    }
    Schema::parse(raw, &path)
}

fn columns(version: &Value, path: &str) -> Result<Vec<Column>, Vec<FieldError>> {
    let mut columns = vec![builtin::name()];
    let declared = version
        .get("additionalPrinterColumns")
        .and_then(Value::as_array);
    let Some(declared) = declared.filter(|declared| !declared.is_empty()) else {
        columns.push(builtin::age());
        return Ok(columns);
    };
    for (at, raw) in declared.iter().enumerate() {
        let text = |name: &str| {
            raw.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let source = JsonPath::parse(&text("jsonPath")).map_err(|error| {
            vec![FieldError::invalid(
                format!("{path}.additionalPrinterColumns[{at}].jsonPath"),
                &json!(text("jsonPath")),
                error.to_string(),
            )]
        })?;
        columns.push(Column {
            name: text("name"),
            type_: text("type"),
            format: text("format"),
            description: text("description"),
            priority: raw.get("priority").and_then(Value::as_i64).unwrap_or(0),
            source: Source::Path(source),
        });
    }
    Ok(columns)
}

fn selectable(
    version: &Value,
    schema: &Schema,
    path: &str,
) -> Result<Vec<String>, Vec<FieldError>> {
    let mut paths = Vec::new();
    let declared = version.get("selectableFields").and_then(Value::as_array);
    for (at, raw) in declared.into_iter().flatten().enumerate() {
        let json_path = raw
            .get("jsonPath")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut node = Some(schema);
        for name in json_path.split('.').filter(|name| !name.is_empty()) {
            node = node.and_then(|node| node.property(name));
        }
        if node.is_none() || !json_path.starts_with('.') {
            return Err(vec![FieldError::invalid(
                format!("{path}.selectableFields[{at}].jsonPath"),
                &json!(json_path),
                "must point to a field in the schema",
            )]);
        }
        paths.push(json_path.to_owned());
    }
    Ok(paths)
}
