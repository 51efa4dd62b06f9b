//! What a seed stands for: how many replicas, which faults, when.

use zen_fabric::testing::seeded::Seeded;

use crate::{
    edits::{LeaderEdit, MapEdit, Numbers},
    net::{Cut, Place},
    time::{MS, SECOND, Time},
};

/// One schedule.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What it is about.
    pub(crate) family: Family,
    /// Pods that run from the beginning.
    pub(crate) replicas: usize,
    /// Pods that there can be.
    pub(crate) pods: usize,
    /// Ingestors.
    pub(crate) keys: usize,
    /// What each Ingestor's bucket weighs.
    pub(crate) loads: Vec<u32>,
    /// Gateways.
    pub(crate) logs: usize,
    /// API servers.
    pub(crate) fronts: usize,
    /// By how many microseconds a second clocks gain or lose at most.
    pub(crate) drift: u64,
    /// By how much clocks are off at most.
    pub(crate) skew: Time,
    /// How long a client of the API waits.
    pub(crate) patience: Time,
    /// How often a watch says that it is current.
    pub(crate) bookmarks: Time,
    /// Pause between accepted events.
    pub(crate) pace: Time,
    /// The build that some pods begin with is one protocol older.
    pub(crate) mixed: bool,
    /// What happens.
    pub(crate) steps: Vec<(Time, Step)>,
    /// When everything is mended and no new event is accepted.
    pub(crate) heal: Time,
}

/// What a schedule is about: each draws its own kinds of fault, so that rare ones meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Nothing goes wrong.
    Calm,
    /// Processes and nodes die and come back.
    Crash,
    /// Processes stop for a while.
    Pause,
    /// Pods can't reach each other, or only one way.
    Partition,
    /// The API is slow, stale, away, or forgets to answer.
    Api,
    /// Nothing but an outage of the API.
    Outage,
    /// Pods are drained, replaced, added, removed.
    Rollout,
    /// Somebody deletes and edits objects.
    Operator,
    /// All of it.
    Everything,
    /// A one-way partition that lasts.
    OneWay,
    /// A voter dies and is back while its former life's votes are still on their way.
    Echo,
    /// Somebody edits the map and the leader Lease by hand, while other things happen.
    Editor,
    /// Nothing but that.
    Hand,
}

impl Family {
    /// All of them.
    pub(crate) const ALL: [Self; 13] = [
        Self::Calm,
        Self::Crash,
        Self::Pause,
        Self::Partition,
        Self::Api,
        Self::Outage,
        Self::Rollout,
        Self::Operator,
        Self::Everything,
        Self::OneWay,
        Self::Echo,
        Self::Editor,
        Self::Hand,
    ];
}

/// One thing that somebody or something does to the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// kill -9; the kubelet starts it again after a while, as the same pod or another.
    Crash {
        pod: usize,
        back: Time,
        renewed: bool,
    },
    /// The node is gone, silently; the pod comes back elsewhere, later.
    Vanish { pod: usize, back: Time },
    /// SIGSTOP, after so many more actions of the core or, from 3 on, at the next of its workers; and
    /// SIGCONT.
    Pause { pod: usize, after: u32, span: Time },
    /// One way is cut.
    Cut {
        from: Place,
        to: Place,
        how: Cut,
        span: Time,
    },
    /// A pod reaches no other, or no other reaches it.
    Isolate {
        pod: usize,
        inward: bool,
        outward: bool,
        how: Cut,
        span: Time,
    },
    /// Nobody reaches anybody (a `NetworkPolicy`, expired certificates).
    Silence { how: Cut, span: Time },
    /// Messages are lost, doubled, late.
    Storm {
        lost: u64,
        doubled: u64,
        late: u64,
        span: Time,
    },
    /// An API server is away.
    FrontDown { front: usize, span: Time },
    /// Its watch cache is behind.
    FrontLag { front: usize, lag: Time, span: Time },
    /// etcd takes nothing.
    Stall { span: Time },
    /// The API takes its time: answers come after up to this long.
    Slow { most: Time, span: Time },
    /// Of a hundred answers so many are lost after the commit, of a hundred requests so many arrive
    /// long after they were sent.
    Lossy { lost: u64, late: u64, span: Time },
    /// A watch breaks and nobody notices for a while.
    Watch {
        pod: usize,
        which: usize,
        span: Time,
    },
    /// The past is compacted: broken watches begin anew with a list, maybe a stale one.
    Compact,
    /// A gateway is away.
    LogDown { log: usize, span: Time },
    /// SIGTERM; where `back`, its replacement starts when it has ended.
    Drain {
        pod: usize,
        back: bool,
        renewed: bool,
    },
    /// The operator takes a drain back.
    Undrain { pod: usize },
    /// One more pod.
    Add { pod: usize },
    /// `kubectl delete` of the leader Lease.
    DeleteLeader,
    /// `kubectl delete` of a member Lease.
    DeleteMember { pod: usize },
    /// `kubectl delete` of the map.
    DeleteMap,
    /// `kubectl delete` of the map and the leader Lease.
    DeleteLeaderAndMap,
    /// `kubectl delete` of the map and every Lease.
    DeleteAll,
    /// Somebody writes another holder into the leader Lease.
    EditLeader { foreign: bool },
    /// Somebody writes another incarnation into a member Lease.
    EditMember { pod: usize, up: u64 },
    /// Somebody spoils an annotation of a Lease.
    SpoilMember { pod: usize },
    /// Somebody raises the map's term and version.
    EditMap { term: u64 },
    /// The map, or the leader Lease, or both come back from a backup that is so many thousandths of
    /// the past old.
    Restore {
        map: bool,
        leader: bool,
        permille: u64,
    },
    /// Somebody edits the map by hand.
    SpoilMap { how: MapEdit, numbers: Numbers },
    /// Somebody edits the leader Lease by hand.
    SpoilLeader { how: LeaderEdit },
    /// Somebody writes another owner into a status.
    EditStatus { key: usize, up: u64 },
    /// The spec of an Ingestor changes.
    EditSpec { key: usize },
}

struct Draw {
    rng: Seeded,
    pods: usize,
    keys: usize,
    logs: usize,
    fronts: usize,
}

impl Plan {
    /// The schedule of a seed; of one family only, where that is asked for.
    pub(crate) fn of(seed: u64, only: Option<Family>) -> Self {
        let mut rng = Seeded::new(seed ^ 0x5eed_5eed_5eed_5eed);
        let drawn = family(rng.below(100));
        let family = only.unwrap_or(drawn);
        let sizes = [1, 2, 2, 3, 3, 3, 3, 3, 4, 5, 5, 7];
        let mut replicas = sizes[rng.index(sizes.len())];
        replicas = match family {
            Family::OneWay => replicas.max(2),
            Family::Echo => replicas.max(3),
            _ => replicas,
        };
        let mut draw = Draw {
            pods: replicas,
            keys: 1 + rng.index(crate::api::KEYS),
            logs: 1 + rng.index(2),
            fronts: 1 + rng.index(3),
            rng,
        };
        let drift = [500, 500, 10_000, 100_000][draw.rng.index(4)];
        let start = draw.start();
        let (steps, pods, heal) = draw.steps(family, start);
        let rng = &mut draw.rng;
        Self {
            family,
            replicas,
            pods,
            keys: draw.keys,
            loads: (0..draw.keys)
                .map(|_| 1 + u32::try_from(rng.below(50)).unwrap())
                .collect(),
            logs: draw.logs,
            fronts: draw.fronts,
            drift,
            skew: [0, 50 * MS, 60 * SECOND, 3_600 * SECOND][rng.index(4)],
            // At most `Timing::request`: what the edge is to keep to.
            patience: [500 * MS, SECOND, 2 * SECOND][rng.index(3)],
            bookmarks: [SECOND, 10 * SECOND, 60 * SECOND][rng.index(3)],
            pace: 300 * MS + rng.below(1_000) * MS,
            mixed: rng.chance(10),
            steps,
            heal,
        }
    }
}

fn family(percent: u64) -> Family {
    // Shares are of schedules, not of time: what is cheap and bites is drawn often.
    match percent {
        0..3 => Family::Calm,
        3..16 => Family::Crash,
        16..29 => Family::Pause,
        29..42 => Family::Partition,
        42..54 => Family::Api,
        54..58 => Family::Outage,
        58..70 => Family::Rollout,
        70..75 => Family::Operator,
        75..80 => Family::Editor,
        80..82 => Family::Hand,
        82..98 => Family::Everything,
        98 => Family::Echo,
        _ => Family::OneWay,
    }
}

impl Draw {
    /// When the first fault comes: mostly when the fleet stands, sometimes while it forms.
    fn start(&mut self) -> Time {
        if self.rng.chance(20) {
            self.rng.below(3_000) * MS
        } else {
            4 * SECOND + self.rng.below(2_000) * MS
        }
    }

    fn steps(&mut self, family: Family, start: Time) -> (Vec<(Time, Step)>, usize, Time) {
        let count = match family {
            Family::Calm | Family::Echo => 0,
            Family::Outage | Family::OneWay => 1,
            _ => 1 + self.rng.below(4),
        };
        let mut at = start;
        let mut steps = Vec::new();
        if family == Family::Echo {
            steps = self.echo(start);
            at += 6 * SECOND;
        }
        let mut pods = self.pods;
        for _ in 0..count {
            let kind = if family == Family::Everything {
                let some = [
                    Family::Crash,
                    Family::Pause,
                    Family::Partition,
                    Family::Api,
                    Family::Rollout,
                    Family::Operator,
                ];
                some[self.rng.index(some.len())]
            } else {
                family
            };
            let step = self.step(kind, &mut pods);
            steps.extend(self.suspended(at, &step));
            steps.push((at, step));
            // Faults overlap, follow at once, or come when the fleet has settled.
            at += match self.rng.below(4) {
                0 => self.rng.below(20) * MS,
                1 => self.rng.below(1_500) * MS,
                2 => self.rng.below(5_000) * MS,
                _ => self.rng.below(12_000) * MS,
            };
        }
        let rest = match family {
            // A calm fleet is looked at from 40 s on (`check::SETTLED`).
            Family::Calm => 60 * SECOND,
            Family::OneWay => 300 * SECOND,
            // From the last edit on it is looked whether the fleet heals.
            Family::Hand => 0,
            Family::Outage => 55 * SECOND,
            _ => 2 * SECOND + self.rng.below(10_000) * MS,
        };
        (steps, pods, at + rest)
    }

    fn step(&mut self, family: Family, pods: &mut usize) -> Step {
        let mixes = matches!(
            family,
            Family::Crash | Family::Pause | Family::Partition | Family::Rollout
        );
        if mixes && self.rng.chance(10) {
            let log = self.rng.index(self.logs);
            let span = self.span();
            return Step::LogDown { log, span };
        }
        match family {
            Family::Calm | Family::Everything | Family::Echo | Family::Crash => self.crash(),
            Family::Pause => self.pause(),
            Family::Partition => self.partition(),
            Family::Api => self.api(),
            Family::Outage => Step::FrontDown {
                front: usize::MAX,
                span: SECOND + self.rng.below(50_000) * MS,
            },
            Family::Rollout => self.rollout(pods),
            Family::Operator => self.operator(),
            Family::Hand => self.by_hand(),
            Family::Editor => self.editor(pods),
            Family::OneWay => self.one_way(),
        }
    }

    /// Where a whole node is suspended, the gateway on it starts anew at about the time when the pod
    /// goes on.
    fn suspended(&mut self, at: Time, step: &Step) -> Option<(Time, Step)> {
        let Step::Pause { span, .. } = step else {
            return None;
        };
        if !self.rng.chance(15) {
            return None;
        }
        let half = span / 2;
        let log = self.rng.index(self.logs);
        let span = half.saturating_sub(self.rng.below(400) * MS);
        Some((at + half, Step::LogDown { log, span }))
    }

    fn pod(&mut self) -> usize {
        self.rng.index(self.pods)
    }

    fn span(&mut self) -> Time {
        match self.rng.below(3) {
            0 => self.rng.below(2_000) * MS,
            1 => self.rng.below(8_000) * MS,
            _ => self.rng.below(30_000) * MS,
        }
    }

    fn how(&mut self) -> Cut {
        if self.rng.chance(50) {
            Cut::Drop
        } else {
            Cut::Reject
        }
    }

    fn crash(&mut self) -> Step {
        let pod = self.pod();
        let back = if self.rng.chance(50) {
            self.rng.below(500) * MS
        } else {
            self.rng.below(20_000) * MS
        };
        if self.rng.chance(25) {
            Step::Vanish { pod, back }
        } else {
            let renewed = self.rng.chance(30);
            Step::Crash { pod, back, renewed }
        }
    }

    fn pause(&mut self) -> Step {
        let (pod, span) = (self.pod(), self.span());
        let after = u32::try_from(self.rng.below(6)).unwrap();
        Step::Pause { pod, after, span }
    }

    fn storm(&mut self) -> Step {
        Step::Storm {
            lost: self.rng.below(50),
            doubled: self.rng.below(50),
            late: self.rng.below(30),
            span: self.span(),
        }
    }

    fn partition(&mut self) -> Step {
        let (pod, other) = (self.pod(), self.pod());
        let (how, span) = (self.how(), self.span());
        match self.rng.below(10) {
            0..3 => Step::Cut {
                from: Place::Pod(pod),
                to: Place::Pod(other),
                how,
                span,
            },
            3..6 => {
                let both = self.rng.below(3);
                Step::Isolate {
                    pod,
                    inward: both != 0,
                    outward: both != 1,
                    how,
                    span,
                }
            }
            6 => Step::Silence { how, span },
            7 => self.storm(),
            8 => Step::Cut {
                from: Place::Pod(pod),
                to: Place::Front(usize::MAX),
                how,
                span,
            },
            _ => Step::Cut {
                from: Place::Pod(pod),
                to: Place::Log(self.rng.index(self.logs)),
                how,
                span,
            },
        }
    }

    fn api(&mut self) -> Step {
        let span = self.span();
        match self.rng.below(9) {
            0 => Step::FrontDown {
                front: usize::MAX,
                span,
            },
            1 => Step::FrontDown {
                front: self.rng.index(self.fronts),
                span,
            },
            2 => Step::FrontLag {
                front: self.rng.index(self.fronts),
                lag: self.rng.below(8_000) * MS,
                span,
            },
            3 => Step::Stall { span },
            4 => Step::Slow {
                most: 100 * MS + self.rng.below(3_000) * MS,
                span,
            },
            5 | 6 => Step::Lossy {
                lost: self.rng.below(60),
                late: self.rng.below(40),
                span,
            },
            7 => Step::Watch {
                pod: self.pod(),
                which: self.rng.index(2),
                span,
            },
            _ => Step::Compact,
        }
    }

    fn rollout(&mut self, pods: &mut usize) -> Step {
        match self.rng.below(12) {
            10 => self.storm(),
            11 => self.crash(),
            0..5 => Step::Drain {
                pod: self.pod(),
                back: true,
                renewed: self.rng.chance(70),
            },
            5 => Step::Drain {
                pod: self.pod(),
                back: false,
                renewed: true,
            },
            6 | 7 => Step::Undrain { pod: self.pod() },
            _ if *pods < 7 => {
                let pod = *pods;
                *pods += 1;
                Step::Add { pod }
            }
            _ => Step::Undrain { pod: self.pod() },
        }
    }

    fn operator(&mut self) -> Step {
        let pod = self.pod();
        match self.rng.below(15) {
            0 => Step::DeleteLeader,
            1 => Step::DeleteMember { pod },
            2 | 3 => Step::DeleteMap,
            4 => Step::DeleteAll,
            5 => Step::EditLeader {
                foreign: self.rng.chance(50),
            },
            6 => Step::EditMember {
                pod,
                up: self.rng.below(3),
            },
            7 => Step::SpoilMember { pod },
            8 => Step::EditMap {
                term: self.rng.below(3),
            },
            9 | 10 => Step::Restore {
                map: self.rng.chance(80),
                leader: self.rng.chance(50),
                permille: self.rng.below(1_000),
            },
            11 => Step::EditStatus {
                key: self.rng.index(self.keys),
                up: self.rng.below(2_000),
            },
            12 => Step::EditSpec {
                key: self.rng.index(self.keys),
            },
            13 => Step::DeleteLeaderAndMap,
            _ => self.crash(),
        }
    }

    fn by_hand(&mut self) -> Step {
        if self.rng.chance(65) {
            Step::SpoilMap {
                how: MapEdit::draw(&mut self.rng, self.keys, self.pods),
                numbers: Numbers::draw(&mut self.rng),
            }
        } else {
            let how = LeaderEdit::draw(&mut self.rng, self.pods);
            Step::SpoilLeader { how }
        }
    }

    /// Edits, among all that may happen as well.
    fn editor(&mut self, pods: &mut usize) -> Step {
        match self.rng.below(10) {
            0 => self.crash(),
            1 => self.operator(),
            2 => self.api(),
            3 => {
                let some = [Family::Pause, Family::Partition, Family::Rollout];
                let family = some[self.rng.index(some.len())];
                self.step(family, pods)
            }
            _ => self.by_hand(),
        }
    }

    /// One that is refused votes, late; it dies, and who counts is refused in turn.
    fn echo(&mut self, start: Time) -> Vec<(Time, Step)> {
        let voter = self.pod();
        let suspect = (voter + 1 + self.rng.index(self.pods - 1)) % self.pods;
        let judge = self.pod();
        let refused = |from, span| Step::Cut {
            from: Place::Pod(from),
            to: Place::Pod(suspect),
            how: Cut::Reject,
            span,
        };
        let storm = Step::Storm {
            lost: 0,
            doubled: 50,
            late: 60,
            span: 15 * SECOND,
        };
        let crash = Step::Crash {
            pod: voter,
            back: self.rng.below(200) * MS,
            renewed: false,
        };
        let votes = 500 * MS + self.rng.below(1_500) * MS;
        let dies = start + votes + self.rng.below(100) * MS;
        let judges = dies + self.rng.below(3_000) * MS;
        vec![
            (start, storm),
            (start, refused(voter, votes)),
            (dies, crash),
            (judges, refused(judge, 3 * SECOND)),
        ]
    }

    fn one_way(&mut self) -> Step {
        let pod = self.pod();
        let inward = self.rng.chance(50);
        Step::Isolate {
            pod,
            inward,
            outward: !inward,
            how: self.how(),
            span: 300 * SECOND,
        }
    }
}
