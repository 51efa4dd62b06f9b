//! Calls that wait for their answers, by number.

use std::{collections::HashMap, mem};

use tokio::sync::oneshot;

use crate::journal::{
    Claim, Fenced, FetchLimit, Fetched, IngestorUid, LogId, Millis, Record, SubscriptionError,
    remote::{
        BODY,
        codec::{self, Malformed},
        pb::{self, tell::What as Told},
    },
};

/// What a call came to.
#[derive(Debug)]
pub(super) enum Answer {
    Claimed {
        held: Vec<Claim>,
        refused: Vec<Fenced>,
    },
    Fetched(Fetched),
    Committed,
    Spec(Option<String>),
    Oldest(Option<Millis>),
}

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Answer, SubscriptionError>>;

/// What is expected of the answer to a fetch.
#[derive(Debug)]
pub(super) struct Fetching {
    log: LogId,
    ingestor: IngestorUid,
    records: usize,
    bytes: usize,
    gathered: Vec<Record>,
    /// Bytes gathered.
    size: usize,
    /// Bytes of the last record's body that are still to come, and those that came.
    missing: usize,
    parts: Vec<u8>,
}

impl Fetching {
    pub(super) fn new(log: LogId, ingestor: IngestorUid, limit: FetchLimit) -> Self {
        Self {
            log,
            ingestor,
            records: usize::try_from(limit.records.get()).unwrap_or(usize::MAX),
            bytes: limit.bytes,
            gathered: Vec::new(),
            size: 0,
            missing: 0,
            parts: Vec::new(),
        }
    }

    fn take(&mut self, records: Vec<pb::Record>) -> Result<(), Malformed> {
        for record in records {
            // Only the one that passes the limit may lie beyond it.
            if self.gathered.len() >= self.records || self.size > self.bytes {
                return Err(Malformed("more records than were asked for"));
            }
            if self.missing > 0 {
                return Err(Malformed("a record within the body of another"));
            }
            let (record, missing) = codec::record(self.log, &self.ingestor, record)?;
            let last = self.gathered.last().map(|last| last.id.position);
            if last.is_some_and(|last| last >= record.id.position) {
                return Err(Malformed("records out of order"));
            }
            self.size = self.size.saturating_add(record.event.body.len());
            self.missing = missing;
            self.gathered.push(record);
        }
        Ok(())
    }

    fn add(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let Some(last) = self.gathered.last_mut() else {
            return Err(Malformed("a part of no body"));
        };
        let missing = self.missing.checked_sub(body.len());
        self.missing = missing.ok_or(Malformed("a body is longer than it says"))?;
        self.size = self.size.saturating_add(body.len());
        if self.parts.is_empty() {
            self.parts.extend_from_slice(&last.event.body);
        }
        self.parts.extend_from_slice(body);
        debug_assert!(self.parts.len() <= BODY, "checked where the record begins");
        if self.missing == 0 {
            last.event.body = mem::take(&mut self.parts).into();
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Waiting {
    reply: Reply,
    fetching: Option<Fetching>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

impl Answers {
    /// A number for a call.
    pub(super) fn expect(&mut self, reply: Reply, fetching: Option<Fetching>) -> u64 {
        let call = self.next;
        self.next += 1;
        self.waiting.insert(call, Waiting { reply, fetching });
        call
    }

    /// Whether somebody waits for the call.
    pub(super) fn expects(&self, call: u64) -> bool {
        self.waiting.contains_key(&call)
    }

    /// Nobody waits for the call any more.
    pub(super) fn forget(&mut self, call: u64) {
        self.waiting.remove(&call);
    }

    /// All calls fail.
    pub(super) fn fail(&mut self, error: &SubscriptionError) {
        for (_, waiting) in self.waiting.drain() {
            // Whoever asked may have gone.
            drop(waiting.reply.send(Err(error.clone())));
        }
    }

    pub(super) fn answer(&mut self, call: u64, answer: Result<Answer, SubscriptionError>) {
        // Whoever asked may have gone.
        if let Some(waiting) = self.waiting.remove(&call) {
            drop(waiting.reply.send(answer));
        }
    }

    fn fetching(&mut self, call: u64) -> Option<&mut Fetching> {
        self.waiting.get_mut(&call)?.fetching.as_mut()
    }

    fn fetched(&mut self, call: u64, end: bool) -> Result<(), Malformed> {
        if let Some(fetching) = self.fetching(call) {
            if fetching.missing > 0 {
                return Err(Malformed("a body ends early"));
            }
            let records = mem::take(&mut fetching.gathered);
            self.answer(call, Ok(Answer::Fetched(Fetched { records, end })));
        }
        Ok(())
    }

    /// Takes an answer; what answers nothing that waits changes nothing.
    pub(super) fn take(&mut self, told: Told) -> Result<(), Malformed> {
        match told {
            Told::Records(records) => {
                if let Some(fetching) = self.fetching(records.call) {
                    fetching.take(records.records)?;
                }
                if records.last {
                    self.fetched(records.call, records.end)?;
                }
            }
            Told::Part(part) => {
                if let Some(fetching) = self.fetching(part.call) {
                    fetching.add(&part.body)?;
                }
                if part.last {
                    self.fetched(part.call, part.end)?;
                }
            }
            Told::Committed(committed) => self.answer(committed.call, Ok(Answer::Committed)),
            Told::Spec(spec) => self.answer(spec.call, Ok(Answer::Spec(spec.text))),
            Told::Oldest(oldest) => {
                let at = oldest.accepted_at.map(Millis);
                self.answer(oldest.call, Ok(Answer::Oldest(at)));
            }
            Told::Failed(failed) => {
                let error = codec::error(failed.why)?;
                self.answer(failed.call, Err(error));
            }
            Told::Opened(_) | Told::Ready(_) | Told::Lost(_) | Told::Claimed(_) => {
                return Err(Malformed("it is told out of place"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use bytes::Bytes;
    use proptest::{collection::vec, prelude::*};
    use prost::Message as _;

    use super::*;
    use crate::journal::{
        Event, Position, RecordId, SubscriptionError,
        remote::{ANSWER, PIECE, codec::arbitrary, pieces},
    };

    const LOG: LogId = LogId(7);

    fn limit(records: usize, bytes: usize) -> FetchLimit {
        FetchLimit {
            records: NonZeroU32::new(u32::try_from(records.max(1)).unwrap()).unwrap(),
            bytes,
        }
    }

    fn fetching(
        limit: FetchLimit,
    ) -> (
        Answers,
        u64,
        oneshot::Receiver<Result<Answer, SubscriptionError>>,
    ) {
        let mut answers = Answers::default();
        let (reply, answer) = oneshot::channel();
        let expected = Fetching::new(LOG, IngestorUid("uid".into()), limit);
        let call = answers.expect(reply, Some(expected));
        (answers, call, answer)
    }

    fn records(events: Vec<Event>) -> Vec<Record> {
        let id = |n: usize| RecordId {
            log: LOG,
            position: Position(u64::try_from(n).unwrap()),
        };
        let numbered = events.into_iter().enumerate();
        numbered
            .map(|(n, event)| Record { id: id(n), event })
            .collect()
    }

    /// Refused or not.
    fn strange(_: Result<(), Malformed>) {}

    /// What is told, as it comes out at the other end.
    fn sent(what: Told) -> Told {
        let bytes = pb::Tell { what: Some(what) }.encode_to_vec();
        assert!(bytes.len() <= ANSWER);
        pb::Tell::decode(bytes.as_slice()).unwrap().what.unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However large bodies are, and however records are cut into messages.
        #[test]
        fn a_fetch_is_put_together_again(
            events in vec((arbitrary(), 0..4_usize, 0..PIECE), 0..12),
            end: bool,
        ) {
            let grown = events.into_iter().map(|(mut event, pieces, more)| {
                if pieces > 0 {
                    event.body = Bytes::from(vec![b'x'; pieces * PIECE + more - PIECE]);
                }
                event
            });
            let all = records(grown.collect());
            let all = Fetched { records: all, end };
            let (mut answers, call, mut answer) = fetching(limit(all.records.len(), usize::MAX));
            for piece in pieces::records(call, all.clone()) {
                prop_assert!(answer.try_recv().is_err(), "only the last piece answers");
                answers.take(sent(piece)).unwrap();
            }
            let Ok(Ok(Answer::Fetched(read))) = answer.try_recv() else {
                panic!("no answer");
            };
            prop_assert_eq!(read, all);
        }

        /// Any bytes in place of an answer: a refusal, or no harm.
        #[test]
        fn a_strange_answer_does_no_harm(bytes in vec(any::<u8>(), 0..200), cut in 0..64_usize) {
            let (mut answers, call, _answer) = fetching(limit(3, 1_000));
            if let Ok(pb::Tell { what: Some(what) }) = pb::Tell::decode(bytes.as_slice()) {
                strange(answers.take(what));
            }
            let record = pb::Record { spec: bytes.into(), ..Default::default() };
            let one = Told::Records(pb::Records { call, records: vec![record], last: false, end: false });
            let mut spoilt = pb::Tell { what: Some(one) }.encode_to_vec();
            if let Some(byte) = spoilt.get_mut(cut) {
                *byte ^= 0xff;
            }
            if let Ok(pb::Tell { what: Some(what) }) = pb::Tell::decode(spoilt.as_slice()) {
                strange(answers.take(what));
            }
        }
    }

    fn head(position: u64, body: &'static [u8], length: u64) -> pb::Record {
        pb::Record {
            position,
            spec: vec![0; 32].into(),
            payload: vec![0; 32].into(),
            body: body.into(),
            body_length: length,
            ..Default::default()
        }
    }

    fn batch(call: u64, records: Vec<pb::Record>, last: bool) -> Told {
        Told::Records(pb::Records {
            call,
            records,
            last,
            end: false,
        })
    }

    fn part(call: u64, body: &'static [u8]) -> Told {
        let body = body.into();
        Told::Part(pb::Part {
            call,
            body,
            last: false,
            end: false,
        })
    }

    #[test]
    fn more_than_was_asked_for_is_refused() {
        let whole = |n| head(n, b"1234567890", 10);
        let refused = |told: Vec<Told>, limit| {
            let (mut answers, _, _answer) = fetching(limit);
            let results: Vec<_> = told.into_iter().map(|told| answers.take(told)).collect();
            results.last().unwrap().is_err()
        };
        let (two, bytes) = (limit(2, 1_000), limit(10, 15));
        assert!(!refused(
            vec![batch(0, vec![whole(1), whole(2)], false)],
            two
        ));
        assert!(refused(
            vec![batch(0, vec![whole(1), whole(2), whole(3)], false)],
            two
        ));
        assert!(!refused(
            vec![batch(0, vec![whole(1), whole(2)], false)],
            bytes
        ));
        assert!(refused(
            vec![batch(0, vec![whole(1), whole(2), whole(3)], false)],
            bytes
        ));
        assert!(
            refused(vec![batch(0, vec![whole(2), whole(1)], false)], two),
            "order"
        );
        assert!(
            refused(vec![batch(0, vec![whole(2), whole(2)], false)], two),
            "twice"
        );
        let begun = || batch(0, vec![head(1, b"123", 5)], false);
        assert!(
            refused(vec![begun(), batch(0, vec![whole(2)], false)], two),
            "within a body"
        );
        assert!(refused(vec![begun(), part(0, b"456")], two), "too long");
        assert!(
            refused(vec![begun(), batch(0, vec![], true)], two),
            "too short"
        );
        assert!(!refused(vec![begun(), part(0, b"45")], two));
        assert!(refused(vec![part(0, b"45")], two), "of no record");
        assert!(refused(
            vec![batch(0, vec![head(1, b"", (32 << 20) + 1)], false)],
            two
        ));
        assert!(
            !refused(vec![batch(9, vec![whole(1); 50], true)], two),
            "nobody's call"
        );
    }
}
