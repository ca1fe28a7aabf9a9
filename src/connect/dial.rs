//! From a name to a connection that is ready to be written to. Blocks.

mod known;
mod proxy;

use super::peer::shown;
use super::tls::{self, TlsSession};
use crate::base::fatal::{Exit, Fatal};
use crate::base::{limits, within_host};
use crate::host::rlimit;
use crate::plan::PeerPlan;
use known::Known;
use rustls::ClientConfig;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Dials one peer, over and over: what TLS needs from files is read once, and an address that does not answer is not
/// waited for each time.
#[derive(Clone)]
pub struct Connector {
    peer: Arc<PeerPlan>,
    config: Option<Arc<ClientConfig>>,
    /// For all clones.
    known: Arc<Mutex<Known>>,
}

impl Connector {
    /// # Errors
    /// A certificate or key that cannot be used.
    pub fn new(peer: &Arc<PeerPlan>) -> Result<Self, Fatal> {
        let config = peer.tls.as_ref().map(tls::client_config).transpose()?;
        Ok(Self { peer: peer.clone(), config, known: Arc::default() })
    }

    pub fn peer(&self) -> &Arc<PeerPlan> {
        &self.peer
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to say of a peer with several addresses.
    pub fn words_of_addresses(&self) -> Option<String> {
        let addresses = self.known().dealt_to();
        let list = || addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (peer, count) = (shown(&self.peer), addresses.len());
        (count > 1).then(|| format!("{peer} has {count} addresses, and its connections go to them in turn: {}", list()))
    }

    /// The first address that answers, beginning with another one for each turn.
    ///
    /// # Errors
    /// Says for each address why not.
    pub fn dial(&self, turn: usize) -> Result<Dialed, Fatal> {
        self.dial_found(addresses(&self.peer), turn, Instant::now())
    }

    /// `found`: what the resolver says `now`.
    fn dial_found(&self, found: Result<Vec<SocketAddr>, Fatal>, turn: usize, now: Instant) -> Result<Dialed, Fatal> {
        let unresolved = found.as_ref().err().cloned();
        let addresses = {
            let mut known = self.known();
            let addresses = known.resolved(found)?;
            known.in_turn(addresses, turn, now)
        };
        let mut failed = Vec::new();
        let dialed = self.dial_any(&addresses, &mut failed);
        let served = dialed.as_ref().ok().map(|dialed| dialed.peer_address);
        self.known().note(&failed, served, now);
        // That addresses of some time ago do not answer says less than that there are no others.
        dialed.map_err(|fatal| unresolved.filter(|_| fatal.exit == Exit::Unreachable).unwrap_or(fatal))
    }

    /// A silent address does not hold up the others (RFC 8305, one after the other): in growing parts, each has its
    /// time in turn with them. `failed` gets those that had no less time than the one that serves, and did not.
    fn dial_any(&self, addresses: &[SocketAddr], failed: &mut Vec<SocketAddr>) -> Result<Dialed, Fatal> {
        let mut left = Duration::from_nanos(self.peer.connect_timeout_ns);
        let (mut silent, mut refused) = (addresses.to_vec(), Vec::new());
        let mut part = FIRST_PART;
        while !silent.is_empty() {
            part = if silent.len() == 1 { left } else { left.min(part) };
            left -= part;
            for address in std::mem::take(&mut silent) {
                match self.dial_address(address, part) {
                    Ok(dialed) => {
                        failed.append(&mut silent);
                        return Ok(dialed);
                    }
                    Err(Refusal::Connect(_, why)) if why.kind() == ErrorKind::TimedOut && !left.is_zero() => {
                        silent.push(address);
                    }
                    Err(refusal) => {
                        if refusal.is_of_peer() {
                            failed.push(address);
                        }
                        refused.push(refusal);
                    }
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

/// Dials a peer once, in the resolver's order.
pub fn dial(peer: &PeerPlan) -> Result<Dialed, Fatal> {
    Connector::new(&Arc::new(peer.clone()))?.dial(0)
}

enum Refusal {
    Connect(SocketAddr, Error),
    Tls(Fatal),
}

impl Refusal {
    /// This host can be short of something, too.
    fn is_of_peer(&self) -> bool {
        !matches!(self, Refusal::Connect(_, error) if rlimit::is_out_of_descriptors(error))
    }
}

fn addresses(peer: &PeerPlan) -> Result<Vec<SocketAddr>, Fatal> {
    let unknown = |why: String| {
        let what = format!("{}: the name '{}' cannot be resolved: {why}", shown(peer), peer.host);
        let proxy = proxy::words(&[], proxy::is_set);
        let mend = format!("another name, or an address; `getent ahosts {}` asks as the engine does{proxy}", peer.host);
        Fatal::new(Exit::Unreachable, what).mend(mend)
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
    if within_host::leads_within_host(address) {
        within_host::never_pace(&socket);
    }
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
    let mut asked: Vec<SocketAddr> = Vec::new();
    let mut first = ErrorKind::Other;
    for refusal in refused {
        let Refusal::Connect(address, error) = refusal else { continue };
        if let Some(fatal) = out_of_descriptors(error) {
            return fatal;
        }
        first = if words.is_empty() { error.kind() } else { first };
        asked.push(*address);
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
    let mend = mend + &proxy::words(&asked, proxy::is_set);
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
    use crate::plan::testing::{closed_port, peer};
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
        let (port, _kept) = closed_port();
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
        let start = Instant::now();
        let served = |addresses: &[SocketAddr]| {
            let dialed = connector.clone().dial_found(Ok(addresses.to_vec()), 0, start);
            dialed.map(|dialed| dialed.peer_address).unwrap_or_else(|fatal| panic!("{fatal}"))
        };
        assert_eq!(served(&[hole, good]), good);
        assert!(start.elapsed() < patience, "{:?}", start.elapsed());
        assert_eq!(connector.known().in_turn(vec![hole, good], 0, start), [good, hole], "it is asked last");
        assert_eq!(served(&[hole, other, good]), other, "the next one has its turn");
    }

    /// Sockets that refuse until they listen.
    fn refusing<const N: usize>() -> ([Socket; N], [SocketAddr; N]) {
        let sockets = [(); N].map(|()| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        let addresses = sockets.each_ref().map(|socket| {
            socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            socket.local_addr().unwrap().as_socket().unwrap()
        });
        (sockets, addresses)
    }

    #[test]
    fn connections_spread_over_addresses_and_one_that_refused_has_its_turn_again() {
        let ([gone, sound, other], all) = refusing::<3>();
        sound.listen(64).unwrap();
        other.listen(64).unwrap();
        let connector = Connector::new(&Arc::new(peer("127.0.0.1", 443))).unwrap_or_else(|fatal| panic!("{fatal}"));
        let start = Instant::now();
        let six_turns = |after: Duration| {
            [0, 1, 2, 3, 4, 5].map(|turn| {
                let dialed = connector.clone().dial_found(Ok(all.to_vec()), turn, start + after);
                dialed.map(|dialed| dialed.peer_address).unwrap_or_else(|fatal| panic!("{fatal}"))
            })
        };
        let [a, b, c] = all;
        assert_eq!(six_turns(Duration::ZERO), [b, c, b, c, b, c]);
        gone.listen(64).unwrap();
        assert_eq!(six_turns(known::ASKED_LAST - Duration::from_millis(1)), [b, c, b, c, b, c]);
        assert_eq!(six_turns(known::ASKED_LAST), [a, b, c, a, b, c]);
        let words = "127.0.0.1:443 has 3 addresses, and its connections go to them in turn: 127.0.0.1, 127.0.0.1, ";
        assert_eq!(connector.words_of_addresses(), Some(format!("{words}127.0.0.1")));
    }

    #[test]
    fn where_resolving_fails_the_last_addresses_are_dialed() {
        let (_sockets, [closed]) = refusing::<1>();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connector = Connector::new(&Arc::new(peer("127.0.0.1", 443))).unwrap_or_else(|fatal| panic!("{fatal}"));
        let dial = |found| {
            let dialed = connector.clone().dial_found(found, 0, Instant::now());
            dialed.map(|dialed| dialed.peer_address)
        };
        let unresolved = || Fatal::new(Exit::Unreachable, "the name cannot be resolved");
        assert_eq!(dial(Err(unresolved())), Err(unresolved()), "there are none");
        assert_eq!(dial(Ok(vec![address])), Ok(address));
        assert_eq!([(); 2].map(|()| dial(Err(unresolved()))), [Ok(address), Ok(address)]);
        let fatal = dial(Ok(vec![closed])).expect_err("nobody listens");
        assert!(fatal.what.contains("refused the connection"), "{fatal}");
        assert_eq!(dial(Err(unresolved())), Err(unresolved()), "the one that it had last does not answer");
    }

    #[test]
    fn where_nobody_answers_each_address_had_the_time_limit() {
        let ((one, _full), (other, _as_full)) = (silent(), silent());
        let plan = PeerPlan { connect_timeout_ns: 400_000_000, ..peer("127.0.0.1", one.port()) };
        let connector = Connector::new(&Arc::new(plan)).unwrap_or_else(|fatal| panic!("{fatal}"));
        let start = Instant::now();
        let dialed = connector.dial_any(&[one, other], &mut Vec::new());
        let fatal = dialed.map(|dialed| dialed.peer_address).expect_err("nobody answers");
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
