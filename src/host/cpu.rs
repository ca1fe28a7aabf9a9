//! Processors: lists of them, which ones this process may use, where their memory is.

use crate::host::Sysfs;

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

/// Processors that this process may run on: affinity ∩ cpuset ∩ online.
pub fn usable_cpus(sysfs: &Sysfs) -> Vec<usize> {
    let text = sysfs.field("/proc/self/status", "Cpus_allowed_list").unwrap_or_default();
    let mut cpus = parse_list(&text).unwrap_or_default();
    let online = online_cpus(sysfs);
    if !online.is_empty() {
        cpus.retain(|cpu| online.binary_search(cpu).is_ok());
    }
    cpus
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
