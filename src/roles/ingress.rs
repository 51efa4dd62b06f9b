//! From sockets to the journal: the part that `gateway` and `dev` share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use kube::Client;
use tokio::net::TcpListener;
use tonic::service::Routes;

use super::{
    base::Base,
    error::{Error, peer_failed},
    map::{self, Newest},
    options,
};
use crate::{
    config::Config,
    gateway::{self, Gateway, Surroundings},
    journal::{Journal as _, Local, remote, wal::Wal},
    ops::{
        admin::{self, events::Events, token::Token},
        metrics::journal::JournalMetrics,
        tasks::Tasks,
    },
    peer,
};

/// The gates of this part.
pub(super) const GATES: [&str; 2] = ["journal", gateway::GATE];

/// A running gateway and its journal.
pub(super) struct Ingress {
    pub(super) journal: Arc<Wal>,
    pub(super) gateway: gateway::Handle,
    pub(super) tasks: Tasks,
}

/// Opens the journal; the data directory is this process's own from then on.
pub(super) async fn open_journal(config: &Config, base: &Base) -> Result<Arc<Wal>, Error> {
    let gate = base.readiness.gate("journal");
    gate.shut("reading what is stored");
    let path = config.journal_dir();
    let (folder, options) = (path.clone(), options::journal(config));
    let clock = Arc::clone(&base.clock);
    // Reading a long log takes its time, which the other tasks are not to wait for.
    let opening = tokio::task::spawn_blocking(move || Wal::open(&folder, options, clock));
    let journal = match opening.await {
        Ok(opened) => opened.map_err(|source| Error::Journal { path, source })?,
        Err(panicked) => return Err(Error::Io(std::io::Error::other(panicked))),
    };
    let metrics = JournalMetrics::new(Arc::<Wal>::clone(&journal))?;
    base.registry.register(Box::new(metrics))?;
    gate.open();
    Ok(journal)
}

impl Ingress {
    /// Serves the gateway on an open journal.
    pub(super) async fn start(
        prepared: gateway::Prepared,
        journal: Arc<Wal>,
        client: Client,
        base: &Base,
    ) -> Result<Self, Error> {
        let tasks = Tasks::new();
        let surroundings = Surroundings {
            client,
            journal: Arc::<Wal>::clone(&journal),
            clock: Arc::clone(&base.clock),
            registry: &base.registry,
            readiness: &base.readiness,
            tasks: &tasks,
        };
        let gateway = Gateway::serve(prepared, surroundings).await?;
        Ok(Self {
            journal,
            gateway,
            tasks,
        })
    }

    /// Lets cores of the fleet read the journal; gives the address, and the map that this process
    /// follows. `files` is this process's certificate.
    pub(super) async fn serve_journal(
        &self,
        config: &Config,
        files: peer::Files,
        client: Client,
        base: &Base,
    ) -> Result<(String, Newest), Error> {
        let fleet = &config.fleet;
        let credentials = peer::Credentials::load(files, &base.registry)
            .await
            .map_err(peer_failed)?;
        credentials.follow(&self.tasks);
        let address = SocketAddr::new(fleet.journal_bind, fleet.journal_port);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen {
                what: "cores",
                address,
                setting: "journal-port",
                source,
            })?;
        let bound = listener.local_addr()?;
        let newest = map::follow(client, fleet, &base.registry, &self.tasks)?;
        let view = Arc::new(map::View::of(newest.clone(), &self.tasks));
        let source = Arc::new(self.source());
        let service = remote::server::service(source, view, &base.registry, &self.tasks)?;
        peer::serve(
            listener,
            credentials,
            peer::Expected::role(peer::Role::Core),
            Routes::new(service),
            &self.tasks,
            peer::Bounds::default(),
        );
        Ok((bound.to_string(), newest))
    }

    /// The journal as a core in this process reads it.
    pub(super) fn source(&self) -> Local {
        Local::new(Arc::<Wal>::clone(&self.journal), self.gateway.facts())
    }

    /// The admin port's dead letters and tallies.
    pub(super) fn routes(&self, token: Token) -> Router {
        let events = Events {
            journal: Arc::<Wal>::clone(&self.journal),
            facts: self.gateway.facts(),
        };
        admin::events::routes(events, token)
    }

    /// Waits until a part is gone that the process can't be without.
    pub(super) async fn broken(&self) -> Error {
        let journal = self.journal.broken();
        tokio::select! {
            biased;
            task = self.tasks.broken() => Error::Panicked(task),
            () = journal.cancelled() => Error::Panicked("journal"),
        }
    }

    /// Takes no new requests and finishes those under way.
    pub(super) async fn drain(&self, deadline: Duration) {
        self.gateway.drain(deadline).await;
    }

    /// Closes the journal: nothing reads from it any more.
    pub(super) async fn close(&self, grace: Duration) {
        // What does not end is told by `stop` itself and cut off with the process.
        self.tasks.stop(grace).await.ok();
        self.journal.close().await;
    }
}
