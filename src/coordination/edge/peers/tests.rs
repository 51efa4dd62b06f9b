use super::*;
use crate::journal::{Bucket, Epoch};

fn released(buckets: &[u16], at: u64) -> Message {
    let buckets = buckets.iter().map(|bucket| (Bucket(*bucket), Epoch(1)));
    Message {
        fleet: "f".into(),
        protocol: 1,
        version: at,
        body: Body::Released {
            buckets: buckets.collect(),
            version: at,
        },
    }
}

#[test]
fn what_stops_together_is_one_message() {
    let mut first = released(&[1], 7);
    assert!(join(&mut first, &released(&[2], 7)));
    assert!(join(&mut first, &released(&[1], 7)));
    assert_eq!(first, released(&[1, 2], 7));
    assert!(!join(&mut first, &released(&[3], 8)), "of another map");
    let hint = Message {
        body: Body::Hint,
        ..released(&[], 7)
    };
    assert!(!join(&mut first, &hint));
    assert_eq!(first, released(&[1, 2], 7));
}

#[test]
fn a_link_is_what_was_last_seen_of_it() {
    let secs = |secs: u64| Moment(secs * 1_000_000);
    let open = || {
        let (queue, _) = tokio::sync::mpsc::channel(1);
        Some(Open {
            connection: 1,
            queue,
        })
    };
    let mut peer = Peer {
        open: open(),
        heard: secs(10),
        ..Peer::default()
    };
    assert_eq!(peer.link(secs(99), false), (Link::Reached, None));
    // Gossip says that it is silent, and it was heard half a second ago.
    assert_eq!(
        peer.link(Moment(10_500_000), true),
        (Link::Reached, Some(secs(11)))
    );
    assert_eq!(peer.link(secs(11), true), (Link::Silent, None));
    peer.open = None;
    assert_eq!(peer.link(secs(11), false), (Link::Reached, Some(secs(13))));
    assert_eq!(peer.link(secs(13), false), (Link::Silent, None));
    peer.refused = true;
    assert_eq!(peer.link(secs(10), false), (Link::Refused, None));
    // A connection says more than what a look found before it.
    peer.open = open();
    assert_eq!(peer.link(secs(10), false), (Link::Reached, None));
}
