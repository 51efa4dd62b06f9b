//! Discovery: what kinds there are, as `kubectl` and kube-rs ask for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    kind::{BuiltIn, Kind},
    refusal::Refusal,
    registry::Registry,
    wire::Discovery,
};

/// The version of Kubernetes whose API this is.
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "34",
        "gitVersion": concat!("v1.34.0+zen-fabric-embedded-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "",
    })
}

/// One document of discovery.
pub(super) fn document(registry: &Registry, which: &Discovery) -> Result<Value, Refusal> {
    match which {
        Discovery::Core => Ok(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        Discovery::Groups => {
            let groups: Vec<Value> = groups(registry).iter().map(group).collect();
            Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        Discovery::Group(name) => groups(registry)
            .iter()
            .find(|(found, _)| *found == name)
            .map(|found| {
                let mut document = group(found);
                if let Some(map) = document.as_object_mut() {
                    map.insert("kind".to_owned(), json!("APIGroup"));
                    map.insert("apiVersion".to_owned(), json!("v1"));
                }
                document
            })
            .ok_or_else(Refusal::no_page),
        Discovery::Version(group, version) => resources(registry, group, version),
        Discovery::Aggregated { core } => Ok(aggregated(registry, *core)),
    }
}

/// The versions of each named group, the preferred first.
fn groups(registry: &Registry) -> Vec<(&str, Vec<&str>)> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in registry.iter().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(&kind.group).or_default();
        if !versions.contains(&kind.version.as_str()) {
            versions.push(&kind.version);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    }
    groups
}

/// The order of versions of `k8s.io/apimachinery/pkg/version`: stable before beta before alpha,
/// the higher number first, all else last.
pub(super) fn priority(version: &str) -> (u8, u64, u64) {
    let parse = || -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest
            .find(|char: char| !char.is_ascii_digit())
            .unwrap_or(rest.len());
        let (major, rest) = rest.split_at_checked(digits)?;
        let major = major.parse().ok()?;
        if rest.is_empty() {
            return Some((3, major, 0));
        }
        let (rank, minor) = rest
            .strip_prefix("beta")
            .map(|minor| (2, minor))
            .or_else(|| rest.strip_prefix("alpha").map(|minor| (1, minor)))?;
        Some((rank, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

fn group((name, versions): &(&str, Vec<&str>)) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({
        "name": name,
        "versions": versions,
        "preferredVersion": versions.first(),
    })
}

fn verbs(kind: &Kind) -> Vec<&'static str> {
    let mut verbs = vec![
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    if kind.is(BuiltIn::Namespace) {
        verbs.retain(|verb| *verb != "deletecollection");
    }
    verbs
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, Refusal> {
    let mut resources = Vec::new();
    for kind in registry
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs(kind),
        });
        if let Some(map) = resource.as_object_mut() {
            if !kind.short_names.is_empty() {
                map.insert("shortNames".to_owned(), json!(kind.short_names));
            }
            if !kind.categories.is_empty() {
                map.insert("categories".to_owned(), json!(kind.categories));
            }
        }
        resources.push(resource);
        if kind.status {
            resources.push(json!({
                "name": format!("{}/status", kind.plural),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    if resources.is_empty() {
        return Err(Refusal::no_page());
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }))
}

fn aggregated(registry: &Registry, core: bool) -> Value {
    let groups = if core {
        vec![("", vec!["v1"])]
    } else {
        groups(registry)
    };
    let items: Vec<Value> = groups
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = registry
                        .iter()
                        .filter(|kind| kind.group == *name && kind.version == *version)
                        .map(|kind| aggregated_resource(kind))
                        .collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            json!({"metadata": {"name": name}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let scope = if kind.namespaced {
        "Namespaced"
    } else {
        "Cluster"
    };
    let response = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let mut subresources = Vec::new();
    if kind.status {
        subresources.push(json!({
            "subresource": "status",
            "responseKind": response,
            "verbs": ["get", "patch", "update"],
        }));
    }
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response,
        "scope": scope,
        "singularResource": kind.singular,
        "verbs": verbs(kind),
        "subresources": subresources,
    });
    if let Some(map) = resource.as_object_mut() {
        if !kind.short_names.is_empty() {
            map.insert("shortNames".to_owned(), json!(kind.short_names));
        }
        if !kind.categories.is_empty() {
            map.insert("categories".to_owned(), json!(kind.categories));
        }
    }
    resource
}
