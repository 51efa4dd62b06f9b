//! Just enough of HTTP/1.1 to read the answers of a server that sends `Content-Length`; pure.

/// What a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Not yet a whole answer.
    Partial,
    /// A whole answer of this many bytes.
    Whole { status: u16, length: usize },
    /// Nothing that is understood here.
    Nonsense,
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Parsed::Partial;
    };
    let Some(head) = bytes.get(..end) else {
        return Parsed::Nonsense;
    };
    let Some(status) = status(head) else {
        return Parsed::Nonsense;
    };
    let Some(body) = content_length(head, status) else {
        return Parsed::Nonsense;
    };
    let length = (end + 4).saturating_add(body);
    if bytes.len() < length {
        Parsed::Partial
    } else {
        Parsed::Whole { status, length }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

/// The body's length; `None` for a body that is framed another way.
fn content_length(head: &[u8], status: u16) -> Option<usize> {
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value.get(1..)?).ok()?;
            return value.trim().parse().ok();
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        }
    }
    (status == 204).then_some(0)
}
