//! The suite on the embedded API, a new one for each case.

use std::sync::Arc;

use zen_fabric::{
    embedded::Server,
    ops::{tasks::Tasks, time::SystemClock},
};

use crate::bench::{Bench, Finisher};

pub(crate) async fn bench() -> Bench {
    let server = Server::in_memory(Arc::new(SystemClock), &Tasks::new());
    Bench::new(server.client(), Finisher::Server).await
}

crate::cases::every_case!(run_here);
