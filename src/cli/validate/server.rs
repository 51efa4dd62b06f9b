//! What a server would say: the store of the embedded API, asked to create each object and to keep
//! nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    api::{GROUP, crds},
    embedded::store::{Action, At, Body, Fields, Limits, Request, Store, Target, Write},
    journal::Millis,
};

/// Any moment will do: nothing that is decided here depends on the clock.
const NOW: Millis = Millis(0);

/// A complaint about a field; the empty path stands for the whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) field: String,
    pub(super) message: String,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Accepted; as the server would have it, defaults filled in.
    Accepted(Value),
    /// Refused, for each of these.
    Refused(Vec<Complaint>),
    /// Of a kind that isn't this project's business.
    Foreign,
}

/// A server with the kinds of this build.
#[derive(Debug)]
pub(super) struct Server {
    store: Store,
    requests: u128,
    namespaces: BTreeSet<String>,
}

/// Kinds beside the project's own that usually stand in the same files.
const BUILT_IN: [(&str, &str, Scope); 3] = [
    ("Namespace", "namespaces", Scope::Cluster),
    ("Secret", "secrets", Scope::Namespaced),
    ("ConfigMap", "configmaps", Scope::Namespaced),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespaced,
}

/// Namespace of objects that name none, as `kubectl` has it without a context.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

impl Server {
    pub(super) fn new() -> Self {
        let mut server = Self {
            store: Store::new(Limits::default()),
            requests: 0,
            namespaces: BTreeSet::new(),
        };
        let at = server.at();
        server.store.prepare(&at);
        for crd in crds() {
            let target = Target {
                group: "apiextensions.k8s.io".to_owned(),
                version: "v1".to_owned(),
                plural: "customresourcedefinitions".to_owned(),
                ..Target::default()
            };
            let definition = serde_json::to_value(&crd).unwrap_or_default();
            server.create(target, definition, Write::default());
        }
        server
    }

    /// What a server would answer to the creation of `object`.
    pub(super) fn judge(&mut self, object: &Value) -> Verdict {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let (Some(version), Some(kind)) = (text("/apiVersion"), text("/kind")) else {
            return refused(
                "",
                "apiVersion and kind must be given: this is no Kubernetes object",
            );
        };
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let Some((plural, scope)) = resource(group, version, kind) else {
            if group == GROUP {
                return refused(
                    "",
                    &format!("no matches for kind {kind:?} in version \"{group}/{version}\""),
                );
            }
            return Verdict::Foreign;
        };
        let namespace = (scope == Scope::Namespaced).then(|| {
            text("/metadata/namespace")
                .unwrap_or(DEFAULT_NAMESPACE)
                .to_owned()
        });
        if let Some(namespace) = &namespace {
            self.make_namespace(namespace);
        }
        let target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            plural,
            namespace,
            ..Target::default()
        };
        let write = Write {
            dry_run: true,
            fields: Fields::Strict,
            repeated: Vec::new(),
        };
        self.create(target, object.clone(), write)
    }

    fn make_namespace(&mut self, name: &str) {
        if !self.namespaces.insert(name.to_owned()) {
            return;
        }
        let target = Target {
            version: "v1".to_owned(),
            plural: "namespaces".to_owned(),
            ..Target::default()
        };
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
        });
        // One that is there already, or whose name can be none: the object that names it is refused.
        self.create(target, object, Write::default());
    }

    fn create(&mut self, target: Target, object: Value, write: Write) -> Verdict {
        let at = self.at();
        let request = Request {
            target,
            action: Action::Create(object, write),
        };
        match self.store.apply(&at, request) {
            Ok(answer) => match answer.body {
                Body::Object(bytes) => {
                    Verdict::Accepted(serde_json::from_slice(&bytes).unwrap_or_default())
                }
                Body::List(_) | Body::Status(_) => Verdict::Accepted(Value::Null),
            },
            Err(refusal) => Verdict::Refused(complaints(&refusal.status())),
        }
    }

    fn at(&mut self) -> At {
        self.requests += 1;
        At {
            now: NOW,
            entropy: self.requests,
        }
    }
}

fn resource(group: &str, version: &str, kind: &str) -> Option<(String, Scope)> {
    if group.is_empty() && version == "v1" {
        let found = BUILT_IN.iter().find(|(known, ..)| *known == kind)?;
        return Some((found.1.to_owned(), found.2));
    }
    let crd = crds().into_iter().find(|crd| {
        crd.spec.group == group
            && crd.spec.names.kind == kind
            && crd.spec.versions.iter().any(|v| v.name == version)
    })?;
    Some((crd.spec.names.plural, Scope::Namespaced))
}

fn refused(field: &str, message: &str) -> Verdict {
    Verdict::Refused(vec![Complaint {
        field: field.to_owned(),
        message: message.to_owned(),
    }])
}

/// The complaints in a `Status`: its causes, else the unknown fields that its message lists, else
/// the message.
fn complaints(status: &Value) -> Vec<Complaint> {
    let text = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let causes: Vec<Complaint> = status
        .pointer("/details/causes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|cause| Complaint {
            field: text(cause, "field").replace("<nil>", ""),
            message: text(cause, "message"),
        })
        .collect();
    if !causes.is_empty() {
        return causes;
    }
    let message = text(status, "message");
    let unknown: Vec<Complaint> = message
        .split("unknown field \"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(field, _)| Complaint {
            field: field.to_owned(),
            message: "is no field of this kind".to_owned(),
        })
        .collect();
    if unknown.is_empty() {
        let field = String::new();
        vec![Complaint { field, message }]
    } else {
        unknown
    }
}
