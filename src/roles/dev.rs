//! `dev`: everything on one machine.
//!
//! The embedded API (or a cluster's, by kubeconfig), a gateway and the journal in this process, and
//! cores that share the work: child processes, of which this one is the kubelet, or a single one
//! within.

mod api;
mod children;
mod cores;
mod hints;
pub mod sample;
mod takeover;

use std::{path::Path, pin::pin};

use serde::Serialize;
use tracing::warn;

use self::{api::ApiServer, children::Listed, cores::Cores, hints::Hints};
use super::{
    base::Base,
    error::Error,
    ingress::{self, Ingress},
    process, ready,
};
use crate::{
    config::{Config, Loaded},
    gateway,
    ops::{
        printer::Printer,
        shutdown::{Budget, Draining},
        tasks::Tasks,
    },
};

/// What `--ready-file` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready<'a> {
    pid: u32,
    gateway: &'a str,
    admin: &'a str,
    api: &'a str,
    kubeconfig: &'a Path,
    data_dir: &'a Path,
    children: Vec<Listed>,
}

/// Everything that runs. Groups of tasks are stopped one after the other.
struct Running {
    base: Base,
    api: ApiServer,
    api_tasks: Tasks,
    ingress: Ingress,
    cores: Cores,
    /// The sample's secret, where the sample is there.
    secret: Option<String>,
}

/// Runs until a signal; prints what to do next.
///
/// # Errors
/// What could not be started, which part is gone, or that the drain was cut off.
pub async fn run(loaded: Loaded, printer: Printer) -> Result<(), Error> {
    // Before anything is started, made or overwritten: what can be wrong with it is the user's.
    let options = gateway::Options::from_config(&loaded.config.gateway);
    let gateway = gateway::Prepared::of(options).await?;
    Box::pin(process::run(
        &loaded.config,
        start(&loaded, gateway),
        &printer,
    ))
    .await
}

async fn start(loaded: &Loaded, gateway: gateway::Prepared) -> Result<Running, Error> {
    let config = &loaded.config;
    let gates = ingress::GATES.into_iter().chain(["api"]);
    let base = Base::start(config, gates.chain(cores::gates(&config.fleet))).await?;
    let journal = ingress::open_journal(config, &base).await?;
    // The directory is this process's own now.
    let token = base.token(config)?;
    let gate = base.readiness.gate("api");
    gate.shut("waiting for the API server and its kinds");
    let api_tasks = Tasks::new();
    let api = ApiServer::start(config, &base.clock, &api_tasks).await?;
    let secret = sample::seed(&api.client).await?;
    sample::ensure_namespace(&api.client, &config.fleet.namespace).await?;
    gate.open();
    let ingress = Ingress::start(gateway, journal, api.client.clone(), &base).await?;
    let cores = Cores::start(loaded, &base, &api, &ingress).await?;
    let routes = ingress.routes(token.clone());
    base.routes.attach(match cores.routes(token) {
        Some(more) => routes.merge(more),
        None => routes,
    });
    Ok(Running {
        base,
        api,
        api_tasks,
        ingress,
        cores,
        secret,
    })
}

impl process::Running for Running {
    async fn broken(&self) -> Error {
        let api = self.api.broken();
        tokio::select! {
            biased;
            task = self.base.tasks.broken() => Error::Panicked(task),
            task = self.api_tasks.broken() => Error::Panicked(task),
            error = self.ingress.broken() => error,
            () = api.cancelled() => {
                let why = self.api.failure();
                self.base.readiness.gate("api").shut(format!("its log failed: {why}"));
                Error::ApiFailed(why)
            }
            error = self.cores.broken() => error,
        }
    }

    async fn announce(&self, config: &Config, printer: &Printer) -> Error {
        let mut ready = pin!(async {
            tokio::join!(self.cores.ready(), self.base.ready());
        });
        loop {
            tokio::select! {
                () = &mut ready => break,
                // One that fails at every start is told here.
                line = self.cores.line() => warn!("{line}"),
            }
        }
        let told = printer.tell(self.hints(config)).await.map_err(Error::from);
        if let Err(error) = told.and_then(|()| self.list(config)) {
            return error;
        }
        loop {
            tokio::select! {
                line = self.cores.line() => printer.line(&line),
                () = self.cores.changed() => if let Err(error) = self.list(config) {
                    // Everything works, whether or not somebody reads of it.
                    warn!(%error, "what became of a core can't be told");
                },
            }
        }
    }

    /// Nothing new comes in, what is in is finished or stays in the journal, the journal closes, and
    /// then the API. No stage can take the time of those behind it, so the journal is closed in order
    /// whatever the senders and the API server do.
    async fn stop(self, draining: Draining, config: &Config, budget: &Budget) -> Result<(), Error> {
        let ending = async {
            self.ingress.drain(config.gateway.drain_timeout).await;
            self.cores.stop(budget.half()).await;
            // What does not end is told by `stop` itself and cut off with the process.
            self.base.tasks.stop(budget.half()).await.ok();
            self.ingress.close(budget.half()).await;
            self.api_tasks.stop(budget.half()).await.ok();
            drop(self.api.embedded);
        };
        draining.drain(budget.left(), ending).await?;
        Ok(())
    }
}

impl Running {
    /// What to do next.
    fn hints(&self, config: &Config) -> String {
        let program = std::env::current_exe()
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned));
        let gateway = config
            .gateway
            .public_url
            .as_deref()
            .unwrap_or_else(|| self.ingress.gateway.url());
        let hints = Hints {
            gateway: self.ingress.gateway.url(),
            admin: &self.base.admin_url(),
            api: &self.api.url,
            kubeconfig: &self.api.kubeconfig,
            data_dir: &config.data_dir,
            program: program.as_deref().unwrap_or("zen-fabric"),
            sample: self
                .secret
                .as_deref()
                .map(|secret| hints::Sample::new(gateway, secret)),
            cores: &self.cores.list(),
        };
        hints.to_string()
    }

    /// The ready file, with the children that run now.
    fn list(&self, config: &Config) -> Result<(), Error> {
        let ready = Ready {
            pid: std::process::id(),
            gateway: self.ingress.gateway.url(),
            admin: &self.base.admin_url(),
            api: &self.api.url,
            kubeconfig: &self.api.kubeconfig,
            data_dir: &config.data_dir,
            children: self.cores.list(),
        };
        ready::write(config.ready_file.as_deref(), &ready)
    }
}

#[cfg(test)]
mod tests;
