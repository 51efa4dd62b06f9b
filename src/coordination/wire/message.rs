//! Messages between replicas, as bytes carry them.
//!
//! Fleet and protocol are said once per connection, in its [`Hello`]; a message is read with what
//! its connection's said. What can't be is refused here, before anything looks at it.

use std::{sync::Arc, time::Duration};

use super::proto;
use crate::{
    coordination::{
        message::{Body, Message, Vote},
        names::{Holder, MOST, PodName},
        port::Link,
        records::ShardMapSpec,
        text,
    },
    journal::{BUCKETS, Bucket, Epoch},
};

/// A frame is at most this long: a map has half of it, all buckets with their epochs a quarter.
pub const MOST_FRAME: usize = 64 * 1024;

/// A map in a message is at most this long: twice what one in the API may have.
const MOST_MAP: usize = 32 * 1024;

/// The longest name, address or build that is read.
const LONGEST: usize = 512;

/// Why a frame is not what it should be; nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// What both sides of a connection say first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of which fleet.
    pub fleet: Arc<str>,
    /// The protocol that is spoken.
    pub protocol: u32,
    /// As whom the sender acts.
    pub holder: Holder,
    /// Its region.
    pub region: Arc<str>,
    /// Its zone.
    pub zone: Arc<str>,
    /// Its build.
    pub build: Arc<str>,
    /// Where it listens for peers.
    pub address: Arc<str>,
    /// Where it listens for operators; empty: nowhere.
    pub admin: Arc<str>,
}

// === impl Hello ===

impl Hello {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> proto::Hello {
        proto::Hello {
            fleet: self.fleet.to_string(),
            protocol: self.protocol,
            holder: Some(holder(&self.holder)),
            region: self.region.to_string(),
            zone: self.zone.to_string(),
            build: self.build.to_string(),
            address: self.address.to_string(),
            admin: self.admin.to_string(),
        }
    }

    /// As it comes in.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(hello: proto::Hello) -> Result<Self, Malformed> {
        Ok(Self {
            holder: read_holder(hello.holder)?,
            protocol: hello.protocol,
            fleet: short(hello.fleet)?,
            region: short(hello.region)?,
            zone: short(hello.zone)?,
            build: short(hello.build)?,
            address: short(hello.address)?,
            admin: short(hello.admin)?,
        })
    }
}

fn short(text: String) -> Result<Arc<str>, Malformed> {
    if text.len() > LONGEST {
        return Err(Malformed("a text is longer than 512 bytes"));
    }
    Ok(text.into())
}

pub(super) fn holder(holder: &Holder) -> proto::Holder {
    proto::Holder {
        pod: holder.pod.to_string(),
        incarnation: holder.incarnation,
    }
}

pub(super) fn read_holder(holder: Option<proto::Holder>) -> Result<Holder, Malformed> {
    let holder = holder.ok_or(Malformed("a holder is missing"))?;
    let name = &holder.pod;
    if name.is_empty() || name.len() > 253 || name.contains('#') || holder.incarnation > MOST {
        return Err(Malformed("a holder is no pod with an incarnation"));
    }
    Ok(Holder {
        pod: PodName(holder.pod.into()),
        incarnation: holder.incarnation,
    })
}

/// A message as it is sent. Fleet and protocol are the connection's.
#[must_use]
pub fn encode(message: &Message) -> proto::Message {
    use proto::message::Body as Wire;
    let body = match &message.body {
        Body::Hint => Wire::Hint(proto::Hint {}),
        Body::Vote(vote) => Wire::Vote(proto::Vote {
            suspect: Some(holder(&vote.suspect)),
            link: link(vote.link).into(),
            age_micros: u64::try_from(vote.age.as_micros()).unwrap_or(u64::MAX),
        }),
        Body::Released { buckets, version } => Wire::Released(proto::Released {
            buckets: buckets.iter().map(|(bucket, _)| bucket.0.into()).collect(),
            epochs: buckets.iter().map(|(_, epoch)| epoch.0).collect(),
            version: *version,
        }),
        Body::Fenced {
            bucket,
            epoch,
            holder: stored,
        } => Wire::Fenced(proto::Fenced {
            bucket: bucket.0.into(),
            epoch: epoch.0,
            holder: Some(holder(stored)),
        }),
        Body::Load(loads) => Wire::Load(proto::Load {
            buckets: loads.iter().map(|(bucket, _)| bucket.0.into()).collect(),
            loads: loads.iter().map(|(_, load)| *load).collect(),
        }),
        Body::Recall { number } => Wire::Recall(proto::Recall { number: *number }),
        Body::Remember {
            number,
            highest,
            map,
        } => Wire::Remember(proto::Remember {
            number: *number,
            highest: *highest,
            map: map.as_deref().map(map_text).unwrap_or_default(),
        }),
    };
    proto::Message {
        version: message.version,
        body: Some(body),
    }
}

/// A message as it comes in over a connection that began with `hello`.
///
/// # Errors
/// What is wrong with it.
pub fn decode(message: proto::Message, hello: &Hello) -> Result<Message, Malformed> {
    use proto::message::Body as Wire;
    let body = match message.body {
        Some(Wire::Hint(proto::Hint {})) => Body::Hint,
        Some(Wire::Vote(vote)) => Body::Vote(Vote {
            link: read_link(vote.link())?,
            suspect: read_holder(vote.suspect)?,
            age: Duration::from_micros(vote.age_micros),
        }),
        Some(Wire::Released(released)) => {
            let epochs = released
                .epochs
                .into_iter()
                .map(number)
                .map(|n| n.map(Epoch));
            Body::Released {
                buckets: paired(released.buckets, epochs)?,
                version: number(released.version)?,
            }
        }
        Some(Wire::Fenced(fenced)) => Body::Fenced {
            bucket: bucket(fenced.bucket)?,
            epoch: Epoch(number(fenced.epoch)?),
            holder: read_holder(fenced.holder)?,
        },
        Some(Wire::Load(load)) => Body::Load(paired(load.buckets, load.loads.into_iter().map(Ok))?),
        Some(Wire::Recall(recall)) => Body::Recall {
            number: recall.number,
        },
        Some(Wire::Remember(remember)) => Body::Remember {
            number: remember.number,
            highest: number(remember.highest)?,
            map: read_map(&remember.map)?,
        },
        None => return Err(Malformed("a message says nothing that is known here")),
    };
    Ok(Message {
        fleet: Arc::clone(&hello.fleet),
        protocol: hello.protocol,
        version: number(message.version)?,
        body,
    })
}

fn number(number: u64) -> Result<u64, Malformed> {
    if number > MOST {
        return Err(Malformed("a number is not below 2^52"));
    }
    Ok(number)
}

fn bucket(bucket: u32) -> Result<Bucket, Malformed> {
    u16::try_from(bucket)
        .ok()
        .filter(|bucket| *bucket < BUCKETS)
        .map(Bucket)
        .ok_or(Malformed("a bucket doesn't exist"))
}

/// Buckets with what is said about each.
fn paired<T>(
    buckets: Vec<u32>,
    values: impl ExactSizeIterator<Item = Result<T, Malformed>>,
) -> Result<Vec<(Bucket, T)>, Malformed> {
    if buckets.len() != values.len() || buckets.len() > usize::from(BUCKETS) {
        return Err(Malformed("buckets and what is said about them don't match"));
    }
    let pairs = buckets.into_iter().zip(values);
    pairs
        .map(|(number, value)| Ok((bucket(number)?, value?)))
        .collect()
}

const fn link(link: Link) -> proto::Link {
    match link {
        Link::Reached => proto::Link::Reached,
        Link::Refused => proto::Link::Refused,
        Link::Silent => proto::Link::Silent,
    }
}

const fn read_link(link: proto::Link) -> Result<Link, Malformed> {
    match link {
        proto::Link::Reached => Ok(Link::Reached),
        proto::Link::Refused => Ok(Link::Refused),
        proto::Link::Silent => Ok(Link::Silent),
        proto::Link::Unspecified => Err(Malformed("a vote says nothing that is known here")),
    }
}

/// A map as text. One that has no text, which can't be, is none that is remembered.
fn map_text(map: &ShardMapSpec) -> Vec<u8> {
    serde_json::to_vec(&text::encode(map)).unwrap_or_default()
}

fn read_map(bytes: &[u8]) -> Result<Option<Arc<ShardMapSpec>>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MOST_MAP {
        return Err(Malformed("a map is longer than 32 KiB"));
    }
    let value = serde_json::from_slice(bytes).map_err(|_json| Malformed("a map is not JSON"))?;
    let map = text::read(&value).map_err(|_map| Malformed("a map says what can't be"))?;
    Ok(Some(Arc::new(map)))
}

#[cfg(test)]
mod tests;
