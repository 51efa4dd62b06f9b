//! `core`: one replica of those that share the work, in a process of its own.

use std::io;

use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tracing::warn;

use super::{
    base::Base,
    error::Error,
    process, ready,
    replica::{self, Replica},
};
use crate::{
    config::Config,
    kube::client,
    ops::shutdown::{Budget, Draining},
};

/// This role, as the ready file of `dev` names it.
pub(super) const ROLE: &str = "core";

/// What `--ready-file` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready<'a> {
    pid: u32,
    admin: &'a str,
    peer: &'a str,
    holder: &'a str,
}

/// Everything that runs.
struct Running {
    base: Base,
    replica: Replica,
    until_input_ends: bool,
}

/// Runs until a signal; with `until_input_ends` also until standard input ends, which is when the
/// process that started this one is gone.
///
/// # Errors
/// What could not be started, which part is gone, or that the drain was cut off.
pub async fn run(
    config: Config,
    until_input_ends: bool,
    out: &mut (dyn io::Write + Send),
) -> Result<(), Error> {
    process::run(&config, start(&config, until_input_ends), out).await
}

async fn start(config: &Config, until_input_ends: bool) -> Result<Running, Error> {
    let base = Base::start(config, replica::GATES).await?;
    let token = base.token(config)?;
    let (client, _) = client::of(config.api.kubeconfig.as_deref()).await?;
    let replica = Replica::among(config, &base, client).await?;
    base.routes.attach(replica.routes(token));
    Ok(Running {
        base,
        replica,
        until_input_ends,
    })
}

/// Waits until standard input ends.
async fn orphaned() {
    let mut input = tokio::io::stdin();
    let mut some = [0; 64];
    while matches!(input.read(&mut some).await, Ok(1..)) {}
}

impl process::Running for Running {
    async fn broken(&self) -> Error {
        tokio::select! {
            biased;
            task = self.base.tasks.broken() => Error::Panicked(task),
            error = self.replica.broken() => error,
            () = orphaned(), if self.until_input_ends => Error::Orphaned,
        }
    }

    async fn announce(&self, config: &Config, out: &mut (dyn io::Write + Send)) -> Error {
        self.base.ready().await;
        let holder = self.replica.holder();
        let ready = Ready {
            pid: std::process::id(),
            admin: &self.base.admin_url(),
            peer: self.replica.peer(),
            holder: &holder,
        };
        let told = writeln!(
            out,
            "{holder} works; peers {}, admin {}",
            ready.peer, ready.admin
        );
        let told = told.and_then(|()| out.flush()).map_err(Error::from);
        if let Err(error) = told.and_then(|()| ready::write(config.ready_file.as_deref(), &ready)) {
            return error;
        }
        std::future::pending().await
    }

    /// Each bucket is kept until another takes it; what nobody takes is finished as far as it is in
    /// flight.
    async fn stop(self, draining: Draining, _: &Config, budget: &Budget) -> Result<(), Error> {
        let ending = async {
            self.replica.stop(budget.half()).await;
            if self.base.tasks.stop(budget.half()).await.is_err() {
                warn!("the admin port did not close in time");
            }
        };
        draining.drain(budget.left(), ending).await?;
        Ok(())
    }
}
