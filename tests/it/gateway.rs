//! The gateway on a real socket: Ingestors and Secrets from the embedded API, events into the
//! segment log.

mod contract;
mod drain;
mod gone;
mod live;
mod replay;
mod sockets;
mod tls;
mod traces;
mod world;
