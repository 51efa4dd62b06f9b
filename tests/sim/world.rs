//! The world: one queue of events, one time, everything that takes part.

use std::sync::Arc;

use zen_fabric::{
    coordination::{
        layout::Assign,
        message::Message,
        names::{Holder, PodName},
        port::{Input, Object, Op, RequestId},
        timing::Timing,
        wire::Place as Names,
    },
    journal::{Bucket, Epoch},
    testing::seeded::Seeded,
};

use crate::{
    api::{Api, NAMESPACE, StatusAnswer, StatusRead},
    check::Check,
    effects::{Aggregate, Effects, EventId},
    log::{Accepted, Log, Refused},
    mutants::Planted,
    net::Net,
    plan::Plan,
    process::{Phase, Pod},
    queue::Queue,
    time::{MS, SECOND, Time},
    trace::Trace,
    work::LaneId,
};

/// Buckets in the simulated fleet: the keys' and some empty ones, so that there is something to
/// balance. The protocol takes their number as a parameter; nothing in it depends on it.
pub(crate) const BUCKETS: u16 = 12;

/// A schedule of 300 s and seven replicas has 100,000 events: one with this many runs in a circle.
const MOST: u64 = 1_000_000;

/// How long a fleet may take to heal. A Lease's expiry and a challenge's back-off of 60 s are within.
pub(crate) const HEALING: Time = 150 * SECOND;

/// How long it may take where nothing but a hand has done something: 2 s until everything is owned again,
/// and then what waited is done, and statuses are written.
pub(crate) const HAND: Time = 10 * SECOND;

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A core's timer.
    Wake { pod: usize, life: u32, at: Time },
    /// Something for a core.
    Input {
        pod: usize,
        life: u32,
        input: Box<Input>,
    },
    /// A message arrives at a pod, whoever lives there now.
    Message {
        pod: usize,
        from: Holder,
        message: Box<Message>,
    },
    /// A request arrives at the store.
    Call(Box<Call>),
    /// An answer arrives.
    Reply {
        pod: usize,
        life: u32,
        call: u64,
        reply: Box<Reply>,
    },
    /// A watch looks for changes.
    Watch { pod: usize, life: u32, which: usize },
    /// A watch says that it is current.
    Bookmark { pod: usize, life: u32 },
    /// A process looks at its peers.
    Probe { pod: usize, life: u32, again: bool },
    /// A request arrives at a log.
    Log(Box<LogCall>),
    /// A log's answer arrives.
    Lane {
        pod: usize,
        life: u32,
        id: LaneId,
        answer: Box<LogAnswer>,
    },
    /// A lane that still waits under this ticket tries again.
    Retry { pod: usize, life: u32, id: LaneId },
    /// A log tells whom it serves that there is something.
    Push { log: usize, key: usize },
    /// A gateway sees a newer map.
    View { log: usize },
    /// A status is to be written.
    Status {
        pod: usize,
        life: u32,
        bucket: Bucket,
    },
    /// A callback arrives at its receiver.
    Callback { event: EventId, key: u64 },
    /// An event is accepted.
    Accept,
    /// A process starts.
    Start { pod: usize },
    /// A process goes on.
    Resume { pod: usize, life: u32 },
    /// A process ends by itself.
    Exit { pod: usize, life: u32 },
    /// A process measures its load.
    Load { pod: usize, life: u32 },
    /// Caches are filled.
    Ready { pod: usize, life: u32 },
    /// A step of the plan.
    Step(usize),
    /// What a step did is over.
    Over(usize),
    /// Everything is mended.
    Heal,
    /// Is the fleet well?
    Look,
}

/// A request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) pod: usize,
    pub(crate) life: u32,
    pub(crate) front: usize,
    pub(crate) sent: Time,
    /// Whether the client's patience is in the queue.
    pub(crate) timed: bool,
    /// Whether it has surely left its process.
    pub(crate) left: bool,
    pub(crate) ask: Ask,
}

/// What is asked of the API.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// By the core.
    Core {
        id: RequestId,
        object: Object,
        op: Op,
    },
    /// Create an Observation.
    Observe {
        bucket: Bucket,
        log: usize,
        ticket: u64,
        event: EventId,
        name: u64,
        callback: u64,
    },
    /// Read an aggregate.
    Read {
        bucket: Bucket,
        log: usize,
        ticket: u64,
        key: usize,
    },
    /// Write an aggregate.
    Add {
        bucket: Bucket,
        log: usize,
        ticket: u64,
        key: usize,
        version: u64,
        next: Aggregate,
        events: Vec<EventId>,
    },
    /// Read a status.
    ReadStatus {
        bucket: Bucket,
        key: usize,
        ticket: u64,
    },
    /// Write a status.
    WriteStatus {
        bucket: Bucket,
        key: usize,
        ticket: u64,
        version: String,
        epoch: Epoch,
        holder: Holder,
        uid: Arc<str>,
        counted: u64,
    },
}

/// What the API answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// To the core.
    Core(zen_fabric::coordination::port::Answer),
    /// The Observation is there; the event's callback is due.
    Observed {
        bucket: Bucket,
        log: usize,
        ticket: u64,
        event: EventId,
        callback: u64,
    },
    /// The aggregate.
    Aggregate {
        bucket: Bucket,
        log: usize,
        ticket: u64,
        aggregate: Aggregate,
    },
    /// Whether the aggregate was written.
    Added {
        bucket: Bucket,
        log: usize,
        ticket: u64,
        done: bool,
    },
    /// The status as it is.
    StatusRead {
        bucket: Bucket,
        ticket: u64,
        read: StatusRead,
    },
    /// What became of the status.
    StatusWritten {
        bucket: Bucket,
        ticket: u64,
        answer: StatusAnswer,
    },
    /// Nothing came in time.
    Nothing(Box<Ask>),
}

/// A request to a log.
#[derive(Clone, Debug)]
pub(crate) struct LogCall {
    pub(crate) pod: usize,
    pub(crate) life: u32,
    pub(crate) log: usize,
    pub(crate) bucket: Bucket,
    pub(crate) key: usize,
    pub(crate) ticket: u64,
    /// Whether it has surely left its process.
    pub(crate) left: bool,
    pub(crate) holder: Holder,
    pub(crate) epoch: Epoch,
    /// What to commit; absent: subscribe.
    pub(crate) commit: Option<Vec<Accepted>>,
}

/// What a log answers.
#[derive(Clone, Debug)]
pub(crate) enum LogAnswer {
    /// Done; these are the next records.
    Done {
        epoch: Epoch,
        records: Vec<Accepted>,
    },
    /// The bucket is another's.
    Refused(Refused),
    /// The connection broke.
    Broken,
    /// There is something new.
    Records(Vec<Accepted>),
}

/// What a fault does to the API beside being away.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lossy {
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) slow: Time,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) rng: Seeded,
    pub(crate) plan: Plan,
    pub(crate) planted: Planted,
    pub(crate) timing: Timing,
    pub(crate) assign: Assign,
    pub(crate) api: Api,
    pub(crate) lossy: Lossy,
    pub(crate) net: Net,
    pub(crate) pods: Vec<Pod>,
    pub(crate) logs: Vec<Log>,
    /// The spec of each key that is in force.
    pub(crate) specs: Vec<u64>,
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) effects: Effects,
    pub(crate) check: Check,
    pub(crate) trace: Trace,
    pub(crate) calls: u64,
    pub(crate) healed: bool,
    pub(crate) done: bool,
    /// How many events were handled.
    pub(crate) events: u64,
}

/// How the fleet's objects are called.
pub(crate) fn names() -> Names {
    Names {
        namespace: NAMESPACE.into(),
        release: "zen-fabric".into(),
        owned: false,
    }
}

/// The bucket of an Ingestor: in the simulated fleet the keys lie apart.
pub(crate) fn bucket_of(key: usize) -> Bucket {
    Bucket(u16::try_from(key * 3).unwrap())
}

/// The Ingestor of a bucket, if it has one.
pub(crate) fn key_of(bucket: Bucket, keys: usize) -> Option<usize> {
    let number = usize::from(bucket.0);
    (number % 3 == 0 && number / 3 < keys).then_some(number / 3)
}

impl World {
    /// The world of a plan, before anything has happened.
    pub(crate) fn new(
        seed: u64,
        plan: Plan,
        planted: Planted,
        assign: Assign,
        trace: Trace,
    ) -> Self {
        let mut rng = Seeded::new(seed);
        let mut pods = Vec::new();
        for number in 0..plan.pods {
            let older = plan.mixed && rng.chance(50);
            pods.push(Pod {
                name: PodName(format!("core-{number}").into()),
                uid: format!("uid-{number}-0").into(),
                phase: Phase::Absent,
                build: u32::from(!older),
                protocol: zen_fabric::coordination::message::PROTOCOL
                    + u32::from(!older && plan.mixed),
                zone: number % 3,
                returning: false,
                renewed: false,
                lives: 0,
                process: None,
            });
        }
        let mut world = Self {
            now: 0,
            queue: Queue::new(),
            planted,
            timing: Timing::default(),
            assign,
            api: Api::new(plan.fronts),
            lossy: Lossy::default(),
            net: Net::new(),
            logs: (0..plan.logs).map(|_| Log::new()).collect(),
            specs: vec![0; plan.keys],
            accepted: Vec::new(),
            effects: Effects::default(),
            check: Check::new(&plan),
            trace,
            calls: 0,
            healed: false,
            done: false,
            events: 0,
            pods,
            rng,
            plan,
        };
        for pod in 0..world.plan.replicas {
            world.pods[pod].phase = Phase::Wanted;
            let at = world.rng.below(500) * MS;
            world.queue.push(at, Event::Start { pod });
        }
        for (number, (at, _)) in world.plan.steps.iter().enumerate() {
            world.queue.push(*at, Event::Step(number));
        }
        world.queue.push(world.plan.heal, Event::Heal);
        world.queue.push(world.plan.pace, Event::Accept);
        world
    }

    /// Runs until the fleet is well after everything was mended, a rule is broken, or time is up.
    pub(crate) fn run(&mut self) {
        let end = self.plan.heal + HEALING + SECOND;
        while let Some((at, event)) = self.queue.pop() {
            assert!(at >= self.now && at <= end, "the world stands still");
            self.now = at;
            self.events += 1;
            self.happen(event);
            if let Some((rule, what)) = crate::assigned::broken() {
                self.check.fault(self.now, rule, what);
            }
            if self.events > MOST {
                let what = format!("{MOST} events in {} s", self.now / SECOND);
                self.check.fault(self.now, "I10", what);
                return;
            }
            if self.done || self.check.violation.is_some() {
                return;
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { pod, life, at } => self.wake(pod, life, at),
            Event::Input { pod, life, input } => self.feed(pod, life, *input),
            Event::Message { pod, from, message } => self.hear(pod, from, *message),
            Event::Call(call) => self.arrive(*call),
            Event::Reply {
                pod,
                life,
                call,
                reply,
            } => self.reply(pod, life, call, *reply),
            Event::Watch { pod, life, which } => self.watch(pod, life, which),
            Event::Bookmark { pod, life } => self.bookmark(pod, life),
            Event::Probe { pod, life, again } => self.probe(pod, life, again),
            Event::Log(call) => self.at_log(*call),
            Event::Lane {
                pod,
                life,
                id,
                answer,
            } => self.from_log(pod, life, id, *answer),
            Event::Retry { pod, life, id } => self.retry_lane(pod, life, id),
            Event::Push { log, key } => self.push(log, key),
            Event::View { log } => self.view(log),
            Event::Status { pod, life, bucket } => self.status_due(pod, life, bucket),
            Event::Callback { event, key } => {
                self.effects.call_back(event, key);
                self.check.doubled(self.now, &self.effects);
            }
            Event::Accept => self.accept(),
            Event::Start { pod } => self.start(pod),
            Event::Resume { pod, life } => self.resume(pod, life),
            Event::Exit { pod, life } => self.exit(pod, life),
            Event::Load { pod, life } => self.measure(pod, life),
            Event::Ready { pod, life } => self.feed(pod, life, Input::Ready),
            Event::Step(number) => self.step(number),
            Event::Over(number) => self.over(number),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&mut self, who: &str, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, who, what);
    }

    /// Writes a line of the trace about a pod.
    pub(crate) fn tell(&mut self, pod: usize, what: std::fmt::Arguments<'_>) {
        if self.trace.is_written() {
            let who = self.pods[pod].name.to_string();
            self.trace.line(self.now, &who, what);
        }
    }
}
