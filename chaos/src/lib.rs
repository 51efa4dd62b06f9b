//! Real processes on a real kube-apiserver, broken on purpose; what they did is checked and measured.

pub mod api;
pub mod clock;
pub mod contest;
pub mod error;
pub mod ledger;
pub mod samples;
