//! Other clients may reach through a proxy what the engine does not reach.

use std::net::SocketAddr;

/// What they obey.
const VARIABLES: [&str; 6] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Ends the mend of a peer that has no address, or these ones, and is not reached. A variable's value stays out of it:
/// there may be a password in it.
pub fn words(addresses: &[SocketAddr], is_set: impl Fn(&str) -> bool) -> String {
    let is_here = !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback());
    let name = VARIABLES.into_iter().find(|name| !is_here && is_set(name));
    name.map_or_else(String::new, |name| format!("; {name} is set, and the engine uses no proxy"))
}

/// In the environment.
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_variable_is_named_unless_the_peer_is_this_host() {
        let (here, away) = (SocketAddr::from(([127, 0, 0, 1], 443)), SocketAddr::from(([192, 0, 2, 1], 443)));
        let told = "; HTTPS_PROXY is set, and the engine uses no proxy";
        let said = |addresses: &[SocketAddr], set: &str| words(addresses, |name| name == set);
        assert_eq!([&[][..], &[away], &[here, away]].map(|addresses| said(addresses, "HTTPS_PROXY")), [told; 3]);
        assert_eq!(said(&[away], "all_proxy"), told.replace("HTTPS_PROXY", "all_proxy"));
        assert_eq!([said(&[here], "HTTPS_PROXY"), said(&[away], "NO_PROXY")], ["", ""]);
    }
}
