//! The engine between the journal and the embedded API, in the runtime's paused time: hours pass in
//! milliseconds, and the same seed does the same again.

mod aging;
mod contained;
mod crowded;
mod disturbed;
mod fenced;
mod link;
mod owning;
mod refused;
mod replica;
mod rig;
mod scenarios;
mod tapped;
mod tenant;
