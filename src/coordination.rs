//! Who does what, and why two never do it at once.
//!
//! Gossip makes it fast, compare-and-swap makes it agreed, the epoch makes it safe. Nothing that
//! gossip says is ever needed for safety.

pub mod assign;
pub mod buckets;
mod chance;
mod contact;
mod damping;
mod drain;
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
mod owner;
pub mod port;
pub mod preview;
pub mod protocol;
pub mod records;
mod register;
pub mod replica;
pub mod ring;
pub mod text;
pub mod timing;
mod view;
pub mod wire;

#[cfg(test)]
mod tests;
