//! Requests and answers in a few words.

use zen_fabric::coordination::port::{Answer, Object, Op, Record};

/// A request.
pub(crate) fn op(object: &Object, op: &Op) -> String {
    match op {
        Op::Read => format!("reads {object:?}"),
        Op::Create(of) => format!("creates {object:?} {}", record(of)),
        Op::Replace {
            record: of,
            resource_version,
        } => format!(
            "replaces {object:?} at {resource_version} by {}",
            record(of)
        ),
        Op::Delete {
            resource_version, ..
        } => format!("deletes {object:?} at {resource_version}"),
    }
}

/// An answer.
pub(crate) fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Done(stored) => format!("done, now {}", stored.resource_version),
        Answer::Absent => "absent".to_owned(),
        Answer::Exists => "exists".to_owned(),
        Answer::Conflict => "conflict".to_owned(),
        Answer::Refused(why) => format!("refused: {why}"),
        Answer::Unknown => "no answer".to_owned(),
    }
}

/// A record.
pub(crate) fn record(record: &Record) -> String {
    match record {
        Record::Leader(one) => format!("leader {:?} term {}", one.holder, one.term),
        Record::Member(one) => format!(
            "{} {:?}{}{}{} seen {} renewal {}",
            one.holder,
            one.life,
            if one.ready { " ready" } else { "" },
            if one.draining { " draining" } else { "" },
            one.challenge
                .as_ref()
                .map(|challenge| format!(" challenged by {}", challenge.by))
                .unwrap_or_default(),
            one.seen,
            one.renewals
        ),
        Record::Map(map) => {
            let grants: Vec<String> = map
                .grants
                .iter()
                .map(|(bucket, grant)| format!("{}:{}@{}", bucket.0, grant.owner, grant.epoch.0))
                .collect();
            let moves: Vec<String> = map
                .moves
                .iter()
                .map(|(bucket, of)| format!("{}:{}→{} {:?}", bucket.0, of.from, of.to, of.stage))
                .collect();
            let members: Vec<String> = map
                .members
                .iter()
                .map(|(pod, member)| format!("{pod}#{} {:?}", member.incarnation, member.state))
                .collect();
            format!(
                "version {} term {} of {} [{}] {} moves [{}]",
                map.version,
                map.term,
                map.leader,
                members.join(", "),
                grants.join(" "),
                moves.join(" ")
            )
        }
        Record::Malformed(why) => format!("malformed: {why}"),
    }
}
