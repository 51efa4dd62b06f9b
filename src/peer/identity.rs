//! Who a certificate says its holder is: a URI, read strictly.

use std::{fmt, str::FromStr, sync::Arc};

/// Before the fleet's name.
const PREFIX: &str = "spiffe://zen-fabric/";

/// A part of the URI is at most this long: as long as a Kubernetes name may be.
const LONGEST: usize = 253;

/// What a process does in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Works on buckets.
    Core,
    /// Takes events in.
    Gateway,
}

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// The fleet.
    pub fleet: Arc<str>,
    /// The role.
    pub role: Role,
    /// The pod; `None`: any pod of this role, where one certificate serves them all.
    pub pod: Option<Arc<str>>,
}

/// Text that names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `spiffe://zen-fabric/<fleet>/<core|gateway>[/<pod>]`")]
pub struct NotAnIdentity(pub String);

/// Whom this process talks to over one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expected {
    /// One of these roles.
    pub roles: Vec<Role>,
    /// This pod, where it matters which.
    pub pod: Option<Arc<str>>,
}

/// Why somebody is not the one expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Of another fleet.
    Fleet,
    /// Of another role.
    Role,
    /// Another pod.
    Pod,
}

// === impl Role ===

impl Role {
    /// As the URI says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Gateway => "gateway",
        }
    }
}

// === impl PeerIdentity ===

impl PeerIdentity {
    /// One whose certificate names this pod.
    ///
    /// # Errors
    /// When fleet or pod can't be part of the URI.
    pub fn new(fleet: &str, role: Role, pod: Option<&str>) -> Result<Self, NotAnIdentity> {
        let identity = Self {
            fleet: Arc::from(fleet),
            role,
            pod: pod.map(Arc::from),
        };
        let text = identity.to_string();
        let read: Self = text.parse()?;
        (read == identity)
            .then_some(identity)
            .ok_or_else(|| NotAnIdentity(shown(&text)))
    }

    /// The one identity among the URIs of a certificate. URIs of other schemes are none of ours.
    ///
    /// # Errors
    /// The text that is no identity, or nothing where there is not exactly one.
    pub fn among<'u>(uris: impl Iterator<Item = &'u str>) -> Result<Self, NotAnIdentity> {
        let mut ours = uris.filter(|uri| uri.starts_with("spiffe://"));
        let first = ours.next().ok_or_else(|| NotAnIdentity(String::new()))?;
        if let Some(second) = ours.next() {
            return Err(NotAnIdentity(shown(&format!("{first}, {second}"))));
        }
        first.parse()
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.fleet, self.role.as_str())?;
        match &self.pod {
            Some(pod) => write!(f, "/{pod}"),
            None => Ok(()),
        }
    }
}

impl FromStr for PeerIdentity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let wrong = || NotAnIdentity(shown(text));
        let mut parts = text.strip_prefix(PREFIX).ok_or_else(wrong)?.split('/');
        let fleet = parts.next().filter(|part| plain(part)).ok_or_else(wrong)?;
        let role = match parts.next() {
            Some("core") => Role::Core,
            Some("gateway") => Role::Gateway,
            Some(_) | None => return Err(wrong()),
        };
        let pod = parts.next();
        if pod.is_some_and(|part| !plain(part)) || parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self {
            fleet: Arc::from(fleet),
            role,
            pod: pod.map(Arc::from),
        })
    }
}

/// What may stand between slashes without being escaped: names of Kubernetes.
fn plain(part: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=LONGEST).contains(&part.len()) && part.bytes().all(fits) && part != "." && part != ".."
}

/// What somebody else wrote, cut for a log.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

// === impl Expected ===

impl Expected {
    /// Anybody of this role.
    #[must_use]
    pub fn role(role: Role) -> Self {
        Self {
            roles: vec![role],
            pod: None,
        }
    }

    /// This pod of this role.
    #[must_use]
    pub fn pod(role: Role, pod: &str) -> Self {
        Self {
            roles: vec![role],
            pod: Some(Arc::from(pod)),
        }
    }

    /// Whether `peer` is expected, seen from a member of `fleet`. A certificate without a pod speaks
    /// for every pod of its role.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, fleet: &str, peer: &PeerIdentity) -> Result<(), Mismatch> {
        if *peer.fleet != *fleet {
            return Err(Mismatch::Fleet);
        }
        if !self.roles.contains(&peer.role) {
            return Err(Mismatch::Role);
        }
        match (&self.pod, &peer.pod) {
            (Some(expected), Some(pod)) if expected != pod => Err(Mismatch::Pod),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<_> = self.roles.iter().map(|role| role.as_str()).collect();
        f.write_str(&roles.join(" or "))?;
        match &self.pod {
            Some(pod) => write!(f, " {pod}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(text: &str) -> Result<PeerIdentity, NotAnIdentity> {
        text.parse()
    }

    #[test]
    fn an_identity_reads_as_it_is_written() {
        for text in [
            "spiffe://zen-fabric/default.zen-fabric/core/core-0",
            "spiffe://zen-fabric/f/gateway/gw-1.gw",
            "spiffe://zen-fabric/f/gateway",
        ] {
            assert_eq!(identity(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_identity_is_refused() {
        let long = "x".repeat(254);
        for text in [
            "",
            "spiffe://zen-fabric/",
            "spiffe://zen-fabric/f",
            "spiffe://zen-fabric/f/",
            "spiffe://zen-fabric/f/admin",
            "spiffe://zen-fabric/f/core/",
            "spiffe://zen-fabric/f/core/a/b",
            "spiffe://zen-fabric//core/a",
            "spiffe://zen-fabric/f/core/..",
            "spiffe://zen-fabric/f/core/a%2fb",
            "spiffe://zen-fabric/f/core/a?b",
            "spiffe://zen-fabric.io/f/core",
            "https://zen-fabric/f/core",
            " spiffe://zen-fabric/f/core",
            &format!("spiffe://zen-fabric/{long}/core"),
        ] {
            assert!(identity(text).is_err(), "{text}");
        }
        assert!(PeerIdentity::new("a/core", Role::Core, None).is_err());
        assert!(PeerIdentity::new("a", Role::Core, Some("b/c")).is_err());
    }

    #[test]
    fn a_certificate_has_exactly_one_identity() {
        let one = "spiffe://zen-fabric/f/core/a";
        let among = |uris: &[&str]| PeerIdentity::among(uris.iter().copied());
        assert!(among(&[one]).is_ok());
        assert!(among(&["https://example.org", one]).is_ok());
        assert!(among(&[one, one]).is_err());
        assert!(among(&[one, "spiffe://other/x"]).is_err());
        assert!(among(&["https://example.org"]).is_err());
        assert!(among(&[]).is_err());
    }

    #[test]
    fn only_the_expected_passes() {
        let check = |expected: &Expected, text: &str| expected.check("f", &identity(text).unwrap());
        let pod = Expected::pod(Role::Core, "a");
        assert_eq!(check(&pod, "spiffe://zen-fabric/f/core/a"), Ok(()));
        assert_eq!(check(&pod, "spiffe://zen-fabric/f/core"), Ok(()));
        let b = "spiffe://zen-fabric/f/core/b";
        assert_eq!(check(&pod, b), Err(Mismatch::Pod));
        assert_eq!(check(&Expected::role(Role::Core), b), Ok(()));
        let gateway = Expected::role(Role::Gateway);
        assert_eq!(check(&gateway, b), Err(Mismatch::Role));
        let other = "spiffe://zen-fabric/g/core/a";
        assert_eq!(check(&pod, other), Err(Mismatch::Fleet));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(text in "(spiffe://zen-fabric/)?[a-c/.%]{0,6}(/core)?[a-c/.]{0,5}") {
            if let Ok(read) = identity(&text) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
