//! Who logs in to the test bed's API server.

/// Someone whom the API server knows by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    groups: Vec<String>,
}

// === impl User ===

impl User {
    /// Someone by this name in these groups, with no rights but what roles give.
    pub fn new<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.into_iter().map(ToOwned::to_owned).collect(),
        }
    }

    /// May do everything.
    pub fn admin() -> Self {
        Self::new("admin", ["system:masters"])
    }

    /// The service account `namespace/name`: what is bound to that account in a manifest holds for
    /// this user as it does for a pod.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let all_of_namespace = format!("system:serviceaccounts:{namespace}");
        Self::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            ["system:serviceaccounts", all_of_namespace.as_str()],
        )
    }

    /// The identity of the role `core` in `deploy/rbac`.
    pub fn core() -> Self {
        Self::service_account("zen-system", "zen-fabric-core")
    }

    /// The identity of the role `gateway` in `deploy/rbac`.
    pub fn gateway() -> Self {
        Self::service_account("zen-system", "zen-fabric-gateway")
    }

    /// Someone whom no role names.
    pub fn nobody() -> Self {
        Self::new("nobody", [])
    }

    /// The name that the API server knows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The groups beside `system:authenticated`.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The name as part of a file name.
    pub(super) fn file_name(&self) -> String {
        self.name.replace([':', '/'], "-")
    }
}
