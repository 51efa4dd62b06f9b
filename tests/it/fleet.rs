//! Replicas with real sockets, mutual TLS and one API server, in one process: each has a runtime of
//! its own, which dies as a process dies.

mod broken;
mod crashes;
mod log;
mod moves;
mod outages;
mod proxy;
mod strangers;
mod world;
