//! The machine that a plan is for: this one, or a described one (`description`).

use crate::host::capacity::costs::Vendor;
use crate::host::{Sysfs, cgroup, cpu, network};
use serde::Serialize;
use std::net::IpAddr;

/// Where nobody says another one.
pub const ETHERNET_MTU: u32 = 1500;
/// IPv4 needs no less of a link.
const IPV4_MTU_MIN: u32 = 68;

/// What is `None` is unknown and not judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// All of them; one is left free for everything but the load.
    pub cores: u32,
    /// `amd` or `intel`: whose table of costs fits better.
    pub processor: Option<Vendor>,
    pub clock_ghz: Option<f64>,
    pub sockets: u32,
    pub nic_gbits: Option<f64>,
    pub mtu: u32,
    pub drives: Vec<Drive>,
    /// Of all sockets together.
    pub memory_gigabytes_per_second: Option<f64>,
    /// From which processors a run takes its own; empty for a described machine.
    #[serde(skip)]
    pub usable: Vec<usize>,
    /// Which of them are drawn where a quota is the limit.
    #[serde(skip)]
    pub draw: u64,
    /// Names of the target without an address: they have no say in which card counts.
    #[serde(skip)]
    pub unknown: Vec<String>,
}

/// Drives of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drive {
    /// Sequential, as the data sheet has it.
    pub write_gigabytes_per_second: f64,
    pub count: u32,
}

impl Machine {
    /// What `/proc` and `/sys` tell: no drive and no memory says how fast it is. `cores` are usable ones; of isolated
    /// ones all send, so that one of the others counts with them. The network is the one that leads to the peers.
    pub fn here(sysfs: &Sysfs, peers: &[IpAddr]) -> Self {
        let pool = cpu::pool(sysfs);
        let all = pool.cpus.len() + pool.beside.len();
        let whole = cpu::within_quota(sysfs, all);
        let (nic_gbits, mtu) = way_to(sysfs, peers);
        Self {
            cores: whole.min(pool.cpus.len() + pool.beside.len().min(1)).max(1) as u32,
            draw: if whole < all { cgroup::container_hash(sysfs) } else { 0 },
            usable: pool.cpus,
            unknown: Vec::new(),
            processor: vendor(sysfs),
            clock_ghz: None,
            sockets: sockets(sysfs),
            nic_gbits,
            mtu,
            drives: Vec::new(),
            memory_gigabytes_per_second: None,
        }
    }

    /// Cores that may send: all but one.
    pub fn senders(&self) -> u32 {
        self.cores.saturating_sub(1).max(1)
    }

    pub fn drive_count(&self) -> u32 {
        self.drives.iter().fold(0, |all, drives| all.saturating_add(drives.count))
    }

    /// Of all drives, by their data sheets; `None`: nobody said which there are. Producers are dealt to them evenly,
    /// and so is what RAID 0 writes: none gets more than the slowest takes.
    pub fn drives_gigabytes_per_second(&self) -> Option<f64> {
        let slowest = self.drives.iter().map(|drives| drives.write_gigabytes_per_second).min_by(f64::total_cmp);
        slowest.map(|sheet| sheet * f64::from(self.drive_count()))
    }

    pub fn drives_differ(&self) -> bool {
        let sheets: Vec<f64> = self.drives.iter().map(|drives| drives.write_gigabytes_per_second).collect();
        sheets.windows(2).any(|pair| pair[0].total_cmp(&pair[1]).is_ne())
    }

    /// Where this machine is measured: two processors that a run may take.
    pub fn probed(&self) -> Vec<usize> {
        cpu::window(&self.usable, 2, self.draw)
    }

    /// For `--cores`: what `run` would take, where the first processor is left free.
    pub fn sending(&self, cores: u32) -> String {
        let cores = cores as usize;
        // Of a described machine, one that is alone on it.
        let described: Vec<_> = (0..cores.max(self.cores as usize)).collect();
        let usable = if self.usable.len() < cores { &described } else { &self.usable };
        cpu::format_list(&cpu::window(usable, cores, self.draw))
    }
}

fn vendor(sysfs: &Sysfs) -> Option<Vendor> {
    match sysfs.field("/proc/cpuinfo", "vendor_id")?.as_str() {
        "AuthenticAMD" => Some(Vendor::Amd),
        "GenuineIntel" => Some(Vendor::Intel),
        _ => None,
    }
}

fn sockets(sysfs: &Sysfs) -> u32 {
    let package = |cpu| sysfs.number(format!("/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"));
    let mut packages: Vec<u64> = cpu::online_cpus(sysfs).into_iter().filter_map(package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages.len().max(1) as u32
}

/// Speed in Gbit/s and MTU of the slowest way to the peers; to this host itself no card has a say. Without hardware, and
/// on virtual cards, the speed is not known.
fn way_to(sysfs: &Sysfs, peers: &[IpAddr]) -> (Option<f64>, u32) {
    let exits = network::exits(sysfs, peers);
    let speed = |way: &network::Way| way.bits_per_second(sysfs);
    let Some(way) = exits.ways.iter().min_by_key(|way| speed(way)) else { return (None, ETHERNET_MTU) };
    let mtu = sysfs.number(format!("{}/mtu", network::folder(&way.top))).and_then(|mtu| u32::try_from(mtu).ok());
    let mtu = mtu.filter(|mtu| *mtu >= IPV4_MTU_MIN).unwrap_or(ETHERNET_MTU);
    (speed(way).map(|bits| bits as f64 / 1e9), mtu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::capacity::description::parse;
    use crate::host::fake::Tree;

    #[test]
    fn this_host_is_read_from_its_files() {
        let tree = Tree::new(&[
            ("/proc/self/status", "Cpus_allowed_list:\t0-3"),
            ("/sys/devices/system/cpu/online", "0-3"),
            ("/sys/devices/system/cpu/cpu0/topology/physical_package_id", "0"),
            ("/sys/devices/system/cpu/cpu3/topology/physical_package_id", "1"),
            ("/sys/class/net/eth0/device/x", ""),
            ("/sys/class/net/eth0/operstate", "up"),
            ("/sys/class/net/eth0/speed", "100000"),
            ("/sys/class/net/eth0/mtu", "9000"),
            ("/sys/class/net/veth0/operstate", "up"),
            ("/sys/class/net/veth0/speed", "-1"),
            ("/sys/class/net/veth0/mtu", "1500"),
        ]);
        let machine = Machine::here(&tree.sysfs(), &[]);
        assert_eq!((machine.cores, machine.sockets, machine.senders()), (4, 2, 3));
        assert_eq!((machine.nic_gbits, machine.mtu), (Some(100.0), 9000));
        let bare = Machine::here(&Tree::new(&[]).sysfs(), &[]);
        assert_eq!((bare.cores, bare.senders(), bare.nic_gbits), (1, 1, None));
        let here = Machine { usable: vec![4, 5, 6, 7], ..bare };
        assert_eq!((here.sending(3), here.sending(1)), ("5-7".to_owned(), "7".to_owned()));
        let described = parse("cores: 8").unwrap();
        assert_eq!((described.sending(3), described.sending(8)), ("5-7".to_owned(), "0-7".to_owned()));
    }

    #[test]
    fn isolated_processors_all_send() {
        let tree = Tree::new(&[
            ("/proc/self/status", "Cpus_allowed_list:\t0,31"),
            ("/sys/devices/system/cpu/online", "0-31"),
            ("/sys/devices/system/cpu/isolated", "1-30"),
        ]);
        let machine = Machine::here(&tree.sysfs(), &[]);
        assert_eq!((machine.cores, machine.senders(), machine.sending(30)), (31, 30, "1-30".to_owned()));
        assert_eq!(machine.probed(), [29, 30]);
        // Two are no place for all containers with this quota.
        for (path, text) in [
            ("/sys/devices/system/cpu/isolated", "30,31"),
            ("/proc/self/status", "Cpus_allowed_list:\t0-31"),
            ("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000"),
        ] {
            tree.put(path, text);
        }
        let machine = Machine::here(&tree.sysfs(), &[]);
        assert_eq!((machine.cores, machine.senders(), machine.usable.len()), (4, 3, 32));
    }

    #[test]
    fn the_card_is_the_one_that_leads_to_the_peer() {
        let tree = Tree::new(&[
            ("/sys/class/net/eth0/device/x", ""),
            ("/sys/class/net/eth0/operstate", "up"),
            ("/sys/class/net/eth0/speed", "100000"),
            ("/sys/class/net/eth0/mtu", "9000"),
            ("/sys/class/net/eth1/device/x", ""),
            ("/sys/class/net/eth1/operstate", "up"),
            ("/sys/class/net/eth1/speed", "1000"),
            ("/sys/class/net/eth1/mtu", "1500"),
            (
                "/proc/net/route",
                "Iface\neth1 0000000A 0 1 0 0 0 000000FF 0 0 0\neth0 00000000 0 1 0 0 0 00000000 0 0 0\n",
            ),
        ]);
        let to = |peers: &[IpAddr]| {
            let machine = Machine::here(&tree.sysfs(), peers);
            (machine.nic_gbits, machine.mtu)
        };
        let (near, far) = (IpAddr::from([10, 1, 2, 3]), IpAddr::from([192, 0, 2, 1]));
        assert_eq!((to(&[near]), to(&[far]), to(&[])), ((Some(1.0), 1500), (Some(100.0), 9000), (Some(100.0), 9000)));
        assert_eq!(to(&[far, near]), (Some(1.0), 1500), "the slower way bounds them");
        assert_eq!(to(&[IpAddr::from([127, 0, 0, 1])]), (None, 1500), "no card has a say in loopback");
        // A pod's end of a pair says 10 Gbit/s, whatever is behind it.
        let pod = Tree::new(&[
            ("/sys/class/net/eth0/operstate", "up"),
            ("/sys/class/net/eth0/speed", "10000"),
            ("/sys/class/net/eth0/mtu", "1450"),
        ]);
        let machine = Machine::here(&pod.sysfs(), &[far]);
        assert_eq!((machine.nic_gbits, machine.mtu), (None, 1450));
    }
}
