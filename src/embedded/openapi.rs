//! `OpenAPI` documents: what `kubectl explain`, `apply` and client-side validation read.
//!
//! Made on demand from the schemas, never kept: they are large, and few ask for them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    builtin,
    kind::{Kind, Traits},
    refusal::Refusal,
    store::Store,
    wire::OpenApi,
};

/// The reference to the schema of every object's metadata.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// What a real server says of the fields that all objects have.
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// One document.
pub(super) fn document(store: &Store, which: &OpenApi) -> Result<Bytes, Refusal> {
    let document = match which {
        OpenApi::Index => index(store),
        OpenApi::Three(group, version) => three(store, group, version)?,
        OpenApi::Two => two(store),
    };
    Ok(Bytes::from(document.to_string()))
}

fn index(store: &Store) -> Value {
    let mut paths = Map::new();
    for kind in store.registry().iter() {
        let path = if kind.group.is_empty() {
            format!("api/{}", kind.version)
        } else {
            format!("apis/{}/{}", kind.group, kind.version)
        };
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn three(store: &Store, group: &str, version: &str) -> Result<Value, Refusal> {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    schemas.insert(META.to_owned(), meta_schema());
    for kind in store.registry().iter() {
        if kind.group != group || kind.version != version {
            continue;
        }
        let name = schema_name(kind);
        schemas.insert(name.clone(), schema(store, kind, "#/components/schemas/"));
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        add_paths(&mut paths, kind, &|operation| {
            if let Some(map) = operation.as_object_mut() {
                let content = json!({"application/json": {"schema": reference}});
                map.insert(
                    "responses".to_owned(),
                    json!({"200": {"description": "OK", "content": content}}),
                );
            }
        });
    }
    if paths.is_empty() {
        return Err(Refusal::no_page());
    }
    Ok(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn two(store: &Store) -> Value {
    let mut definitions = Map::new();
    let mut paths = Map::new();
    definitions.insert(META.to_owned(), meta_schema());
    for kind in store.registry().iter() {
        let name = schema_name(kind);
        definitions.insert(name.clone(), schema(store, kind, "#/definitions/"));
        let reference = json!({"$ref": format!("#/definitions/{name}")});
        add_paths(&mut paths, kind, &|operation| {
            if let Some(map) = operation.as_object_mut() {
                map.insert(
                    "responses".to_owned(),
                    json!({"200": {"description": "OK", "schema": reference}}),
                );
            }
        });
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": paths,
        "definitions": definitions,
    })
}

/// `io.k8s.api.core.v1.ConfigMap`, `io.watcher.zen.v1.Ingestor`.
fn schema_name(kind: &Kind) -> String {
    let reversed: Vec<&str> = kind.group.rsplit('.').collect();
    let prefix = match kind.traits {
        Traits::Custom => reversed.join("."),
        Traits::BuiltIn(_) => {
            let first = kind.group.split('.').next().unwrap_or_default();
            format!(
                "io.k8s.api.{}",
                if first.is_empty() { "core" } else { first }
            )
        }
    };
    format!("{prefix}.{}.{}", kind.version, kind.kind)
}

fn schema(store: &Store, kind: &Kind, references: &str) -> Value {
    let mut schema = match kind.traits {
        Traits::BuiltIn(built_in) => builtin::raw_schema(built_in),
        Traits::Custom => store
            .raw_schema(kind)
            .unwrap_or_else(|| json!({"type": "object"})),
    };
    if let Some(map) = schema.as_object_mut() {
        let text = |description: &str| json!({"type": "string", "description": description});
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties
                .entry("apiVersion")
                .or_insert_with(|| text(API_VERSION));
            properties.entry("kind").or_insert_with(|| text(KIND));
            properties.insert(
                "metadata".to_owned(),
                json!({
                    "description": METADATA,
                    "allOf": [{"$ref": format!("{references}{META}")}],
                    "default": {},
                }),
            );
        }
        map.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]),
        );
    }
    if references == "#/definitions/" {
        // OpenAPI 2 has no allOf with siblings for what kubectl reads: a plain reference will do.
        if let Some(metadata) = schema.pointer_mut("/properties/metadata") {
            *metadata = json!({"$ref": format!("{references}{META}")});
        }
    }
    schema
}

fn meta_schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let map = |description: &str| {
        json!({"type": "object", "description": description,
               "additionalProperties": {"type": "string", "default": ""}})
    };
    let properties: BTreeMap<&str, Value> = [
        ("name", text("Name must be unique within a namespace.")),
        ("generateName", text("GenerateName is an optional prefix, used by the server to generate a unique name where none is given.")),
        ("namespace", text("Namespace defines the space within which each name must be unique.")),
        ("uid", text("UID is the unique in time and space value for this object.")),
        ("resourceVersion", text("An opaque value that represents the internal version of this object.")),
        ("creationTimestamp", text("When this object was created.")),
        ("deletionTimestamp", text("When this object was asked to be deleted.")),
        ("selfLink", text("Deprecated.")),
        ("labels", map("Map of string keys and values that can be used to organize and categorize (scope and select) objects.")),
        ("annotations", map("An unstructured key value map that may be set by external tools to store and retrieve arbitrary metadata.")),
        ("generation", json!({"type": "integer", "format": "int64", "description": "A sequence number representing a specific generation of the desired state."})),
        ("deletionGracePeriodSeconds", json!({"type": "integer", "format": "int64", "description": "Number of seconds allowed for this object to terminate."})),
        ("finalizers", json!({"type": "array", "items": {"type": "string", "default": ""}, "description": "Must be empty before the object is deleted.", "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"})),
        ("ownerReferences", json!({"type": "array", "items": {"type": "object"}, "description": "Objects depended by this object.", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"], "x-kubernetes-patch-merge-key": "uid", "x-kubernetes-patch-strategy": "merge"})),
        ("managedFields", json!({"type": "array", "items": {"type": "object"}, "description": "Which fields are managed by which workflow; not kept by this server."})),
    ]
    .into_iter()
    .collect();
    json!({
        "type": "object",
        "description": "ObjectMeta is metadata that all persisted resources must have.",
        "properties": properties,
    })
}

fn add_paths(paths: &mut Map<String, Value>, kind: &Kind, answer: &dyn Fn(&mut Value)) {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let scope = if kind.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scope}/{}", kind.plural);
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|name| {
                json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true},
                       "type": "string", "uniqueItems": true})
            })
            .collect();
        let mut operation = json!({
            "parameters": parameters,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind":
                {"group": kind.group, "version": kind.version, "kind": kind.kind},
        });
        answer(&mut operation);
        operation
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", &[]),
            "put": operation("put", &write),
            "patch": operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
            "delete": operation("delete", &["dryRun"]),
        }),
    );
    if kind.namespaced {
        paths.insert(
            format!("{root}/{}", kind.plural),
            json!({"get": operation("list", &[])}),
        );
    }
    paths.insert(
        collection,
        json!({
            "get": operation("list", &[]),
            "post": operation("post", &write),
            "delete": operation("deletecollection", &["dryRun"]),
        }),
    );
}
