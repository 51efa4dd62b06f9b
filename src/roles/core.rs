//! `core`: one replica of those that share the work, in a process of its own.

use std::{io, os::fd::AsFd as _};

use serde::Serialize;
use tokio::net::unix::pipe;
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
    ops::{
        printer::Printer,
        shutdown::{Budget, Draining},
    },
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
    /// Standard input, where its end is this process's.
    input: Option<pipe::Receiver>,
}

/// Runs until a signal; with `until_input_ends` also until standard input ends, which is when the
/// process that started this one is gone.
///
/// # Errors
/// What could not be started, which part is gone, or that the drain was cut off.
pub async fn run(config: Config, until_input_ends: bool, printer: Printer) -> Result<(), Error> {
    process::run(&config, start(&config, until_input_ends), &printer).await
}

async fn start(config: &Config, until_input_ends: bool) -> Result<Running, Error> {
    let input = until_input_ends.then(input).transpose()?;
    let base = Base::start(config, replica::GATES).await?;
    let token = base.token(config)?;
    let (client, _) = client::of(config.api.kubeconfig.as_deref()).await?;
    let replica = Replica::among(config, &base, client).await?;
    base.routes.attach(replica.routes(token));
    Ok(Running {
        base,
        replica,
        input,
    })
}

/// Standard input, which is to be a pipe: what holds its other end is who started this process.
fn input() -> io::Result<pipe::Receiver> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    pipe::Receiver::from_owned_fd(input)
}

/// Waits until a pipe's other end is closed; for ever without a pipe.
async fn ended(input: Option<&pipe::Receiver>) {
    let Some(input) = input else {
        return std::future::pending().await;
    };
    let mut some = [0; 64];
    loop {
        if input.readable().await.is_err() {
            return;
        }
        match input.try_read(&mut some) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
    }
}

impl process::Running for Running {
    async fn broken(&self) -> Error {
        tokio::select! {
            biased;
            task = self.base.tasks.broken() => Error::Panicked(task),
            error = self.replica.broken() => error,
            () = ended(self.input.as_ref()) => Error::Orphaned,
        }
    }

    async fn announce(&self, config: &Config, printer: &Printer) -> Error {
        self.base.ready().await;
        let holder = self.replica.holder();
        let ready = Ready {
            pid: std::process::id(),
            admin: &self.base.admin_url(),
            peer: self.replica.peer(),
            holder: &holder,
        };
        let text = format!(
            "{holder} works; peers {}, admin {}\n",
            ready.peer, ready.admin
        );
        let told = printer.tell(text).await.map_err(Error::from);
        if let Err(error) = told.and_then(|()| ready::write(config.ready_file.as_deref(), &ready)) {
            return error;
        }
        std::future::pending().await
    }

    /// Each bucket is kept until another takes it; what nobody takes is finished as far as it is in
    /// flight.
    async fn stop(self, draining: Draining, _: &Config, budget: &Budget) -> Result<(), Error> {
        let ending = async {
            // The admin port and the last spans need little.
            self.replica.stop(budget.left() * 7 / 8).await;
            if self.base.tasks.stop(budget.half()).await.is_err() {
                warn!("the admin port did not close in time");
            }
        };
        draining.drain(budget.left(), ending).await?;
        Ok(())
    }
}
