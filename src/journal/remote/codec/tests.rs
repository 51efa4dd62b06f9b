use std::time::Duration;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use prost::Message;

use super::*;
use crate::journal::{
    Event, ItemTally, Key, KeyHash, LetterId, LogId, Millis, Origin, PayloadDigest, Record,
    RecordId, Tally,
    facts::{Facts, Refusal, SecretState, Unused},
};

const LOG: LogId = LogId(0x00c0_ffee);

fn letter_id() -> impl Strategy<Value = LetterId> {
    (any::<u32>(), 0..=MOST, any::<u32>()).prop_map(|(log, position, index)| LetterId {
        record: RecordId {
            log: LogId(log),
            position: Position(position),
        },
        index,
    })
}

pub(in crate::journal::remote) fn event() -> impl Strategy<Value = Event> {
    let key = (any::<[u8; 16]>(), 0..1_000_000_000_u64, any::<bool>()).prop_map(
        |(hash, window, named)| Key {
            hash: KeyHash(hash),
            window: Duration::from_millis(window),
            named,
        },
    );
    let origin = option::of(letter_id())
        .prop_map(|letter| letter.map_or(Origin::Request, |letter| Origin::Replay { letter }));
    let who = (any::<[u8; 32]>(), "[a-z0-9-]{1,40}", option::of(key));
    let what = (any::<[u8; 32]>(), any::<i64>(), origin);
    let request = (
        option::of("[ -~]{0,60}"),
        vec(("[a-z-]{1,20}", ".{0,40}"), 0..5),
        ".{0,30}",
        vec(any::<u8>(), 0..2_000),
    );
    (who, what, request).prop_map(|(who, what, request)| {
        let header = |(name, value): (String, String)| (name.into(), value.into());
        Event {
            ingestor: IngestorUid("uid".into()),
            spec: SpecDigest(who.0),
            event_id: who.1.into(),
            key: who.2,
            payload: PayloadDigest(what.0),
            accepted_at: Millis(what.1),
            origin: what.2,
            traceparent: request.0.map(Into::into),
            headers: request.1.into_iter().map(header).collect(),
            query: request.2.into(),
            body: request.3.into(),
        }
    })
}

fn an_end() -> impl Strategy<Value = Ended> {
    let ends = [
        End::Filtered,
        End::Deduplicated,
        End::Observed,
        End::DeadLettered,
    ];
    let letter =
        (any::<u32>(), "[A-Za-z]{1,20}", ".{0,200}").prop_map(|(index, reason, message)| Letter {
            index,
            reason: reason.into(),
            message,
        });
    let items = any::<[u32; 4]>().prop_map(|[a, b, c, d]| Items {
        observed: a,
        filtered: b,
        deduplicated: c,
        dead_lettered: d,
    });
    let observation = option::of("[a-z-]{1,63}");
    let of = (0..=MOST, prop::sample::select(ends.to_vec()), items);
    (of, vec(letter, 0..4), observation).prop_map(|((position, end, items), letters, made)| Ended {
        position: Position(position),
        end,
        items,
        letters,
        observation: made.map(Into::into),
    })
}

fn some_facts() -> impl Strategy<Value = Facts> {
    let secret = prop_oneof![
        Just(SecretState::Usable),
        "[a-z]{1,9}".prop_map(|name| SecretState::Missing { name }),
        "[a-z]{1,9}".prop_map(|name| SecretState::Forbidden { name }),
    ];
    let refused = option::of(prop_oneof![
        ".{0,50}".prop_map(Refusal::Expression),
        ".{0,50}".prop_map(Refusal::Configuration),
    ]);
    let unused = ("[a-z]{1,9}", 0..9_usize).prop_map(|(secret, values)| Unused { secret, values });
    let rest = (option::of(any::<i64>()), any::<bool>(), any::<bool>());
    (
        rest,
        secret,
        vec(unused, 0..3),
        refused,
        option::of(".{0,50}"),
    )
        .prop_map(
            |((generation, serving, share_full), secret, unused, refused, endpoint)| Facts {
                generation,
                serving,
                secret,
                unused,
                share_full,
                refused,
                endpoint,
            },
        )
}

/// Whatever it gave.
fn read<T>(_: Result<T, Malformed>) {}

/// As it comes out at the other end.
fn sent<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_record_comes_as_it_was(event in event(), position in 0..=MOST, most in 0..3_000_usize) {
        let id = RecordId { log: LOG, position: Position(position) };
        let whole = Record { id, event };
        let (message, rest) = from_record(whole.clone(), most);
        let uid = whole.event.ingestor.clone();
        let (mut read, missing) = record(LOG, &uid, sent(&message)).unwrap();
        prop_assert_eq!(missing, rest.len());
        let body = [read.event.body.clone(), rest].concat();
        read.event.body = body.into();
        prop_assert_eq!(read, whole);
    }

    #[test]
    fn an_end_comes_as_it_was(end in an_end()) {
        prop_assert_eq!(ended(sent(&from_ended(end.clone()))).unwrap(), end);
    }

    #[test]
    fn claims_and_holders_come_as_they_were(
        number in 0..BUCKETS, at in option::of(0..=MOST), pod in "[a-z][a-z0-9-]{0,20}", life in 1..1_000_u64,
    ) {
        let claim = Claim { bucket: Bucket(number), epoch: at.map(Epoch) };
        prop_assert_eq!(claims(vec![sent(&from_claim(&claim))]).unwrap(), [claim]);
        let held = Fenced {
            bucket: Bucket(number),
            epoch: Epoch(at.unwrap_or_default()),
            holder: Holder(format!("{pod}#{life}").into()),
        };
        prop_assert_eq!(fenced(sent(&from_fenced(&held))).unwrap(), held);
    }

    #[test]
    fn a_standing_comes_as_it_was(it in some_facts(), n in any::<[u64; 13]>(), at in option::of(any::<i64>())) {
        prop_assert_eq!(facts(sent(&from_facts(&it))).unwrap(), it);
        let all = Tally {
            requests: n[0], replays: n[1], observed: n[2], filtered: n[3], deduplicated: n[4],
            dead_lettered: n[5], damaged: n[6],
            items: ItemTally { observed: n[7], filtered: n[8], deduplicated: n[9], dead_lettered: n[10] },
            backlog: n[11], backlog_bytes: n[12], last_accepted_at: at.map(Millis),
        };
        prop_assert_eq!(tally(&sent(&from_tally(&all))), all);
    }

    /// Whatever a message says, reading it ends, and says what is wrong.
    #[test]
    fn no_message_is_too_strange(
        bytes in vec(any::<u8>(), 0..300), big in any::<u64>(), long in ".{0,600}", short in vec(any::<u8>(), 0..40),
    ) {
        let strange = Bytes::from(short);
        let number = u32::try_from(big >> 32).unwrap();
        read(digest(&strange));
        read(ingestor(long.clone()));
        read(holder(&long));
        read(buckets(&[number]));
        read(limit(number, big));
        read(after(Some(big)));
        read(claims(vec![pb::Claim { bucket: number, epoch: Some(big) }]));
        let strange_end = pb::Ended { position: big, end: i32::from_ne_bytes(number.to_ne_bytes()), ..Default::default() };
        read(ended(strange_end));
        let uid = IngestorUid("uid".into());
        let strange_record = pb::Record {
            position: big, spec: strange.clone(), payload: strange.clone(), body: strange, body_length: big,
            key: Some(pb::Key { window_ms: big, ..Default::default() }), ..Default::default()
        };
        read(record(LOG, &uid, strange_record));
        if let Ok(message) = pb::Record::decode(bytes.as_slice()) {
            read(record(LOG, &uid, message));
        }
        if let Ok(message) = pb::Facts::decode(bytes.as_slice()) {
            read(facts(message));
        }
        if let Ok(message) = pb::Failed::decode(bytes.as_slice()) {
            read(error(message.why));
        }
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let claim = |bucket, epoch| vec![pb::Claim { bucket, epoch }];
    assert!(claims(claim(1023, Some(MOST))).is_ok());
    claims(claim(1024, None)).unwrap_err();
    claims(claim(u32::MAX, None)).unwrap_err();
    claims(claim(0, Some(MOST + 1))).unwrap_err();
    claims(vec![pb::Claim::default(); 1025]).unwrap_err();
    buckets(&[0; 1025]).unwrap_err();
    for text in [
        "",
        "core-0",
        "#1",
        "core-0#",
        "core-0#x",
        "core-0#01",
        "a#b#1",
    ] {
        holder(text).unwrap_err();
    }
    ingestor(String::new()).unwrap_err();
    ingestor("x".repeat(257)).unwrap_err();
    assert!(ingestor("x".repeat(256)).is_ok());
    limit(0, 1).unwrap_err();
    let most = limit(u32::MAX, u64::MAX).unwrap();
    assert_eq!(
        (most.records.get(), most.bytes),
        (FETCH_RECORDS, FETCH_BYTES)
    );
    let end = |end: pb::End, observed| pb::Ended {
        end: end.into(),
        items: Some(pb::Counts {
            observed,
            ..Default::default()
        }),
        ..Default::default()
    };
    assert!(ended(end(pb::End::Observed, u64::from(u32::MAX))).is_ok());
    ended(end(pb::End::Observed, 1 << 32)).unwrap_err();
    ended(end(pb::End::Unspecified, 1)).unwrap_err();
    error(None).unwrap_err();
    assert_eq!(from_error(SubscriptionError::Closing), None);
    let both = pb::Facts {
        secret_missing: Some("a".to_owned()),
        secret_forbidden: Some("b".to_owned()),
        ..Default::default()
    };
    facts(both).unwrap_err();
}

#[test]
fn an_event_of_many_dead_items_fits_into_a_message() {
    let letter = |index| Letter {
        index,
        reason: "FieldMissing".into(),
        message: "ä".repeat(2_000),
    };
    let end = Ended {
        position: Position(1),
        end: End::DeadLettered,
        items: Items::default(),
        letters: (0..4_096).map(letter).collect(),
        observation: None,
    };
    let message = from_ended(end);
    assert_eq!(message.letters.len(), 4_096, "each is there");
    assert!(
        message
            .letters
            .iter()
            .all(|letter| letter.message.starts_with('ä'))
    );
    assert!(message.encoded_len() < super::super::MESSAGE / 2);
}
