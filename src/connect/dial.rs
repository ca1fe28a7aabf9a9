//! From a name to a connection that is ready to be written to. Blocks.

use super::peer::shown;
use super::tls::{self, TlsSession};
use crate::base::fatal::{Exit, Fatal};
use crate::base::limits;
use crate::host::rlimit;
use crate::plan::PeerPlan;
use rustls::ClientConfig;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A silent peer is asked whether it is there after this long, and this often.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So long an address may take to answer while there are others, at first: longer than most ways there and back.
const FIRST_PART: Duration = Duration::from_millis(300);
const PART_GROWTH: u32 = 4;

/// A connection, after its handshake.
pub struct Dialed {
    /// In blocking mode, without time limits.
    pub stream: TcpStream,
    pub tls: Option<TlsSession>,
    pub peer_address: SocketAddr,
    /// The peer ends it then: what was said first to be let in no longer counts.
    pub expires: Option<Instant>,
}

/// Dials one peer, over and over: what TLS needs from files is read once, and a first address that does not answer is
/// not waited for each time.
#[derive(Clone)]
pub struct Connector {
    peer: Arc<PeerPlan>,
    config: Option<Arc<ClientConfig>>,
    /// The address of the last connection, where it was not the resolver's first; for all clones.
    good: Arc<Mutex<Option<SocketAddr>>>,
}

impl Connector {
    /// # Errors
    /// A certificate or key that cannot be used.
    pub fn new(peer: &Arc<PeerPlan>) -> Result<Self, Fatal> {
        let config = peer.tls.as_ref().map(tls::client_config).transpose()?;
        Ok(Self { peer: peer.clone(), config, good: Arc::default() })
    }

    pub fn peer(&self) -> &Arc<PeerPlan> {
        &self.peer
    }

    /// The first address that answers.
    ///
    /// # Errors
    /// Says for each address why not.
    pub fn dial(&self) -> Result<Dialed, Fatal> {
        self.dial_resolved(addresses(&self.peer)?)
    }

    /// In the resolver's order, which may spread connections over the addresses of a name. Where its first one did not
    /// serve, the one that did is tried before it.
    fn dial_resolved(&self, mut addresses: Vec<SocketAddr>) -> Result<Dialed, Fatal> {
        let first = addresses.first().copied();
        let good = *self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = addresses.iter().position(|address| Some(*address) == good) {
            addresses[..=at].rotate_right(1);
        }
        let dialed = self.dial_any(&addresses)?;
        let served = Some(dialed.peer_address);
        *self.good.lock().unwrap_or_else(PoisonError::into_inner) = served.filter(|_| served != first);
        Ok(dialed)
    }

    /// A silent address does not hold up the others (RFC 8305, one after the other): in growing parts, each has its
    /// time in turn with them.
    fn dial_any(&self, addresses: &[SocketAddr]) -> Result<Dialed, Fatal> {
        let mut left = Duration::from_nanos(self.peer.connect_timeout_ns);
        let (mut silent, mut refused) = (addresses.to_vec(), Vec::new());
        let mut part = FIRST_PART;
        while !silent.is_empty() {
            part = if silent.len() == 1 { left } else { left.min(part) };
            left -= part;
            for address in std::mem::take(&mut silent) {
                match self.dial_address(address, part) {
                    Ok(dialed) => return Ok(dialed),
                    Err(Refusal::Connect(_, why)) if why.kind() == ErrorKind::TimedOut && !left.is_zero() => {
                        silent.push(address);
                    }
                    Err(refusal) => refused.push(refusal),
                }
            }
            part *= PART_GROWTH;
        }
        Err(all_refused(&self.peer, &refused))
    }

    /// `patience` is for the connect; with the handshake it has the peer's time limit.
    fn dial_address(&self, address: SocketAddr, patience: Duration) -> Result<Dialed, Refusal> {
        let started = Instant::now();
        let stream = connect(address, started + patience).map_err(|error| Refusal::Connect(address, error))?;
        let deadline = started + Duration::from_nanos(self.peer.connect_timeout_ns);
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

fn addresses(peer: &PeerPlan) -> Result<Vec<SocketAddr>, Fatal> {
    let unknown = |why: String| {
        let what = format!("{}: the name '{}' cannot be resolved: {why}", shown(peer), peer.host);
        Fatal::new(Exit::Unreachable, what)
            .mend(format!("another name, or an address; `getent ahosts {}` asks as the engine does", peer.host))
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
        let address = address.to_string();
        let who = if refused.len() == 1 && address == shown(peer) { "it" } else { &address };
        words.push(match error.kind() {
            ErrorKind::TimedOut => format!("{who} did not answer in {} s", peer.connect_timeout_ns as f64 / 1e9),
            ErrorKind::ConnectionRefused => format!("{who} refused the connection"),
            _ if who == "it" => error.to_string(),
            _ => format!("{who}: {error}"),
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
    let full = rlimit::is_out_of_descriptors(error);
    let what = || format!("no descriptor is left for a connection: {error}");
    full.then(|| Fatal::host(what()).mend(rlimit::raise(rlimit::NOFILE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::peer;
    use std::io::{Read, Write};
    use std::net::TcpListener;

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
        assert!(fatal.what.ends_with("cannot be reached: it refused the connection"), "its address once: {fatal}");
        assert!(
            fatal.what.starts_with(&format!("127.0.0.1:{port} ")) && fatal.mend.as_ref().unwrap().contains("ss -ltn"),
            "{fatal}"
        );
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

    /// A backlog of one that is full: the kernel drops what knocks. Its address, and what keeps it so.
    fn silent() -> (SocketAddr, (Socket, TcpStream)) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        (address, (socket, waiting))
    }

    #[test]
    fn a_silent_address_holds_up_the_others_for_a_moment_and_once() {
        let ((hole, _full), patience) = (silent(), Duration::from_secs(20));
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [good, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let plan = PeerPlan { connect_timeout_ns: patience.as_nanos() as u64, ..peer("127.0.0.1", good.port()) };
        let connector = Connector::new(&Arc::new(plan)).unwrap_or_else(|fatal| panic!("{fatal}"));
        let served = |addresses: &[SocketAddr]| {
            let dialed = connector.clone().dial_resolved(addresses.to_vec());
            dialed.map(|dialed| dialed.peer_address).unwrap_or_else(|fatal| panic!("{fatal}"))
        };
        let start = Instant::now();
        assert_eq!(served(&[hole, good]), good);
        assert!(start.elapsed() < patience, "{:?}", start.elapsed());
        assert_eq!(served(&[hole, other, good]), good, "the one that served goes first");
        // Where the first one serves, the resolver's order stands: it spreads connections.
        assert_eq!(served(&[good, other]), good);
        assert_eq!([served(&[other, good]), served(&[good, other])], [other, good]);
    }

    #[test]
    fn where_nobody_answers_each_address_had_the_time_limit() {
        let ((one, _full), (other, _as_full)) = (silent(), silent());
        let plan = PeerPlan { connect_timeout_ns: 400_000_000, ..peer("127.0.0.1", one.port()) };
        let connector = Connector::new(&Arc::new(plan)).unwrap_or_else(|fatal| panic!("{fatal}"));
        let start = Instant::now();
        let fatal = connector.dial_any(&[one, other]).map(|dialed| dialed.peer_address).expect_err("nobody answers");
        for address in [one, other] {
            assert!(fatal.what.contains(&format!("{address} did not answer in 0.4 s")), "{fatal}");
        }
        assert!(start.elapsed() >= Duration::from_millis(2 * 390), "{:?}", start.elapsed());
    }

    #[test]
    fn a_listener_that_takes_nobody_in_costs_the_time_limit_and_no_more() {
        let (address, _full) = silent();
        let plan = PeerPlan { connect_timeout_ns: 300_000_000, ..peer("127.0.0.1", address.port()) };
        let start = Instant::now();
        let fatal = refused(&plan);
        assert!(fatal.what.contains("did not answer in 0.3 s"), "{fatal}");
        // The kernel waits for whole milliseconds.
        assert!(start.elapsed() >= Duration::from_millis(298), "{:?}", start.elapsed());
    }
}
