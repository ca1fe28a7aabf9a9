//! Network cards: which ones carry the load, and how each is set.

use super::{Finding, Look, Verdict, pci};
use crate::host::{Sysfs, ethtool};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A card on a bond on a VLAN: deeper is a loop.
const STACK_MAX: usize = 8;
const REFERENCE_BITS_PER_SECOND: u64 = 100_000_000_000;
/// IPv4 and TCP with time stamps, inside the MTU.
const HEADERS_BYTES: u64 = 52;
/// Ethernet's header, checksum, preamble and gap, outside of it.
const FRAME_BYTES: u64 = 38;
const COALESCE_US_MAX: u64 = 128;
const MTU_LARGE: u64 = 9000;

/// The cards of the load.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub names: Vec<String>,
    /// Named, but not there.
    missing: Vec<String>,
    /// Every peer is this host.
    loopback: bool,
}

fn at(name: &str) -> String {
    format!("/sys/class/net/{name}")
}

pub fn choose(look: &Look) -> Choice {
    let sysfs = look.sysfs;
    let exists = |name: &String| !name.contains('/') && sysfs.path(at(name)).exists();
    if !look.scope.nics.is_empty() {
        let (there, missing): (Vec<_>, Vec<_>) = look.scope.nics.iter().cloned().partition(exists);
        return Choice { names: there, missing, loopback: false };
    }
    let far: Vec<_> = look.scope.peers.iter().filter(|peer| !peer.to_canonical().is_loopback()).collect();
    let loopback = far.is_empty() && !look.scope.peers.is_empty();
    let routes = sysfs.text("/proc/net/route").unwrap_or_default();
    let routed = far.into_iter().filter_map(|peer| match peer.to_canonical() {
        IpAddr::V4(peer) => by_route(&routes, peer),
        IpAddr::V6(_) => None,
    });
    let mut names: Vec<String> =
        routed.filter(|name| exists(name)).flat_map(|name| physical(sysfs, &name, 0)).collect();
    if names.is_empty() && !loopback {
        names = fastest(sysfs);
    }
    names.sort();
    names.dedup();
    Choice { names, missing: Vec::new(), loopback }
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

/// The cards below a bond, bridge or VLAN.
fn physical(sysfs: &Sysfs, name: &str, depth: usize) -> Vec<String> {
    let names = sysfs.names(at(name));
    let below: Vec<_> = names.iter().filter_map(|entry| entry.strip_prefix("lower_")).collect();
    if below.is_empty() || depth >= STACK_MAX {
        return vec![name.to_owned()];
    }
    below.into_iter().flat_map(|name| physical(sysfs, name, depth + 1)).collect()
}

fn bits_per_second(sysfs: &Sysfs, name: &str) -> Option<u64> {
    // Virtual cards say -1, or refuse.
    let megabits: u64 = sysfs.number(format!("{}/speed", at(name)))?;
    (1..4_000_000_000).contains(&megabits).then(|| megabits * 1_000_000)
}

/// Of the cards with hardware (or a hypervisor) behind them that are up, the fastest; all, if none says its speed. In
/// a container there is no such card: any that is up.
fn fastest(sysfs: &Sysfs) -> Vec<String> {
    let state = |name: &str| sysfs.text(format!("{}/operstate", at(name)));
    let behind = |name: &str| sysfs.path(format!("{}/device", at(name))).exists();
    let mut cards = sysfs.names("/sys/class/net");
    cards.retain(|name| state(name).is_some_and(|state| state == "up" || (state == "unknown" && behind(name))));
    if cards.iter().any(|name| behind(name)) {
        cards.retain(|name| behind(name));
    }
    let most = cards.iter().filter_map(|name| bits_per_second(sysfs, name)).max();
    cards.retain(|name| most.is_none() || bits_per_second(sysfs, name) == most);
    cards
}

pub fn examine(look: &Look, choice: &Choice) -> Vec<Finding> {
    const ITEM: &str = "nic.link";
    let mut found: Vec<_> = choice.missing.iter().map(|name| missing(look, name)).collect();
    if choice.loopback {
        found.push(Finding::fine(ITEM, "the peers are this host: no card is used").of("lo"));
    } else if choice.names.is_empty() && choice.missing.is_empty() {
        let value = "no network card is up: only this host can be reached, or cards are not shown here";
        found.push(Finding::unknown(ITEM, value));
    }
    found.extend(choice.names.iter().flat_map(|name| card(look, name)));
    found
}

fn missing(look: &Look, name: &str) -> Finding {
    let all = look.sysfs.names("/sys/class/net").join(", ");
    let value = format!("there is no such card; there are: {all}");
    Finding::new("nic.link", Verdict::Fatal, value).of(name).fix("ip -br link, and --nic with one of these names")
}

fn card(look: &Look, name: &str) -> Vec<Finding> {
    let link = link(look, name);
    if link.verdict == Verdict::Fatal {
        return vec![link];
    }
    let facts = ethtool::facts(look.sysfs, name);
    let device = format!("{}/device", at(name));
    let mtu = look.sysfs.number(format!("{}/mtu", at(name)));
    vec![
        link,
        speed(look, name, mtu),
        pci::link(look, "nic.pcie", name, &device),
        pci::node(look, "nic.numa", name, &device),
        pci::irq(look, "nic.irq", name, &device, Some(tune(look, name))),
        mtu_finding(name, mtu),
        rings(look, name, &facts),
        coalescing(name, &facts),
        offloads(look, name, &facts),
        queues(look, name, &facts),
        xps(look, name),
    ]
}

fn tune(look: &Look, name: &str) -> String {
    format!("scripts/tune-host.sh apply --nic {name} --cores {}", look.cores_list())
}

fn link(look: &Look, name: &str) -> Finding {
    const ITEM: &str = "nic.link";
    let Some(state) = look.sysfs.text(format!("{}/operstate", at(name))) else {
        return Finding::unknown(ITEM, format!("{}/operstate cannot be read", at(name))).of(name);
    };
    if matches!(state.as_str(), "down" | "lowerlayerdown" | "notpresent") {
        let fix = format!("ip link set {name} up; if it stays down: cable, transceiver, switch port (ethtool {name})");
        return Finding::new(ITEM, Verdict::Fatal, state).of(name).fix(fix);
    }
    Finding::fine(ITEM, state).of(name)
}

/// What of a link's bits a second is payload of TCP, in bytes.
fn payload_bytes_per_second(bits_per_second: u64, mtu: u64) -> f64 {
    let payload = mtu.saturating_sub(HEADERS_BYTES) as f64 / (mtu + FRAME_BYTES) as f64;
    bits_per_second as f64 / 8.0 * payload
}

fn speed(look: &Look, name: &str, mtu: Option<u64>) -> Finding {
    const ITEM: &str = "nic.speed";
    let Some(bits) = bits_per_second(look.sysfs, name) else {
        return Finding::unknown(ITEM, "the card does not say its speed (virtual ones do not)").of(name);
    };
    let mtu = mtu.unwrap_or(1500).min(1 << 20);
    let carries = payload_bytes_per_second(bits, mtu) / 1e9;
    let worth = format!("at MTU {mtu} it carries {carries:.2} GB/s of payload");
    Finding::hint_unless(bits >= REFERENCE_BITS_PER_SECOND, ITEM, format!("{} Gbit/s", bits as f64 / 1e9))
        .of(name)
        .worth(worth, "calculated")
        .fix(format!("ethtool {name} shows what was negotiated; 8 GB/s from one host need 100 Gbit/s"))
}

fn mtu_finding(name: &str, mtu: Option<u64>) -> Finding {
    const ITEM: &str = "nic.mtu";
    match mtu {
        None => Finding::unknown(ITEM, format!("{}/mtu cannot be read", at(name))).of(name),
        Some(mtu) => Finding::hint_unless(mtu >= MTU_LARGE - 100, ITEM, mtu.to_string())
            .of(name)
            .fix(format!("scripts/tune-host.sh apply --nic {name} --mtu {MTU_LARGE}"))
            .fix(format!("ip link set {name} mtu {MTU_LARGE}, if every switch and the peer take it")),
    }
}

fn rings(look: &Look, name: &str, facts: &BTreeMap<String, u64>) -> Finding {
    const ITEM: &str = "nic.rings";
    let fact = |key: &str| facts.get(key).copied();
    let (Some(tx), Some(tx_max), Some(rx), Some(rx_max)) =
        (fact("ring.tx"), fact("ring.tx_max"), fact("ring.rx"), fact("ring.rx_max"))
    else {
        return Finding::unknown(ITEM, "the driver does not tell").of(name);
    };
    let value = format!("tx {tx} of {tx_max}, rx {rx} of {rx_max}");
    Finding::hint_unless(tx >= tx_max && rx >= rx_max, ITEM, value)
        .of(name)
        .fix(tune(look, name))
        .fix(format!("ethtool -G {name} tx {tx_max} rx {rx_max}"))
}

fn coalescing(name: &str, facts: &BTreeMap<String, u64>) -> Finding {
    const ITEM: &str = "nic.coalescing";
    let Some(us) = facts.get("coalesce.rx_usecs").copied() else {
        return Finding::unknown(ITEM, "the driver does not tell").of(name);
    };
    let adaptive = facts.get("coalesce.adaptive_rx").is_some_and(|on| *on != 0);
    let value = format!("rx {us} µs{}", if adaptive { ", adaptive" } else { "" });
    Finding::hint_unless(adaptive || (1..=COALESCE_US_MAX).contains(&us), ITEM, value).of(name).fix(format!(
        "ethtool -C {name} adaptive-rx on, or ethtool -C {name} rx-usecs 32 (a driver that has neither refuses)"
    ))
}

fn offloads(look: &Look, name: &str, facts: &BTreeMap<String, u64>) -> Finding {
    const ITEM: &str = "nic.offloads";
    const NAMES: [(&str, &str); 5] =
        [("tx_checksum", "tx"), ("sg", "sg"), ("tso", "tso"), ("gso", "gso"), ("gro", "gro")];
    let told = NAMES.map(|(key, short)| (short, facts.get(&format!("offload.{key}")).copied()));
    let which = |wanted: bool| -> Vec<&str> {
        told.iter().filter(|(_, on)| on.is_some_and(|on| (on != 0) == wanted)).map(|(short, _)| *short).collect()
    };
    let (on, off) = (which(true), which(false));
    if on.is_empty() && off.is_empty() {
        return Finding::unknown(ITEM, "the driver does not tell").of(name);
    }
    if off.is_empty() {
        return Finding::fine(ITEM, format!("{} on", on.join(", "))).of(name);
    }
    let switches: Vec<_> = off.iter().map(|short| format!("{short} on")).collect();
    Finding::new(ITEM, Verdict::Hint, format!("{} off", off.join(", ")))
        .of(name)
        .fix(tune(look, name))
        .fix(format!("ethtool -K {name} {}", switches.join(" ")))
}

fn send_queues(look: &Look, name: &str) -> Vec<String> {
    let mut names = look.sysfs.names(format!("{}/queues", at(name)));
    names.retain(|queue| queue.starts_with("tx-"));
    names
}

fn queues(look: &Look, name: &str, facts: &BTreeMap<String, u64>) -> Finding {
    const ITEM: &str = "nic.queues";
    let count = send_queues(look, name).len() as u64;
    if count == 0 {
        return Finding::unknown(ITEM, format!("{}/queues shows none", at(name))).of(name);
    }
    let cores = look.scope.cores.len() as u64;
    let fact = |key: &str| facts.get(key).copied().unwrap_or(0);
    let (kind, most) = match fact("channels.combined_max") {
        0 => ("tx", fact("channels.tx_max")),
        most => ("combined", most),
    };
    let limit = if most > 0 { format!(", the card has {most}") } else { String::new() };
    let value = format!("{count} to send for {cores} cores{limit}");
    let finding = Finding::hint_unless(count >= cores, ITEM, value).of(name);
    match most > count {
        true => finding.fix(format!("ethtool -L {name} {kind} {}", most.min(cores))),
        false => finding
            .fix("fewer --cores, or a card (in a VM: a machine type, or queues=N of its device) with more queues"),
    }
}

fn xps(look: &Look, name: &str) -> Finding {
    const ITEM: &str = "nic.xps";
    let queues = send_queues(look, name);
    if queues.len() == 1 {
        return Finding::fine(ITEM, "one send queue: nothing to choose").of(name);
    }
    let maps: Vec<_> = queues
        .iter()
        .filter_map(|queue| look.sysfs.text(format!("{}/queues/{queue}/xps_cpus", at(name))))
        .filter_map(|mask| parse_mask(&mask))
        .collect();
    if maps.len() < queues.len() || maps.is_empty() {
        return Finding::unknown(ITEM, "not every queue shows its map").of(name);
    }
    let without = |cpu: &&usize| !maps.iter().any(|map| map.contains(cpu));
    let bare: Vec<_> = look.scope.cores.iter().filter(without).copied().collect();
    let value = match bare.as_slice() {
        [] => format!("each of {} has a queue", look.cores_list()),
        _ => format!("no queue is mapped to {}", crate::host::cpu::format_list(&bare)),
    };
    Finding::hint_unless(bare.is_empty(), ITEM, value)
        .of(name)
        .fix(tune(look, name))
        .fix(format!("for each queue N of a core: echo MASK > {}/queues/tx-N/xps_cpus (core 3: MASK is 8)", at(name)))
}

/// `00000000,0000ff00`: 32 processors a group, the last group first. `None`: no mask.
fn parse_mask(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for (group, digits) in text.rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cpu::parse_list;

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

    #[test]
    fn masks_are_read_from_the_right() {
        assert_eq!(parse_mask("00000001,80000002"), Some(vec![1, 31, 32]));
        assert_eq!(parse_mask("0"), Some(vec![]));
        assert_eq!((parse_mask(""), parse_mask("x"), parse_mask("fffffffff")), (None, None, None));
        assert_eq!(parse_mask("f0").unwrap(), parse_list("4-7").unwrap());
    }

    #[test]
    fn a_hundred_gigabits_carry_what_the_bounds_say() {
        let gigabytes = |mtu| payload_bytes_per_second(100_000_000_000, mtu) / 1e9;
        assert!((gigabytes(1500) - 11.77).abs() < 0.01 && (gigabytes(9000) - 12.38).abs() < 0.01);
    }
}
