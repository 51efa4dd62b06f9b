//! The cores of a `dev` process: child processes, or one within.

use std::{collections::VecDeque, fs, io, path::Path, sync::Arc, time::Duration};

use axum::Router;

use super::{
    api::ApiServer,
    children::{self, Children, Listed, Notice, World},
    takeover::Takeovers,
};
use crate::{
    config::{self, Loaded, Roles},
    ops::{
        admin::token::{Token, URL_FILE},
        ready::Gate,
        time::Clock,
    },
    peer::{self, PeerIdentity, Role},
    roles::{
        base::Base,
        error::{Error, peer_failed, write_failed},
        ingress::Ingress,
        map::Newest,
        replica::{self, Replica},
    },
};

/// What the names of the pods that `dev` plays begin with.
const PREFIX: &str = "core";

/// The gate that is shut until each child has worked once.
const GATE: &str = "cores";

/// See the module.
pub(super) enum Cores {
    /// One in this process, which needs no certificate and talks to nobody.
    Within(Box<Replica>),
    /// Processes.
    Children(Box<Family>),
}

/// Child processes, and what is told of them.
pub(super) struct Family {
    children: Children,
    told: tokio::sync::Mutex<Told>,
    clock: Arc<dyn Clock>,
    gate: Gate,
}

/// What becomes lines on the terminal.
struct Told {
    takeovers: Takeovers,
    map: Newest,
    lines: VecDeque<String>,
}

/// The gates that are shut until cores work.
pub(super) fn gates(fleet: &config::Fleet) -> Vec<&'static str> {
    if fleet.replicas == 1 {
        replica::GATES.to_vec()
    } else {
        vec![GATE]
    }
}

impl Cores {
    pub(super) async fn start(
        loaded: &Loaded,
        base: &Base,
        api: &ApiServer,
        ingress: &Ingress,
    ) -> Result<Self, Error> {
        // Nobody else is to know these ports.
        let mut config = loaded.config.clone();
        config.fleet.peer_port = 0;
        config.fleet.journal_port = 0;
        let config = &config;
        let authority = peer::ca::Dev::create(&config.data_dir.join("pki")).map_err(peer_failed)?;
        let issue = |role, pod: Option<&str>| {
            let identity = PeerIdentity::new(&config.fleet.name, role, pod).map_err(peer_failed)?;
            authority.issue(&identity).map_err(peer_failed)
        };
        let dir = config.data_dir.join(config::CORES_DIR);
        forget_addresses(&dir)?;
        if config.fleet.replicas == 1 {
            let pod = format!("{PREFIX}-0");
            let uid = children::uid(&dir.join(&pod))?;
            let files = issue(Role::Core, Some(&pod))?;
            let (client, pod) = (api.client.clone(), (&*pod, &*uid));
            let replica = Replica::within(config, base, client, pod, files, ingress).await?;
            return Ok(Self::Within(Box::new(replica)));
        }
        let gate = base.readiness.gate(GATE);
        gate.shut("waiting for each core to become a member of the fleet");
        let files = issue(Role::Gateway, None)?;
        let (journal, map) = ingress
            .serve_journal(config, files, api.client.clone(), base)
            .await?;
        let mut flags = loaded.flags(Roles::CORE);
        flags.extend([
            format!("--kubeconfig={}", api.kubeconfig.display()),
            format!("--gateways={journal}"),
            "--peer-port=0".to_owned(),
            "--admin-port=0".to_owned(),
        ]);
        let world = World {
            program: std::env::current_exe()?,
            flags,
            dir,
            prefix: PREFIX,
            clock: Arc::clone(&base.clock),
        };
        let children = Children::start(&world, config.fleet.replicas, |pod| {
            let files = issue(Role::Core, Some(&pod.0))?;
            Ok(vec![
                format!("--peer-ca={}", files.ca.display()),
                format!("--peer-cert={}", files.certificate.display()),
                format!("--peer-key={}", files.key.display()),
            ])
        })?;
        let told = Told {
            takeovers: Takeovers::default(),
            map,
            lines: VecDeque::new(),
        };
        Ok(Self::Children(Box::new(Family {
            children,
            told: tokio::sync::Mutex::new(told),
            clock: Arc::clone(&base.clock),
            gate,
        })))
    }

    /// The admin routes of a core within; a child has an admin port of its own.
    pub(super) fn routes(&self, token: Token) -> Option<Router> {
        match self {
            Self::Within(replica) => Some(replica.routes(token)),
            Self::Children(_) => None,
        }
    }

    /// Waits until each core has done its work once.
    pub(super) async fn ready(&self) {
        match self {
            // Its gates are this process's own.
            Self::Within(_) => {}
            Self::Children(family) => {
                family.children.ready().await;
                family.gate.open();
            }
        }
    }

    /// The child processes that run now.
    pub(super) fn list(&self) -> Vec<Listed> {
        match self {
            Self::Within(_) => Vec::new(),
            Self::Children(family) => family.children.list(),
        }
    }

    /// Waits until a child comes or goes.
    pub(super) async fn changed(&self) {
        match self {
            Self::Within(_) => std::future::pending().await,
            Self::Children(family) => family.children.changed().await,
        }
    }

    /// The next line for the terminal.
    pub(super) async fn line(&self) -> String {
        match self {
            Self::Within(_) => std::future::pending().await,
            Self::Children(family) => family.line().await,
        }
    }

    /// Waits until a part is gone that the process can't be without.
    pub(super) async fn broken(&self) -> Error {
        match self {
            Self::Within(replica) => replica.broken().await,
            Self::Children(family) => Error::Panicked(family.children.broken().await),
        }
    }

    /// Finishes what is in flight, and ends them.
    pub(super) async fn stop(&self, grace: Duration) {
        match self {
            Self::Within(replica) => replica.stop(grace).await,
            Self::Children(family) => family.children.stop(grace).await,
        }
    }
}

/// Removes what earlier cores have said of their admin ports: the command line would ask them.
fn forget_addresses(dir: &Path) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path().join(URL_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(write_failed(&path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

impl Family {
    async fn line(&self) -> String {
        let mut told = self.told.lock().await;
        loop {
            if let Some(line) = told.lines.pop_front() {
                return line;
            }
            let Told {
                takeovers,
                map,
                lines,
            } = &mut *told;
            tokio::select! {
                notice = self.children.notice() => lines.push_back(match notice {
                    Notice::Died { pod, pid, how, at } => {
                        takeovers.died(&pod, at);
                        format!("{pod} (pid {pid}) ended: {how}")
                    }
                    Notice::Works { holder, pid } => format!("{holder} (pid {pid}) works"),
                }),
                Ok(()) = map.changed() => {
                    let now = self.clock.instant();
                    let seen = map.borrow_and_update();
                    let done = seen.as_ref().map(|map| takeovers.seen(map, now));
                    lines.extend(done.iter().flatten().map(ToString::to_string));
                }
            }
        }
    }
}
