//! Network cards: which ones carry the load, and how each is set.

use super::{Finding, Look, Verdict, numa, pci, qdisc, speed};
use crate::base::units::format_counted;
use crate::host::ethtool;
use crate::host::network::{self, Way, folder};
use std::collections::BTreeMap;

const COALESCE_US_MAX: u64 = 128;

/// The cards of the load.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    ways: Vec<Way>,
    /// Named, but not there.
    missing: Vec<String>,
    /// Every peer is this host.
    pub loopback: bool,
}

impl Choice {
    pub fn cards(&self) -> Vec<String> {
        let mut cards: Vec<_> = self.ways.iter().flat_map(|way| &way.cards).cloned().collect();
        cards.sort();
        cards.dedup();
        cards
    }
}

pub fn choose(look: &Look) -> Choice {
    let sysfs = look.sysfs;
    if look.scope.nics.is_empty() {
        let exits = network::exits(sysfs, &look.scope.peers);
        return Choice { ways: exits.ways, missing: Vec::new(), loopback: exits.loopback };
    }
    let exists = |name: &String| network::exists(sysfs, name);
    let (there, missing): (Vec<_>, Vec<_>) = look.scope.nics.iter().cloned().partition(exists);
    Choice { ways: there.iter().map(|name| network::way(sysfs, name)).collect(), missing, loopback: false }
}

pub fn examine(look: &Look, choice: &Choice) -> Vec<Finding> {
    const ITEM: &str = "nic.link";
    let mut found: Vec<_> = choice.missing.iter().map(|name| missing(look, name)).collect();
    found.extend(unresolved(look, choice));
    if choice.loopback {
        found.push(Finding::fine(ITEM, "the peers are this host: no card is used").of("lo"));
    } else if choice.ways.is_empty() && choice.missing.is_empty() {
        let value = "no network card is up: only this host can be reached, or cards are not shown here";
        found.push(Finding::unknown(ITEM, value));
    }
    for finding in choice.ways.iter().flat_map(|way| way_out(look, way)) {
        // Two interfaces may stand on one card.
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    found
}

/// What the route has, and each card below it.
fn way_out(look: &Look, way: &Way) -> Vec<Finding> {
    let top = link(look, &way.top);
    if top.verdict == Verdict::Fatal {
        return vec![top];
    }
    if way.cards.is_empty() {
        return vec![Finding::fine("nic.link", "stands on no card: its peers are on this host").of(&way.top)];
    }
    let mtu = look.sysfs.number(format!("{}/mtu", folder(&way.top)));
    let mut found = vec![speed::speed(look, way, mtu), speed::mtu(look.sysfs, way, mtu)];
    if !way.cards.contains(&way.top) {
        found.push(top);
    }
    found.extend(way.cards.iter().flat_map(|name| card(look, name)).map(|finding| spared(look, way, finding)));
    found
}

/// A port of a bond, team or bridge without a link stops nothing while another one has it.
fn spared(look: &Look, way: &Way, finding: Finding) -> Finding {
    let is_up = |name: &&String| link(look, name).verdict == Verdict::Fine;
    let up: Vec<_> = way.cards.iter().filter(is_up).map(String::as_str).collect();
    if finding.verdict != Verdict::Fatal || up.is_empty() {
        return finding;
    }
    let value = format!("{}; {} carries on over {}", finding.value, way.top, up.join(", "));
    let worth = format!("what {} has of it: its speed, or that it stands by", way.top);
    Finding { verdict: Verdict::Hint, value, ..finding }.worth(worth, "follows from how the engine works")
}

fn missing(look: &Look, name: &str) -> Finding {
    let all = look.sysfs.names("/sys/class/net").join(", ");
    let value = format!("there is no such card; there are: {all}");
    Finding::new("nic.link", Verdict::Fatal, value).of(name).fix("ip -br link, and --nic with one of these names")
}

fn unresolved(look: &Look, choice: &Choice) -> Option<Finding> {
    let names = &look.scope.unresolved;
    let first = names.first()?;
    let shown: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    let does = if names.len() == 1 { "does" } else { "do" };
    let tops: Vec<_> = choice.ways.iter().map(|way| way.top.as_str()).collect();
    let judged = match tops.as_slice() {
        [] => String::new(),
        tops if !look.scope.nics.is_empty() => format!("; {} is judged, as --nic says", tops.join(", ")),
        tops if look.scope.peers.is_empty() => format!("; the fastest card that is up is judged: {}", tops.join(", ")),
        tops => format!("; the way to the other hosts is judged: {}", tops.join(", ")),
    };
    let value = format!("{} {does} not resolve{judged}", shown.join(", "));
    let fix = format!("getent hosts {first}, and --target with a name that it finds, or --nic NAME");
    Some(Finding::new("nic.peers", Verdict::Hint, value).fix(fix))
}

fn card(look: &Look, name: &str) -> Vec<Finding> {
    let link = link(look, name);
    if link.verdict == Verdict::Fatal {
        return vec![link];
    }
    let facts = ethtool::facts(look.sysfs, name);
    let device = format!("{}/device", folder(name));
    vec![
        link,
        pci::link(look, "nic.pcie", name, &device),
        numa::node(look, "nic.numa", name, &device),
        pci::irq(look, "nic.irq", name, &device, Some(tune(look, name))),
        rings(look, name, &facts),
        coalescing(look, name, &facts),
        offloads(look, name, &facts),
        queues(look, name, &facts),
        xps(look, name),
        qdisc::of_card(look, name),
    ]
}

fn tune(look: &Look, name: &str) -> String {
    format!("scripts/tune-host.sh apply --nic {name} --cores {}", look.cores_list())
}

fn link(look: &Look, name: &str) -> Finding {
    const ITEM: &str = "nic.link";
    let Some(state) = look.sysfs.text(format!("{}/operstate", folder(name))) else {
        return Finding::unknown(ITEM, format!("{}/operstate cannot be read", folder(name))).of(name);
    };
    if matches!(state.as_str(), "down" | "lowerlayerdown" | "notpresent") {
        return Finding::new(ITEM, Verdict::Fatal, state)
            .of(name)
            .fix(format!("ip link set {name} up"))
            .fix(format!("the cable, transceiver or switch port, if it stays down (ethtool {name})"));
    }
    Finding::fine(ITEM, state).of(name)
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

fn coalescing(look: &Look, name: &str, facts: &BTreeMap<String, u64>) -> Finding {
    const ITEM: &str = "nic.coalescing";
    let Some(us) = facts.get("coalesce.rx_usecs").copied() else {
        return Finding::unknown(ITEM, "the driver does not tell").of(name);
    };
    let adaptive = facts.get("coalesce.adaptive_rx").is_some_and(|on| *on != 0);
    if us == 0 && !adaptive && is_virtio_without_timer(look, name) {
        return Finding::unknown(ITEM, "a virtual card without a timer: the host decides").of(name);
    }
    let value = format!("rx {us} µs{}", if adaptive { ", adaptive" } else { "" });
    // A driver that has one of them only refuses the other.
    Finding::hint_unless(adaptive || (1..=COALESCE_US_MAX).contains(&us), ITEM, value)
        .of(name)
        .fix(format!("ethtool -C {name} adaptive-rx on"))
        .fix(format!("ethtool -C {name} rx-usecs 32"))
}

/// Then the driver says 0 and refuses everything else (virtio's feature 53, VIRTIO_NET_F_NOTF_COAL).
fn is_virtio_without_timer(look: &Look, name: &str) -> bool {
    let text = |file: &str| look.sysfs.text(format!("{}/device/{file}", folder(name))).unwrap_or_default();
    // A digit for each feature, from 0 on.
    text("uevent").lines().any(|line| line == "DRIVER=virtio_net") && text("features").as_bytes().get(53) != Some(&b'1')
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

fn queues(look: &Look, name: &str, facts: &BTreeMap<String, u64>) -> Finding {
    const ITEM: &str = "nic.queues";
    let count = network::send_queues(look.sysfs, name).len() as u64;
    if count == 0 {
        return Finding::unknown(ITEM, format!("{}/queues shows none", folder(name))).of(name);
    }
    let cores = look.scope.cores.len() as u64;
    let fact = |key: &str| facts.get(key).copied().unwrap_or(0);
    let (kind, most) = match fact("channels.combined_max") {
        0 => ("tx", fact("channels.tx_max")),
        most => ("combined", most),
    };
    let limit = if most > 0 { format!(", the card has {most}") } else { String::new() };
    let value = format!("{count} to send for {}{limit}", format_counted(cores, "core"));
    let finding = Finding::hint_unless(count >= cores, ITEM, value).of(name);
    match most > count {
        true => finding.fix(format!("ethtool -L {name} {kind} {}", most.min(cores))),
        false => finding
            .fix("fewer --cores, or a card (in a VM: a machine type, or queues=N of its device) with more queues"),
    }
}

fn xps(look: &Look, name: &str) -> Finding {
    const ITEM: &str = "nic.xps";
    let queues = network::send_queues(look.sysfs, name);
    if queues.len() == 1 {
        return Finding::fine(ITEM, "one send queue: nothing to choose").of(name);
    }
    let maps: Vec<_> = queues
        .iter()
        .filter_map(|queue| look.sysfs.text(format!("{}/queues/{queue}/xps_cpus", folder(name))))
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
    Finding::hint_unless(bare.is_empty(), ITEM, value).of(name).fix(tune(look, name)).fix(format!(
        "for each queue N of a core: echo MASK > {}/queues/tx-N/xps_cpus (core 3: MASK is 8)",
        folder(name)
    ))
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
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;
    use std::net::IpAddr;

    #[test]
    fn masks_are_read_from_the_right() {
        assert_eq!(parse_mask("00000001,80000002"), Some(vec![1, 31, 32]));
        assert_eq!(parse_mask("0"), Some(vec![]));
        assert_eq!((parse_mask(""), parse_mask("x"), parse_mask("fffffffff")), (None, None, None));
        assert_eq!(parse_mask("f0").unwrap(), parse_list("4-7").unwrap());
    }

    /// Subject, verdict and fixes of an item on the way to a peer.
    fn judged(tree: &Tree, peer: &str, item: &str) -> Vec<(String, Verdict, Vec<String>)> {
        let scope = Scope { network: true, peers: vec![peer.parse::<IpAddr>().unwrap()], ..Scope::default() };
        let sysfs = tree.sysfs();
        let look = Look { sysfs: &sysfs, scope: &scope };
        let found = examine(&look, &choose(&look)).into_iter().filter(|finding| finding.item == item);
        found.map(|finding| (finding.subject.unwrap_or_default(), finding.verdict, finding.fix)).collect()
    }

    #[test]
    fn a_name_without_an_address_is_told_with_what_is_judged_instead() {
        let tree = with_vlan("mlx5_core", "9000", "9000");
        let value = |peers: &[&str], nics: &[&str]| {
            let scope = Scope {
                network: true,
                peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
                nics: nics.iter().map(|name| (*name).to_owned()).collect(),
                unresolved: vec!["broker.invalid".to_owned()],
                ..Scope::default()
            };
            let look = Look { sysfs: &tree.sysfs(), scope: &scope };
            let found = examine(&look, &choose(&look)).into_iter().find(|finding| finding.item == "nic.peers").unwrap();
            assert!(found.verdict == Verdict::Hint && found.fix[0].starts_with("getent hosts broker.invalid"));
            found.value
        };
        let said = "'broker.invalid' does not resolve; ";
        assert_eq!(value(&[], &[]), format!("{said}the fastest card that is up is judged: eth0"));
        assert_eq!(value(&["10.0.0.7"], &[]), format!("{said}the way to the other hosts is judged: vlan9"));
        assert_eq!(value(&[], &["eth0"]), format!("{said}eth0 is judged, as --nic says"));
        assert!(judged(&tree, "10.0.0.7", "nic.peers").is_empty());
    }

    /// A card whose driver is known, with a VLAN on it that has an MTU of its own.
    fn with_vlan(driver: &str, card_mtu: &str, vlan_mtu: &str) -> Tree {
        Tree::new(&[
            ("/sys/class/net/eth0/device/uevent", &format!("DRIVER={driver}\nPCI_CLASS=20000\n")),
            ("/sys/class/net/eth0/operstate", "up"),
            ("/sys/class/net/eth0/mtu", card_mtu),
            ("/sys/class/net/vlan9/lower_eth0/x", ""),
            ("/sys/class/net/vlan9/operstate", "up"),
            ("/sys/class/net/vlan9/mtu", vlan_mtu),
            (
                "/proc/net/route",
                "Iface\nvlan9 0000000A 0 1 0 0 0 000000FF 0 0 0\neth0 00000000 0 1 0 0 0 00000000 0 0 0\n",
            ),
        ])
    }

    #[test]
    fn an_mtu_is_large_where_a_cloud_has_its_largest() {
        let mtu = |driver: &str, now: &str| judged(&with_vlan(driver, now, "1500"), "192.0.2.1", "nic.mtu").remove(0);
        for (driver, now) in [("gve", "8896"), ("virtio_net", "8800"), ("ena", "9001"), ("mlx5_core", "9000")] {
            assert_eq!(mtu(driver, now), ("eth0".to_owned(), Verdict::Fine, vec![]), "{driver} {now}");
        }
        for (driver, wanted) in [("gve", 8896), ("ena", 9001), ("mlx5_core", 9000)] {
            let (_, verdict, fix) = mtu(driver, "1460");
            assert_eq!(verdict, Verdict::Hint);
            assert_eq!(fix[0], format!("scripts/tune-host.sh apply --nic eth0 --mtu {wanted}"));
            assert_eq!(fix[1], format!("ip link set eth0 mtu {wanted} # if every switch and the peer take it"));
        }
    }

    #[test]
    fn the_mtu_is_that_of_what_the_route_has() {
        let tree = with_vlan("mlx5_core", "9000", "1500");
        let fix = "ip link set eth0 mtu 9000 && ip link set vlan9 mtu 9000 # if every switch and the peer take it";
        assert_eq!(judged(&tree, "10.1.2.3", "nic.mtu"), [("vlan9".to_owned(), Verdict::Hint, vec![fix.to_owned()])]);
        let links: Vec<_> = judged(&tree, "10.1.2.3", "nic.link").into_iter().map(|(name, ..)| name).collect();
        assert_eq!(links, ["vlan9", "eth0"]);
        tree.put("/sys/class/net/vlan9/operstate", "down");
        assert_eq!(judged(&tree, "10.1.2.3", "nic.link")[0].1, Verdict::Fatal);
    }

    #[test]
    fn a_card_that_the_target_does_not_use_is_not_judged() {
        let tree = with_vlan("ena", "1500", "1500");
        assert!(judged(&tree, "127.0.0.1", "nic.mtu").is_empty());
        assert_eq!(judged(&tree, "127.0.0.1", "nic.link"), [("lo".to_owned(), Verdict::Fine, vec![])]);
        // Containers of this host, behind a bridge that stands on no card.
        tree.put("/sys/class/net/docker0/lower_veth1/x", "");
        tree.put("/sys/class/net/docker0/operstate", "up");
        tree.put("/sys/class/net/docker0/mtu", "1500");
        tree.put("/proc/net/route", "Iface\ndocker0 000011AC 0 1 0 0 0 0000FFFF 0 0 0\n");
        assert!(judged(&tree, "172.17.0.2", "nic.mtu").is_empty());
        assert_eq!(judged(&tree, "172.17.0.2", "nic.link"), [("docker0".to_owned(), Verdict::Fine, vec![])]);
        // A pod's end of a pair says 10 Gbit/s, whatever is behind it.
        let pod = Tree::new(&[("/sys/class/net/eth0/operstate", "up"), ("/sys/class/net/eth0/speed", "10000")]);
        assert_eq!(judged(&pod, "192.0.2.1", "nic.speed"), [("eth0".to_owned(), Verdict::Unknown, vec![])]);
    }

    #[test]
    fn a_bond_is_as_fast_as_its_cards_together() {
        let tree = Tree::new(&[
            ("/sys/class/net/bond0/bonding/mode", "802.3ad 4"),
            ("/sys/class/net/bond0/lower_eth0/x", ""),
            ("/sys/class/net/bond0/lower_eth1/x", ""),
            ("/sys/class/net/bond0/operstate", "up"),
            ("/sys/class/net/bond0/speed", "100000"),
            ("/proc/net/route", "Iface\nbond0 00000000 0 1 0 0 0 00000000 0 0 0\n"),
        ]);
        for card in ["eth0", "eth1"] {
            tree.put(&format!("/sys/class/net/{card}/device/x"), "");
            tree.put(&format!("/sys/class/net/{card}/operstate"), "up");
            tree.put(&format!("/sys/class/net/{card}/speed"), "50000");
        }
        let speed = |tree: &Tree| judged(tree, "192.0.2.1", "nic.speed");
        assert_eq!(speed(&tree), [("bond0".to_owned(), Verdict::Fine, vec![])]);
        // One of the two has lost its link.
        tree.put("/sys/class/net/bond0/speed", "50000");
        let (subject, verdict, fix) = speed(&tree).remove(0);
        assert_eq!((subject.as_str(), verdict), ("bond0", Verdict::Hint));
        assert!(fix[0].ends_with("(what was negotiated: ethtool eth0, ethtool eth1)"), "{fix:?}");
    }

    #[test]
    fn a_port_without_a_link_is_fatal_only_where_no_other_one_has_it() {
        let tree = Tree::new(&[("/proc/net/route", "Iface\nbr0 00000000 0 1 0 0 0 00000000 0 0 0\n")]);
        for (name, on) in [("br0", "bond0"), ("br0", "eth2"), ("bond0", "eth0"), ("bond0", "eth1")] {
            tree.put(&format!("/sys/class/net/{name}/lower_{on}/x"), "");
        }
        let state = |name: &str, state: &str| tree.put(&format!("/sys/class/net/{name}/operstate"), state);
        for name in ["eth0", "eth1", "eth2"] {
            tree.put(&format!("/sys/class/net/{name}/device/x"), "");
            state(name, "down");
        }
        state("br0", "up");
        let links = || -> Vec<_> {
            let found = judged(&tree, "192.0.2.1", "nic.link").into_iter();
            found.map(|(name, verdict, fix)| (name, verdict, fix.len())).collect()
        };
        let (fine, hint, fatal) = (Verdict::Fine, Verdict::Hint, Verdict::Fatal);
        let port = |name: &str, verdict| (name.to_owned(), verdict, if verdict == fine { 0 } else { 2 });
        assert_eq!(links(), [port("br0", fine), port("eth0", fatal), port("eth1", fatal), port("eth2", fatal)]);
        // The card of another port of the bridge, of which the bond is one.
        state("eth2", "up");
        assert_eq!(links(), [port("br0", fine), port("eth0", hint), port("eth1", hint), port("eth2", fine)]);
        state("br0", "down");
        assert_eq!(links(), [port("br0", fatal)]);
    }

    #[test]
    fn a_link_that_is_down_or_interrupts_too_often_is_mended_by_what_can_be_typed() {
        let tree = with_vlan("mlx5_core", "9000", "9000");
        tree.put("/ethtool/eth0", "coalesce.rx_usecs: 0\ncoalesce.adaptive_rx: 0\n");
        let fixes = |item: &str| judged(&tree, "192.0.2.1", item).remove(0).2;
        let set = ["ethtool -C eth0 adaptive-rx on", "ethtool -C eth0 rx-usecs 32"];
        assert_eq!(fixes("nic.coalescing"), set);
        tree.put("/sys/class/net/eth0/device/uevent", "DRIVER=virtio_net\n");
        for (digit, fix) in [("0", &[][..]), ("1", &set)] {
            tree.put("/sys/class/net/eth0/device/features", &format!("{}{digit}0000000000\n", "0".repeat(53)));
            assert_eq!(fixes("nic.coalescing"), fix);
        }
        tree.put("/sys/class/net/eth0/operstate", "down");
        assert_eq!(fixes("nic.link")[0], "ip link set eth0 up");
    }
}
