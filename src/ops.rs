//! What every process needs to be operated: clock, disk, tasks, output, metrics, telemetry, the admin
//! server.

pub mod admin;
pub mod disk;
pub mod metrics;
pub mod printer;
pub mod process;
pub mod ready;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod threads;
pub mod time;
