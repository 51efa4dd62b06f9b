//! Where a header begins and ends in what an HTTP/2 client sends (RFC 9113, 4.1 and 6.2). Pure.
//!
//! The library tells of a request when its whole header is there; how long that takes it doesn't
//! bound. What else comes on a connection without a request, such as answers to pings, is no header
//! and doesn't count as the beginning of one.

/// The first bytes of a connection (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream.
const HEAD: usize = 9;

const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// What has been seen of the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    /// Bytes that are left of the preface.
    preface: usize,
    /// The beginning of a frame's head.
    head: [u8; HEAD],
    read: usize,
    /// Bytes that are left of a frame's payload.
    payload: usize,
    /// A header has begun, and this says whether the frame under way is its last.
    header: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            preface: PREFACE.len(),
            head: [0; HEAD],
            read: 0,
            payload: 0,
            header: None,
        }
    }
}

impl Frames {
    /// Takes note of bytes that came. Each byte of a head is copied, the rest is passed over.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        skip(&mut bytes, &mut self.preface);
        while !bytes.is_empty() {
            if self.payload > 0 {
                skip(&mut bytes, &mut self.payload);
                self.end_of_frame();
                continue;
            }
            let room = self.head.get_mut(self.read..).unwrap_or_default();
            let count = room.len().min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            for (to, from) in room.iter_mut().zip(now) {
                *to = *from;
            }
            bytes = rest;
            self.read += count;
            if self.read == HEAD {
                self.read = 0;
                self.begin_frame();
                self.end_of_frame();
            }
        }
    }

    /// Whether the preface or a header is under way.
    pub(super) const fn is_within_header(&self) -> bool {
        self.preface > 0 || self.header.is_some()
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if matches!(kind, HEADERS | CONTINUATION) {
            let last = flags & END_HEADERS != 0;
            self.header = Some(if last { Last::Yes } else { Last::No });
        }
    }

    fn end_of_frame(&mut self) {
        if self.payload == 0 && self.header == Some(Last::Yes) {
            self.header = None;
        }
    }
}

/// Passes over as many bytes as are `left`.
fn skip(bytes: &mut &[u8], left: &mut usize) {
    let count = bytes.len().min(*left);
    *bytes = bytes.get(count..).unwrap_or_default();
    *left -= count;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    const SETTINGS: u8 = 0x4;
    const PING: u8 = 0x6;

    #[test]
    fn a_header_is_under_way_from_its_first_frame_to_its_last() {
        let mut frames = Frames::default();
        assert!(frames.is_within_header(), "the preface is due");
        frames.read(PREFACE);
        assert!(!frames.is_within_header());
        frames.read(&frame(SETTINGS, 0, &[0; 6]));
        frames.read(&frame(PING, 1, &[0; 8]));
        assert!(!frames.is_within_header(), "no header yet");
        let whole = frame(HEADERS, END_HEADERS, b"abc");
        let (first, last) = whole.split_at(whole.len() - 1);
        frames.read(first);
        assert!(frames.is_within_header());
        frames.read(last);
        assert!(!frames.is_within_header());
        frames.read(&frame(HEADERS, 0, b"abc"));
        frames.read(&frame(CONTINUATION, 0, b""));
        assert!(frames.is_within_header(), "it goes on");
        frames.read(&frame(CONTINUATION, END_HEADERS, b""));
        assert!(!frames.is_within_header());
        frames.read(&frame(0, 0, b"data that looks like \x01 a header"));
        assert!(!frames.is_within_header());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            frames in prop::collection::vec(
                (0_u8..11, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12,
            ),
            cuts in prop::collection::vec(1_usize..60, 1..60),
        ) {
            let sent = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload));
            let sent: Vec<u8> = PREFACE.iter().copied().chain(sent).collect();
            let mut whole = Frames::default();
            whole.read(&sent);
            let (mut cut, mut rest) = (Frames::default(), sent.as_slice());
            for length in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*length).min(rest.len()));
                cut.read(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(whole, cut);
        }
    }
}
