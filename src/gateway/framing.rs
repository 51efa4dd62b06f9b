//! Whether a request says twice how long it is: the raw header against request smuggling. Pure.
//!
//! The HTTP library drops `Content-Length` where `Transfer-Encoding` stands beside it, as RFC 9112
//! allows; a proxy in front of us may have chosen the other one, so such a request is refused
//! (section 6.1: "ought to be handled as an error").

/// What the raw header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No `Content-Length`.
    Clean,
    /// A `Content-Length` beside the `Transfer-Encoding`.
    Both,
    /// The header of this request is not in what was kept: it was sent before the last answer.
    Unknown,
}

/// Judges the header of a request with `Transfer-Encoding`; `kept` is what was read since the last
/// request began.
pub(super) fn judge(kept: &[u8], method: &str) -> Framing {
    // Line ends before a request are skipped, as the parser does.
    let start = kept.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let head = start
        .and_then(|start| kept.get(start..))
        .unwrap_or_default();
    let ours = head
        .strip_prefix(method.as_bytes())
        .is_some_and(|rest| rest.first() == Some(&b' '));
    if !ours {
        return Framing::Unknown;
    }
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            return Framing::Unknown;
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Framing::Clean;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.trim_ascii().eq_ignore_ascii_case(b"content-length") {
            return Framing::Both;
        }
    }
    Framing::Unknown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_beside_chunks_is_seen_in_either_order_and_any_case() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH:5\r\n\r\n0\r\n\r\n",
            "\r\n\nPOST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length : 5\n\n",
        ] {
            assert_eq!(judge(head.as_bytes(), "POST"), Framing::Both, "{head:?}");
        }
        let clean =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(judge(clean.as_bytes(), "POST"), Framing::Clean);
    }

    #[test]
    fn what_was_not_kept_is_not_guessed() {
        for kept in [
            "",
            "5\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n",
            "PUT / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(judge(kept.as_bytes(), "POST"), Framing::Unknown, "{kept:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(kept in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = judge(&kept, "POST");
        }
    }
}
