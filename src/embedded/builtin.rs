//! The kinds that are built into the API.

use k8s_openapi::{
    api::{
        coordination::v1 as coordination, core::v1 as core, events::v1 as events, rbac::v1 as rbac,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::{
    jsonpath::JsonPath,
    kind::{BuiltIn, Column, Kind, Source, Traits},
    schema::Schema,
};

/// What sets one built-in kind apart from the next.
struct Plan {
    built_in: BuiltIn,
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    namespaced: bool,
    status: bool,
    columns: fn() -> Vec<Column>,
    raw: fn() -> Value,
}

const PLANS: [Plan; 12] = [
    Plan {
        built_in: BuiltIn::Namespace,
        group: "",
        plural: "namespaces",
        kind: "Namespace",
        short: &["ns"],
        namespaced: false,
        status: true,
        columns: || vec![name(), path("Status", ".status.phase"), age()],
        raw: raw::<core::Namespace>,
    },
    Plan {
        built_in: BuiltIn::ConfigMap,
        group: "",
        plural: "configmaps",
        kind: "ConfigMap",
        short: &["cm"],
        namespaced: true,
        status: false,
        columns: || vec![name(), count("Data", &[".data", ".binaryData"]), age()],
        raw: raw::<core::ConfigMap>,
    },
    Plan {
        built_in: BuiltIn::Secret,
        group: "",
        plural: "secrets",
        kind: "Secret",
        short: &[],
        namespaced: true,
        status: false,
        columns: || {
            vec![
                name(),
                path("Type", ".type"),
                count("Data", &[".data"]),
                age(),
            ]
        },
        raw: raw::<core::Secret>,
    },
    Plan {
        built_in: BuiltIn::ServiceAccount,
        group: "",
        plural: "serviceaccounts",
        kind: "ServiceAccount",
        short: &["sa"],
        namespaced: true,
        status: false,
        columns: || vec![name(), count("Secrets", &[".secrets"]), age()],
        raw: raw::<core::ServiceAccount>,
    },
    Plan {
        built_in: BuiltIn::CoreEvent,
        group: "",
        plural: "events",
        kind: "Event",
        short: &["ev"],
        namespaced: true,
        status: false,
        columns: event_columns,
        raw: raw::<core::Event>,
    },
    Plan {
        built_in: BuiltIn::Event,
        group: "events.k8s.io",
        plural: "events",
        kind: "Event",
        short: &["ev"],
        namespaced: true,
        status: false,
        columns: event_columns,
        raw: raw::<events::Event>,
    },
    Plan {
        built_in: BuiltIn::Lease,
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        short: &[],
        namespaced: true,
        status: false,
        columns: || vec![name(), path("Holder", ".spec.holderIdentity"), age()],
        raw: raw::<coordination::Lease>,
    },
    Plan {
        built_in: BuiltIn::Role,
        group: "rbac.authorization.k8s.io",
        plural: "roles",
        kind: "Role",
        short: &[],
        namespaced: true,
        status: false,
        columns: || vec![name(), created()],
        raw: raw::<rbac::Role>,
    },
    Plan {
        built_in: BuiltIn::RoleBinding,
        group: "rbac.authorization.k8s.io",
        plural: "rolebindings",
        kind: "RoleBinding",
        short: &[],
        namespaced: true,
        status: false,
        columns: || vec![name(), role(), age()],
        raw: raw::<rbac::RoleBinding>,
    },
    Plan {
        built_in: BuiltIn::ClusterRole,
        group: "rbac.authorization.k8s.io",
        plural: "clusterroles",
        kind: "ClusterRole",
        short: &[],
        namespaced: false,
        status: false,
        columns: || vec![name(), created()],
        raw: raw::<rbac::ClusterRole>,
    },
    Plan {
        built_in: BuiltIn::ClusterRoleBinding,
        group: "rbac.authorization.k8s.io",
        plural: "clusterrolebindings",
        kind: "ClusterRoleBinding",
        short: &[],
        namespaced: false,
        status: false,
        columns: || vec![name(), role(), age()],
        raw: raw::<rbac::ClusterRoleBinding>,
    },
    Plan {
        built_in: BuiltIn::Definition,
        group: "apiextensions.k8s.io",
        plural: "customresourcedefinitions",
        kind: "CustomResourceDefinition",
        short: &["crd", "crds"],
        namespaced: false,
        status: true,
        columns: || vec![name(), created()],
        raw: raw::<extensions::CustomResourceDefinition>,
    },
];

/// All built-in kinds.
pub(super) fn kinds() -> Vec<Kind> {
    PLANS.iter().map(Plan::kind).collect()
}

/// The `OpenAPI` schema of a built-in kind, with the descriptions that `kubectl explain` shows.
/// Made on demand: it is large, and few ask for it.
pub(super) fn raw_schema(built_in: BuiltIn) -> Value {
    PLANS
        .iter()
        .find(|plan| plan.built_in == built_in)
        .map_or(Value::Null, |plan| (plan.raw)())
}

// === impl Plan ===

impl Plan {
    fn kind(&self) -> Kind {
        let resource = if self.built_in == BuiltIn::Event || self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        };
        Kind {
            group: self.group.to_owned(),
            version: "v1".to_owned(),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            short_names: self.short.iter().map(|name| (*name).to_owned()).collect(),
            categories: if self.built_in == BuiltIn::Definition {
                vec!["api-extensions".to_owned()]
            } else {
                Vec::new()
            },
            namespaced: self.namespaced,
            status: self.status,
            storage_version: "v1".to_owned(),
            shelf: resource.into(),
            schema: Schema::generated(&(self.raw)()),
            traits: Traits::BuiltIn(self.built_in),
            columns: (self.columns)(),
            selectable: Vec::new(),
            deprecation: None,
            epoch: 0,
        }
    }
}

fn raw<T: JsonSchema>() -> Value {
    let mut generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator();
    T::json_schema(&mut generator).to_value()
}

/// The name column.
pub(super) fn name() -> Column {
    Column {
        format: "name".to_owned(),
        description: "Name must be unique within a namespace.".to_owned(),
        ..column("Name", "string", Source::Name)
    }
}

/// The age column.
pub(super) fn age() -> Column {
    column("Age", "string", Source::Age)
}

fn column(name: &str, type_: &str, source: Source) -> Column {
    Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        source,
    }
}

fn path(name: &str, path: &str) -> Column {
    column(name, "string", Source::Path(JsonPath::fields(path)))
}

fn wide(mut column: Column) -> Column {
    column.priority = 1;
    column
}

fn count(name: &str, paths: &[&str]) -> Column {
    let paths = paths.iter().map(|path| JsonPath::fields(path)).collect();
    column(name, "string", Source::Count(paths))
}

fn created() -> Column {
    path("Created At", ".metadata.creationTimestamp")
}

fn role() -> Column {
    let joined = Source::Joined(
        JsonPath::fields(".roleRef.kind"),
        JsonPath::fields(".roleRef.name"),
    );
    column("Role", "string", joined)
}

/// Events are stored in the form of the core group.
fn event_columns() -> Vec<Column> {
    let since = |name: &str, paths: &[&str]| {
        let paths = paths.iter().map(|path| JsonPath::fields(path)).collect();
        column(name, "string", Source::Since(paths))
    };
    let object = Source::Joined(
        JsonPath::fields(".involvedObject.kind"),
        JsonPath::fields(".involvedObject.name"),
    );
    vec![
        since(
            "Last Seen",
            &[
                ".series.lastObservedTime",
                ".lastTimestamp",
                ".eventTime",
                ".firstTimestamp",
            ],
        ),
        path("Type", ".type"),
        path("Reason", ".reason"),
        column("Object", "string", object),
        wide(path("Source", ".source.component")),
        path("Message", ".message"),
        wide(since("First Seen", &[".firstTimestamp", ".eventTime"])),
        wide(path("Count", ".count")),
        wide(name()),
    ]
}
