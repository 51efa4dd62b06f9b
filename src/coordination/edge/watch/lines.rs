//! Lines of a body that goes on, each within a bound.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

/// etcd keeps objects of 1.5 MiB; what is longer than twice that is none.
const MOST: usize = 3 * 1024 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A line is longer than any object can be.
#[derive(Debug, thiserror::Error)]
#[error("a line is longer than {MOST} bytes")]
struct TooLong;

/// Reads lines.
pub(super) struct Lines<B> {
    body: B,
    buffer: BytesMut,
    /// So much of the buffer has no end of a line in it.
    looked: usize,
}

// === impl Lines ===

impl<B> Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            looked: 0,
        }
    }

    /// The next line that isn't empty; `None`: the body has ended. What is left of a line then is
    /// none.
    pub(super) async fn next(&mut self) -> Result<Option<BytesMut>, Error> {
        loop {
            let rest = self.buffer.get(self.looked..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.looked + end + 1);
                self.looked = 0;
                line.truncate(line.trim_ascii_end().len());
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.looked = self.buffer.len();
            if self.looked > MOST {
                return Err(TooLong.into());
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame.map_err(Into::into)?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    async fn lines(parts: Vec<Vec<u8>>) -> Result<Vec<String>, Error> {
        let frames = parts
            .into_iter()
            .map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::from(part))));
        let mut lines = Lines::new(StreamBody::new(stream::iter(frames)));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await? {
            found.push(String::from_utf8(line.to_vec()).unwrap());
        }
        Ok(found)
    }

    #[tokio::test]
    async fn lines_are_whole_however_they_come() {
        let whole = b"one\ntwo\r\n\n\nthree\nhalf".to_vec();
        let expected = ["one", "two", "three"];
        assert_eq!(lines(vec![whole.clone()]).await.unwrap(), expected);
        let bytes = whole.into_iter().map(|byte| vec![byte]).collect();
        assert_eq!(lines(bytes).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut_off() {
        let parts = vec![vec![b'x'; 1024 * 1024]; 5];
        assert!(lines(parts).await.is_err());
    }
}
