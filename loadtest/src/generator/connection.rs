//! One connection with at most one request in flight.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{
    Target,
    answer::{Parsed, parse},
    requests::{Id, Requests},
};

/// How long a connection may take to open, TLS included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection.
pub(super) struct Connection {
    transport: Transport,
    out: Vec<u8>,
    inbox: Vec<u8>,
    waiting: Option<(Id, Instant)>,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What reading gave.
pub(super) enum Progress {
    /// Not a whole answer yet.
    Waiting,
    /// An answer.
    Answer {
        status: u16,
        id: u64,
        intended: Instant,
    },
    /// The connection is of no more use.
    Broken(String),
}

impl Connection {
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&target.address, OPEN_TIMEOUT)?;
        socket.set_nodelay(true)?;
        let transport = match &target.tls {
            None => Transport::Plain(socket),
            Some(config) => Transport::Tls(Box::new(handshake(socket, Arc::clone(config))?)),
        };
        let connection = Self {
            transport,
            out: Vec::with_capacity(2048),
            inbox: Vec::with_capacity(1024),
            waiting: None,
        };
        connection.socket().set_nonblocking(true)?;
        Ok(connection)
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => &stream.sock,
        }
    }

    /// Whether a request is in flight.
    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// Nobody will answer any more.
    pub(super) fn abandon(&mut self) {
        self.waiting = None;
        self.out.clear();
    }

    /// Sends a request; what the socket doesn't take at once goes out when it is read.
    pub(super) fn send(
        &mut self,
        requests: &Requests,
        id: Id,
        intended: Instant,
    ) -> io::Result<()> {
        self.waiting = Some((id, intended));
        self.out.clear();
        requests.write(id, &mut self.out);
        self.push()
    }

    /// One request is far below a socket's buffer, so this takes all of it but in theory.
    fn push(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let taken = match &mut self.transport {
                Transport::Plain(socket) => socket.write(&self.out),
                Transport::Tls(stream) => stream.write(&self.out),
            };
            match taken {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Transport::Tls(stream) = &mut self.transport {
            match stream.flush() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn receive(&mut self) -> Progress {
        if let Err(error) = self.push() {
            return Progress::Broken(error.kind().to_string());
        }
        let mut piece = [0_u8; 4096];
        loop {
            let taken = match &mut self.transport {
                Transport::Plain(socket) => socket.read(&mut piece),
                Transport::Tls(stream) => stream.read(&mut piece),
            };
            match taken {
                Ok(0) => return Progress::Broken("closed by the server".to_owned()),
                Ok(count) => self.inbox.extend(piece.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Progress::Waiting;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Progress::Broken(error.kind().to_string()),
            }
            match parse(&self.inbox) {
                Parsed::Partial => {}
                Parsed::Nonsense => return Progress::Broken("an answer that is none".to_owned()),
                Parsed::Whole { status, length } => {
                    self.inbox.drain(..length);
                    return self.waiting.take().map_or_else(
                        || Progress::Broken("an answer to nothing".to_owned()),
                        |(id, intended)| Progress::Answer {
                            status,
                            id: id.number,
                            intended,
                        },
                    );
                }
            }
        }
    }
}

/// Opens TLS on a blocking socket.
pub(crate) fn handshake(
    mut socket: TcpStream,
    config: Arc<rustls::ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    socket.set_read_timeout(Some(OPEN_TIMEOUT))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(connection, socket))
}
