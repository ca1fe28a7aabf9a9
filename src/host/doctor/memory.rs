//! Memory: huge pages, swap, what is left.

use super::{Finding, Look, Verdict};
use crate::base::units::format_size;
use crate::host::{cgroup, cpu, memory};
use std::collections::BTreeMap;

/// The ring of a core's producer with direct I/O and blocks of 1 MiB (`config/resolve/geometry.rs`): doctor knows no plan.
pub const RING_BYTES: u64 = 40 << 20;
/// Two of its blocks: with less it does not start.
const RING_BYTES_MIN: u64 = 2 << 20;
/// Rings take reserved pages of this size only (`sys/region.rs`), whatever the kernel's default size is.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
const HUGE_PAGES: &str = "hugepages/hugepages-2048kB";
const NODES: &str = "/sys/devices/system/node";
/// `config` gives rings a quarter of the available memory at most.
const MEMORY_PART: u64 = 4;

pub fn rings_bytes(look: &Look) -> u64 {
    RING_BYTES * look.scope.cores.len().max(1) as u64
}

pub fn examine(look: &Look) -> Vec<Finding> {
    let mut found = vec![transparent(look), reserved(look), available(look), swap(look)];
    if cpu::numa_nodes(look.sysfs) > 1 {
        found.push(balancing(look));
    }
    found.extend(group_limit(look));
    found
}

fn transparent(look: &Look) -> Finding {
    const ITEM: &str = "memory.thp";
    match memory::transparent_huge_pages(look.sysfs) {
        None => Finding::unknown(ITEM, "/sys/kernel/mm/transparent_hugepage/enabled cannot be read"),
        Some(mode) => Finding::hint_unless(mode != "never", ITEM, mode)
            .fix("scripts/tune-host.sh apply")
            .fix("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    }
}

/// The reserved pages of one node, or of a host without nodes, and how many of them rings want.
struct Reserve {
    folder: String,
    place: String,
    total: u64,
    free: u64,
    needed: u64,
}

impl Reserve {
    fn of(look: &Look, at: &str, place: String, cores: usize) -> Option<Self> {
        let folder = format!("{at}/{HUGE_PAGES}");
        let count = |name: &str| look.sysfs.number(format!("{folder}/{name}"));
        let (total, free) = (count("nr_hugepages")?, count("free_hugepages")?);
        let needed = RING_BYTES.div_ceil(HUGE_PAGE_BYTES) * cores.max(1) as u64;
        Some(Self { folder, place, total, free, needed })
    }

    fn is_enough(&self) -> bool {
        self.free >= self.needed
    }

    fn missing(&self) -> u64 {
        self.needed.saturating_sub(self.free)
    }

    /// How many there would have to be.
    fn wanted(&self) -> u64 {
        self.total.saturating_add(self.missing())
    }
}

/// Of the nodes of the cores: a ring takes none of another node.
fn reserves(look: &Look) -> Option<Vec<Reserve>> {
    let cores = &look.scope.cores;
    if cpu::numa_nodes(look.sysfs) == 1 || cores.is_empty() {
        return Some(vec![Reserve::of(look, "/sys/kernel/mm", String::new(), cores.len())?]);
    }
    let mut cores_of: BTreeMap<usize, usize> = BTreeMap::new();
    for &core in cores {
        *cores_of.entry(cpu::numa_node(look.sysfs, core)).or_default() += 1;
    }
    let of = |(node, cores): (usize, usize)| {
        Reserve::of(look, &format!("{NODES}/node{node}"), format!(" on node {node}"), cores)
    };
    cores_of.into_iter().map(of).collect()
}

/// How many the whole host would have to have: whatever its nodes have now, the kernel spreads evenly over them what is
/// added.
fn wanted_everywhere(look: &Look, reserves: &[Reserve]) -> u64 {
    let with_memory = look.sysfs.text(format!("{NODES}/has_memory")).and_then(|list| cpu::parse_list(&list).ok());
    let of_node = |name: String| {
        // A node without memory gets none. Before Linux 6.1 it does not count them either.
        let number = name.strip_prefix("node")?.parse().ok()?;
        let has_memory = with_memory.as_ref().is_none_or(|nodes| nodes.contains(&number));
        has_memory.then(|| look.sysfs.number(format!("{NODES}/{name}/{HUGE_PAGES}/nr_hugepages"))).flatten()
    };
    let mut totals: Vec<_> = look.sysfs.names(NODES).into_iter().filter_map(of_node).collect();
    if totals.is_empty() {
        totals = reserves.iter().map(|one| one.total).collect();
    }
    let missing = reserves.iter().map(Reserve::missing).max().unwrap_or_default();
    let now = totals.iter().fold(0_u64, |sum, total| sum.saturating_add(*total));
    now.saturating_add(missing.saturating_mul(totals.len() as u64))
}

fn reserved(look: &Look) -> Finding {
    const ITEM: &str = "memory.huge_pages";
    let Some(reserves) = reserves(look) else {
        return Finding::unknown(ITEM, "/sys does not count reserved pages of 2 MiB (hugepages-2048kB)");
    };
    let shown = |one: &Reserve| format!("{} of {} reserved pages of 2 MiB free{}", one.free, one.total, one.place);
    let value = reserves.iter().map(shown).collect::<Vec<_>>().join(", ");
    let transparent = memory::transparent_huge_pages(look.sysfs).is_some_and(|mode| mode != "never");
    let enough = reserves.iter().all(Reserve::is_enough);
    if enough || (transparent && reserves.iter().all(|one| one.total == 0)) {
        let instead = if enough { "" } else { "; transparent ones serve" };
        return Finding::fine(ITEM, format!("{value}{instead}"));
    }
    let everywhere = wanted_everywhere(look, &reserves);
    let short = reserves.iter().filter(|one| !one.is_enough());
    let by_node = short.map(|one| format!("echo {} > {}/nr_hugepages", one.wanted(), one.folder));
    Finding::new(ITEM, Verdict::Hint, format!("{value}; the rings need {}", format_size(rings_bytes(look))))
        .fix(format!("scripts/tune-host.sh apply --huge-pages {everywhere}"))
        .fix(by_node.collect::<Vec<_>>().join("; "))
}

fn available(look: &Look) -> Finding {
    const ITEM: &str = "memory.available";
    let Some(bytes) = memory::available_bytes(look.sysfs) else {
        return Finding::unknown(ITEM, "/proc/meminfo does not say what is available");
    };
    let need = rings_bytes(look);
    let value = format!("{}; rings for direct I/O are {}", format_size(bytes), format_size(need));
    Finding::hint_unless(bytes / MEMORY_PART >= need, ITEM, value)
        .fix("fewer --cores, or a smaller --ring-size, or stop what takes the memory (ps aux --sort=-rss | head)")
}

fn swap(look: &Look) -> Finding {
    const ITEM: &str = "memory.swap";
    let Some(text) = look.sysfs.text("/proc/swaps") else {
        return Finding::unknown(ITEM, "/proc/swaps cannot be read");
    };
    let areas: Vec<_> = text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if areas.is_empty() {
        return Finding::fine(ITEM, "none");
    }
    let swappiness = look.sysfs.number("/proc/sys/vm/swappiness");
    let shown = swappiness.map_or("not readable".to_owned(), |number| number.to_string());
    let value = format!("{}; vm.swappiness is {shown}", areas.join(", "));
    Finding::hint_unless(swappiness.is_some_and(|number| number <= 1), ITEM, value)
        .fix("scripts/tune-host.sh apply")
        .fix("sysctl vm.swappiness=1")
        .fix("swapoff -a")
}

fn balancing(look: &Look) -> Finding {
    const ITEM: &str = "memory.numa_balancing";
    match look.sysfs.number("/proc/sys/kernel/numa_balancing") {
        None => Finding::unknown(ITEM, "/proc/sys/kernel/numa_balancing cannot be read"),
        Some(mode) => Finding::hint_unless(mode == 0, ITEM, format!("kernel.numa_balancing is {mode}"))
            .fix("scripts/tune-host.sh apply")
            .fix("sysctl kernel.numa_balancing=0"),
    }
}

fn group_limit(look: &Look) -> Option<Finding> {
    const ITEM: &str = "container.memory";
    let left = cgroup::memory_left_bytes(look.sysfs)?;
    let total = memory::total_bytes(look.sysfs).unwrap_or(u64::MAX);
    // Version 1 writes "no limit" as a number that is larger than any memory.
    if left >= total {
        return None;
    }
    let (need, least) = (rings_bytes(look), RING_BYTES_MIN * look.scope.cores.len().max(1) as u64);
    let value = format!(
        "the group may take {} more; rings for direct I/O are {}, {} at the least",
        format_size(left),
        format_size(need),
        format_size(least)
    );
    // Rings take a part of what is left, and the page cache goes when they want it: they only get smaller.
    let verdict = match left {
        _ if left < least => Verdict::Fatal,
        _ if left / MEMORY_PART < need => Verdict::Hint,
        _ => Verdict::Fine,
    };
    let wanted = need.saturating_mul(MEMORY_PART);
    let finding = Finding::new(ITEM, verdict, value)
        .fix(format!("docker update --memory {wanted} CONTAINER, or resources.limits.memory of the pod: {wanted}"));
    Some(finding.fix("fewer --cores, or a smaller --ring-size"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;

    #[test]
    fn reserved_pages_count_on_the_nodes_of_the_cores_and_of_2_mib_only() {
        let node = |number: usize| format!("/sys/devices/system/node/node{number}/hugepages/hugepages-2048kB");
        let judged_with = |memory: &str, cores: std::ops::Range<usize>, pages: [&str; 2]| {
            let tree = Tree::new(&[
                // By default of 1 GiB, and many of them.
                ("/proc/meminfo", "HugePages_Total: 64\nHugePages_Free: 64\nHugepagesize: 1048576 kB\n"),
                ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
                ("/sys/devices/system/node/has_memory", memory),
            ]);
            for (number, count) in pages.iter().enumerate() {
                tree.put(&format!("{}/nr_hugepages", node(number)), count);
                tree.put(&format!("{}/free_hugepages", node(number)), count);
            }
            for core in 0..32 {
                tree.put(&format!("/sys/devices/system/cpu/cpu{core}/node{}/x", core / 16), "");
            }
            let scope = Scope { cores: cores.collect(), ..Scope::default() };
            let sysfs = tree.sysfs();
            reserved(&Look { sysfs: &sysfs, scope: &scope })
        };
        let judged = |cores: std::ops::Range<usize>, pages: [&str; 2]| judged_with("0-1\n", cores, pages);
        assert_eq!(judged(0..15, ["300", "300"]).verdict, Verdict::Fine);
        assert_eq!(judged(8..24, ["300", "300"]).verdict, Verdict::Fine);
        let short = judged(0..16, ["300", "300"]);
        assert_eq!(short.verdict, Verdict::Hint);
        assert_eq!(short.value, "300 of 300 reserved pages of 2 MiB free on node 0; the rings need 640 MiB");
        let by_node = format!("echo 320 > {}/nr_hugepages", node(0));
        assert_eq!(short.fix, ["scripts/tune-host.sh apply --huge-pages 640", by_node.as_str()]);
        // The other node's pages count as well: 1,088 are there, and each node gets half of what is added.
        let uneven = judged(0..16, ["64", "1024"]);
        assert_eq!(uneven.fix, ["scripts/tune-host.sh apply --huge-pages 1600", by_node.as_str()]);
        // The kernel adds none to a node without memory.
        let lame = judged_with("0\n", 0..15, ["10", "0"]);
        assert_eq!(lame.fix[0], "scripts/tune-host.sh apply --huge-pages 300");
        let none = judged(0..2, ["0", "0"]);
        let value = "0 of 0 reserved pages of 2 MiB free on node 0; transparent ones serve";
        assert_eq!((none.verdict, none.value.as_str()), (Verdict::Fine, value));
    }

    #[test]
    fn a_group_limit_is_fatal_only_where_no_ring_fits() {
        let judged = |current: &str, cache: &str| {
            let tree = Tree::new(&[
                ("/proc/meminfo", "MemTotal: 263000000 kB\n"),
                ("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/memory.max", "1073741824\n"),
                ("/sys/fs/cgroup/memory.current", current),
                ("/sys/fs/cgroup/memory.stat", cache),
            ]);
            let scope = Scope { cores: vec![0, 1], ..Scope::default() };
            let sysfs = tree.sysfs();
            group_limit(&Look { sysfs: &sysfs, scope: &scope }).unwrap().verdict
        };
        assert_eq!(judged("1000000", ""), Verdict::Fine);
        assert_eq!(judged("1060000000", ""), Verdict::Hint, "13 MB: smaller rings");
        assert_eq!(judged("1073000000", ""), Verdict::Fatal, "0.7 MB: not two blocks for each core");
        assert_eq!(judged("1073000000", "inactive_file 20000000\nactive_file 900000000\n"), Verdict::Fine);
    }
}
