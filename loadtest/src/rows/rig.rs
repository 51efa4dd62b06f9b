//! A process under load with one endpoint, and what a run on it keeps.

use std::{path::Path, sync::Arc, time::Duration};

use kube::Client;
use rustls::ClientConfig;
use zen_fabric::testing::cluster::{EtcdSync, Options, RealCluster, User};

use super::{Bench, Error, Place, generate, run_id};
use crate::{
    admin::Admin,
    cluster,
    dev::{Dev, Start},
    generator::{Ids, Inputs, OnBreak, Outcome, Pace, Requests, Target, Window},
    ledger::Ledger,
};

/// Name of the Ingestor.
pub(super) const NAME: &str = "load";

/// Everything that a row needs while it runs.
pub(super) struct Rig {
    /// The process is stopped before its directory is removed, and before its API server is.
    pub(super) dev: Dev,
    pub(super) client: Client,
    pub(super) admin: Admin,
    /// UID of the Ingestor.
    pub(super) uid: String,
    /// Names the run in every delivery's id.
    pub(super) run: u32,
    pub(super) ledger: Ledger,
    target: Target,
    requests: Requests,
    ids: Ids,
    _place: Place,
}

impl Rig {
    /// Starts the process on the embedded API, with one Ingestor, and waits until it serves.
    pub(super) async fn start(
        bench: &Bench,
        place: Place,
        start: &Start,
        tls: Option<Arc<ClientConfig>>,
        max_per_minute: Option<u32>,
    ) -> Result<Self, Error> {
        let dev = start.run().await?;
        let client = dev.client().await?;
        Self::on(bench, place, dev, client, (tls, max_per_minute)).await
    }

    /// The same on a real API server, unpaced.
    pub(super) async fn on_cluster(bench: &Bench, real: &RealCluster) -> Result<Self, Error> {
        let place = bench.place()?;
        let kubeconfig = real.kubeconfig(&User::admin());
        let start = bench
            .start(&place.data())
            .flag("kubeconfig", kubeconfig.display().to_string())
            .flag("install-crds", "true");
        let dev = start.run().await?;
        let client = client_of(&kubeconfig).await?;
        Self::on(bench, place, dev, client, (None, None)).await
    }

    async fn on(
        bench: &Bench,
        place: Place,
        dev: Dev,
        client: Client,
        (tls, max_per_minute): (Option<Arc<ClientConfig>>, Option<u32>),
    ) -> Result<Self, Error> {
        let profile = &bench.profile;
        cluster::prepare(&client, profile).await?;
        let ingestor = profile.ingestor(NAME, max_per_minute);
        let uid = cluster::ingestor(&client, &ingestor).await?;
        let paths = [cluster::path(profile, NAME)];
        let target = Target {
            address: dev.gateway()?,
            tls,
        };
        cluster::serving(&target, &paths).await?;
        let run = run_id();
        Ok(Self {
            admin: Admin::of(&dev.data_dir)?,
            dev,
            client,
            uid,
            run,
            ledger: Ledger::create(&place.file("ledger")).map_err(Error::io("make the ledger"))?,
            target,
            requests: Requests::github(profile, &paths, cluster::SECRET),
            ids: Ids::new(run),
            _place: place,
        })
    }

    /// Sends.
    pub(super) fn send(
        &mut self,
        connections: usize,
        pace: Pace,
        window: Window,
    ) -> Result<Outcome, Error> {
        let inputs = Inputs {
            target: &self.target,
            requests: &self.requests,
            ids: &mut self.ids,
            ledger: &mut self.ledger,
            connections,
        };
        generate(inputs, pace, window, OnBreak::Reconnect)
    }

    /// Sends so many, as fast as they are answered.
    pub(super) fn send_count(&mut self, connections: usize, count: u64) -> Result<Outcome, Error> {
        let window = Window {
            warm_up: Duration::ZERO,
            measure: Duration::from_mins(1),
            at_most: Some(count),
        };
        self.send(connections, Pace::Closed, window)
    }
}

/// A real API server whose etcd waits for the disk, as in production.
pub(super) async fn real_cluster() -> Result<RealCluster, Error> {
    let options = Options {
        etcd_sync: EtcdSync::On,
        ..Options::default()
    };
    Ok(RealCluster::start_with(options).await?)
}

async fn client_of(kubeconfig: &Path) -> Result<Client, Error> {
    Ok(crate::dev::client(kubeconfig).await?)
}
