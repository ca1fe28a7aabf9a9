//! Processors: lists of them, which ones this process may use, where their memory is.

use crate::host::{Sysfs, cgroup};

/// The highest processor number that is believed; beyond it a list is a mistake.
const CPU_MAX: usize = 65_535;

/// `0-30`, `0,2,4-7` as the kernel and taskset write them; sorted, without doubles.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let example = "a list looks like 0-30 or 0,2,4-7";
    let number = |part: &str| {
        let digits = part.trim();
        let plain = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<usize>().ok().filter(|cpu| plain && *cpu <= CPU_MAX)
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("'{}' in '{text}' is no processor; {example}", part.trim()));
        };
        if first > last {
            return Err(format!("'{}' in '{text}' runs backwards; {example}", part.trim()));
        }
        // Else a short text that names the same processors over and over makes a list of any length.
        if cpus.len() > CPU_MAX {
            return Err(format!(
                "the list names more than the {} processors that there can be; {example}",
                CPU_MAX + 1
            ));
        }
        cpus.extend(first..=last);
    }
    let given = cpus.len();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.len() < given {
        return Err(format!("'{text}' names a processor twice; {example}"));
    }
    Ok(cpus)
}

/// The shortest list that [`parse_list`] reads back.
pub fn format_list(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let text = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Processors that are switched on.
pub fn online_cpus(sysfs: &Sysfs) -> Vec<usize> {
    let text = sysfs.text("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_list(&text).unwrap_or_default()
}

/// Processors that this process may pin threads to: affinity ∩ cpuset ∩ online, and the isolated ones.
pub fn usable_cpus(sysfs: &Sysfs) -> Vec<usize> {
    let mut cpus = allowed_cpus(sysfs);
    if !cpus.is_empty() {
        cpus.extend(isolated_cpus(sysfs));
        cpus.sort_unstable();
        cpus.dedup();
    }
    cpus
}

/// Processors that the kernel may put this process on by itself.
pub fn allowed_cpus(sysfs: &Sysfs) -> Vec<usize> {
    let text = sysfs.field("/proc/self/status", "Cpus_allowed_list").unwrap_or_default();
    let mut cpus = parse_list(&text).unwrap_or_default();
    let online = online_cpus(sysfs);
    if !online.is_empty() {
        cpus.retain(|cpu| online.binary_search(cpu).is_ok());
    }
    cpus
}

/// Processors of `isolcpus=` that this process may pin threads to. The kernel takes them out of the affinity of its
/// first process, which all others inherit; whoever asks for one gets it all the same, within the cpuset.
pub fn isolated_cpus(sysfs: &Sysfs) -> Vec<usize> {
    let text = sysfs.text("/sys/devices/system/cpu/isolated").unwrap_or_default();
    let mut cpus = parse_list(&text).unwrap_or_default();
    let online = online_cpus(sysfs);
    cpus.retain(|cpu| online.binary_search(cpu).is_ok());
    if let Some(Ok(cpuset)) = cgroup::cpuset(sysfs).map(|text| parse_list(&text)) {
        cpus.retain(|cpu| cpuset.binary_search(cpu).is_ok());
    }
    cpus
}

/// How many of so many processors the quota allows; at least one: a thread at half speed is still a thread.
pub fn within_quota(sysfs: &Sysfs, count: usize) -> usize {
    cgroup::cpu_quota(sysfs).map_or(count, |quota| count.min(quota.max(1.0) as usize))
}

/// Leaves isolated processors out, as far as others are there: they are kept for loads.
fn prefer_housekeeping(cpus: &mut Vec<usize>, isolated: &[usize]) {
    if cpus.iter().any(|cpu| !isolated.contains(cpu)) {
        cpus.retain(|cpu| !isolated.contains(cpu));
    }
}

/// The processors that share a core's units, of which this is one; an error names what does not say it.
pub fn siblings(sysfs: &Sysfs, cpu: usize) -> Result<Vec<usize>, String> {
    let at = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    sysfs.text(&at).and_then(|list| parse_list(&list).ok()).ok_or_else(|| format!("{at} cannot be read"))
}

/// It alone where the kernel does not say.
fn siblings_or_alone(sysfs: &Sysfs, cpu: usize) -> Vec<usize> {
    siblings(sysfs, cpu).unwrap_or_else(|_| vec![cpu])
}

/// Of processors that share units the first one only.
pub fn one_of_siblings(sysfs: &Sysfs, cpus: &[usize]) -> Vec<usize> {
    let mut taken: Vec<usize> = Vec::new();
    let mut ones = Vec::new();
    for &cpu in cpus {
        if !taken.contains(&cpu) {
            ones.push(cpu);
            taken.extend(siblings_or_alone(sysfs, cpu));
        }
    }
    ones
}

/// What is left for everything but the load on `cores`, as far as others are there neither isolated processors nor
/// siblings of the cores; those on a node of the cores come first.
pub fn free(sysfs: &Sysfs, usable: &[usize], cores: &[usize]) -> Vec<usize> {
    let mut left: Vec<_> = usable.iter().copied().filter(|cpu| !cores.contains(cpu)).collect();
    prefer_housekeeping(&mut left, &isolated_cpus(sysfs));
    let disturbing: Vec<_> = cores.iter().flat_map(|cpu| siblings_or_alone(sysfs, *cpu)).collect();
    if left.iter().any(|cpu| !disturbing.contains(cpu)) {
        left.retain(|cpu| !disturbing.contains(cpu));
    }
    let near: Vec<_> = cores.iter().map(|cpu| numa_node(sysfs, *cpu)).collect();
    left.sort_by_cached_key(|cpu| (!near.contains(&numa_node(sysfs, *cpu)), *cpu));
    left
}

/// Where the load goes when nobody names processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub cpus: Vec<usize>,
    /// What is left for everything else where those are the isolated ones, which were set aside for such a load.
    pub beside: Vec<usize>,
}

/// The isolated ones, unless somebody chose others: affinity (taskset, a unit's `CPUAffinity=`) or cpuset leave some
/// out. Where a quota is the limit, other containers may have the same one: there must be enough for two.
pub fn pool(sysfs: &Sysfs) -> Pool {
    let (usable, isolated) = (usable_cpus(sysfs), isolated_cpus(sysfs));
    if usable.len() < online_cpus(sysfs).len() {
        return Pool { cpus: allowed_cpus(sysfs), beside: Vec::new() };
    }
    let whole = within_quota(sysfs, usable.len());
    let enough = whole == usable.len() || isolated.len() >= 2 * whole;
    if isolated.is_empty() || !enough {
        return Pool { cpus: usable, beside: Vec::new() };
    }
    let beside = usable.into_iter().filter(|cpu| !isolated.contains(cpu)).collect();
    Pool { cpus: isolated, beside }
}

/// The NUMA node of a processor; 0 where the kernel knows no nodes.
pub fn numa_node(sysfs: &Sysfs, cpu: usize) -> usize {
    let names = sysfs.names(format!("/sys/devices/system/cpu/cpu{cpu}"));
    names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok()).unwrap_or(0)
}

pub fn numa_nodes(sysfs: &Sysfs) -> usize {
    let is_node = |name: &String| name.strip_prefix("node").is_some_and(|n| n.parse::<usize>().is_ok());
    sysfs.names("/sys/devices/system/node").iter().filter(|name| is_node(name)).count().max(1)
}

/// The level-2 cache that a processor sees, in bytes.
pub fn l2_bytes(sysfs: &Sysfs, cpu: usize) -> Option<u64> {
    let caches = format!("/sys/devices/system/cpu/cpu{cpu}/cache");
    sysfs.names(&caches).iter().find_map(|index| {
        let at = format!("{caches}/{index}");
        let level = sysfs.number(format!("{at}/level"))?;
        let data = sysfs.text(format!("{at}/type"))? != "Instruction";
        let size = sysfs.text(format!("{at}/size"))?;
        (level == 2 && data).then(|| parse_cache_size(&size)).flatten()
    })
}

/// `2048K`, `1M`.
fn parse_cache_size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let shift = match &text[split..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// `count` neighbours: the last ones or, as `draw` says, others. Windows do not overlap; the first processor is in none.
pub fn window(usable: &[usize], count: usize, draw: u64) -> Vec<usize> {
    let windows = (usable.len().saturating_sub(1) / count).max(1);
    let end = usable.len() - (draw % windows as u64) as usize * count;
    usable[end.saturating_sub(count)..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;
    use proptest::prelude::*;

    #[test]
    fn lists_as_taskset_writes_them() {
        assert_eq!(parse_list("0-3"), Ok(vec![0, 1, 2, 3]));
        assert_eq!(parse_list("0,2,4-7"), Ok(vec![0, 2, 4, 5, 6, 7]));
        assert_eq!(parse_list(" 3 , 1"), Ok(vec![1, 3]));
        assert_eq!(parse_list("0-30").unwrap().len(), 31);
    }

    #[test]
    fn bad_lists_say_what_is_wrong() {
        for text in ["", "a", "-1", "1-", "7-4", "0,,1", "0,0", "0-2,1", "1.5", "99999999", "+1", "0-4294967295"] {
            let why = parse_list(text).unwrap_err();
            assert!(why.contains("0,2,4-7"), "{text}: {why}");
        }
    }

    #[test]
    fn usable_is_what_affinity_and_the_machine_share() {
        let tree = Tree::new(&[
            ("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t2-7\n"),
            ("/sys/devices/system/cpu/online", "0-5\n"),
            ("/sys/devices/system/cpu/cpu2/node1/x", ""),
            ("/sys/devices/system/node/node0/x", ""),
            ("/sys/devices/system/node/node1/x", ""),
            ("/sys/devices/system/cpu/cpu2/cache/index2/level", "2"),
            ("/sys/devices/system/cpu/cpu2/cache/index2/type", "Unified"),
            ("/sys/devices/system/cpu/cpu2/cache/index2/size", "2048K"),
        ]);
        assert_eq!(usable_cpus(&tree.sysfs()), vec![2, 3, 4, 5]);
        assert_eq!(numa_node(&tree.sysfs(), 2), 1);
        assert_eq!(numa_nodes(&tree.sysfs()), 2);
        assert_eq!(l2_bytes(&tree.sysfs(), 2), Some(2 << 20));
        assert_eq!(l2_bytes(&tree.sysfs(), 3), None);
    }

    #[test]
    fn isolated_processors_are_usable_though_nobody_inherits_them() {
        let tree = Tree::new(&[
            ("/proc/self/status", "Cpus_allowed_list:\t0,31\n"),
            ("/sys/devices/system/cpu/online", "0-31\n"),
            ("/sys/devices/system/cpu/isolated", "1-30\n"),
        ]);
        let sysfs = tree.sysfs();
        assert_eq!(format_list(&usable_cpus(&sysfs)), "0-31");
        assert_eq!(allowed_cpus(&sysfs), [0, 31]);
        let all = Pool { cpus: (1..=30).collect(), beside: vec![0, 31] };
        assert_eq!(pool(&sysfs), all);
        // A cpuset that leaves some out, and processors that are asleep.
        tree.put("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        tree.put("/proc/self/cgroup", "0::/\n");
        tree.put("/sys/fs/cgroup/cpuset.cpus.effective", "0-7,31\n");
        assert_eq!(format_list(&usable_cpus(&sysfs)), "0-7,31");
        assert_eq!(pool(&sysfs), Pool { cpus: vec![0, 31], beside: vec![] }, "the cpuset is somebody's choice");
        tree.put("/sys/fs/cgroup/cpuset.cpus.effective", "0-31\n");
        tree.put("/sys/devices/system/cpu/online", "0-3,31\n");
        assert_eq!(format_list(&usable_cpus(&sysfs)), "0-3,31");
        assert_eq!(pool(&sysfs), Pool { cpus: vec![1, 2, 3], beside: vec![0, 31] });
        tree.put("/sys/devices/system/cpu/isolated", "\n");
        assert_eq!(pool(&sysfs), Pool { cpus: vec![0, 31], beside: vec![] });
    }

    #[test]
    fn isolated_processors_are_no_narrow_place_for_all_containers() {
        let pool_of = |isolated: &str, quota: &str| {
            let tree = Tree::new(&[
                ("/proc/self/status", "Cpus_allowed_list:\t0-31\n"),
                ("/sys/devices/system/cpu/online", "0-31\n"),
                ("/sys/devices/system/cpu/isolated", isolated),
                ("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/cpu.max", quota),
            ]);
            let pool = pool(&tree.sysfs());
            (format_list(&pool.cpus), format_list(&pool.beside))
        };
        let of = |cpus: &str, beside: &str| (cpus.to_owned(), beside.to_owned());
        assert_eq!(pool_of("30,31", "400000 100000"), of("0-31", ""));
        assert_eq!(pool_of("28-31", "400000 100000"), of("0-31", ""), "two pods would share them");
        assert_eq!(pool_of("24-31", "400000 100000"), of("24-31", "0-23"));
        assert_eq!(pool_of("30,31", "max 100000"), of("30-31", "0-29"));
        assert_eq!(pool_of("30,31", "3200000 100000"), of("30-31", "0-29"), "a quota that limits nothing");
    }

    #[test]
    fn helpers_stay_off_isolated_processors_while_others_are_there() {
        let left = |cpus: &[usize]| {
            let mut cpus = cpus.to_vec();
            prefer_housekeeping(&mut cpus, &[2, 3]);
            cpus
        };
        assert_eq!((left(&[0, 1, 2, 3]), left(&[2, 3]), left(&[])), (vec![0, 1], vec![2, 3], vec![]));
    }

    #[test]
    fn a_narrowed_affinity_is_meant() {
        let pool_of = |allowed: &str| {
            let tree = Tree::new(&[
                ("/proc/self/status", &format!("Cpus_allowed_list:\t{allowed}\n")),
                ("/sys/devices/system/cpu/online", "0-31\n"),
                ("/sys/devices/system/cpu/isolated", "8-15\n"),
            ]);
            pool(&tree.sysfs())
        };
        assert_eq!(pool_of("2-4"), Pool { cpus: vec![2, 3, 4], beside: vec![] });
        assert_eq!(pool_of("9,10"), Pool { cpus: vec![9, 10], beside: vec![] });
        assert_eq!(pool_of("3,9"), Pool { cpus: vec![3, 9], beside: vec![] });
        assert_eq!(pool_of("0-8"), Pool { cpus: (0..=8).collect(), beside: vec![] }, "all nine are meant");
        assert_eq!(pool_of("0-31").cpus, (8..=15).collect::<Vec<_>>());
        assert_eq!(pool_of("0-31").beside.len(), 24);
    }

    proptest! {
        #[test]
        fn a_list_survives_its_text(set in proptest::collection::btree_set(0usize..600, 1..60)) {
            let cpus: Vec<_> = set.into_iter().collect();
            prop_assert_eq!(parse_list(&format_list(&cpus)), Ok(cpus));
        }

        #[test]
        fn no_text_panics(text in "[0-9,\\- a-z]{0,16}|.{0,12}") {
            let _ = (parse_list(&text), parse_cache_size(&text));
        }
    }

    #[test]
    fn windows_fit_whatever_is_usable() {
        assert_eq!(window(&[], 1, 5), [0; 0]);
        for (usable, count) in [(1, 1), (2, 1), (4, 3), (7, 2), (64, 63), (64, 1)] {
            let cpus: Vec<_> = (0..usable).collect();
            for draw in 0..200 {
                let drawn = window(&cpus, count, draw);
                assert!(drawn.len() == count && (usable == 1 || drawn[0] > 0), "{usable} {count} {draw}: {drawn:?}");
            }
        }
    }
}
