//! One suite of named cases about what a Kubernetes API does for its clients, run on the embedded
//! API and, with the feature `real-cluster`, on a real kube-apiserver: both must give the same
//! observable result. What the embedded API deliberately does less is in [`lesser`].
//!
//! A case is a function over a [`bench::Bench`]: a client, and a namespace of the case's own.
//! [`cases`] is the table of all of them.

mod bench;
mod cases;
mod embedded;
mod lesser;
mod tls;

#[cfg(feature = "real-cluster")]
mod identities;
#[cfg(feature = "real-cluster")]
mod kubectl;
#[cfg(feature = "real-cluster")]
mod path;
#[cfg(feature = "real-cluster")]
mod real;
#[cfg(feature = "real-cluster")]
mod testbed;

// The cases, by what they are about.
mod builtins;
mod concurrency;
mod create;
mod definitions;
mod delete;
mod discovery;
mod kinds;
mod list;
mod namespaces;
mod patch;
mod protocol;
mod schema;
mod status;
mod tables;
mod update;
mod watch;
