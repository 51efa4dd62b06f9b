//! `gateway`: every socket to the outside, the journal, and the port on which cores read it.

use serde::Serialize;

use super::{
    base::Base,
    error::Error,
    ingress::{self, Ingress},
    process, ready,
};
use crate::{
    config::Config,
    gateway,
    kube::client,
    ops::{
        printer::Printer,
        shutdown::{Budget, Draining},
    },
};

/// What `--ready-file` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready<'a> {
    pid: u32,
    gateway: &'a str,
    admin: &'a str,
    journal: &'a str,
}

/// Everything that runs.
struct Running {
    base: Base,
    ingress: Ingress,
    /// Where cores read the journal.
    journal: String,
}

/// Runs until a signal.
///
/// # Errors
/// What could not be started, which part is gone, or that the drain was cut off.
pub async fn run(config: Config, printer: Printer) -> Result<(), Error> {
    // Before anything is started, made or overwritten: what can be wrong with it is the user's.
    let options = gateway::Options::from_config(&config.gateway);
    let gateway = gateway::Prepared::of(options).await?;
    process::run(&config, start(&config, gateway), &printer).await
}

async fn start(config: &Config, gateway: gateway::Prepared) -> Result<Running, Error> {
    let base = Base::start(config, ingress::GATES).await?;
    let journal = ingress::open_journal(config, &base).await?;
    // The directory is this process's own now.
    let token = base.token(config)?;
    let (client, _) = client::of(config.api.kubeconfig.as_deref()).await?;
    let ingress = Ingress::start(gateway, journal, client.clone(), &base).await?;
    let files = super::peer_files(&config.fleet);
    let (journal, _) = ingress.serve_journal(config, files, client, &base).await?;
    base.routes.attach(ingress.routes(token));
    Ok(Running {
        base,
        ingress,
        journal,
    })
}

impl process::Running for Running {
    async fn broken(&self) -> Error {
        tokio::select! {
            biased;
            task = self.base.tasks.broken() => Error::Panicked(task),
            error = self.ingress.broken() => error,
        }
    }

    async fn announce(&self, config: &Config, printer: &Printer) -> Error {
        self.base.ready().await;
        let ready = Ready {
            pid: std::process::id(),
            gateway: self.ingress.gateway.url(),
            admin: &self.base.admin_url(),
            journal: &self.journal,
        };
        let text = format!(
            "gateway {} accepts events; journal {}, admin {}\n",
            ready.gateway, ready.journal, ready.admin
        );
        let told = printer.tell(text).await.map_err(Error::from);
        if let Err(error) = told.and_then(|()| ready::write(config.ready_file.as_deref(), &ready)) {
            return error;
        }
        std::future::pending().await
    }

    /// Nothing new comes in; what is in is finished by cores that read on until the journal closes,
    /// or stays in it.
    async fn stop(self, draining: Draining, config: &Config, budget: &Budget) -> Result<(), Error> {
        let ending = async {
            self.ingress.drain(config.gateway.drain_timeout).await;
            // What does not end is told by `stop` itself and cut off with the process.
            self.base.tasks.stop(budget.half()).await.ok();
            self.ingress.close(budget.half()).await;
        };
        draining.drain(budget.left(), ending).await?;
        Ok(())
    }
}
