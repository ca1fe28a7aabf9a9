//! What the control group allows, in version 1 and 2, along its whole line of parents.

use crate::host::Sysfs;
use std::path::{Path, PathBuf};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A number that stays the same in a container and differs between those of a host, as far as they can be told apart:
/// by their groups, their host names and what their root folders are mounted from. FNV-1a.
pub fn container_hash(sysfs: &Sysfs) -> u64 {
    let mounts = sysfs.text("/proc/self/mountinfo").unwrap_or_default();
    let root = mounts.lines().find_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        (place.split(' ').nth(4) == Some("/")).then(|| source.to_owned())
    });
    let facts = [sysfs.text("/proc/self/cgroup"), sysfs.text("/proc/sys/kernel/hostname"), root];
    let bytes = facts.into_iter().flatten().flat_map(String::into_bytes);
    let hash = bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    // Its low bits alone know little of the high ones.
    hash ^ (hash >> 32)
}

/// Processors' worth of CPU time; `None`: no limit. The tightest group on the way up counts.
pub fn cpu_quota(sysfs: &Sysfs) -> Option<f64> {
    let v2 = folders(sysfs, None).into_iter().filter_map(|at| parse_cpu_max(&sysfs.text(at.join("cpu.max"))?));
    let v1 = folders(sysfs, Some("cpu")).into_iter().filter_map(|at| {
        let quota: i64 = sysfs.text(at.join("cpu.cfs_quota_us"))?.parse().ok()?;
        let period = sysfs.number(at.join("cpu.cfs_period_us"))?;
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    });
    v2.chain(v1).min_by(f64::total_cmp)
}

/// The processors that the group lets its processes have, as the kernel writes lists; `None`: it does not say.
pub fn cpuset(sysfs: &Sysfs) -> Option<String> {
    let v2 = folders(sysfs, None).into_iter().map(|at| at.join("cpuset.cpus.effective"));
    let v1 = folders(sysfs, Some("cpuset")).into_iter().map(|at| at.join("cpuset.effective_cpus"));
    // A group without the controller has its nearest parent's.
    v1.chain(v2).find_map(|at| sysfs.text(at))
}

/// Bytes that the group may still take before its limit; page cache counts as free, since the kernel takes it back
/// first.
pub fn memory_left_bytes(sysfs: &Sysfs) -> Option<u64> {
    let left = |at: PathBuf, limit: &str, usage: &str, cache: [&str; 2]| {
        let limit = sysfs.number(at.join(limit))?;
        let used = sysfs.number(at.join(usage))?;
        let stat = sysfs.text(at.join("memory.stat")).unwrap_or_default();
        let bytes = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let cached: u64 = cache.into_iter().filter_map(bytes).fold(0, u64::saturating_add);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    };
    let v2 = folders(sysfs, None);
    let v1 = folders(sysfs, Some("memory"));
    let v2 =
        v2.into_iter().filter_map(|at| left(at, "memory.max", "memory.current", ["inactive_file ", "active_file "]));
    let v1 = v1.into_iter().filter_map(|at| {
        let cache = ["total_inactive_file ", "total_active_file "];
        left(at, "memory.limit_in_bytes", "memory.usage_in_bytes", cache)
    });
    v2.chain(v1).min()
}

/// `max 100000` or `150000 100000`.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota.is_finite() && quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// This process's group of a controller (`None`: version 2) and its parents, as far as they are mounted.
fn folders(sysfs: &Sysfs, controller: Option<&str>) -> Vec<PathBuf> {
    let Some((mount_root, mount_point)) = mount(sysfs, controller) else { return Vec::new() };
    let Some(group) = group(sysfs, controller) else { return Vec::new() };
    let below = Path::new(&group).strip_prefix(&mount_root).unwrap_or(Path::new(""));
    // A path that leaves its namespace (`/../..`) says nothing about what is mounted here.
    let below = if below.components().any(|part| part.as_os_str() == "..") { Path::new("") } else { below };
    let full = Path::new(&mount_point).join(below);
    full.ancestors().take_while(|at| at.starts_with(&mount_point)).map(Path::to_owned).collect()
}

/// (root, mount point) of the hierarchy.
fn mount(sysfs: &Sysfs, controller: Option<&str>) -> Option<(String, String)> {
    let table = sysfs.text("/proc/self/mountinfo")?;
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<_> = left.split(' ').collect();
        let right: Vec<_> = right.split(' ').collect();
        let wanted = match controller {
            None => right.first() == Some(&"cgroup2"),
            Some(name) => right.first() == Some(&"cgroup") && right.last()?.split(',').any(|option| option == name),
        };
        wanted.then(|| Some((left.get(3)?.to_string(), left.get(4)?.to_string()))).flatten()
    })
}

fn group(sysfs: &Sysfs, controller: Option<&str>) -> Option<String> {
    let table = sysfs.text("/proc/self/cgroup")?;
    table.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let wanted = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|option| option == name),
        };
        wanted.then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    const V2: &str = "35 24 0:30 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn version_2_takes_the_tightest_on_the_way_up() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", V2),
            ("/proc/self/cgroup", "0::/pod/box\n"),
            ("/sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/pod/box/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("/sys/fs/cgroup/pod/memory.current", "700\n"),
            ("/sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 150\nactive_file 50\n"),
            ("/sys/fs/cgroup/pod/box/memory.max", "max\n"),
        ]);
        assert_eq!(cpu_quota(&tree.sysfs()), Some(1.5));
        assert_eq!(memory_left_bytes(&tree.sysfs()), Some(500));
    }

    #[test]
    fn containers_are_told_apart_by_group_name_or_root() {
        let hash = |group: &str, name: &str, upper: &str| {
            let mounts = format!("7 6 0:3 / / rw - overlay overlay rw,upperdir={upper}\n{V2}");
            let tree = Tree::new(&[
                ("/proc/self/mountinfo", mounts.as_str()),
                ("/proc/self/cgroup", group),
                ("/proc/sys/kernel/hostname", name),
            ]);
            container_hash(&tree.sysfs())
        };
        let one = hash("0::/", "pod-a", "/snapshots/1/fs");
        assert_eq!(one, hash("0::/", "pod-a", "/snapshots/1/fs"));
        for other in [
            hash("0::/kubepods/pod7", "pod-a", "/snapshots/1/fs"),
            hash("0::/", "pod-b", "/snapshots/1/fs"),
            hash("0::/", "pod-a", "/snapshots/2/fs"),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(container_hash(&Tree::new(&[]).sysfs()), FNV_OFFSET ^ (FNV_OFFSET >> 32));
    }

    #[test]
    fn version_1_reads_quota_and_period() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", "32 31 0:29 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"),
            ("/proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(cpu_quota(&tree.sysfs()), Some(2.5));
        tree.put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
        assert_eq!(cpu_quota(&tree.sysfs()), None);
    }

    #[test]
    fn the_nearest_cpuset_counts() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", V2),
            ("/proc/self/cgroup", "0::/pod/box\n"),
            ("/sys/fs/cgroup/cpuset.cpus.effective", "0-63\n"),
        ]);
        assert_eq!(cpuset(&tree.sysfs()).as_deref(), Some("0-63"));
        tree.put("/sys/fs/cgroup/pod/cpuset.cpus.effective", "8-15\n");
        assert_eq!(cpuset(&tree.sysfs()).as_deref(), Some("8-15"));
        let old = Tree::new(&[
            ("/proc/self/mountinfo", "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"),
            ("/proc/self/cgroup", "4:cpuset:/docker/x\n"),
            ("/sys/fs/cgroup/cpuset/docker/x/cpuset.effective_cpus", "2,3\n"),
        ]);
        assert_eq!(cpuset(&old.sysfs()).as_deref(), Some("2,3"));
        assert_eq!(cpuset(&Tree::new(&[]).sysfs()), None);
    }

    #[test]
    fn no_groups_are_no_limit() {
        let tree = Tree::new(&[("/proc/self/mountinfo", V2), ("/proc/self/cgroup", "0::/../..\n")]);
        assert_eq!((cpu_quota(&tree.sysfs()), memory_left_bytes(&tree.sysfs())), (None, None));
        assert_eq!(cpu_quota(&Tree::new(&[]).sysfs()), None);
    }
}
