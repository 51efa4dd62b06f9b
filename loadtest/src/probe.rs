//! Asks an endpoint whether it serves: an unsigned request, answered 401 when it does.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use crate::generator::{Target, handshake, parse_answer};

/// One answer; the server's own limits are shorter.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A blocking connection.
trait Stream: io::Read + io::Write {}

impl<T: io::Read + io::Write> Stream for T {}

/// A connection for probes, one after the other.
pub(crate) struct Probe {
    target: Target,
    stream: Box<dyn Stream>,
}

impl Probe {
    pub(crate) fn open(target: &Target) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&target.address, TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(socket),
            Some(config) => Box::new(handshake(socket, Arc::clone(config))?),
        };
        Ok(Self {
            target: target.clone(),
            stream,
        })
    }

    /// The status of an unsigned POST to `path`.
    pub(crate) fn status(&mut self, path: &str) -> io::Result<u16> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        if let Some(status) = self.ask(&request)? {
            return Ok(status);
        }
        // The server may close a connection on a refusal: once more on a new one.
        *self = Self::open(&self.target)?;
        self.ask(&request)?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn ask(&mut self, request: &str) -> io::Result<Option<u16>> {
        if self.stream.write_all(request.as_bytes()).is_err() {
            return Ok(None);
        }
        let mut answer = Vec::new();
        let mut piece = [0_u8; 4096];
        loop {
            match parse_answer(&answer) {
                Some(status) => return Ok(Some(status)),
                None => match self.stream.read(&mut piece) {
                    Ok(0) => return Ok(None),
                    Ok(count) => answer.extend(piece.iter().take(count)),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }
}
