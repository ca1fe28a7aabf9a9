//! Which node a device is on, and which cores are near it.

use super::{Finding, Look, Verdict};
use crate::host::Sysfs;
use crate::host::cpu::{format_list, numa_node, numa_nodes, one_of_siblings, parse_list, usable_cpus};
use std::collections::BTreeSet;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;
    use std::path::PathBuf;

    /// Two sockets, of whose processors a process may use these.
    fn two_sockets(usable: &str) -> Tree {
        let tree = Tree::new(&[
            ("/proc/self/status", &format!("Cpus_allowed_list:\t{usable}\n")),
            ("/sys/devices/system/cpu/online", "0-127\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-31,64-95\n"),
            ("/sys/devices/system/node/node1/cpulist", "32-63,96-127\n"),
        ]);
        tree.put_two_sockets();
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
}
