//! The layers on top of each other: defaults, environment, flags.

use std::{collections::BTreeMap, fmt};

use super::{Config, Roles, SETTINGS, flags, relations};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A variable of the environment.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// A configuration together with where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    origins: BTreeMap<&'static str, Origin>,
}

/// One effective value, for people; a secret's is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The setting's name, which is also its flag without the dashes.
    pub name: &'static str,
    /// Its value; empty when unset.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is to be changed: a flag, a variable, or several names of one relation.
    pub place: String,
    /// Why.
    pub message: String,
}

/// Everything that is wrong with a configuration; nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid(pub Vec<Problem>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {count} {plural}:")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {}: {}", problem.place, problem.message))
    }
}

/// The environment of this process; what is not UTF-8 is left out, for no setting is.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Prefix of every variable that is read.
pub const ENV_PREFIX: &str = "ZEN_FABRIC_";

/// Settings that no two processes on one machine may share.
const OWN: [&str; 5] = [
    "data-dir",
    "ready-file",
    "admin-bind",
    "admin-port",
    "kubeconfig",
];

impl Loaded {
    /// What a process of `role` is told: the layers on top of each other, and what that role can't be
    /// without.
    ///
    /// # Errors
    /// As [`Loaded::of`].
    pub fn of_role(
        role: Roles,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &flags::Flags,
    ) -> Result<Self, Invalid> {
        let loaded = Self::of(environment, flags)?;
        let given = |name: &str| loaded.origins.contains_key(name);
        let problems = relations::missing(role, &loaded.config, &given);
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(Invalid(problems))
        }
    }

    /// Puts the layers on top of each other.
    ///
    /// `environment` is the whole environment: a variable that begins with [`ENV_PREFIX`] and names
    /// no setting is an error, so that a misspelt one is not silently without effect.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn of(
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &flags::Flags,
    ) -> Result<Self, Invalid> {
        let mut config = Config::default();
        let mut origins = BTreeMap::new();
        let mut problems = Vec::new();
        let mut variables: BTreeMap<String, String> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .filter(|(name, value)| !is_service_link(name, value))
            .collect();
        for setting in SETTINGS {
            let variable = setting.variable();
            let layers = [
                (Origin::Environment, variables.remove(&variable)),
                (Origin::Flag, flags.get(setting.name).map(str::to_owned)),
            ];
            for (origin, text) in layers {
                let Some(text) = text else { continue };
                match (setting.place)(&mut config).set(&text) {
                    Ok(()) => {
                        origins.insert(setting.name, origin);
                    }
                    Err(message) => problems.push(Problem {
                        place: match origin {
                            Origin::Flag => format!("--{}", setting.name),
                            Origin::Environment | Origin::Default => variable.clone(),
                        },
                        message,
                    }),
                }
            }
        }
        problems.extend(variables.into_keys().map(unknown));
        problems.extend(relations::broken(&config, &|name| {
            origins.contains_key(name)
        }));
        if problems.is_empty() {
            Ok(Self { config, origins })
        } else {
            Err(Invalid(problems))
        }
    }

    /// The flags that a process of `role` is to be given so that it is told what this one was told by
    /// flags; the environment it has anyway.
    #[must_use]
    pub fn flags(&self, role: Roles) -> Vec<String> {
        let mut config = self.config.clone();
        SETTINGS
            .iter()
            .filter(|setting| setting.roles.any(role) && setting.roles.any(Roles::DEV))
            // What each process has for itself.
            .filter(|setting| !OWN.contains(&setting.name))
            .filter(|setting| self.origins.get(setting.name) == Some(&Origin::Flag))
            .map(|setting| format!("--{}={}", setting.name, (setting.place)(&mut config).show()))
            .collect()
    }

    /// Every value, in the table's order.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let mut config = self.config.clone();
        SETTINGS
            .iter()
            .map(|setting| Effective {
                name: setting.name,
                value: (setting.place)(&mut config).show(),
                origin: self
                    .origins
                    .get(setting.name)
                    .copied()
                    .unwrap_or(Origin::Default),
            })
            .collect()
    }
}

/// Whether Kubernetes has made this variable: a Service named `zen-fabric-gateway` gives every Pod of
/// its namespace `ZEN_FABRIC_GATEWAY_PORT=tcp://10.0.0.1:8084` and some more (`enableServiceLinks`).
fn is_service_link(name: &str, value: &str) -> bool {
    let link = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let part = ["_TCP_", "_UDP_", "_SCTP_"]
        .iter()
        .any(|protocol| name.contains(protocol));
    link || part || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

fn unknown(variable: String) -> Problem {
    Problem {
        place: variable,
        message: "names no setting; `zen-fabric config` lists them all".to_owned(),
    }
}
