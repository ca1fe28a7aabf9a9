//! What a peer is called.

use crate::plan::PeerPlan;

/// `host:port`, with brackets around IPv6.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A peer as `host:port`.
pub fn shown(peer: &PeerPlan) -> String {
    address(&peer.host, peer.port)
}
