//! The machine that a plan is for: this one, or a described one.

use crate::base::bounded;
use crate::base::fatal::Fatal;
use crate::host::capacity::costs::Vendor;
use crate::host::{Sysfs, cgroup, cpu, network};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;

const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;
const EXAMPLE: &str = "cores: 32, processor: amd, clock_ghz: 3.0, nic_gbits: 100, mtu: 9000, drives: [{write_gigabytes_per_second: 6.6, count: 2}]";

/// As in a description (`--host FILE`). What is left out is unknown and not judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// All of them; one is left free for everything but the load.
    pub cores: u32,
    /// `amd` or `intel`: whose table of costs fits better.
    #[serde(default)]
    pub processor: Option<Vendor>,
    #[serde(default)]
    pub clock_ghz: Option<f64>,
    #[serde(default = "one")]
    pub sockets: u32,
    #[serde(default)]
    pub nic_gbits: Option<f64>,
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    #[serde(default)]
    pub drives: Vec<Drive>,
    /// Of all sockets together.
    #[serde(default)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Sequential, as the data sheet has it.
    pub write_gigabytes_per_second: f64,
    #[serde(default = "one")]
    pub count: u32,
}

fn one() -> u32 {
    1
}

fn ethernet_mtu() -> u32 {
    1500
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

    /// Of all drives, by their data sheets; `None`: nobody said which there are.
    pub fn drives_gigabytes_per_second(&self) -> Option<f64> {
        let sheet = |drives: &Drive| drives.write_gigabytes_per_second * f64::from(drives.count);
        (!self.drives.is_empty()).then(|| self.drives.iter().map(sheet).sum())
    }

    /// Where this machine is measured: two processors that a run may take.
    pub fn probed(&self) -> Vec<usize> {
        cpu::window(&self.usable, 2, self.draw)
    }

    /// For `--cores`: of this machine what `run` would take, where the first processor is left free; of another the
    /// first ones.
    pub fn sending(&self, cores: u32) -> String {
        let cores = cores as usize;
        if self.usable.len() < cores {
            return cpu::format_list(&(0..cores).collect::<Vec<_>>());
        }
        cpu::format_list(&cpu::window(&self.usable, cores, self.draw))
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
    let Some(way) = exits.ways.iter().min_by_key(|way| speed(way)) else { return (None, ethernet_mtu()) };
    let mtu = sysfs.number(format!("{}/mtu", network::folder(&way.top))).and_then(|mtu| u32::try_from(mtu).ok());
    (speed(way).map(|bits| bits as f64 / 1e9), mtu.unwrap_or_else(ethernet_mtu))
}

/// Reads a description, YAML or JSON.
pub fn described(path: &Path) -> Result<Machine, Fatal> {
    let shown = path.display();
    let fail = |why: String| Fatal::usage(format!("--host '{shown}': {why}"));
    let text = bounded::read_text(path, DESCRIPTION_BYTES_MAX)
        .map_err(|why| fail(why.to_string()).mend(format!("ls -l '{shown}'")))?;
    parse(&text).map_err(|why| fail(why).mend(format!("write it like {EXAMPLE}")))
}

pub fn parse(text: &str) -> Result<Machine, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let machine: Machine =
        serde_saphyr::from_str_with_options(text, options).map_err(|why| why.to_string().replace('\n', " "))?;
    let positive = |name: &str, value: Option<f64>| match value {
        Some(value) if !(value.is_finite() && value > 0.0) => Err(format!("{name} {value} is not above 0")),
        _ => Ok(()),
    };
    if !(1..=65_536).contains(&machine.cores) || !(1..=machine.cores).contains(&machine.sockets) {
        return Err(format!(
            "cores {}, sockets {}: at least one of each, no more sockets than cores",
            machine.cores, machine.sockets
        ));
    }
    if !(576..=65_535).contains(&machine.mtu) {
        return Err(format!("mtu {} is not from 576 to 65535", machine.mtu));
    }
    positive("clock_ghz", machine.clock_ghz)?;
    positive("nic_gbits", machine.nic_gbits)?;
    positive("memory_gigabytes_per_second", machine.memory_gigabytes_per_second)?;
    for drive in &machine.drives {
        positive("write_gigabytes_per_second", Some(drive.write_gigabytes_per_second))?;
        if drive.count == 0 {
            return Err("count 0 of a drive: leave it out".to_owned());
        }
    }
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(parse("cores: 8").unwrap().sending(3), "0-2");
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

    #[test]
    fn a_description_is_yaml_or_json() {
        let yaml = parse(
            "cores: 32\nclock_ghz: 3.0\nnic_gbits: 100\ndrives:\n- write_gigabytes_per_second: 6.6\n  count: 2\n",
        );
        let json = parse(
            r#"{"cores": 32, "clock_ghz": 3.0, "nic_gbits": 100,
                "drives": [{"write_gigabytes_per_second": 6.6, "count": 2}]}"#,
        );
        assert_eq!(yaml, json);
        let machine = yaml.unwrap();
        assert_eq!((machine.cores, machine.sockets, machine.mtu, machine.drives[0].count), (32, 1, 1500, 2));
    }

    #[test]
    fn a_wrong_description_names_what_is_wrong() {
        for (text, word) in [
            ("cores: 0", "cores 0"),
            ("cores: 2\nsockets: 3", "sockets 3"),
            ("clock_ghz: 3", "cores"),
            ("cores: 2\nclock: 3", "clock"),
            ("cores: 2\nmtu: 100", "mtu 100"),
            ("cores: 2\nnic_gbits: -1", "nic_gbits -1"),
            ("cores: 2\nmemory_gigabytes_per_second: .nan", "memory_gigabytes_per_second"),
            ("cores: 2\ndrives: [{write_gigabytes_per_second: 0}]", "write_gigabytes_per_second 0"),
            ("cores: 2\ndrives: [{write_gigabytes_per_second: 1, count: 0}]", "count 0"),
            ("cores: many", "line 1"),
            ("", ""),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
        assert!(described(Path::new("/no/such/host.yaml")).unwrap_err().what.contains("/no/such/host.yaml"));
        let endless = described(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.what.contains("more than 1048576 bytes"), "{endless}");
    }
}
