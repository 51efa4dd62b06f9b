//! SWIM's packets, as bytes carry them: what foca needs of an identity and a codec.
//!
//! An identity is kept as the bytes in which it came, so that fields which this build doesn't know
//! are passed on.

use std::{fmt, sync::Arc};

use bytes::{Buf, BufMut, Bytes};
use foca::{Header, Member, Message, State};
use prost::Message as _;

use super::{
    message::{self, Malformed},
    proto::{self, Kind},
};
use crate::coordination::names::{Holder, PodName};

/// One part of a packet is at most this long: an identity with names of full length, with room for
/// fields of later builds.
const MOST_PART: usize = 2 * 1024;

/// A member, as SWIM knows it: a holder, between two silences.
#[derive(Clone)]
pub struct Identity {
    holder: Holder,
    life: u32,
    bytes: Bytes,
}

// === impl Identity ===

impl Identity {
    /// A holder that begins to gossip.
    #[must_use]
    pub fn new(holder: &Holder, region: &str, zone: &str, address: &str) -> Self {
        let wire = proto::Identity {
            holder: Some(message::holder(holder)),
            life: 0,
            region: region.to_owned(),
            zone: zone.to_owned(),
            address: address.to_owned(),
        };
        Self {
            holder: holder.clone(),
            life: 0,
            bytes: wire.encode_to_vec().into(),
        }
    }

    /// One that packets can be sent to, whatever its life is.
    #[must_use]
    pub fn addressed(holder: &Holder) -> Self {
        Self::new(holder, "", "", "")
    }

    /// Who it is.
    #[must_use]
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let wire = proto::Identity::decode(&*bytes);
        let wire = wire.map_err(|_wire| Malformed("an identity can't be read"))?;
        Ok(Self {
            holder: message::read_holder(wire.holder)?,
            life: wire.life,
            bytes,
        })
    }

    /// Only what tells it apart.
    fn lean(&self) -> Bytes {
        let wire = proto::Identity {
            holder: Some(message::holder(&self.holder)),
            life: self.life,
            ..proto::Identity::default()
        };
        wire.encode_to_vec().into()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.holder == other.holder && self.life == other.life
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.holder, self.life)
    }
}

impl foca::Identity for Identity {
    type Addr = PodName;

    /// After it was taken for silent, a holder comes back under its next life at once.
    fn renew(&self) -> Option<Self> {
        let mut wire = proto::Identity::decode(&*self.bytes).ok()?;
        wire.life = self.life.checked_add(1)?;
        Some(Self {
            holder: self.holder.clone(),
            life: wire.life,
            bytes: wire.encode_to_vec().into(),
        })
    }

    fn addr(&self) -> PodName {
        self.holder.pod.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        let rank = |of: &Self| (of.holder.incarnation, of.life);
        rank(self) > rank(adversary)
    }
}

/// Reads and writes packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codec;

impl foca::Codec<Identity> for Codec {
    type Error = Malformed;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buffer: impl BufMut,
    ) -> Result<(), Malformed> {
        let (kind, probe, about) = parts(&header.message);
        let wire = proto::Header {
            from: header.src.bytes.to_vec(),
            refutations: header.src_incarnation.into(),
            to: header.dst.lean().to_vec(),
            kind: kind.into(),
            probe: probe.into(),
            about: about.map(|about| about.lean().to_vec()).unwrap_or_default(),
        };
        put(&wire, buffer)
    }

    fn decode_header(&mut self, buffer: impl Buf) -> Result<Header<Identity>, Malformed> {
        let wire: proto::Header = take(buffer)?;
        let kind = wire.kind();
        let probe = u8::try_from(wire.probe).map_err(|_big| Malformed("a probe's number"))?;
        let message = whole(kind, probe, wire.about)?;
        Ok(Header {
            src: Identity::decode(wire.from.into())?,
            src_incarnation: refutations(wire.refutations)?,
            dst: Identity::decode(wire.to.into())?,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buffer: impl BufMut,
    ) -> Result<(), Malformed> {
        let state = match member.state() {
            State::Alive => proto::State::Alive,
            State::Suspect => proto::State::Suspect,
            State::Down => proto::State::Down,
        };
        let wire = proto::Update {
            who: member.id().bytes.to_vec(),
            refutations: member.incarnation().into(),
            state: state.into(),
        };
        put(&wire, buffer)
    }

    fn decode_member(&mut self, buffer: impl Buf) -> Result<Member<Identity>, Malformed> {
        let wire: proto::Update = take(buffer)?;
        let state = match wire.state() {
            proto::State::Alive => State::Alive,
            proto::State::Suspect => State::Suspect,
            proto::State::Down => State::Down,
            proto::State::Unspecified => return Err(Malformed("a member's state is unknown")),
        };
        let id = Identity::decode(wire.who.into())?;
        Ok(Member::new(id, refutations(wire.refutations)?, state))
    }
}

/// Who sent a packet, as it says itself.
///
/// # Errors
/// When it says nothing readable.
pub fn sender(packet: &[u8]) -> Result<Arc<str>, Malformed> {
    let wire: proto::Header = take(packet)?;
    Ok(Identity::decode(wire.from.into())?.holder.pod.0)
}

/// Writes a part with its length before it; nothing where it doesn't fit.
fn put(part: &impl prost::Message, mut buffer: impl BufMut) -> Result<(), Malformed> {
    let length = part.encoded_len();
    if length + prost::length_delimiter_len(length) > buffer.remaining_mut() {
        return Err(Malformed("the packet is full"));
    }
    part.encode_length_delimited(&mut buffer)
        .map_err(|_full| Malformed("the packet is full"))
}

/// Reads a part with its length before it.
fn take<T: prost::Message + Default>(mut buffer: impl Buf) -> Result<T, Malformed> {
    let length = prost::decode_length_delimiter(&mut buffer)
        .map_err(|_wire| Malformed("a part has no length"))?;
    if length > buffer.remaining() || length > MOST_PART {
        return Err(Malformed("a part is longer than its packet, or than 2 KiB"));
    }
    let part = buffer.copy_to_bytes(length);
    T::decode(part).map_err(|_wire| Malformed("a part can't be read"))
}

fn refutations(number: u32) -> Result<foca::Incarnation, Malformed> {
    foca::Incarnation::try_from(number).map_err(|_big| Malformed("too many refutations"))
}

fn parts(message: &Message<Identity>) -> (Kind, u8, Option<&Identity>) {
    match message {
        Message::Ping(probe) => (Kind::Ping, *probe, None),
        Message::Ack(probe) => (Kind::Ack, *probe, None),
        Message::PingReq {
            target,
            probe_number,
        } => (Kind::PingRequest, *probe_number, Some(target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (Kind::IndirectPing, *probe_number, Some(origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (Kind::IndirectAck, *probe_number, Some(target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (Kind::ForwardedAck, *probe_number, Some(origin)),
        Message::Announce => (Kind::Announce, 0, None),
        Message::Feed => (Kind::Feed, 0, None),
        Message::Gossip => (Kind::Gossip, 0, None),
        Message::Broadcast => (Kind::Broadcast, 0, None),
        Message::TurnUndead => (Kind::TurnUndead, 0, None),
    }
}

fn whole(kind: Kind, probe_number: u8, about: Vec<u8>) -> Result<Message<Identity>, Malformed> {
    let about = || Identity::decode(about.into());
    Ok(match kind {
        Kind::Ping => Message::Ping(probe_number),
        Kind::Ack => Message::Ack(probe_number),
        Kind::PingRequest => Message::PingReq {
            target: about()?,
            probe_number,
        },
        Kind::IndirectPing => Message::IndirectPing {
            origin: about()?,
            probe_number,
        },
        Kind::IndirectAck => Message::IndirectAck {
            target: about()?,
            probe_number,
        },
        Kind::ForwardedAck => Message::ForwardedAck {
            origin: about()?,
            probe_number,
        },
        Kind::Announce => Message::Announce,
        Kind::Feed => Message::Feed,
        Kind::Gossip => Message::Gossip,
        Kind::Broadcast => Message::Broadcast,
        Kind::TurnUndead => Message::TurnUndead,
        Kind::Unspecified => return Err(Malformed("a packet's kind is unknown")),
    })
}

#[cfg(test)]
mod tests {
    use foca::{Codec as _, Identity as _};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn identity(pod: &str, incarnation: u64) -> Identity {
        let holder = Holder {
            pod: PodName(pod.into()),
            incarnation,
        };
        Identity::new(&holder, "eu", "a", "10.0.0.1:7443")
    }

    fn messages() -> impl Strategy<Value = Message<Identity>> {
        let other = || identity("core-2", 4);
        any::<u8>().prop_flat_map(move |probe_number| {
            prop::sample::select(vec![
                Message::Ping(probe_number),
                Message::Ack(probe_number),
                Message::PingReq {
                    target: other(),
                    probe_number,
                },
                Message::IndirectPing {
                    origin: other(),
                    probe_number,
                },
                Message::IndirectAck {
                    target: other(),
                    probe_number,
                },
                Message::ForwardedAck {
                    origin: other(),
                    probe_number,
                },
                Message::Announce,
                Message::Feed,
                Message::Gossip,
                Message::Broadcast,
                Message::TurnUndead,
            ])
        })
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_were_written(message in messages(), src_incarnation: u16) {
            let header = Header {
                src: identity("core-0", 1),
                src_incarnation,
                dst: identity("core-1", 2),
                message,
            };
            let mut bytes = Vec::new();
            Codec.encode_header(&header, &mut bytes).unwrap();
            prop_assert_eq!(&*sender(&bytes).unwrap(), "core-0");
            let mut rest = &*bytes;
            prop_assert_eq!(Codec.decode_header(&mut rest), Ok(header));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn bytes_of_anybody_never_panic(bytes in vec(any::<u8>(), 0..100)) {
            drop(Codec.decode_header(&*bytes));
            drop(Codec.decode_member(&*bytes));
        }
    }

    #[test]
    fn what_a_later_build_adds_is_passed_on() {
        let mut later = identity("core-0", 1).bytes.to_vec();
        // Field 15, a number.
        later.extend([0x78, 0x2a]);
        let id = Identity::decode(later.clone().into()).unwrap();
        let mut bytes = Vec::new();
        Codec
            .encode_member(&Member::new(id, 3, State::Suspect), &mut bytes)
            .unwrap();
        let read = Codec.decode_member(&*bytes).unwrap();
        assert_eq!(read.id().bytes, later);
    }

    #[test]
    fn a_packet_that_is_full_is_left_as_it_was() {
        let member = Member::alive(identity("core-0", 1));
        let mut whole = Vec::new();
        Codec.encode_member(&member, &mut whole).unwrap();
        let mut buffer = Vec::new().limit(whole.len() - 1);
        assert!(Codec.encode_member(&member, &mut buffer).is_err());
        assert!(buffer.get_ref().is_empty());
    }

    #[test]
    fn the_later_life_wins() {
        let first = identity("core-0", 1);
        let back = first.renew().unwrap();
        assert!(back.win_addr_conflict(&first) && !first.win_addr_conflict(&back));
        assert!(identity("core-0", 2).win_addr_conflict(&back));
        assert_ne!(back, first);
    }
}
