//! Who does what, and why two never do it at once.
//!
//! Gossip makes it fast, compare-and-swap makes it agreed, the epoch makes it safe. Nothing that
//! gossip says is ever needed for safety.
//!
//! ```text
//!  watch, answers ─▶ view ─┬─▶ register   its own member Lease: claims, renews, answers, ends
//!  probes, messages        ├─▶ gate       may effects start at all
//!                          ├─▶ evidence   who is dead: challenges and marks
//!                          ├─▶ elector    who leads
//!                          ├─▶ leader     the next map: members, the dead's buckets, moves, healing
//!                          ├─▶ owner      what this pod works on
//!                          └─▶ drain      giving everything away
//! ```
//!
//! `replica` composes them; `port` is the seam to the world, `edge` is what stands on its other side,
//! `protocol` the rules that tests break.

pub mod assign;
pub mod buckets;
mod chance;
mod contact;
mod damping;
mod drain;
pub mod edge;
mod elector;
pub mod event;
mod evidence;
pub mod explain;
mod gate;
pub mod layout;
mod leader;
pub mod message;
pub mod names;
mod out;
pub mod outlook;
mod owner;
pub mod port;
pub mod preview;
pub mod protocol;
pub mod records;
mod refusals;
mod register;
pub mod replica;
pub mod ring;
pub mod text;
pub mod timing;
mod view;
pub mod wire;

#[cfg(test)]
mod tests;
