//! What cards and drives have in common: the slot, the node, the interrupts, the IOMMU.

use super::drive::Disk;
use super::{Finding, Look, Verdict, boot};
use crate::base::units::format_counted;
use crate::host::Sysfs;
use crate::host::cpu::{beside, format_list, numa_node, numa_nodes, one_of_siblings, parse_list, usable_cpus};
use std::collections::BTreeSet;

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

/// Whether the chosen cores are on the device's node.
pub fn node(look: &Look, item: &str, subject: &str, folder: &str) -> Finding {
    let nodes = numa_nodes(look.sysfs);
    if nodes == 1 {
        return Finding::fine(item, "the host has one node").of(subject);
    }
    let Some(node) = node_of(look.sysfs, folder) else {
        return Finding::unknown(item, format!("{folder}/numa_node names no node, of {nodes}")).of(subject);
    };
    let far: Vec<_> = look.scope.cores.iter().copied().filter(|cpu| numa_node(look.sysfs, *cpu) != node).collect();
    if far.is_empty() {
        return Finding::fine(item, format!("node {node}, as all of {}", look.cores_list())).of(subject);
    }
    let value = format!("node {node}; {} are on another one", format_list(&far));
    let near = cores_of_node(look, node, look.scope.cores.len());
    Finding::new(item, Verdict::Hint, value).of(subject).fix(match near.as_slice() {
        [] => format!("a processor of node {node} in --cores (this process may use none of them)"),
        near => format!("--cores {}", format_list(near)),
    })
}

fn node_of(sysfs: &Sysfs, folder: &str) -> Option<usize> {
    sysfs.text(format!("{folder}/numa_node"))?.parse().ok()
}

/// So many processors of a node, or as many as it has, of siblings one; its first core is left to interrupts.
fn cores_of_node(look: &Look, node: usize, most: usize) -> Vec<usize> {
    let list = look.sysfs.text(format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or_default();
    let usable = usable_cpus(look.sysfs);
    let mut near = parse_list(&list).unwrap_or_default();
    near.retain(|cpu| usable.contains(cpu));
    let mut near = one_of_siblings(look.sysfs, &near);
    if near.len() > 1 {
        near.remove(0);
    }
    near.truncate(most);
    near
}

fn nodes_of(look: &Look, folders: impl Iterator<Item = String>) -> BTreeSet<usize> {
    folders.filter_map(|folder| node_of(look.sysfs, &folder)).collect()
}

/// Where devices lie on several nodes, no list of cores is near to all: what one of them advises, another one takes
/// back.
fn advise_all(found: &mut [Finding], item: &str, fix: &str) {
    for finding in found.iter_mut().filter(|finding| finding.item == item && !finding.fix.is_empty()) {
        finding.fix = vec![fix.to_owned()];
    }
}

/// Drives on several nodes: a process for each.
pub fn split_drives(look: &Look, folders: impl Iterator<Item = String>, found: &mut [Finding]) {
    let nodes = nodes_of(look, folders);
    let each = (look.scope.cores.len() / nodes.len().max(1)).max(1);
    let lists = nodes.iter().map(|node| cores_of_node(look, *node, each));
    // A node whose processors this process may not use takes no process.
    let lists: Vec<_> = lists.filter(|near| !near.is_empty()).collect();
    if lists.len() < 2 {
        return;
    }
    // All processes of a run have as many producers.
    let parallel = lists.iter().map(Vec::len).min().unwrap_or(1);
    let shard = |(at, list): (usize, &Vec<usize>)| {
        let (of, cores) = (lists.len(), format_list(&list[..parallel]));
        format!("--run-id NAME --shard {at}/{of} --parallel {parallel} --cores {cores}")
    };
    let shards = lists.iter().enumerate().map(shard).collect::<Vec<_>>().join(" and ");
    let fix = format!("one process for each node, with a --target on its drives: {shards} (HARDWARE.md, NUMA layout)");
    advise_all(found, "drive.numa", &fix);
}

/// Cards on several nodes: which of them a process sends over is up to the route, or to their bond.
pub fn route_cards(look: &Look, folders: impl Iterator<Item = String>, found: &mut [Finding]) {
    let nodes = nodes_of(look, folders);
    if nodes.len() < 2 {
        return;
    }
    let near = |node: &usize| match cores_of_node(look, *node, look.scope.cores.len()).as_slice() {
        [] => format!("none for node {node}"),
        near => format!("--cores {} for node {node}", format_list(near)),
    };
    let lists = nodes.iter().map(near).collect::<Vec<_>>().join(", ");
    let fix = format!("no list of cores is near to all of them: a route over the cards of one node, and {lists}");
    advise_all(found, "nic.numa", &fix);
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

/// Where interrupts do not meet the cores.
fn free_cpus(look: &Look) -> Vec<usize> {
    let mut free = beside(look.sysfs, &usable_cpus(look.sysfs), &look.scope.cores);
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

/// How the IOMMU treats the cards and drives in the scope.
pub fn iommu(look: &Look, nics: &[String], disks: &[Disk]) -> Vec<Finding> {
    const ITEM: &str = "iommu.mode";
    if !look.sysfs.path("/sys/kernel").exists() {
        return vec![Finding::unknown(ITEM, "/sys/kernel cannot be read")];
    }
    if look.sysfs.names("/sys/kernel/iommu_groups").is_empty() {
        return vec![Finding::fine(ITEM, "no IOMMU is in use")];
    }
    let nics = nics.iter().map(|name| (name.clone(), format!("/sys/class/net/{name}/device")));
    let disks = disks.iter().map(|disk| (disk.name.clone(), disk.pci_folder(look.sysfs)));
    let mut modes: Vec<(String, Vec<String>)> = Vec::new();
    for (name, folder) in nics.chain(disks) {
        let kind = look.sysfs.text(format!("{folder}/iommu_group/type")).unwrap_or_default();
        match modes.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, names)) => names.push(name),
            None => modes.push((kind, vec![name])),
        }
    }
    if modes.is_empty() {
        return vec![Finding::unknown(ITEM, "an IOMMU is in use; no card or drive is in the scope to ask about")];
    }
    let judge = |(kind, names): (String, Vec<String>)| {
        let finding = match kind.as_str() {
            "" => Finding::unknown(ITEM, "an IOMMU is in use; the device's group does not tell its mode"),
            "identity" => Finding::fine(ITEM, "passthrough"),
            "DMA" => Finding::new(ITEM, Verdict::Hint, "strict"),
            "DMA-FQ" => Finding::new(ITEM, Verdict::Hint, "lazy"),
            other => Finding::unknown(ITEM, format!("type {other}")),
        };
        finding
            .of(names.join(", "))
            // Without the cores, what an earlier one isolated would be lost.
            .fix(format!("scripts/tune-host.sh apply --boot --cores {} && reboot", look.cores_list()))
            .fix(boot::add(look.sysfs, boot::passthrough(look.sysfs)))
    };
    modes.into_iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;
    use std::path::PathBuf;

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

    /// Two sockets of 32 cores with two threads each, of which a process may use these.
    fn two_sockets(usable: &str) -> Tree {
        let tree = Tree::new(&[
            ("/proc/self/status", &format!("Cpus_allowed_list:\t{usable}\n")),
            ("/sys/devices/system/cpu/online", "0-127\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-31,64-95\n"),
            ("/sys/devices/system/node/node1/cpulist", "32-63,96-127\n"),
        ]);
        for cpu in 0..64 {
            for one in [cpu, cpu + 64] {
                let at = format!("/sys/devices/system/cpu/cpu{one}");
                tree.put(&format!("{at}/topology/thread_siblings_list"), &format!("{cpu},{}\n", cpu + 64));
                tree.put(&format!("{at}/node{}/x", cpu / 32), "");
            }
        }
        tree
    }

    /// What is said where cores 0-30 are asked for, with a drive on the node of each name.
    fn judged(usable: &str, drives: &[(&str, &str)]) -> Vec<Vec<String>> {
        let tree = two_sockets(usable);
        for (name, node) in drives {
            tree.put(&format!("/sys/block/{name}/device/device/numa_node"), node);
        }
        let paths = drives.iter().map(|(name, _)| PathBuf::from(format!("/dev/{name}"))).collect();
        let scope = Scope { cores: (0..31).collect(), paths, ..Scope::default() };
        let found = crate::host::doctor::examine(&tree.sysfs(), &scope).into_iter();
        found.filter(|finding| finding.item == "drive.numa").map(|finding| finding.fix).collect()
    }

    #[test]
    fn cores_near_a_device_are_as_many_as_asked_for_and_share_no_units() {
        assert_eq!(judged("0-127", &[("nvme0n1", "1"), ("nvme1n1", "1")]), [["--cores 33-63"], ["--cores 33-63"]]);
    }

    #[test]
    fn drives_on_both_nodes_get_a_process_each() {
        let split = "one process for each node, with a --target on its drives: --run-id NAME --shard 0/2 --parallel 15 \
                     --cores 1-15 and --run-id NAME --shard 1/2 --parallel 15 --cores 33-47 (HARDWARE.md, NUMA layout)";
        let fixes = judged("0-127", &[("nvme0n1", "0"), ("nvme1n1", "1"), ("nvme2n1", "1")]);
        assert_eq!(fixes, [vec![split], vec![split], vec![]], "two of the other node, and one that is near");
        // A cpuset leaves less of one node than of the other.
        let fixes = judged("0-30,32-35", &[("nvme0n1", "0"), ("nvme1n1", "1")]);
        for shard in ["--shard 0/2 --parallel 3 --cores 1-3 and", "--shard 1/2 --parallel 3 --cores 33-35 ("] {
            assert!(fixes.iter().flatten().all(|fix| fix.contains(shard)), "{fixes:?}");
        }
    }

    #[test]
    fn cards_on_both_nodes_are_a_matter_of_the_route() {
        let tree = two_sockets("0-127");
        for (card, node) in [("eth0", "0"), ("eth1", "1")] {
            tree.put(&format!("/sys/class/net/{card}/device/numa_node"), node);
        }
        let scope = Scope { cores: (1..4).collect(), ..Scope::default() };
        let sysfs = tree.sysfs();
        let look = Look { sysfs: &sysfs, scope: &scope };
        let folders = ["eth0", "eth1"].map(|card| format!("/sys/class/net/{card}/device"));
        let mut found = folders.each_ref().map(|folder| node(&look, "nic.numa", "a card", folder));
        route_cards(&look, folders.into_iter(), &mut found);
        let route = "no list of cores is near to all of them: a route over the cards of one node, and --cores 1-3 for \
                     node 0, --cores 33-35 for node 1";
        assert_eq!(found.map(|finding| finding.fix), [vec![], vec![route.to_owned()]]);
    }

    #[test]
    fn links_carry_what_the_standard_says() {
        for (speed, width, gigabytes) in [(5.0, 8.0, 4.0), (8.0, 8.0, 7.88), (16.0, 4.0, 7.88), (32.0, 4.0, 15.75)] {
            let calculated = link_bytes_per_second(speed, width) / 1e9;
            assert!((calculated - gigabytes).abs() < 0.01, "{speed} GT/s x{width}: {calculated}");
        }
    }
}
