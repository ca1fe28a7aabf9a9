//! Connections to brokers, plain or TLS.

use super::cluster::Dial;
use super::session::Stream;
use crate::base::fatal::{Exit, Fatal};
use crate::connect::{Dialed, TlsStream, dial};
use crate::plan::{PeerPlan, TlsPlan};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What was dialed, as a stream.
pub struct Line {
    stream: Inner,
    peer_address: SocketAddr,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Line {
    pub fn new(dialed: Dialed) -> Self {
        let stream = match dialed.tls {
            None => Inner::Plain(dialed.stream),
            Some(session) => Inner::Tls(Box::new(TlsStream::new(dialed.stream, session))),
        };
        Self { stream, peer_address: dialed.peer_address }
    }

    /// Back to what was dialed, in blocking mode and without time limits.
    ///
    /// # Errors
    /// Something was received that nobody has read.
    pub fn into_dialed(self) -> io::Result<Dialed> {
        let (stream, tls) = match self.stream {
            Inner::Plain(stream) => (stream, None),
            Inner::Tls(tls) => {
                let (stream, session, unread) = tls.into_parts()?;
                if !unread.is_empty() {
                    let what = format!("the broker said {} bytes that nobody asked for", unread.len());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                (stream, Some(session))
            }
        };
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(Dialed { stream, tls, peer_address: self.peer_address, expires: None })
    }
}

impl Read for Line {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Inner::Plain(stream) => stream.read(out),
            Inner::Tls(stream) => stream.read(out),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Inner::Plain(stream) => stream.write(bytes),
            Inner::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Inner::Plain(stream) => stream.flush(),
            Inner::Tls(stream) => stream.flush(),
        }
    }
}

impl Stream for Line {
    fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        let stream = match &self.stream {
            Inner::Plain(stream) => stream,
            Inner::Tls(stream) => stream.get_ref(),
        };
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))
    }
}

/// Dials brokers; with TLS, each is verified against its own host.
pub fn dial_brokers(tls: Option<TlsPlan>, timeout: Duration) -> Dial<Line> {
    Box::new(move |host, port, patience| {
        let tls = tls.clone().map(|plan| TlsPlan { server_name: host.to_owned(), ..plan });
        let connect_timeout_ns = u64::try_from(timeout.min(patience).as_nanos()).unwrap_or(u64::MAX);
        let peer = PeerPlan { host: host.to_owned(), port, tls, connect_timeout_ns };
        dial(&peer).map(Line::new).map_err(of_broker)
    })
}

/// What the flags or this host are to blame for stays as it is.
fn of_broker(fatal: Fatal) -> Fatal {
    if fatal.exit != Exit::Unreachable {
        return fatal;
    }
    Fatal { what: format!("Kafka broker {}", fatal.what), ..fatal }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Fake, client};
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_an_unreachable_broker_is_told_as_one() {
        let ca = Some("no-such-file.pem".into());
        let server_name = String::new();
        let tls = TlsPlan { server_name, ca, cert: None, key: None, alpn_http: false, verify_host: true };
        let refused = |tls| dial_brokers(tls, Duration::from_secs(5))("127.0.0.1", 0, Duration::MAX).err().unwrap();
        let (file, nobody) = (refused(Some(tls)), refused(None));
        assert!(file.exit == Exit::Usage && file.what.starts_with("--tls-ca "), "{file}");
        assert!(nobody.exit == Exit::Unreachable && nobody.what.starts_with("Kafka broker 127.0.0.1:0 "), "{nobody}");
    }

    #[test]
    fn a_connection_comes_back_as_it_was_dialed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut size = [0; 4];
            peer.read_exact(&mut size).unwrap();
            let mut request = vec![0; u32::from_be_bytes(size) as usize];
            peer.read_exact(&mut request).unwrap();
            let mut fake = Fake::new(testing::versions);
            fake.write_all(&[&size[..], &request].concat()).unwrap();
            let mut answer = Vec::new();
            fake.read_to_end(&mut answer).unwrap();
            peer.write_all(&answer).unwrap();
            // What follows belongs to whoever takes the connection over.
            peer.write_all(b"next").unwrap();
        });
        let line = dial_brokers(None, Duration::from_secs(5))("127.0.0.1", port, Duration::MAX).unwrap();
        let session = client().open(line).unwrap();
        assert_eq!(session.produce_version(), Some(8));
        let mut dialed = session.into_stream().into_dialed().unwrap();
        assert_eq!((dialed.stream.read_timeout().unwrap(), dialed.stream.write_timeout().unwrap()), (None, None));
        assert_eq!((dialed.peer_address.port(), dialed.tls.is_none()), (port, true));
        let mut next = [0; 4];
        dialed.stream.read_exact(&mut next).unwrap();
        assert_eq!(&next, b"next");
        broker.join().unwrap();
    }
}
