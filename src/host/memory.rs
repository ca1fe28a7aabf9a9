//! Memory: how much is left, and which page sizes the kernel offers.

use crate::host::{Sysfs, cgroup};

/// Bytes of a `/proc/meminfo` line that counts kB.
pub fn meminfo_bytes(sysfs: &Sysfs, name: &str) -> Option<u64> {
    let value = sysfs.field("/proc/meminfo", name)?;
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

pub fn total_bytes(sysfs: &Sysfs) -> Option<u64> {
    meminfo_bytes(sysfs, "MemTotal")
}

/// What can be taken without swapping: the machine's, or less where the control group says so.
pub fn available_bytes(sysfs: &Sysfs) -> Option<u64> {
    let machine = meminfo_bytes(sysfs, "MemAvailable");
    let group = cgroup::memory_left_bytes(sysfs);
    machine.into_iter().chain(group).min()
}

/// `always`, `madvise` or `never`.
pub fn transparent_huge_pages(sysfs: &Sysfs) -> Option<String> {
    let text = sysfs.text("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let chosen = text.split(' ').find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    Some(chosen.to_owned())
}

/// Whether this process may lock memory beyond its limit (CAP_IPC_LOCK).
pub fn may_lock_any(sysfs: &Sysfs) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let effective = sysfs.field("/proc/self/status", "CapEff").unwrap_or_default();
    u64::from_str_radix(&effective, 16).is_ok_and(|set| set >> CAP_IPC_LOCK & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn facts_of_a_fake_machine() {
        let tree = Tree::new(&[
            ("/proc/meminfo", "MemTotal:       16 kB\nMemAvailable:   8 kB\nHugepagesize:    2048 kB\n"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("/proc/self/status", "CapEff:\t0000000000004000\n"),
        ]);
        let sysfs = tree.sysfs();
        assert_eq!((total_bytes(&sysfs), available_bytes(&sysfs)), (Some(16384), Some(8192)));
        assert_eq!(transparent_huge_pages(&sysfs).as_deref(), Some("madvise"));
        assert!(may_lock_any(&sysfs));
        tree.put("/proc/self/status", "CapEff:\t0000000000000000\n");
        assert!(!may_lock_any(&sysfs));
    }
}
