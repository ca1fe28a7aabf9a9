//! Memory: huge pages, swap, what is left.

use super::{Finding, Look, Verdict};
use crate::base::units::format_size;
use crate::host::{cgroup, cpu, memory};

/// The ring of a core's producer with direct I/O and blocks of 1 MiB (`config/resolve/geometry.rs`): doctor knows no plan.
pub const RING_BYTES: u64 = 40 << 20;
/// Two of its blocks: with less it does not start.
const RING_BYTES_MIN: u64 = 2 << 20;
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

fn reserved(look: &Look) -> Finding {
    const ITEM: &str = "memory.huge_pages";
    let count = |name: &str| look.sysfs.field("/proc/meminfo", name)?.parse::<u64>().ok();
    let (Some(total), Some(free), Some(bytes)) = (
        count("HugePages_Total"),
        count("HugePages_Free"),
        memory::meminfo_bytes(look.sysfs, "Hugepagesize").filter(|bytes| *bytes > 0),
    ) else {
        return Finding::unknown(ITEM, "/proc/meminfo does not count huge pages");
    };
    let value = format!("{free} of {total} reserved pages of {} free", format_size(bytes));
    let transparent = memory::transparent_huge_pages(look.sysfs).is_some_and(|mode| mode != "never");
    let enough = free.saturating_mul(bytes) >= rings_bytes(look);
    if enough || (total == 0 && transparent) {
        let instead = if enough { "" } else { "; transparent ones serve" };
        return Finding::fine(ITEM, format!("{value}{instead}"));
    }
    let wanted = (total - free.min(total)).saturating_add(rings_bytes(look).div_ceil(bytes));
    Finding::new(ITEM, Verdict::Hint, format!("{value}; the rings need {}", format_size(rings_bytes(look))))
        .fix(format!("scripts/tune-host.sh apply --huge-pages {wanted}"))
        .fix(format!("sysctl vm.nr_hugepages={wanted}"))
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
        .fix("swapoff -a, or sysctl vm.swappiness=1")
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
