//! Connections whose two ends are both on this host.

use socket2::SockRef;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// Always there, allowed to everybody, and without timers.
const UNPACED: &[u8] = b"reno";

/// Whether what the one end sends the other reads from the same memory. Addresses that are translated on the way may
/// make the answer wrong: nothing depends on it but speed.
pub fn is_within_host(socket: &impl AsFd) -> bool {
    let ends = SockRef::from(socket);
    match (ends.local_addr(), ends.peer_addr()) {
        (Ok(local), Ok(peer)) => {
            let [local, peer] = [local, peer].map(|end| end.as_socket().map(|end| end.ip()));
            local.is_some() && local == peer || peer.is_some_and(|ip| ip.is_loopback())
        }
        _ => false,
    }
}

/// The same of a connection that is still to be made: a datagram socket takes its way, and sends nothing.
pub fn leads_within_host(address: SocketAddr) -> bool {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).and_then(|way| way.connect(address).map(|()| way)).is_ok_and(|way| is_within_host(&way))
}

/// Leaves pacing to us. A congestion control such as BBR, the default of many hosts, sends by a timer, for the sake of
/// queues that a connection within a host does not have. Of use only before the connection is made.
pub fn never_pace(socket: &impl AsFd) {
    // Otherwise it is what the host's default makes of it.
    let _ = SockRef::from(socket).set_tcp_congestion(UNPACED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, TcpListener, TcpStream};

    #[test]
    fn a_host_knows_its_own_addresses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(leads_within_host(address) && is_within_host(&TcpStream::connect(address).unwrap()));
        assert!(!is_within_host(&listener), "it has no peer");
        assert!(leads_within_host(([127, 8, 7, 6], 9).into()), "nobody need listen there");
        // Of documentation: no host has it.
        assert!(!leads_within_host(([192, 0, 2, 1], 9).into()));
    }

    #[test]
    fn addresses_of_cards_count_too() {
        let way = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let own = way.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| way.local_addr()).map(|own| own.ip());
        // Without any network there is no such address.
        let own = own.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(leads_within_host((own, 9).into()), "{own}");
    }

    #[test]
    fn a_connection_keeps_what_it_began_with() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        never_pace(&listener);
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        never_pace(&client);
        client.connect(&listener.local_addr().unwrap().into()).unwrap();
        let accepted = listener.accept().unwrap().0;
        for end in [SockRef::from(&client), SockRef::from(&accepted)] {
            let name = end.tcp_congestion().unwrap();
            assert!(name.starts_with(UNPACED), "{name:?}");
        }
    }
}
