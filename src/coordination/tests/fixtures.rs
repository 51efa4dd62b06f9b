//! Pods, records and maps for tests.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{
    names::{Holder, PodName},
    out::Out,
    port::{Action, Moment, Object, Op, Record, Stored},
    protocol::Protocol,
    records::{Grant, LeaderRecord, Life, Member, MemberRecord, MemberState, ShardMapSpec},
    replica::Me,
    timing::Timing,
    view::View,
};
use crate::journal::{Bucket, Epoch};

pub(in super::super) const BUCKETS: u16 = 16;

pub(in super::super) fn pod(n: usize) -> PodName {
    PodName(Arc::from(format!("core-{n}")))
}

pub(in super::super) fn me(n: usize) -> Me {
    Me {
        fleet: Arc::from("fleet"),
        pod: pod(n),
        pod_uid: Arc::from(format!("uid-{n}")),
        address: Arc::from(format!("10.0.0.{n}")),
        region: Arc::from("r"),
        zone: Arc::from(format!("z{n}")),
        weight: 100,
        build: Arc::from("1"),
        protocol: 1,
        buckets: BUCKETS,
    }
}

pub(in super::super) fn holder(n: usize) -> Holder {
    Holder {
        pod: pod(n),
        incarnation: 1,
    }
}

pub(in super::super) fn member(n: usize) -> MemberRecord {
    let me = me(n);
    MemberRecord {
        holder: holder(n),
        claim: u64::try_from(n).unwrap(),
        pod_uid: me.pod_uid,
        address: me.address,
        region: me.region,
        zone: me.zone,
        weight: me.weight,
        build: me.build,
        protocol: me.protocol,
        ready: true,
        draining: false,
        seen: 0,
        renewals: 1,
        renewed: Moment(0),
        life: Life::Live,
        challenge: None,
    }
}

pub(in super::super) fn lease(n: usize, term: u64) -> LeaderRecord {
    LeaderRecord {
        holder: Some(holder(n)),
        pod_uid: me(n).pod_uid,
        term,
        renewals: 1,
        renewed: Moment(0),
        heir: None,
    }
}

/// A map of so many Active pods, buckets dealt out in turn, all issued at version 1.
pub(in super::super) fn map(pods: usize) -> ShardMapSpec {
    let members = (0..pods).map(|n| {
        let member = Member {
            incarnation: 1,
            zone: me(n).zone,
            weight: 100,
            state: MemberState::Active,
        };
        (pod(n), member)
    });
    let grants = (0..BUCKETS).map(|bucket| {
        let grant = Grant {
            owner: holder(usize::from(bucket) % pods),
            epoch: Epoch(1),
        };
        (Bucket(bucket), grant)
    });
    ShardMapSpec {
        term: 1,
        version: 1,
        leader: holder(0),
        buckets: BUCKETS,
        members: members.collect(),
        grants: grants.collect(),
        moves: BTreeMap::new(),
    }
}

pub(in super::super) fn stored(record: Record, version: &str) -> Stored {
    Stored {
        record,
        resource_version: Arc::from(version),
        uid: Arc::from("uid"),
    }
}

/// The view of pod 0 on a fleet of so many, led by pod `leader`, in contact since 0 s; Leases are at
/// version `m0`, `m1`, …, the leader's at `l`.
pub(in super::super) fn view(pods: usize, leader: usize) -> View {
    let mut view = View::new(me(0), Timing::default(), Protocol::default());
    view.holder = Some(holder(0));
    view.ready = true;
    view.contact.confirmed(Moment(0), Moment(0));
    for n in 0..pods {
        let record = stored(Record::Member(member(n)), &format!("m{n}"));
        view.observe(
            Moment(0),
            &Object::Member(pod(n)),
            Some(&record),
            Some(Moment(0)),
        );
    }
    let record = stored(Record::Leader(lease(leader, 1)), "l");
    view.observe(Moment(0), &Object::Leader, Some(&record), Some(Moment(0)));
    let record = stored(Record::Map(Arc::new(map(pods))), "v1");
    view.observe_map(Moment(0), Some(&record), Some(Moment(0)));
    view
}

pub(in super::super) fn out() -> Out {
    Out::new(Arc::from("fleet"), 1)
}

/// All actions so far.
pub(in super::super) fn drain(out: &mut Out) -> Vec<Action> {
    std::iter::from_fn(|| out.poll()).collect()
}

/// The requests among them.
pub(in super::super) fn asked(out: &mut Out) -> Vec<(Object, Op)> {
    drain(out)
        .into_iter()
        .filter_map(|action| match action {
            Action::Request { object, op, .. } => Some((object, op)),
            _ => None,
        })
        .collect()
}

pub(in super::super) fn secs(secs: u64) -> Moment {
    Moment(secs * 1_000_000)
}

pub(in super::super) fn ms(ms: u64) -> Moment {
    Moment(ms * 1_000)
}
