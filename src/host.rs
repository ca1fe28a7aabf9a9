//! What this machine is and allows: processors, memory, file systems, block devices. Reads only.
//!
//! Every fact comes from `/proc` or `/sys` below a root that tests replace by a tree of their own.

pub mod block;
pub mod capacity;
pub mod cgroup;
pub mod cpu;
pub mod doctor;
pub mod ethtool;
pub mod fs;
pub mod memory;
pub mod network;
pub mod rlimit;

use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where `/proc`, `/sys` and `/dev` are: `/`, or a fake tree.
#[derive(Clone, Debug)]
pub struct Sysfs {
    pub root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl Sysfs {
    /// Of a machine that was only described: no file is there.
    pub fn untold() -> Self {
        Self { root: PathBuf::from("/dev/null") }
    }

    /// This host, not a tree that was recorded of another.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let relative = absolute.as_ref().strip_prefix("/").unwrap_or(absolute.as_ref());
        self.root.join(relative)
    }

    /// The text of a pseudo file without its line end; `None` where there is none.
    pub fn text(&self, absolute: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(absolute)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    pub fn number(&self, absolute: impl AsRef<Path>) -> Option<u64> {
        self.text(absolute)?.parse().ok()
    }

    /// The value after `name:` in a file of such lines.
    pub fn field(&self, absolute: impl AsRef<Path>, name: &str) -> Option<String> {
        let text = self.text(absolute)?;
        let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name))?;
        Some(line.1.trim().to_owned())
    }

    /// Names in a folder, sorted; none where there is no such folder.
    pub fn names(&self, absolute: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(absolute)) else { return Vec::new() };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }
}

/// The host, for the report.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HostFacts {
    pub kernel_release: Option<String>,
    pub cpu_model: Option<String>,
    /// Processors that affinity and cpuset allow.
    pub cpus_usable: usize,
    pub cpus_online: usize,
    /// CPU time per second that the cgroup allows, in processors; `null`: no limit.
    pub cpu_quota: Option<f64>,
    pub numa_nodes: usize,
    pub l2_bytes: Option<u64>,
    pub hypervisor: bool,
    pub governor: Option<String>,
    pub clock_source: Option<String>,
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    pub transparent_huge_pages: Option<String>,
    pub huge_pages_total: u64,
    pub huge_pages_free: u64,
    pub huge_page_bytes: Option<u64>,
    pub memlock_bytes: Option<u64>,
    /// The file systems of the targets.
    pub file_systems: Vec<fs::FsFacts>,
    /// What `engine doctor` finds for the cores, drives and cards of this run, but for what is fine; worst first.
    pub findings: Vec<doctor::Finding>,
    /// The items that are fine.
    pub findings_fine: Vec<String>,
}

impl HostFacts {
    /// One finding more, in its place.
    pub fn add(&mut self, finding: doctor::Finding) {
        let place = doctor::items::place;
        if finding.verdict == doctor::Verdict::Fine {
            self.findings_fine.push(finding.item);
            self.findings_fine.sort_by_key(|item| place(item));
        } else {
            self.findings.push(finding);
            self.findings.sort_by_key(|finding| (finding.verdict, place(&finding.item)));
        }
    }
}

/// Looks at everything once; the scope's paths are the data files of the run.
pub fn facts(sysfs: &Sysfs, scope: &doctor::Scope) -> HostFacts {
    let (fine, findings): (Vec<_>, Vec<_>) =
        doctor::examine(sysfs, scope).into_iter().partition(|finding| finding.verdict == doctor::Verdict::Fine);
    let mut findings_fine: Vec<_> = fine.into_iter().map(|finding| finding.item).collect();
    findings_fine.dedup();
    let usable = cpu::usable_cpus(sysfs);
    let first = usable.first().copied().unwrap_or(0);
    let mut file_systems: Vec<fs::FsFacts> = Vec::new();
    for facts in scope.paths.iter().filter_map(|path| fs::facts(sysfs, path).ok()) {
        if !file_systems.iter().any(|seen| seen.device == facts.device && seen.kind == facts.kind) {
            file_systems.push(facts);
        }
    }
    HostFacts {
        kernel_release: sysfs.text("/proc/sys/kernel/osrelease"),
        cpu_model: sysfs.field("/proc/cpuinfo", "model name"),
        cpus_usable: usable.len(),
        cpus_online: cpu::online_cpus(sysfs).len(),
        cpu_quota: cgroup::cpu_quota(sysfs),
        numa_nodes: cpu::numa_nodes(sysfs),
        l2_bytes: cpu::l2_bytes(sysfs, first),
        hypervisor: sysfs.field("/proc/cpuinfo", "flags").is_some_and(|all| all.split(' ').any(|f| f == "hypervisor")),
        governor: sysfs.text(format!("/sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor")),
        clock_source: sysfs.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        memory_total_bytes: memory::total_bytes(sysfs),
        memory_available_bytes: memory::available_bytes(sysfs),
        transparent_huge_pages: memory::transparent_huge_pages(sysfs),
        huge_pages_total: sysfs.field("/proc/meminfo", "HugePages_Total").and_then(|n| n.parse().ok()).unwrap_or(0),
        huge_pages_free: sysfs.field("/proc/meminfo", "HugePages_Free").and_then(|n| n.parse().ok()).unwrap_or(0),
        huge_page_bytes: memory::meminfo_bytes(sysfs, "Hugepagesize"),
        memlock_bytes: crate::sys::fs::memlock().ok().map(|limit| limit.soft_bytes),
        file_systems,
        findings,
        findings_fine,
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A root folder with chosen pseudo files.
    use super::Sysfs;

    pub struct Tree {
        folder: tempfile::TempDir,
    }

    impl Tree {
        pub fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self { folder: tempfile::tempdir().unwrap() };
            for (path, text) in files {
                tree.put(path, text);
            }
            tree
        }

        pub fn put(&self, path: &str, text: &str) {
            let path = self.sysfs().path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Two sockets of 32 cores with two threads each: 0 and 64 share a core, and so on.
        pub fn put_two_sockets(&self) {
            for cpu in 0..64 {
                for one in [cpu, cpu + 64] {
                    let at = format!("/sys/devices/system/cpu/cpu{one}");
                    self.put(&format!("{at}/topology/thread_siblings_list"), &format!("{cpu},{}\n", cpu + 64));
                    self.put(&format!("{at}/node{}/x", cpu / 32), "");
                }
            }
        }

        pub fn sysfs(&self) -> Sysfs {
            Sysfs { root: self.folder.path().to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_this_host_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let paths = vec![folder.path().join("a.bin"), folder.path().join("b.bin")];
        let facts = facts(&Sysfs::default(), &doctor::Scope { paths, ..Default::default() });
        assert!(facts.cpus_usable >= 1 && facts.cpus_online >= facts.cpus_usable);
        assert_eq!(facts.file_systems.len(), 1);
        assert!(serde_json::to_value(&facts).unwrap()["kernel_release"].is_string());
    }

    #[test]
    fn a_finding_more_has_its_place() {
        let tree = fake::Tree::new(&[]);
        let mut facts = facts(&tree.sysfs(), &doctor::Scope::default());
        let (found, fine) = (facts.findings.len(), facts.findings_fine.len());
        let seen = |share| doctor::load_seen(&[(1, share)].into()).unwrap();
        facts.add(seen(50));
        facts.add(seen(5));
        assert_eq!((facts.findings.len(), facts.findings_fine.len()), (found + 1, fine + 1));
        assert!(facts.findings.is_sorted_by_key(|finding| finding.verdict));
    }

    #[test]
    fn an_empty_tree_is_no_error() {
        let tree = fake::Tree::new(&[]);
        let facts = facts(&tree.sysfs(), &doctor::Scope::default());
        assert_eq!((facts.cpus_usable, facts.kernel_release), (0, None));
    }
}
