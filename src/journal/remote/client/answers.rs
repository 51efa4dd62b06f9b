//! Calls that wait for their answers, by number.

use std::{collections::HashMap, mem};

use tokio::sync::oneshot;

use crate::journal::{
    Claim, Fenced, FetchLimit, IngestorUid, LogId, Millis, Record, SubscriptionError,
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
    Records(Vec<Record>),
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

    fn fetched(&mut self, call: u64) -> Result<(), Malformed> {
        if let Some(fetching) = self.fetching(call) {
            if fetching.missing > 0 {
                return Err(Malformed("a body ends early"));
            }
            let records = mem::take(&mut fetching.gathered);
            self.answer(call, Ok(Answer::Records(records)));
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
                    self.fetched(records.call)?;
                }
            }
            Told::Part(part) => {
                if let Some(fetching) = self.fetching(part.call) {
                    fetching.add(&part.body)?;
                }
                if part.last {
                    self.fetched(part.call)?;
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
