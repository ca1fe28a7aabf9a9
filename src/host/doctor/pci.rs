//! What cards and drives have in common: the slot and the interrupts.

use super::{Finding, Look, Verdict};
use crate::base::units::format_counted;
use crate::host::Sysfs;
use crate::host::cpu::{self, format_list, parse_list, usable_cpus};

/// Interrupts that are no queue's: counted, they would speak against every core they happen to be on.
const NO_QUEUE: &[&str] = &["config", "async", "control", "cmd", "event", "pages"];
/// Beyond so many, the fix walks the folder instead of naming each.
const IRQS_NAMED_MAX: usize = 8;

/// Payload bytes a second of a PCIe link, without packet overhead.
fn link_bytes_per_second(gigatransfers: f64, width: f64) -> f64 {
    let coding = match gigatransfers {
        _ if gigatransfers < 6.0 => 0.8,
        _ if gigatransfers < 40.0 => 128.0 / 130.0,
        // Flits of 256 bytes carry 236.
        _ => 236.0 / 256.0,
    };
    gigatransfers * 1e9 * width * coding / 8.0
}

/// `folder` is the PCI device's.
pub fn link(look: &Look, item: &str, subject: &str, folder: &str) -> Finding {
    let text = |name: &str| look.sysfs.text(format!("{folder}/{name}"));
    let speed = |name: &str| text(name)?.split(' ').next()?.parse::<f64>().ok().filter(|gt| *gt > 0.0 && *gt < 1e4);
    let width = |name: &str| text(name)?.parse::<u32>().ok().filter(|lanes| (1..=64).contains(lanes));
    let of = |speed: Option<f64>, width: Option<u32>| Some((speed?, width?));
    let now = of(speed("current_link_speed"), width("current_link_width"));
    let most = of(speed("max_link_speed"), width("max_link_width"));
    let (Some(now), Some(most)) = (now, most) else {
        return Finding::unknown(item, "no PCIe link is shown (virtual or not on PCIe)").of(subject);
    };
    let rate = |(speed, width): (f64, u32)| link_bytes_per_second(speed, f64::from(width)) / 1e9;
    let value = format!("{} GT/s x{} of {} GT/s x{}", now.0, now.1, most.0, most.1);
    let worth = format!("the link carries {:.2} GB/s, the device could use {:.2}", rate(now), rate(most));
    Finding::hint_unless(now.0 >= most.0 && now.1 >= most.1, item, value).of(subject).worth(worth, "calculated").fix(
        "move it to a slot with the lanes and speed that it has, or set the slot's speed and bifurcation in the firmware (lspci -vv: LnkCap, LnkSta)",
    )
}

/// Where a device's interrupts are listed. A virtio device has those of the PCI function above it; what is above
/// others is a bridge with interrupts of its own.
fn irqs_folder(sysfs: &Sysfs, folder: &str) -> String {
    let real = std::fs::canonicalize(sysfs.path(folder)).unwrap_or_default();
    let is_virtio = real.file_name().is_some_and(|name| name.to_string_lossy().starts_with("virtio"));
    format!("{folder}{}/msi_irqs", if is_virtio { "/.." } else { "" })
}

/// The interrupts of the queues of a device, each with the processors that take it.
fn queue_irqs(sysfs: &Sysfs, folder: &str) -> Vec<(usize, Vec<usize>)> {
    let names = sysfs.names(irqs_folder(sysfs, folder));
    let mut irqs: Vec<usize> = names.into_iter().filter_map(|name| name.parse().ok()).collect();
    irqs.sort_unstable();
    let is_queue = |irq: &usize| {
        let names = sysfs.names(format!("/proc/irq/{irq}"));
        !names.iter().any(|name| NO_QUEUE.iter().any(|word| name.contains(word)))
    };
    let takers = |irq: usize| {
        let read = |name: &str| parse_list(&sysfs.text(format!("/proc/irq/{irq}/{name}"))?).ok();
        Some((irq, read("effective_affinity_list").or_else(|| read("smp_affinity_list"))?))
    };
    irqs.into_iter().filter(is_queue).filter_map(takers).collect()
}

/// The queues of a virtual disk (virtio-blk) with an interrupt of their own, which the kernel then binds by itself and
/// keeps from everybody: `virtio2-req.0`.
pub fn queues_bound_by_virtio(sysfs: &Sysfs, folder: &str) -> usize {
    let irqs = sysfs.names(irqs_folder(sysfs, folder));
    let handlers = irqs.iter().flat_map(|irq| sysfs.names(format!("/proc/irq/{irq}")));
    handlers.filter(|name| name.starts_with("virtio") && name.contains("-req.")).count()
}

/// Where interrupts do not meet the cores.
fn free_cpus(look: &Look) -> Vec<usize> {
    let mut free = cpu::free(look.sysfs, &usable_cpus(look.sysfs), &look.scope.cores);
    free.sort_unstable();
    free
}

/// Whether the device's interrupts land on the chosen cores.
pub fn irq(look: &Look, item: &str, subject: &str, folder: &str, tune: Option<String>) -> Finding {
    let irqs = queue_irqs(look.sysfs, folder);
    if irqs.is_empty() {
        return Finding::unknown(item, "none of its interrupts is shown").of(subject);
    }
    let on_cores = |cpus: &[usize]| cpus.iter().any(|cpu| look.scope.cores.contains(cpu));
    let hit: Vec<_> = irqs.iter().filter(|(_, cpus)| on_cores(cpus)).collect();
    let all = format_counted(irqs.len() as u64, "interrupt");
    if hit.is_empty() {
        return Finding::fine(item, format!("{all} on other processors")).of(subject);
    }
    let free = free_cpus(look);
    let value = format!("{} of {all} taken by {}", hit.len(), look.cores_list());
    let finding = Finding::new(item, Verdict::Hint, value).of(subject);
    if free.is_empty() {
        let fewer = look.scope.cores.get(1..).unwrap_or_default();
        return finding.fix(match fewer {
            [] => "no other processor is there to take them".to_owned(),
            _ => format!("leave one processor to them: --cores {}", format_list(fewer)),
        });
    }
    let which = if hit.len() <= IRQS_NAMED_MAX {
        hit.iter().map(|(irq, _)| irq.to_string()).collect::<Vec<_>>().join(" ")
    } else {
        format!("$(ls {})", irqs_folder(look.sysfs, folder))
    };
    let plain = format!(
        "systemctl stop irqbalance; for i in {which}; do echo {} > /proc/irq/$i/smp_affinity_list; done",
        format_list(&free)
    );
    tune.into_iter().fold(finding, Finding::fix).fix(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;

    /// A virtio card on PCI function `:04`, or that function itself, below a port with an interrupt of its own.
    fn card(virtio: bool) -> Tree {
        let port = "/sys/devices/pci0000:00/0000:00:01.0";
        let tree = Tree::new(&[
            (&format!("{port}/msi_irqs/24"), "msi"),
            ("/sys/class/net/eth0/x", ""),
            ("/sys/devices/system/cpu/online", "0-31"),
            ("/sys/devices/system/cpu/isolated", "1-30"),
            ("/proc/self/status", "Cpus_allowed_list:\t0,31"),
        ]);
        for irq in 24..36 {
            tree.put(&format!("/proc/irq/{irq}/smp_affinity_list"), "0-31");
        }
        for irq in 25..35 {
            tree.put(&format!("{port}/0000:00:04.0/msi_irqs/{irq}"), "msix");
        }
        tree.put(&format!("{port}/0000:00:04.0/virtio1/x"), "");
        let device = format!("../../..{}/0000:00:04.0{}", &port[4..], if virtio { "/virtio1" } else { "" });
        std::os::unix::fs::symlink(device, tree.sysfs().path("/sys/class/net/eth0/device")).unwrap();
        tree
    }

    #[test]
    fn a_virtio_card_has_the_interrupts_of_the_function_above_and_others_their_own() {
        for (virtio, listed) in [(true, "device/../msi_irqs"), (false, "device/msi_irqs")] {
            let tree = card(virtio);
            let scope = Scope { cores: vec![1, 2], ..Scope::default() };
            let sysfs = tree.sysfs();
            let look = Look { sysfs: &sysfs, scope: &scope };
            let found = irq(&look, "nic.irq", "eth0", "/sys/class/net/eth0/device", None);
            assert_eq!(found.value, "10 of 10 interrupts taken by 1-2");
            assert!(found.fix[0].contains(&format!("$(ls /sys/class/net/eth0/{listed})")), "{:?}", found.fix);
            assert!(found.fix[0].contains("echo 0,31 >"), "isolated ones take none: {:?}", found.fix);
        }
    }

    #[test]
    fn interrupts_leave_a_cores_siblings_alone_as_far_as_others_are_there() {
        let free = |online: &str, cores: &[usize]| {
            let tree = Tree::new(&[
                ("/sys/devices/system/cpu/online", online),
                ("/proc/self/status", &format!("Cpus_allowed_list:\t{online}")),
            ]);
            for cpu in 0..4 {
                let list = format!("{cpu},{}", cpu + 4);
                tree.put(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &list);
            }
            let scope = Scope { cores: cores.to_vec(), ..Scope::default() };
            let sysfs = tree.sysfs();
            free_cpus(&Look { sysfs: &sysfs, scope: &scope })
        };
        assert_eq!(free("0-7", &[1, 2, 3]), [0, 4]);
        assert_eq!(free("0-7", &[0, 1, 2, 3]), [4, 5, 6, 7], "nothing else is left");
    }

    #[test]
    fn links_carry_what_the_standard_says() {
        for (speed, width, gigabytes) in [(5.0, 8.0, 4.0), (8.0, 8.0, 7.88), (16.0, 4.0, 7.88), (32.0, 4.0, 15.75)] {
            let calculated = link_bytes_per_second(speed, width) / 1e9;
            assert!((calculated - gigabytes).abs() < 0.01, "{speed} GT/s x{width}: {calculated}");
        }
    }
}
