//! From a name to a connection that is ready to be written to. Blocks.

use super::tls::{self, TlsSession};
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::plan::PeerPlan;
use rustls::ClientConfig;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A silent peer is asked whether it is there after this long, and this often.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connection, after its handshake.
pub struct Dialed {
    /// In blocking mode, without time limits.
    pub stream: TcpStream,
    pub tls: Option<TlsSession>,
    pub peer_address: SocketAddr,
    /// The peer ends it then: what was said first to be let in no longer counts.
    pub expires: Option<Instant>,
}

/// Dials one peer, over and over: what TLS needs from files is read once.
#[derive(Clone)]
pub struct Connector {
    peer: Arc<PeerPlan>,
    config: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// # Errors
    /// A certificate or key that cannot be used.
    pub fn new(peer: &Arc<PeerPlan>) -> Result<Self, Fatal> {
        let config = peer.tls.as_ref().map(tls::client_config).transpose()?;
        Ok(Self { peer: peer.clone(), config })
    }

    pub fn peer(&self) -> &Arc<PeerPlan> {
        &self.peer
    }

    /// The first address that answers.
    ///
    /// # Errors
    /// Says for each address why not.
    pub fn dial(&self) -> Result<Dialed, Fatal> {
        let peer = &*self.peer;
        let mut refused: Vec<Refusal> = Vec::new();
        for address in addresses(peer)? {
            match self.dial_address(address) {
                Ok(dialed) => return Ok(dialed),
                Err(refusal) => refused.push(refusal),
            }
        }
        Err(all_refused(peer, &refused))
    }

    fn dial_address(&self, address: SocketAddr) -> Result<Dialed, Refusal> {
        let deadline = Instant::now() + Duration::from_nanos(self.peer.connect_timeout_ns);
        let stream = connect(address, deadline).map_err(|error| Refusal::Connect(address, error))?;
        let (Some(config), Some(plan)) = (&self.config, &self.peer.tls) else {
            return Ok(Dialed { stream, tls: None, peer_address: address, expires: None });
        };
        let session = tls::handshake(&stream, config, plan, deadline);
        let session = session.map_err(|why| Refusal::Tls(why.fatal(&self.peer, plan)))?;
        let back = |error| Refusal::Connect(address, error);
        stream.set_read_timeout(None).map_err(back)?;
        stream.set_write_timeout(None).map_err(back)?;
        Ok(Dialed { stream, tls: Some(session), peer_address: address, expires: None })
    }
}

/// Dials a peer once.
pub fn dial(peer: &PeerPlan) -> Result<Dialed, Fatal> {
    Connector::new(&Arc::new(peer.clone()))?.dial()
}

enum Refusal {
    Connect(SocketAddr, Error),
    Tls(Fatal),
}

/// `host:port`, with brackets around IPv6.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A peer as `host:port`.
pub fn shown(peer: &PeerPlan) -> String {
    address(&peer.host, peer.port)
}

fn addresses(peer: &PeerPlan) -> Result<Vec<SocketAddr>, Fatal> {
    let unknown = |why: String| {
        let what = format!("{}: the name '{}' cannot be resolved: {why}", shown(peer), peer.host);
        Fatal::new(Exit::Unreachable, what).mend(format!("getent ahosts {}", peer.host))
    };
    let found = (peer.host.as_str(), peer.port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < limits::PEER_ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(addresses) }
}

fn connect(address: SocketAddr, deadline: Instant) -> Result<TcpStream, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    reach(&socket, address, deadline)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket.into())
}

/// Where nobody listens on a port that the kernel gives out, it may give just that port and connect the socket to
/// itself: that is nobody all the same.
fn reach(socket: &Socket, address: SocketAddr, deadline: Instant) -> Result<(), Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    socket.connect_timeout(&SockAddr::from(address), left.max(Duration::from_millis(1)))?;
    let ends = (socket.local_addr(), socket.peer_addr());
    if matches!(ends, (Ok(local), Ok(peer)) if local.as_socket() == peer.as_socket()) {
        // Reset when it is dropped, so that who should listen there can have the port at once.
        socket.set_linger(Some(Duration::ZERO))?;
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// Somebody ended the run while it waited for its target.
pub fn stopped() -> Fatal {
    let what = "stopped before the target had answered: nothing was sent";
    Fatal::new(Exit::Unreachable, what).mend("look at the target and its log, then run it again")
}

fn all_refused(peer: &PeerPlan, refused: &[Refusal]) -> Fatal {
    // A handshake that failed says more than an address that did not answer.
    if let Some(fatal) = refused.iter().find_map(|one| if let Refusal::Tls(why) = one { Some(why) } else { None }) {
        return fatal.clone();
    }
    let mut words: Vec<String> = Vec::new();
    let mut first = ErrorKind::Other;
    for refusal in refused {
        let Refusal::Connect(address, error) = refusal else { continue };
        if let Some(fatal) = out_of_descriptors(error) {
            return fatal;
        }
        first = if words.is_empty() { error.kind() } else { first };
        words.push(match error.kind() {
            ErrorKind::TimedOut => format!("{address} did not answer in {} s", peer.connect_timeout_ns as f64 / 1e9),
            ErrorKind::ConnectionRefused => format!("{address} refused the connection"),
            _ => format!("{address}: {error}"),
        });
    }
    let (port, host) = (peer.port, &peer.host);
    let mend = match first {
        ErrorKind::ConnectionRefused => format!("start what should listen there; on {host}: ss -ltn 'sport = :{port}'"),
        ErrorKind::TimedOut => format!("a firewall or a wrong address? nc -vz {host} {port}"),
        _ => format!("ip route get {host}"),
    };
    Fatal::new(Exit::Unreachable, format!("{} cannot be reached: {}", shown(peer), words.join("; "))).mend(mend)
}

fn out_of_descriptors(error: &Error) -> Option<Fatal> {
    // EMFILE and ENFILE have no kind of their own.
    let full = matches!(error.raw_os_error(), Some(23 | 24));
    full.then(|| Fatal::host(format!("no descriptor is left for a connection: {error}")).mend("ulimit -n 1048576"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn peer(host: &str, port: u16) -> PeerPlan {
        PeerPlan { host: host.into(), port, tls: None, connect_timeout_ns: 2_000_000_000 }
    }

    fn refused(peer: &PeerPlan) -> Fatal {
        dial(peer).map(|dialed| dialed.peer_address).expect_err("nobody is there")
    }

    #[test]
    fn names_and_both_families_lead_to_the_listener() {
        for (listen, host) in [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "localhost"), ("[::1]:0", "::1")] {
            let listener = TcpListener::bind(listen).unwrap_or_else(|error| panic!("{listen}: {error}"));
            let address = listener.local_addr().unwrap();
            let mut dialed = dial(&peer(host, address.port())).unwrap_or_else(|fatal| panic!("{fatal}"));
            assert!(dialed.tls.is_none() && dialed.peer_address == address);
            assert!(dialed.stream.nodelay().unwrap() && dialed.stream.read_timeout().unwrap().is_none());
            let (mut other, _) = listener.accept().unwrap();
            dialed.stream.write_all(b"hello").unwrap();
            let mut bytes = [0; 5];
            other.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
        }
    }

    #[test]
    fn a_closed_port_and_an_unknown_name_say_what_to_look_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let fatal = refused(&peer("127.0.0.1", port));
        assert_eq!(fatal.exit, Exit::Unreachable);
        assert!(fatal.what.contains("refused") && fatal.mend.as_ref().unwrap().contains("ss -ltn"), "{fatal}");
        let fatal = refused(&peer("no-such-host.invalid", 1));
        assert_eq!(fatal.exit, Exit::Unreachable);
        assert!(
            fatal.what.contains("no-such-host.invalid") && fatal.mend.as_ref().unwrap().contains("getent"),
            "{fatal}"
        );
    }

    #[test]
    fn a_socket_that_would_be_its_own_peer_is_refused() {
        for (ip, domain) in [("127.0.0.1:0", Domain::IPV4), ("[::1]:0", Domain::IPV6)] {
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            socket.bind(&ip.parse::<SocketAddr>().unwrap().into()).unwrap();
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            let error = reach(&socket, address, Instant::now() + Duration::from_secs(20)).expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            let peer = socket.peer_addr().map(|peer| peer.as_socket());
            assert_eq!(peer.ok(), Some(Some(address)), "the kernel had connected it");
        }
    }

    #[test]
    fn a_listener_that_takes_nobody_in_costs_the_time_limit_and_no_more() {
        // A backlog of one that is full: the kernel drops what knocks.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        let plan = PeerPlan { connect_timeout_ns: 300_000_000, ..peer("127.0.0.1", address.port()) };
        let start = Instant::now();
        let fatal = refused(&plan);
        assert!(fatal.what.contains("did not answer in 0.3 s"), "{fatal}");
        // The kernel waits for whole milliseconds.
        assert!(start.elapsed() >= Duration::from_millis(298), "{:?}", start.elapsed());
    }
}
