//! A served kind: its names, its schema, and how a table of it looks.

use std::sync::Arc;

use super::{jsonpath::JsonPath, schema::Schema};

/// One version of one resource, as discovery lists it.
#[derive(Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of the fields of a definition's `names`"
)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version in this entry.
    pub version: String,
    /// The resource's plural name, as in paths.
    pub plural: String,
    /// The resource's singular name.
    pub singular: String,
    /// The kind's name.
    pub kind: String,
    /// The kind of a list.
    pub list_kind: String,
    /// Short names for command lines.
    pub short_names: Vec<String>,
    /// Categories, for example `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// The version in which objects lie in the store.
    pub storage_version: String,
    /// Where objects lie: the same for all versions of one resource.
    pub shelf: Arc<str>,
    /// The structural schema.
    pub(super) schema: Schema,
    /// What beside the schema belongs to the kind.
    pub traits: Traits,
    /// The columns of its table.
    pub(super) columns: Vec<Column>,
    /// Field paths that a field selector may use, beside metadata.name and metadata.namespace.
    pub selectable: Vec<String>,
    /// What clients are warned of when they use this version.
    pub deprecation: Option<String>,
    /// Differs whenever the definition changes, so that stored objects are looked at again.
    pub epoch: u64,
}

/// In what a kind differs from a plain custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traits {
    /// Defined by a `CustomResourceDefinition`.
    Custom,
    /// Built into the API.
    BuiltIn(BuiltIn),
}

/// The kinds that are built into the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltIn {
    /// v1 Namespace.
    Namespace,
    /// v1 `ConfigMap`.
    ConfigMap,
    /// v1 Secret.
    Secret,
    /// v1 `ServiceAccount`.
    ServiceAccount,
    /// v1 Event.
    CoreEvent,
    /// events.k8s.io/v1 Event: the same objects under other field names.
    Event,
    /// coordination.k8s.io/v1 Lease.
    Lease,
    /// rbac.authorization.k8s.io/v1 Role.
    Role,
    /// rbac.authorization.k8s.io/v1 `RoleBinding`.
    RoleBinding,
    /// rbac.authorization.k8s.io/v1 `ClusterRole`.
    ClusterRole,
    /// rbac.authorization.k8s.io/v1 `ClusterRoleBinding`.
    ClusterRoleBinding,
    /// apiextensions.k8s.io/v1 `CustomResourceDefinition`.
    Definition,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The heading.
    pub name: String,
    /// The `OpenAPI` type: `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// The `OpenAPI` format, for example `name`.
    pub format: String,
    /// What it shows.
    pub description: String,
    /// 0: always shown, 1: with `-o wide`.
    pub priority: i64,
    /// Where the value comes from.
    pub source: Source,
}

/// Where the value of a column comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The object's name.
    Name,
    /// How old the object is.
    Age,
    /// A path into the object.
    Path(JsonPath),
    /// How many entries the maps or lists at these paths have together.
    Count(Vec<JsonPath>),
    /// How long ago the latest of these times was.
    Since(Vec<JsonPath>),
    /// Two paths, joined by a slash.
    Joined(JsonPath, JsonPath),
}

// === impl Kind ===

impl Kind {
    /// `plural.group`, as error messages name it.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `Kind.group`, as error messages name it.
    #[must_use]
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// `group/version`, as `apiVersion` has it.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.api_version_of(&self.version)
    }

    /// The `apiVersion` of another version of this resource.
    #[must_use]
    pub fn api_version_of(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }

    /// Whether a `CustomResourceDefinition` made it.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.traits == Traits::Custom
    }

    /// Whether it is this built-in kind.
    #[must_use]
    pub fn is(&self, built_in: BuiltIn) -> bool {
        self.traits == Traits::BuiltIn(built_in)
    }

    /// The key of an object on its shelf, in etcd's order.
    #[must_use]
    pub fn key(namespace: Option<&str>, name: &str) -> Box<str> {
        match namespace {
            Some(namespace) => format!("{namespace}/{name}").into(),
            None => name.into(),
        }
    }
}
