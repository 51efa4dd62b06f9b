//! The gateway on a real socket: Ingestors and Secrets from the embedded API, events into the
//! segment log.

mod contract;
mod drain;
mod fields;
mod gone;
mod hangups;
mod http2;
mod limits;
mod live;
mod memory;
mod raw_http2;
mod replay;
mod samples;
mod soak;
mod sockets;
mod stalling;
mod tls;
mod traces;
mod unavailable;
mod world;
mod wrong;
