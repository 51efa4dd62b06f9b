use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::*;
use crate::coordination::records::{Grant, Member, MemberState};

fn hello() -> Hello {
    Hello {
        fleet: "f".into(),
        protocol: 1,
        holder: "core-0#3".parse().unwrap(),
        region: "r".into(),
        zone: "z".into(),
        build: "0.1.0".into(),
        address: "10.0.0.1:7443".into(),
        admin: "10.0.0.1:9090".into(),
    }
}

fn message(version: u64, body: Body) -> Message {
    Message {
        fleet: "f".into(),
        protocol: 1,
        version,
        body,
    }
}

fn map() -> ShardMapSpec {
    let owner: Holder = "core-0#3".parse().unwrap();
    let grants = (0..BUCKETS).map(|bucket| {
        let grant = Grant {
            owner: owner.clone(),
            epoch: Epoch(4),
        };
        (Bucket(bucket), grant)
    });
    let member = Member {
        incarnation: 3,
        zone: "z".into(),
        weight: 100,
        state: MemberState::Active,
    };
    ShardMapSpec {
        term: 2,
        version: 7,
        leader: owner.clone(),
        buckets: BUCKETS,
        members: [(owner.pod.clone(), member)].into(),
        grants: grants.collect(),
        moves: BTreeMap::new(),
    }
}

fn holders() -> impl Strategy<Value = Holder> {
    ("[a-z][a-z0-9-]{0,20}", 0..=MOST).prop_map(|(pod, incarnation)| Holder {
        pod: PodName(pod.into()),
        incarnation,
    })
}

fn bodies() -> impl Strategy<Value = Body> {
    let buckets = || (0..BUCKETS).prop_map(Bucket);
    let epochs = || (0..=MOST).prop_map(Epoch);
    let links = prop_oneof![Just(Link::Reached), Just(Link::Refused), Just(Link::Silent)];
    prop_oneof![
        Just(Body::Hint),
        (holders(), links, any::<u32>()).prop_map(|(suspect, link, age)| Body::Vote(Vote {
            suspect,
            link,
            age: Duration::from_micros(age.into()),
        })),
        (vec((buckets(), epochs()), 0..40), 0..=MOST)
            .prop_map(|(buckets, version)| Body::Released { buckets, version }),
        (buckets(), epochs(), holders()).prop_map(|(bucket, epoch, holder)| Body::Fenced {
            bucket,
            epoch,
            holder
        }),
        vec((buckets(), any::<u32>()), 0..40).prop_map(Body::Load),
        any::<u64>().prop_map(|number| Body::Recall { number }),
        (any::<u64>(), 0..=MOST, any::<bool>()).prop_map(|(number, highest, remembers)| {
            Body::Remember {
                number,
                highest,
                map: remembers.then(|| Arc::new(map())),
            }
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_read(version in 0..=MOST, body in bodies()) {
        let sent = message(version, body);
        let bytes = encode(&sent).encode_to_vec();
        let read = decode(proto::Message::decode(&*bytes).unwrap(), &hello());
        prop_assert_eq!(read, Ok(sent));
    }

    #[test]
    fn bytes_of_anybody_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = proto::Frame::decode(&*bytes) {
            match frame.kind {
                Some(proto::frame::Kind::Hello(hello)) => drop(Hello::decode(hello)),
                Some(proto::frame::Kind::Message(message)) => drop(decode(message, &hello())),
                Some(proto::frame::Kind::Gossip(_)) | None => {}
            }
        }
    }
}

#[test]
fn a_hello_is_read_as_it_was_said() {
    assert_eq!(Hello::decode(hello().encode()), Ok(hello()));
    let mut long = hello().encode();
    long.zone = "z".repeat(513);
    assert!(Hello::decode(long).is_err());
    let mut nobody = hello().encode();
    nobody.holder = Some(proto::Holder {
        pod: "a#1".to_owned(),
        incarnation: 1,
    });
    assert!(Hello::decode(nobody).is_err());
}

#[test]
fn what_can_not_be_is_refused() {
    use proto::message::Body as Wire;
    let read = |body| {
        decode(
            proto::Message {
                version: 1,
                body: Some(body),
            },
            &hello(),
        )
    };
    let released = |buckets: Vec<u32>, epochs: Vec<u64>, version| {
        Wire::Released(proto::Released {
            buckets,
            epochs,
            version,
        })
    };
    let many = 2 * u32::from(BUCKETS);
    let wrong = [
        released(vec![1], vec![], 1),
        released(vec![1024], vec![1], 1),
        released(vec![1], vec![MOST + 1], 1),
        released(vec![1], vec![1], u64::MAX),
        released(vec![0; many as usize], vec![1; many as usize], 1),
        Wire::Vote(proto::Vote {
            suspect: Some(holder(&hello().holder)),
            link: 17,
            age_micros: 0,
        }),
        Wire::Fenced(proto::Fenced {
            bucket: 1,
            epoch: 1,
            holder: None,
        }),
        Wire::Remember(proto::Remember {
            number: 1,
            highest: 1,
            map: vec![b' '; MOST_MAP + 1],
        }),
        Wire::Remember(proto::Remember {
            number: 1,
            highest: 1,
            map: b"{\"term\": 1}".to_vec(),
        }),
    ];
    for (n, body) in wrong.into_iter().enumerate() {
        assert!(read(body).is_err(), "{n}");
    }
    assert!(decode(proto::Message::default(), &hello()).is_err());
}

/// The bound of a frame holds the largest that are ever sent.
#[test]
fn the_largest_fit_into_a_frame() {
    let buckets = (0..BUCKETS)
        .map(|bucket| (Bucket(bucket), Epoch(MOST)))
        .collect();
    let released = message(
        MOST,
        Body::Released {
            buckets,
            version: MOST,
        },
    );
    let remember = message(
        MOST,
        Body::Remember {
            number: u64::MAX,
            highest: MOST,
            map: Some(Arc::new(map())),
        },
    );
    for sent in [released, remember] {
        assert!(encode(&sent).encoded_len() < MOST_FRAME / 2);
    }
}
