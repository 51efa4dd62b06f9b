//! Cuts what is large into messages: records with their bodies, ends, names of queues.

use prost::Message as _;

use super::{PIECE, codec, pb};
use crate::journal::{Ended, Fetched, IngestorUid};

/// The answer to a fetch.
pub(super) fn records(call: u64, fetched: Fetched) -> Vec<pb::tell::What> {
    let mut pieces = Vec::new();
    let (mut batch, mut size) = (Vec::new(), 0);
    for record in fetched.records {
        let (head, mut rest) = codec::from_record(record, PIECE);
        size += head.encoded_len();
        batch.push(head);
        if size >= PIECE {
            pieces.push(batch_of(call, std::mem::take(&mut batch)));
            size = 0;
        }
        while !rest.is_empty() {
            let body = rest.split_to(rest.len().min(PIECE));
            pieces.push(pb::tell::What::Part(pb::Part {
                call,
                body,
                last: false,
                end: false,
            }));
        }
    }
    if !batch.is_empty() || pieces.is_empty() {
        pieces.push(batch_of(call, batch));
    }
    match pieces.last_mut() {
        Some(pb::tell::What::Records(records)) => {
            (records.last, records.end) = (true, fetched.end);
        }
        Some(pb::tell::What::Part(part)) => (part.last, part.end) = (true, fetched.end),
        Some(_) | None => {}
    }
    pieces
}

const fn batch_of(call: u64, records: Vec<pb::Record>) -> pb::tell::What {
    pb::tell::What::Records(pb::Records {
        call,
        records,
        last: false,
        end: false,
    })
}

/// Ends as lists that fit into a message each.
pub(super) fn ends(ends: Vec<Ended>) -> Vec<Vec<pb::Ended>> {
    cut(ends.into_iter().map(codec::from_ended), |end| {
        end.encoded_len()
    })
}

/// Names of queues, as lists that fit into a message each.
pub(super) fn names(uids: Vec<IngestorUid>) -> Vec<Vec<String>> {
    cut(
        uids.into_iter().map(|uid| uid.0.as_ref().to_owned()),
        String::len,
    )
}

/// Lists that take at most [`PIECE`], and what is larger alone.
pub(super) fn cut<T>(all: impl Iterator<Item = T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    // Each element also has a tag and a length.
    const OVERHEAD: usize = 8;
    let mut lists = Vec::new();
    let (mut list, mut total) = (Vec::new(), 0);
    for one in all {
        let size = size(&one) + OVERHEAD;
        if total + size > PIECE && !list.is_empty() {
            lists.push(std::mem::take(&mut list));
            total = 0;
        }
        total += size;
        list.push(one);
    }
    if !list.is_empty() {
        lists.push(list);
    }
    lists
}
