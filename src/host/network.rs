//! Network interfaces: which one leads to a peer, and which cards carry what goes through it.

use crate::host::Sysfs;
use crate::sys::netlink;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of a route over IPv6: nothing gets through (RTF_REJECT).
const REJECTS: u32 = 0x200;
/// A card on a bond on a VLAN: deeper is a loop.
const STACK_MAX: usize = 8;

/// An interface that the load goes through, and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// As the route has it: its MTU counts.
    pub top: String,
    /// With rings and interrupts; of an interface that stands on nothing, itself.
    pub cards: Vec<String>,
}

/// Where the load leaves this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    pub ways: Vec<Way>,
    /// Every peer is this host.
    pub loopback: bool,
}

pub fn folder(name: &str) -> String {
    format!("/sys/class/net/{name}")
}

pub fn exists(sysfs: &Sysfs, name: &str) -> bool {
    !name.contains('/') && sysfs.path(folder(name)).exists()
}

/// By the routes to the peers or, where none leads there or nobody was named, the fastest that are up.
pub fn exits(sysfs: &Sysfs, peers: &[IpAddr]) -> Exits {
    let far: Vec<_> = peers.iter().map(IpAddr::to_canonical).filter(|peer| !is_here(sysfs, *peer)).collect();
    let loopback = far.is_empty() && !peers.is_empty();
    let routes = sysfs.text("/proc/net/route").unwrap_or_default();
    let routes_v6 = sysfs.text("/proc/net/ipv6_route").unwrap_or_default();
    let routed = far.into_iter().filter_map(|peer| match peer {
        IpAddr::V4(peer) => by_route(&routes, peer),
        IpAddr::V6(peer) => by_route_v6(&routes_v6, peer),
    });
    let mut names: Vec<String> = routed.filter(|name| exists(sysfs, name)).collect();
    if names.is_empty() && !loopback {
        names = fastest(sysfs);
    }
    names.sort();
    names.dedup();
    Exits { ways: names.iter().map(|name| way(sysfs, name)).collect(), loopback }
}

pub fn way(sysfs: &Sysfs, name: &str) -> Way {
    let mut cards = leaves(sysfs, name, 0);
    if !is_leaf(sysfs, name) {
        // A bridge's other ports are the ends of containers and guests.
        cards.retain(|card| has_device(sysfs, card));
    }
    cards.sort();
    cards.dedup();
    Way { top: name.to_owned(), cards }
}

impl Way {
    /// As the hardware says; of a bond, all its cards together; of a bridge, its fastest port with hardware.
    pub fn bits_per_second(&self, sysfs: &Sysfs) -> Option<u64> {
        bits_through(sysfs, &self.top, 0)
    }

    /// What has to take an MTU before the top can have it: what is below it, the lowest first, then itself.
    pub fn upwards(&self, sysfs: &Sysfs) -> Vec<String> {
        let mut found = Vec::new();
        climb(sysfs, &self.top, 0, &mut found);
        found.retain(|name| *name == self.top || self.cards.contains(name) || !is_leaf(sysfs, name));
        found
    }
}

/// Speed of a card with hardware (or a hypervisor) behind it: others make one up.
pub fn bits_per_second(sysfs: &Sysfs, card: &str) -> Option<u64> {
    has_device(sysfs, card).then(|| speed(sysfs, card)).flatten()
}

/// A bridge says the speed of its fastest port, which may be a guest's end that makes it up, and a VLAN repeats that.
fn bits_through(sysfs: &Sysfs, name: &str, depth: usize) -> Option<u64> {
    let below = below(sysfs, name);
    if below.is_empty() || depth >= STACK_MAX {
        return bits_per_second(sysfs, name);
    }
    let fastest = below.iter().filter_map(|name| bits_through(sysfs, name, depth + 1)).max()?;
    let is_bridge = sysfs.path(format!("{}/bridge", folder(name))).exists();
    // A bond or team knows what its cards carry together, and a card that stands on another its own part.
    let knows = has_device(sysfs, name) || (below.len() > 1 && !is_bridge);
    Some(knows.then(|| speed(sysfs, name)).flatten().unwrap_or(fastest))
}

fn speed(sysfs: &Sysfs, name: &str) -> Option<u64> {
    // Virtual cards say -1, or refuse.
    let megabits: u64 = sysfs.number(format!("{}/speed", folder(name)))?;
    (1..4_000_000_000).contains(&megabits).then(|| megabits * 1_000_000)
}

/// The kinds of a card's queueing disciplines, the root's first; none where the kernel does not tell. Of a recorded
/// host they are the line `qdisc: mq fq` in the file `ethtool/NIC` below its root.
pub fn qdiscs(sysfs: &Sysfs, card: &str) -> Vec<String> {
    if sysfs.is_live() {
        let index = sysfs.number(format!("{}/ifindex", folder(card))).and_then(|index| u32::try_from(index).ok());
        return index.and_then(|index| netlink::qdiscs(index).ok()).unwrap_or_default();
    }
    let line = sysfs.field(format!("/ethtool/{card}"), "qdisc").unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

/// Those of a card, as `/sys` names them: `tx-0`.
pub fn send_queues(sysfs: &Sysfs, card: &str) -> Vec<String> {
    let mut names = sysfs.names(format!("{}/queues", folder(card)));
    names.retain(|queue| queue.starts_with("tx-"));
    names
}

fn has_device(sysfs: &Sysfs, name: &str) -> bool {
    sysfs.path(format!("{}/device", folder(name))).exists()
}

/// The interface of the longest route of `/proc/net/route` that holds the address; of equals, the least metric.
fn by_route(table: &str, peer: Ipv4Addr) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // In the byte order of the machine that wrote it: all that we run on are little-endian.
        let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
        let (to, mask) = (hex(1)?, hex(7)?);
        let metric: u32 = fields.get(6)?.parse().ok()?;
        (u32::from(peer) & mask == to).then(|| (mask, u32::MAX - metric, fields[0].to_owned()))
    });
    routes.max().map(|(.., name)| name)
}

/// The same of `/proc/net/ipv6_route`, whose addresses and numbers are plain hexadecimal ones.
fn by_route_v6(table: &str, peer: Ipv6Addr) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let to = u128::from_str_radix(fields.first()?, 16).ok()?;
        let (prefix_bits, metric, flags, name) = (hex(1)?, hex(5)?, hex(8)?, *fields.get(9)?);
        let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix_bits)?).unwrap_or(0);
        let leads_there = u128::from(peer) & mask == to && flags & REJECTS == 0;
        leads_there.then(|| (prefix_bits, u32::MAX - metric, name.to_owned()))
    });
    routes.max().map(|(.., name)| name)
}

/// An address of this host: the kernel keeps what goes there off the cards.
fn is_here(sysfs: &Sysfs, peer: IpAddr) -> bool {
    peer.is_loopback()
        || match peer {
            IpAddr::V4(peer) => {
                let trie = sysfs.text("/proc/net/fib_trie").unwrap_or_default();
                let (leaf, lines) = (format!("|-- {peer}"), trie.lines().map(str::trim));
                lines.clone().zip(lines.skip(1)).any(|(line, next)| line == leaf && next == "/32 host LOCAL")
            }
            IpAddr::V6(peer) => {
                let (own, head) = (sysfs.text("/proc/net/if_inet6"), format!("{:032x} ", u128::from(peer)));
                own.is_some_and(|own| own.lines().any(|line| line.starts_with(&head)))
            }
        }
}

/// What a bond, bridge or VLAN stands on.
fn below(sysfs: &Sysfs, name: &str) -> Vec<String> {
    let names = sysfs.names(folder(name));
    names.iter().filter_map(|entry| entry.strip_prefix("lower_")).map(str::to_owned).collect()
}

fn is_leaf(sysfs: &Sysfs, name: &str) -> bool {
    below(sysfs, name).is_empty()
}

fn leaves(sysfs: &Sysfs, name: &str, depth: usize) -> Vec<String> {
    let below = below(sysfs, name);
    if below.is_empty() || depth >= STACK_MAX {
        return vec![name.to_owned()];
    }
    below.iter().flat_map(|name| leaves(sysfs, name, depth + 1)).collect()
}

fn climb(sysfs: &Sysfs, name: &str, depth: usize, found: &mut Vec<String>) {
    // A bond gives its own to the cards below.
    let gives = sysfs.path(format!("{}/bonding", folder(name))).exists();
    for name in below(sysfs, name).iter().filter(|_| !gives && depth < STACK_MAX) {
        climb(sysfs, name, depth + 1, found);
    }
    if !found.iter().any(|known| known == name) {
        found.push(name.to_owned());
    }
}

/// Of the cards with hardware (or a hypervisor) behind them that are up, the fastest; all, if none says its speed. In
/// a container there is no such card: any that is up.
fn fastest(sysfs: &Sysfs) -> Vec<String> {
    let state = |name: &str| sysfs.text(format!("{}/operstate", folder(name)));
    let behind = |name: &str| has_device(sysfs, name);
    let mut cards = sysfs.names("/sys/class/net");
    cards.retain(|name| state(name).is_some_and(|state| state == "up" || (state == "unknown" && behind(name))));
    if cards.iter().any(|name| behind(name)) {
        cards.retain(|name| behind(name));
    }
    let most = cards.iter().filter_map(|name| bits_per_second(sysfs, name)).max();
    cards.retain(|name| most.is_none() || bits_per_second(sysfs, name) == most);
    cards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        eth1\t00000000\t010200C0\t0003\t0\t0\t20\t00000000\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        broken\t\u{fffd}\n";

    #[test]
    fn the_longest_route_wins_then_the_least_metric() {
        let to = |a, b, c, d| by_route(ROUTES, Ipv4Addr::new(a, b, c, d));
        assert_eq!(to(192, 0, 2, 9).as_deref(), Some("eth0"));
        assert_eq!(to(203, 0, 113, 1).as_deref(), Some("eth1"));
        assert_eq!(by_route("", Ipv4Addr::new(1, 1, 1, 1)), None);
    }

    const ROUTES_V6: &str = "\
        20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 \
        00000100 00000001 00000000 00000001     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 \
        00000400 00000002 00000000 00000003     eth1\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 \
        00000064 00000002 00000000 00000003     eth2\n\
        20010db8000100000000000000000000 30 00000000000000000000000000000000 00 00000000000000000000000000000000 \
        00000001 00000001 00000000 00200200       lo\n\
        broken 81\n";

    #[test]
    fn routes_over_ipv6_are_as_those_over_ipv4() {
        let to = |peer: &str| by_route_v6(ROUTES_V6, peer.parse().unwrap());
        assert_eq!(to("2001:db8::9").as_deref(), Some("eth0"));
        assert_eq!(to("2001:db9::9").as_deref(), Some("eth2"), "the least metric");
        assert_eq!(to("2001:db8:1::9").as_deref(), Some("eth2"), "what rejects is passed over");
        assert_eq!(by_route_v6("", Ipv6Addr::LOCALHOST), None);
    }

    /// A bridge over a VLAN over a bond of two cards, with the end of a container beside.
    fn stacked() -> Tree {
        Tree::new(&[
            ("/sys/class/net/br0/lower_vlan7/x", ""),
            ("/sys/class/net/br0/lower_veth1/x", ""),
            ("/sys/class/net/br0/bridge/x", ""),
            ("/sys/class/net/br0/speed", "100000"),
            ("/sys/class/net/vlan7/lower_bond0/x", ""),
            ("/sys/class/net/vlan7/speed", "50000"),
            ("/sys/class/net/bond0/lower_eth1/x", ""),
            ("/sys/class/net/bond0/lower_eth0/x", ""),
            ("/sys/class/net/bond0/bonding/x", ""),
            ("/sys/class/net/bond0/speed", "50000"),
            ("/sys/class/net/eth0/device/x", ""),
            ("/sys/class/net/eth0/speed", "25000"),
            ("/sys/class/net/eth1/device/x", ""),
            ("/sys/class/net/eth1/speed", "25000"),
            ("/sys/class/net/veth1/speed", "100000"),
            ("/sys/class/net/docker0/lower_veth1/x", ""),
            ("/sys/class/net/docker0/bridge/x", ""),
        ])
    }

    #[test]
    fn cards_are_what_has_hardware_below() {
        let tree = stacked();
        let of = |name: &str| way(&tree.sysfs(), name);
        for top in ["br0", "vlan7", "bond0"] {
            assert_eq!(of(top), Way { top: top.to_owned(), cards: vec!["eth0".to_owned(), "eth1".to_owned()] });
        }
        assert_eq!(of("docker0").cards, [""; 0]);
        assert_eq!((of("veth1").cards, of("eth0").cards), (vec!["veth1".to_owned()], vec!["eth0".to_owned()]));
    }

    #[test]
    fn speeds_are_those_of_hardware() {
        let tree = stacked();
        let gigabits =
            |name: &str| way(&tree.sysfs(), name).bits_per_second(&tree.sysfs()).map(|bits| bits / 1_000_000_000);
        assert_eq!((gigabits("bond0"), gigabits("vlan7"), gigabits("eth0")), (Some(50), Some(50), Some(25)));
        assert_eq!((gigabits("br0"), gigabits("veth1"), gigabits("docker0")), (Some(50), None, None));
        // A VLAN over each of the bridges repeats what they say.
        tree.put("/sys/class/net/vlan8/lower_br0/x", "");
        tree.put("/sys/class/net/vlan8/speed", "100000");
        tree.put("/sys/class/net/vlan9/lower_docker0/x", "");
        tree.put("/sys/class/net/vlan9/speed", "100000");
        assert_eq!((gigabits("vlan8"), gigabits("vlan9")), (Some(50), None));
    }

    #[test]
    fn what_joins_cards_or_is_one_knows_its_speed() {
        let tree = stacked();
        let gigabits =
            |name: &str| way(&tree.sysfs(), name).bits_per_second(&tree.sysfs()).map(|bits| bits / 1_000_000_000);
        tree.put("/sys/class/net/team0/lower_eth0/x", "");
        tree.put("/sys/class/net/team0/lower_eth1/x", "");
        assert_eq!(gigabits("team0"), Some(25), "one that does not say it has its fastest card's");
        tree.put("/sys/class/net/team0/speed", "50000");
        assert_eq!(gigabits("team0"), Some(50));
        // A port of a switch chip, behind one card.
        tree.put("/sys/class/net/lan1/lower_eth0/x", "");
        tree.put("/sys/class/net/lan1/device/x", "");
        tree.put("/sys/class/net/lan1/speed", "1000");
        assert_eq!(gigabits("lan1"), Some(1));
    }

    #[test]
    fn an_mtu_is_raised_from_below_and_by_a_bond_for_its_cards() {
        let tree = stacked();
        let upwards = |name: &str| way(&tree.sysfs(), name).upwards(&tree.sysfs());
        assert_eq!(upwards("br0"), ["bond0", "vlan7", "br0"]);
        assert_eq!(upwards("eth0"), ["eth0"]);
        tree.put("/sys/class/net/vlan9/lower_eth0/x", "");
        assert_eq!(upwards("vlan9"), ["eth0", "vlan9"]);
    }

    #[test]
    fn peers_decide_and_loopback_has_no_way_out() {
        let tree = stacked();
        tree.put("/proc/net/route", &ROUTES.replace("eth1", "br0"));
        tree.put("/sys/class/net/eth1/operstate", "up");
        let to = |peers: &[&str]| {
            let peers: Vec<IpAddr> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            exits(&tree.sysfs(), &peers)
        };
        let tops = |exits: &Exits| exits.ways.iter().map(|way| way.top.clone()).collect::<Vec<_>>();
        assert_eq!(tops(&to(&["203.0.113.1"])), ["br0"]);
        assert_eq!(tops(&to(&["203.0.113.1", "192.0.2.1", "127.0.0.1"])), ["br0", "eth0"]);
        assert_eq!(to(&["127.0.0.1", "::1", "::ffff:127.0.0.2"]), Exits { ways: vec![], loopback: true });
        assert_eq!(tops(&to(&[])), ["eth1"]);
        tree.put("/proc/net/ipv6_route", ROUTES_V6);
        tree.put("/proc/net/if_inet6", "20010db8000000000000000000000005 02 40 00 80     eth0\n");
        tree.put(
            "/proc/net/fib_trie",
            "Local:\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.5\n        /32 host LOCAL\n",
        );
        assert_eq!(tops(&to(&["2001:db8::9"])), ["eth0"]);
        assert_eq!(tops(&to(&["2001:db8::5", "192.0.2.5", "192.0.2.1"])), ["eth0"]);
        assert_eq!(to(&["2001:db8::5", "192.0.2.5"]), Exits { ways: vec![], loopback: true }, "its own addresses");
        assert!(!to(&["192.0.2.0"]).loopback);
    }
}
