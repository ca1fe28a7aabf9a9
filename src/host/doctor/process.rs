//! What this process may do: limits, io_uring, the container's quota and filter.

use super::{Finding, Look, Verdict, memory};
use crate::base::units::{format_counted, format_size};
use crate::host::cgroup;
use crate::host::cpu::format_list;
use crate::host::memory::may_lock_any;
use crate::host::rlimit;
use crate::sys::process::is_root;
use crate::sys::uring::Uring;

/// Descriptors that a core takes (ring, file, log, connection, their spares), and the process besides.
const FILES_PER_CORE: u64 = 16;
const FILES_BESIDES: u64 = 64;
/// With many connections: what tuning sets is far above; this is where hints start.
const FILES_AMPLE: u64 = 4096;
/// For every login: what tuning installs is for a group that nothing else makes.
const JOIN_GROUP: &str = "sudo scripts/tune-host.sh apply && sudo groupadd -f engine && \
                          sudo usermod -aG engine $USER # and log in again";
/// From it on io_uring leaves what completes to the thread that asks for it (`setup_defer_taskrun` in `sys/uring.rs`).
const KERNEL_MIN: (u32, u32) = (6, 1);

pub fn examine(look: &Look) -> Vec<Finding> {
    let mut found = vec![kernel(look), io_uring(look), memlock(look), nofile(look), seccomp(look)];
    found.extend(quota(look));
    found
}

fn kernel(look: &Look) -> Finding {
    const ITEM: &str = "process.kernel";
    let at = "/proc/sys/kernel/osrelease";
    let Some(release) = look.sysfs.text(at) else {
        return Finding::unknown(ITEM, format!("{at} cannot be read"));
    };
    let (major, minor) = KERNEL_MIN;
    match version(&release) {
        None => Finding::unknown(ITEM, format!("{at} says '{release}', which begins with no version")),
        Some(version) if version >= KERNEL_MIN => Finding::fine(ITEM, release),
        Some(_) => Finding::new(ITEM, Verdict::Hint, format!("{release}, older than {major}.{minor}"))
            .fix(format!("Linux {major}.{minor} or newer, from the distribution (its backports or HWE kernel)")),
    }
}

/// `(5, 15)` of `5.15.0-91-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn io_uring(look: &Look) -> Finding {
    const ITEM: &str = "process.io_uring";
    let at = "/proc/sys/kernel/io_uring_disabled";
    let switch = look.sysfs.number(at);
    let denied = |value: String| Finding::new(ITEM, Verdict::Hint, format!("{value}: runs with the syscall back end"));
    let fix = "sysctl kernel.io_uring_disabled=0";
    match switch {
        Some(2) => return denied("kernel.io_uring_disabled is 2".to_owned()).fix(fix),
        // Its group, or CAP_SYS_ADMIN, may: only trying tells.
        Some(1) if !look.sysfs.is_live() => {
            return Finding::unknown(ITEM, "kernel.io_uring_disabled is 1: allowed to one group only");
        }
        _ => {}
    }
    let said = switch.map_or("no switch (before Linux 6.6)".to_owned(), |n| format!("kernel.io_uring_disabled is {n}"));
    if !look.sysfs.is_live() {
        return match filter_mode(look) {
            Some(0) => Finding::fine(ITEM, said),
            _ => Finding::unknown(ITEM, format!("{said}, but a seccomp filter may forbid it: only trying tells")),
        };
    }
    match Uring::probe() {
        Ok(()) => Finding::fine(ITEM, format!("works; {said}")),
        Err(why) if switch == Some(1) => denied(format!("{why}; {said}")).fix(fix),
        Err(why) => denied(format!("{why}; {said}"))
            .fix("docker run --security-opt seccomp=tuning/seccomp/engine.json …, or Linux 5.19 or newer"),
    }
}

/// Soft and hard limit of a row of `/proc/self/limits`; `u64::MAX`: none.
fn limit(look: &Look, row: &str) -> Option<(u64, u64)> {
    let text = look.sysfs.text("/proc/self/limits")?;
    let rest = text.lines().find_map(|line| line.strip_prefix(row))?;
    let mut words = rest.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some((number()?, number()?))
}

fn memlock(look: &Look) -> Finding {
    const ITEM: &str = "process.memlock";
    let Some((_, hard)) = limit(look, "Max locked memory") else {
        return Finding::unknown(ITEM, "/proc/self/limits cannot be read");
    };
    if may_lock_any(look.sysfs) {
        return Finding::fine(ITEM, "this process may lock any amount (CAP_IPC_LOCK)");
    }
    let need = memory::rings_bytes(look);
    let shown = if hard == u64::MAX { "unlimited".to_owned() } else { format_size(hard) };
    let value = format!("{shown}; rings for direct I/O are {}", format_size(need));
    raise(Finding::hint_unless(hard >= need, ITEM, value), rlimit::MEMLOCK)
}

/// The ways to a higher limit: for every login, then those that a run names as well.
fn raise(finding: Finding, limit: rlimit::Limit) -> Finding {
    // PAM leaves root out of a group's limits.
    let finding = if is_root() { finding } else { finding.fix(JOIN_GROUP) };
    rlimit::ways(limit).into_iter().fold(finding, Finding::fix)
}

fn nofile(look: &Look) -> Finding {
    const ITEM: &str = "process.nofile";
    let Some((_, hard)) = limit(look, "Max open files") else {
        return Finding::unknown(ITEM, "/proc/self/limits cannot be read");
    };
    let need = FILES_BESIDES + FILES_PER_CORE * look.scope.cores.len() as u64;
    let verdict = match hard {
        _ if hard < need => Verdict::Fatal,
        _ if hard < FILES_AMPLE => Verdict::Hint,
        _ => Verdict::Fine,
    };
    let value = format!("{hard} (hard limit, which the engine takes); {need} without many connections");
    raise(Finding::new(ITEM, verdict, value), rlimit::NOFILE)
}

fn filter_mode(look: &Look) -> Option<u64> {
    look.sysfs.field("/proc/self/status", "Seccomp")?.parse().ok()
}

fn seccomp(look: &Look) -> Finding {
    const ITEM: &str = "process.seccomp";
    match filter_mode(look) {
        Some(0) => Finding::fine(ITEM, "no filter"),
        Some(1) => Finding::new(ITEM, Verdict::Fatal, "strict mode: read, write and exit only")
            .fix("start it outside of the sandbox"),
        Some(2) => Finding::fine(ITEM, "a filter is in force; process.io_uring says whether io_uring passes"),
        other => {
            let said = other.map_or("/proc/self/status has no Seccomp line".to_owned(), |n| format!("mode {n}"));
            Finding::unknown(ITEM, said)
        }
    }
}

fn quota(look: &Look) -> Option<Finding> {
    const ITEM: &str = "container.cpu_quota";
    let quota = cgroup::cpu_quota(look.sysfs)?;
    let cores = look.scope.cores.len();
    let value = format!("{quota:.2} processors' time for {}", format_counted(cores as u64, "core"));
    // One core below a whole processor waits in the kernel (`--poll adaptive`), and lives with it.
    let verdict = match quota {
        _ if quota < cores as f64 && cores > 1 => Verdict::Fatal,
        _ if quota < cores as f64 => Verdict::Hint,
        _ => Verdict::Fine,
    };
    let whole = (quota as usize).max(1);
    let fewer = look.scope.cores.get(..whole.min(cores)).unwrap_or_default();
    let finding = Finding::new(ITEM, verdict, value);
    let finding = match fewer.len() < cores {
        true => finding.fix(format!("--cores {}", format_list(fewer))),
        false => finding,
    };
    Some(finding.fix(format!(
        "docker update --cpus {} CONTAINER, or resources.limits.cpu of the pod: {}",
        cores + 1,
        cores + 1
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;

    #[test]
    fn a_kernel_is_judged_by_its_release() {
        let judged = |release: &str| {
            let tree = Tree::new(&[("/proc/sys/kernel/osrelease", release)]);
            let (sysfs, scope) = (tree.sysfs(), Scope::default());
            kernel(&Look { sysfs: &sysfs, scope: &scope })
        };
        for (release, verdict) in [
            ("5.15.0-91-generic\n", Verdict::Hint),
            ("6.0.19", Verdict::Hint),
            ("6.1-rc1", Verdict::Fine),
            ("6.10.3", Verdict::Fine),
            ("10.0.0", Verdict::Fine),
            ("6", Verdict::Unknown),
            ("", Verdict::Unknown),
        ] {
            assert_eq!(judged(release).verdict, verdict, "{release}");
        }
        assert_eq!(judged("5.15.0-91-generic\n").value, "5.15.0-91-generic, older than 6.1");
    }

    #[test]
    fn a_hard_limit_is_raised_by_what_can_be_typed() {
        let limits = "Max open files 1024 1024 files\nMax locked memory 65536 65536 bytes\n";
        let tree = Tree::new(&[("/proc/self/limits", limits)]);
        let sysfs = tree.sysfs();
        let scope = Scope { cores: vec![1, 2], ..Scope::default() };
        let look = Look { sysfs: &sysfs, scope: &scope };
        for (found, limit) in [(memlock(&look), rlimit::MEMLOCK), (nofile(&look), rlimit::NOFILE)] {
            let fixes = &found.fix;
            let group = fixes[0].contains("tune-host.sh apply && sudo groupadd -f engine && sudo usermod -aG engine");
            assert_eq!(group, !is_root(), "{fixes:?}");
            assert_eq!(fixes[usize::from(group)..], rlimit::ways(limit), "as a run says it");
            assert!(!fixes.iter().any(|fix| fix.contains("ulimit -")), "{fixes:?}");
        }
    }

    #[test]
    fn no_fix_is_the_list_of_cores_that_is_set() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ]);
        let sysfs = tree.sysfs();
        let judged = |cores: &[usize]| {
            let scope = Scope { cores: cores.to_vec(), ..Scope::default() };
            let found = quota(&Look { sysfs: &sysfs, scope: &scope }).unwrap();
            (found.verdict, found.fix)
        };
        let (verdict, fixes) = judged(&[3]);
        assert!(verdict == Verdict::Hint && fixes.len() == 1 && fixes[0].starts_with("docker"), "{fixes:?}");
        assert_eq!(judged(&[3, 4]).1[0], "--cores 3");
    }
}
