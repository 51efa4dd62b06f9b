//! What every process needs to be operated: clock, tasks, metrics, telemetry, the admin server.

pub mod ready;
pub mod tasks;
pub mod time;
