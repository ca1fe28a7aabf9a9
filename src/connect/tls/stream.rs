//! A blocking stream over a session, for what is said before a connection goes to its core: SASL, control requests.

use super::error::TlsError;
use super::record::HEADER_BYTES;
use super::session::{INCOMING_BYTES, TlsSession};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Written at once.
const PART_BYTES: usize = 16 * 1024;

/// Reads whole records and no byte beyond them. Time limits are those of the socket.
pub struct TlsStream {
    stream: TcpStream,
    session: TlsSession,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    plain: Vec<u8>,
    read: usize,
}

impl TlsStream {
    pub fn new(stream: TcpStream, session: TlsSession) -> Self {
        Self {
            stream,
            session,
            incoming: Vec::with_capacity(INCOMING_BYTES),
            outgoing: vec![0; TlsSession::sealed_bytes(PART_BYTES)],
            plain: Vec::new(),
            read: 0,
        }
    }

    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// The connection, and what was received and not yet read: nothing, where each answer was read to its end.
    ///
    /// # Errors
    /// A read broke off in the middle of a record, so that nobody can read on.
    pub fn into_parts(mut self) -> io::Result<(TcpStream, TlsSession, Vec<u8>)> {
        if !self.incoming.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidData, "half a TLS record was read"));
        }
        self.plain.drain(..self.read);
        Ok((self.stream, self.session, self.plain))
    }

    /// One record more; `incoming` keeps what there is of it when a time limit strikes.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            let wanted = match self.incoming.first_chunk::<HEADER_BYTES>() {
                Some([.., high, low]) => HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
                None => HEADER_BYTES,
            };
            if wanted > INCOMING_BYTES {
                return Err(broken(TlsError::Malformed));
            }
            if wanted > HEADER_BYTES && self.incoming.len() == wanted {
                break;
            }
            let start = self.incoming.len();
            self.incoming.resize(wanted.max(start), 0);
            if start == wanted {
                return Err(broken(TlsError::Malformed));
            }
            let got = self.stream.read(&mut self.incoming[start..]);
            self.incoming.truncate(start + got.as_ref().map_or(0, |count| *count));
            match got {
                // Without a goodbye: nobody knows whether that was all.
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let used = self.incoming.len();
        let plain = &mut self.plain;
        self.session.decrypt(&mut self.incoming, used, |part| plain.extend_from_slice(part)).map_err(broken)?;
        self.incoming.clear();
        Ok(())
    }
}

fn broken(error: TlsError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl Read for TlsStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.read == self.plain.len() && !out.is_empty() {
            self.plain.clear();
            self.read = 0;
            if self.session.is_closed() {
                return Ok(0);
            }
            self.receive()?;
        }
        let count = out.len().min(self.plain.len() - self.read);
        out[..count].copy_from_slice(&self.plain[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PART_BYTES)];
        let sealed = self.session.encrypt(part, &mut self.outgoing).map_err(broken)?;
        self.stream.write_all(&self.outgoing[..sealed])?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
