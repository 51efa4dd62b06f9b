//! A fleet of real processes: gateways and cores, each with its pod's identity and certificate, and
//! where a scenario asks for it with proxies before its peer port and before its API server.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use zen_fabric::{ops::tasks::Tasks, peer::Role};

use super::{Bed, FLEET, SYSTEM, certificates::Authority, identity::Identity, node::Node};
use crate::{
    clock::At,
    error::{Attempt as _, Error, Result},
    proxy::{Mode, Proxy, Resolve, source},
};

/// How a fleet is laid out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub binary: PathBuf,
    /// Cores at the beginning.
    pub cores: usize,
    /// Gateways.
    pub gateways: usize,
    /// Whether there are proxies: they cost CPU and time, so only where something is to be cut.
    pub network: Network,
    /// Of each core, by its place: a clock that is wrong. Those beyond have the machine's.
    pub clocks: Vec<Option<Clock>>,
}

/// A clock that is wrong, by a library that is preloaded.
#[derive(Clone, Debug)]
pub struct Clock {
    /// `chaos/clock/shift.c`, compiled.
    pub library: PathBuf,
    /// Seconds by which the wall clock is ahead.
    pub ahead: i64,
    /// How fast it runs, in millionths.
    pub rate: u64,
}

/// Whether connections can be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Straight.
    #[default]
    Plain,
    /// Each core behind a proxy, and with one of its own before the API server and each journal.
    Proxied,
}

/// A core.
#[derive(Debug)]
pub struct Core {
    /// Its process.
    pub node: Node,
    /// Before its peer port.
    pub peers: Option<Proxy>,
    /// Before the API server and the gateways' journals, for it alone.
    others: Vec<Proxy>,
    port: u16,
}

/// Which process is which pod, for proxies that ask who dialed.
#[derive(Clone, Debug, Default)]
struct Processes(Arc<Mutex<BTreeMap<u32, String>>>);

/// See the module.
#[derive(Debug)]
pub struct Fleet {
    /// The gateways.
    pub gateways: Vec<Node>,
    /// The cores, also those that are not running.
    pub cores: Vec<Core>,
    authority: Authority,
    plan: Plan,
    processes: Processes,
    tasks: Tasks,
}

// === impl Processes ===

impl Processes {
    fn resolve(&self) -> Resolve {
        let known = Arc::clone(&self.0);
        Arc::new(move |peer| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let pid = source::dialer(peer, known.keys().copied())?;
            known.get(&pid).cloned()
        })
    }

    fn runs(&self, pid: Option<u32>, pod: &str) {
        if let Some(pid) = pid {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(pid, pod.to_owned());
        }
    }
}

// === impl Clock ===

impl Clock {
    /// The arguments of `env`, which becomes the program.
    fn before(&self, program: &Path, args: Vec<OsString>) -> Vec<OsString> {
        let mut all = vec![
            path_flag("LD_PRELOAD=", &self.library),
            format!("CHAOS_CLOCK_AHEAD={}", self.ahead).into(),
            format!("CHAOS_CLOCK_RATE={}", self.rate).into(),
            program.into(),
        ];
        all.extend(args);
        all
    }
}

// === impl Core ===

impl Core {
    /// Its pod's name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<At> {
        let moment = self.node.kill()?;
        // Nothing listens behind it any more, so it must not either.
        if let Some(peers) = &self.peers {
            peers.point(None);
        }
        Ok(moment)
    }

    /// What happens to its connections to the API server and to the gateways, where there are proxies.
    pub fn isolate(&self, mode: Mode) {
        for other in &self.others {
            other.treat_all(mode);
        }
    }

    /// Drains it, and waits for its end; how long it took.
    pub async fn drain(&mut self, within: Duration) -> Result<Duration> {
        let asked = self.node.ask()?;
        self.end(asked, within).await
    }

    /// Waits for the end of one that was asked.
    pub async fn end(&mut self, asked: At, within: Duration) -> Result<Duration> {
        let took = self.node.end(asked, within).await;
        if let Some(peers) = &self.peers {
            peers.point(None);
        }
        took
    }
}

// === impl Fleet ===

impl Fleet {
    /// Starts everything and waits until each process says that it is ready.
    pub async fn start(bed: &Bed, plan: Plan) -> Result<Self> {
        let mut fleet = Self {
            gateways: Vec::new(),
            cores: Vec::new(),
            authority: Authority::create(bed.dir())?,
            plan,
            processes: Processes::default(),
            tasks: Tasks::new(),
        };
        for number in 0..fleet.plan.gateways {
            let gateway = fleet.gateway(bed, number).await?;
            fleet.gateways.push(gateway);
        }
        for gateway in &mut fleet.gateways {
            gateway.begin()?;
            gateway.ready().await?;
        }
        for _ in 0..fleet.plan.cores {
            fleet.add(bed).await?;
        }
        for core in &mut fleet.cores {
            core.node.ready().await?;
        }
        Ok(fleet)
    }

    async fn gateway(&self, bed: &Bed, number: usize) -> Result<Node> {
        let pod = format!("gateway-{number}");
        let identity = Identity::make(bed, "zen-fabric-gateway", &pod, None).await?;
        let mut args = common("gateway", &identity);
        args.push(path_flag("--data-dir=", &bed.dir().join(&pod)));
        args.extend(["--gateway-port=0", "--admin-port=0", "--journal-port=0"].map(OsString::from));
        args.extend(self.authority.flags(Role::Gateway, Some(&pod))?);
        Ok(Node::new(
            bed.cluster(),
            &self.plan.binary,
            bed.dir(),
            &pod,
            args,
        ))
    }

    /// Starts one more core, and does not wait for it.
    pub async fn add(&mut self, bed: &Bed) -> Result<()> {
        let number = self.cores.len();
        let pod = format!("core-{number}");
        let proxied = self.plan.network == Network::Proxied;
        let mut others = Vec::new();
        let (mut peers, mut server, mut journals) = (None, None, self.journals()?);
        if proxied {
            peers = Some(Proxy::start(self.processes.resolve(), &self.tasks).await?);
            let before = self.before(api_server(bed)?).await?;
            server = Some(before.address().to_string());
            others.push(before);
            for journal in &mut journals {
                let before = self.before(*journal).await?;
                *journal = before.address();
                others.push(before);
            }
        }
        let identity = Identity::make(bed, "zen-fabric-core", &pod, server.as_deref()).await?;
        let port = if proxied { free_port()? } else { 0 };
        let journals: Vec<String> = journals.iter().map(ToString::to_string).collect();
        let mut args = common("core", &identity);
        args.push(path_flag("--data-dir=", &bed.dir().join(&pod)));
        args.extend([
            format!("--pod-name={pod}").into(),
            format!("--pod-uid={}", identity.uid).into(),
            format!("--region={REGION}").into(),
            format!("--zone=zone-{}", number % ZONES).into(),
            format!("--peer-port={port}").into(),
            "--admin-port=0".into(),
            format!("--gateways={}", journals.join(",")).into(),
        ]);
        if let Some(peers) = &peers {
            args.push(format!("--peer-address={}", peers.address()).into());
        }
        args.extend(self.authority.flags(Role::Core, Some(&pod))?);
        let clock = self.plan.clocks.get(number).cloned().flatten();
        let (program, args) = match clock {
            Some(clock) => (
                PathBuf::from("/usr/bin/env"),
                clock.before(&self.plan.binary, args),
            ),
            None => (self.plan.binary.clone(), args),
        };
        let node = Node::new(bed.cluster(), &program, bed.dir(), &pod, args);
        self.cores.push(Core {
            node,
            peers,
            others,
            port,
        });
        self.begin(number)
    }

    /// Starts a core, again where it ran before.
    pub fn begin(&mut self, number: usize) -> Result<()> {
        let core = self.core(number)?;
        core.node.begin()?;
        if let Some(peers) = &core.peers {
            peers.point(Some(SocketAddr::from(([127, 0, 0, 1], core.port))));
        }
        let (pid, pod) = (core.node.pid(), core.name().to_owned());
        self.processes.runs(pid, &pod);
        Ok(())
    }

    /// One core.
    pub fn core(&mut self, number: usize) -> Result<&mut Core> {
        let missing = || Error::new(format!("find core-{number}"));
        self.cores.get_mut(number).ok_or_else(missing)
    }

    /// The place of a pod's core.
    pub fn place(&self, pod: &str) -> Result<usize> {
        let place = self.cores.iter().position(|core| core.name() == pod);
        place.ok_or_else(|| Error::new(format!("find {pod} among the cores")))
    }

    /// Where the gateways take events.
    pub fn hooks(&self) -> Result<Vec<SocketAddr>> {
        self.gateways
            .iter()
            .map(|gateway| {
                let url = gateway.says("gateway")?;
                let address = url.trim_start_matches("http://").trim_end_matches('/');
                address
                    .parse()
                    .attempt(format!("understand the address {url}"))
            })
            .collect()
    }

    fn journals(&self) -> Result<Vec<SocketAddr>> {
        self.gateways
            .iter()
            .map(|gateway| {
                let address = gateway.says("journal")?;
                address
                    .parse()
                    .attempt(format!("understand the address {address}"))
            })
            .collect()
    }

    /// A proxy before this address, for one pod alone.
    async fn before(&self, target: SocketAddr) -> Result<Proxy> {
        let proxy = Proxy::start(Arc::new(|_| None), &self.tasks).await?;
        proxy.point(Some(target));
        Ok(proxy)
    }

    /// Processes that ended by themselves since the last look; they are started again, as a kubelet
    /// would.
    pub fn revive(&mut self) -> Result<Vec<String>> {
        let dead: Vec<(usize, String)> = self
            .cores
            .iter()
            .enumerate()
            .filter_map(|(number, core)| Some((number, core.node.died()?)))
            .collect();
        for (number, _) in &dead {
            self.begin(*number)?;
        }
        let mut told: Vec<String> = dead.into_iter().map(|(_, why)| why).collect();
        for gateway in &mut self.gateways {
            if let Some(why) = gateway.died() {
                told.push(why);
                gateway.begin()?;
            }
        }
        Ok(told)
    }

    /// CPU seconds that all cores have used.
    pub fn cpu(&self) -> f64 {
        self.cores.iter().map(|core| core.node.cpu()).sum()
    }

    /// Ends the proxies; processes end with the bed.
    pub async fn stop(&self) {
        self.tasks.stop(Duration::from_secs(5)).await.ok();
    }
}

/// The region of every core.
const REGION: &str = "here";

/// Zones over which cores are spread.
const ZONES: usize = 3;

fn common(role: &str, identity: &Identity) -> Vec<OsString> {
    vec![
        role.into(),
        path_flag("--kubeconfig=", &identity.kubeconfig),
        format!("--fleet={FLEET}").into(),
        format!("--namespace={SYSTEM}").into(),
    ]
}

fn path_flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

/// Where the API server listens.
fn api_server(bed: &Bed) -> Result<SocketAddr> {
    let url = bed.cluster().url();
    let address = url.trim_start_matches("https://");
    address
        .parse()
        .attempt(format!("understand the address {url}"))
}

/// Free now; another may take it before it is used, and then the start fails and says so.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").attempt("find a free port")?;
    let address = listener.local_addr().attempt("find a free port")?;
    Ok(address.port())
}
