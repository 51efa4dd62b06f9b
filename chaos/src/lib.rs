//! Real processes on a real kube-apiserver, broken on purpose; what they did is checked and measured.

pub mod admin;
pub mod api;
pub mod bed;
pub mod check;
pub mod clock;
pub mod contest;
pub mod error;
pub mod history;
pub mod ledger;
pub mod load;
pub mod outcome;
pub mod proxy;
pub mod report;
pub mod run;
pub mod samples;
pub mod scenario;
