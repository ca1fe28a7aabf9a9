//! What is read of a host's `/proc` and `/sys`, and what `doctor` makes of it; what is described of a host, and what
//! `plan` makes of that.

use super::{SEPARATOR, Scratch};
use engine::base::limits::RATE_MAX;
use engine::host::capacity::costs::Route;
use engine::host::capacity::description;
use engine::host::capacity::machine::Machine;
use engine::host::capacity::{Demand, Scale, project};
use engine::host::doctor::{self, Scope, Verdict};
use engine::host::{self, block, cpu};
use std::net::IpAddr;

/// The files that the host's facts come from; an input holds them one after the other, each behind its name.
const HOST_FILES: &[&str] = &[
    "/ethtool/eth0",
    "/proc/cmdline",
    "/proc/irq/1/smp_affinity_list",
    "/proc/net/fib_trie",
    "/proc/net/if_inet6",
    "/proc/net/ipv6_route",
    "/proc/net/route",
    "/proc/self/limits",
    "/proc/sys/net/ipv4/tcp_wmem",
    "/sys/block/nvme0n1/device/device/current_link_speed",
    "/sys/block/nvme0n1/device/device/current_link_width",
    "/sys/block/nvme0n1/device/device/max_link_speed",
    "/sys/block/nvme0n1/device/device/max_link_width",
    "/sys/block/nvme0n1/queue/scheduler",
    "/sys/class/net/eth0/device/msi_irqs/1",
    "/sys/class/net/eth0/mtu",
    "/sys/class/net/eth0/operstate",
    "/sys/class/net/eth0/queues/tx-0/xps_cpus",
    "/sys/class/net/eth0/queues/tx-1/xps_cpus",
    "/sys/class/net/eth0/speed",
    "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/self/status",
    "/proc/swaps",
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/cpu/cpu0/cache/index2/level",
    "/sys/devices/system/cpu/cpu0/cache/index2/size",
    "/sys/devices/system/cpu/cpu0/cache/index2/type",
    "/sys/devices/system/cpu/online",
    "/sys/dev/block/259:0/device/model",
    "/sys/dev/block/259:0/size",
    "/sys/dev/block/259:0/uevent",
    "/sys/fs/cgroup/box/cpu.cfs_period_us",
    "/sys/fs/cgroup/box/cpu.cfs_quota_us",
    "/sys/fs/cgroup/box/cpu.max",
    "/sys/fs/cgroup/box/memory.current",
    "/sys/fs/cgroup/box/memory.max",
    "/sys/kernel/mm/transparent_hugepage/enabled",
];

pub fn files(data: &[u8]) {
    let scratch = Scratch::new();
    let mut content = data;
    while let Some(at) = content.iter().position(|byte| *byte == SEPARATOR) {
        content = &content[at + 1..];
        let end = content.iter().position(|byte| *byte == SEPARATOR).unwrap_or(content.len());
        let line = content[..end].iter().position(|byte| *byte == b'\n').unwrap_or(end);
        let name = HOST_FILES.iter().find(|name| name.as_bytes() == &content[..line]);
        name.map(|name| scratch.put(name, content[..end].get(line + 1..).unwrap_or_default()));
    }
    let sysfs = scratch.sysfs();
    let cores = cpu::usable_cpus(&sysfs).into_iter().take(4).collect();
    let peers = vec![IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
    let scope = Scope { cores, paths: vec!["/data/x".into()], network: true, peers, ..Scope::default() };
    let findings = doctor::examine(&sysfs, &scope);
    assert!(findings.iter().all(|f| f.fix.is_empty() == matches!(f.verdict, Verdict::Fine | Verdict::Unknown)));
    assert!(doctor::text::render(&findings, false).starts_with("doctor: "));
    let facts = host::facts(&sysfs, &Scope::default());
    assert!(serde_json::to_string(&facts).is_ok());
    assert!(facts.cpu_quota.is_none_or(|quota| quota.is_finite() && quota >= 0.0), "{:?}", facts.cpu_quota);
    plans_are_finite(&Machine::here(&sysfs, &scope.peers));
    let device = "259:0";
    block::users(&sysfs, device);
    block::name(&sysfs, device);
    block::model(&sysfs, device);
    block::capacity_bytes(&sysfs, device);
    let image = scratch.put("/image", data);
    block::signature(&image).expect("a file can be read");
}

/// A description for `engine plan --host`.
pub fn described(data: &[u8]) {
    match description::parse(&String::from_utf8_lossy(data)) {
        Ok(machine) => plans_are_finite(&machine),
        Err(why) => assert!(!why.is_empty() && !why.contains('\n') && why.len() < 1000, "{why}"),
    }
}

/// Every figure of every plan is a number above zero.
fn plans_are_finite(machine: &Machine) {
    for route in Route::ALL {
        for rate_bytes_per_second in [None, Some(RATE_MAX as f64)] {
            let (target, producers, site) = (None, None, None);
            let demand =
                Demand { route, target, rate_bytes_per_second, record_bytes: 4096, producers, is_device: false, site };
            let plan = project(&demand, machine, Scale::of_described(machine));
            let rates = [plan.core_bytes_per_second, plan.cpu_seconds_per_gigabyte, plan.ceiling_bytes_per_second];
            let ranges = rates.into_iter().chain(plan.resources.iter().map(|resource| resource.needed));
            let figures = ranges.flat_map(|range| [range.low, range.likely, range.high]);
            let mut figures = figures.chain(plan.resources.iter().filter_map(|resource| resource.available));
            assert!(figures.all(|figure| figure.is_finite() && figure > 0.0), "{plan:?}");
            assert!(plan.summary().starts_with("plan "));
        }
    }
}
