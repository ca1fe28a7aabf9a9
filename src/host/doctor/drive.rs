//! Drives: the file system of each path, and the disks below it.

use super::{Finding, Look, Verdict, numa, pci};
use crate::base::{paths, program};
use crate::host::{Sysfs, block, fs};
use std::path::{Path, PathBuf};

/// Devices upon devices (LVM on crypt on RAID): deeper is a loop.
const STACK_MAX: usize = 8;
const GOOD: &[&str] = &["ext4", "xfs"];
/// Answered from memory, or by another host.
const NO_DRIVE: &[&str] = &["tmpfs", "ramfs", "overlay", "nfs", "nfs4", "cifs", "9p", "virtiofs", "fuse"];

/// A whole disk: no partition, no stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub name: String,
}

impl Disk {
    fn folder(&self) -> String {
        format!("/sys/block/{}", self.name)
    }

    fn is_nvme(&self) -> bool {
        self.name.starts_with("nvme")
    }

    /// `device` of an NVMe namespace is its controller, whose `device` is the PCI function. With native multipath it is
    /// a subsystem, which has links to its controllers. Of others it is on the bus.
    pub fn pci_folder(&self, sysfs: &Sysfs) -> String {
        let device = format!("{}/device", self.folder());
        if !self.is_nvme() {
            return device;
        }
        let is_controller = |name: &String| name.strip_prefix("nvme").is_some_and(|n| n.parse::<u32>().is_ok());
        match sysfs.names(&device).into_iter().find(is_controller) {
            Some(controller) => format!("{device}/{controller}/device"),
            None => format!("{device}/device"),
        }
    }

    /// The disks with the queues that its blocks go through: itself, or with native multipath (nvme0n1) its paths
    /// (nvme0c1n1).
    fn queued(&self, sysfs: &Sysfs) -> Vec<Disk> {
        let is_path = |name: &String| {
            let parts = name.split_once('c').and_then(|(head, rest)| Some((head, rest.split_once('n')?.1)));
            self.is_nvme() && parts.is_some_and(|(head, namespace)| self.name == format!("{head}n{namespace}"))
        };
        let paths: Vec<_> = sysfs.names("/sys/block").into_iter().filter(is_path).map(|name| Disk { name }).collect();
        if paths.is_empty() { vec![self.clone()] } else { paths }
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    point: PathBuf,
    device: String,
    kind: String,
    source: String,
    /// Of the mount and of the file system.
    options: Vec<String>,
}

pub fn disks(look: &Look) -> Vec<Disk> {
    let mut found: Vec<Disk> = Vec::new();
    let names = look.scope.paths.iter().filter_map(|path| device_of(look, path));
    for name in names.flat_map(|name| whole(look.sysfs, &name, 0)) {
        let disk = Disk { name };
        if !found.contains(&disk) {
            found.push(disk);
        }
    }
    found
}

pub fn examine(look: &Look) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for finding in look.scope.paths.iter().map(|path| mount_finding(look, path)) {
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    for disk in disks(look) {
        let (name, folder) = (disk.name.as_str(), disk.pci_folder(look.sysfs));
        found.extend(disk.queued(look.sysfs).iter().map(|queued| scheduler(look, queued)));
        found.push(write_cache(look, &disk));
        found.push(pci::link(look, "drive.pcie", name, &folder));
        found.push(numa::node(look, "drive.numa", name, &folder));
        found.push(interrupts(look, &disk));
    }
    if found.iter().any(|finding| finding.subject.as_deref().is_some_and(|name| name.starts_with("nvme"))) {
        found.push(poll_queues(look));
    }
    found
}

/// `\040` is how the kernel writes a space.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn mount_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<_> = left.split(' ').collect();
    let right: Vec<_> = right.split(' ').collect();
    let options = [left.get(5)?, *right.get(2).unwrap_or(&"")].join(",");
    Some(Mount {
        point: PathBuf::from(unescape(left.get(4)?)),
        device: (*left.get(2)?).to_owned(),
        kind: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// The path itself where this host is looked at; of another host there are only names.
fn real(look: &Look, path: &Path) -> PathBuf {
    let found = fs::nearest_existing(path);
    if look.sysfs.is_live() { std::fs::canonicalize(&found).unwrap_or(found) } else { path.to_owned() }
}

fn mount(look: &Look, path: &Path) -> Option<Mount> {
    let path = real(look, path);
    let table = look.sysfs.text("/proc/self/mountinfo")?;
    let holds = table.lines().filter_map(mount_line).filter(|mount| path.starts_with(&mount.point));
    // Of mounts on the same point the last one is seen.
    holds.max_by_key(|mount| mount.point.as_os_str().len())
}

/// The block device that a path is on, or is.
fn device_of(look: &Look, path: &Path) -> Option<String> {
    let known = |name: &str| {
        let is_there = |folder: &str| look.sysfs.path(format!("{folder}/{name}")).exists();
        !name.is_empty() && (is_there("/sys/class/block") || is_there("/sys/block"))
    };
    let name = |path: &Path| {
        let name = path.strip_prefix("/dev").ok()?.to_str()?;
        match name.strip_prefix("mapper/") {
            Some(mapped) => device_of_mapping(look.sysfs, mapped),
            None => Some(name.to_owned()),
        }
    };
    if let Some(name) = name(&real(look, path)).filter(|name| known(name)) {
        return Some(name);
    }
    let mount = mount(look, path)?;
    let by_number = block::name(look.sysfs, &mount.device);
    by_number.or_else(|| name(Path::new(&mount.source))).filter(|name| known(name))
}

/// `dm-0` of `/dev/mapper/luks-1`: btrfs has a device number of its own, so that only the name leads there.
fn device_of_mapping(sysfs: &Sysfs, mapped: &str) -> Option<String> {
    let is_it = |name: &String| sysfs.text(format!("/sys/block/{name}/dm/name")).as_deref() == Some(mapped);
    sysfs.names("/sys/block").into_iter().find(is_it)
}

fn whole(sysfs: &Sysfs, name: &str, depth: usize) -> Vec<String> {
    let at = format!("/sys/class/block/{name}");
    if sysfs.path(format!("{at}/partition")).exists() {
        let real = std::fs::canonicalize(sysfs.path(&at)).ok();
        let disk = real.as_deref().and_then(Path::parent).and_then(Path::file_name);
        return disk.map(|disk| vec![disk.to_string_lossy().into_owned()]).unwrap_or_default();
    }
    let below = sysfs.names(format!("{at}/slaves"));
    if below.is_empty() || depth >= STACK_MAX {
        return vec![name.to_owned()];
    }
    below.iter().flat_map(|name| whole(sysfs, name, depth + 1)).collect()
}

fn mount_finding(look: &Look, path: &Path) -> Finding {
    const ITEM: &str = "drive.mount";
    let shown = path.display().to_string();
    if real(look, path).starts_with("/dev/") && device_of(look, path).is_some() {
        return Finding::fine(ITEM, "a block device, no file system").of(shown);
    }
    let Some(mount) = mount(look, path) else {
        return Finding::unknown(ITEM, "/proc/self/mountinfo does not name its file system").of(shown);
    };
    let (point, kind) = (mount.point.display(), &mount.kind);
    let quoted = program::quoted_path(&mount.point);
    let has = |option: &str| mount.options.iter().any(|known| known == option);
    let folder = absent_folder(look, path);
    let absent = folder.map(|folder| format!("; {} is not there yet", folder.display())).unwrap_or_default();
    // What is judged then may not be what was meant.
    let first = folder.filter(|_| mount.point == Path::new("/")).map(|folder| {
        let folder = program::quoted_path(folder);
        format!("mount the drive there first: mkdir -p {folder} && mount /dev/DRIVE {folder}")
    });
    let judged = |verdict, what: &str| {
        let finding = Finding::new(ITEM, verdict, format!("{kind} at {point}{what}{absent}")).of(&shown);
        first.iter().fold(finding, Finding::fix)
    };
    if has("ro") {
        return judged(Verdict::Fatal, ", read-only").fix(format!("mount -o remount,rw {quoted}"));
    }
    if NO_DRIVE.contains(&kind.as_str()) || kind.starts_with("fuse") {
        return judged(Verdict::Hint, ": no drive's own file system").fix(
            "mkfs.xfs on a drive of its own, mount -o noatime, and --target file:/THERE/ (a container: a volume)",
        );
    }
    let slow = ["sync", "dirsync", "data=journal", "discard"].into_iter().find(|option| has(option));
    if let Some(option) = slow {
        let instead = match option {
            "data=journal" => "data=ordered in /etc/fstab, then umount and mount".to_owned(),
            option => format!("mount -o remount,{} {quoted}", opposite(option)),
        };
        return judged(Verdict::Hint, &format!(", mounted with {option}")).fix(instead);
    }
    // The kernel shows strictatime by none of these.
    if !["noatime", "relatime", "lazytime"].into_iter().any(has) {
        return judged(Verdict::Hint, ", mounted with strictatime").fix(format!("mount -o remount,noatime {quoted}"));
    }
    if !GOOD.contains(&kind.as_str()) {
        return judged(Verdict::Hint, "").fix("XFS or ext4 on the drive itself, mounted with noatime");
    }
    judged(Verdict::Fine, "")
}

/// The folder that a run would make: if it was to be a mount, another file system is judged.
fn absent_folder<'a>(look: &Look, path: &'a Path) -> Option<&'a Path> {
    let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let folder = if is_folder { path } else { paths::folder(path) };
    (look.sysfs.is_live() && !folder.exists()).then_some(folder)
}

fn opposite(option: &str) -> &'static str {
    match option {
        "sync" => "async",
        "dirsync" => "async,nodirsync",
        _ => "nodiscard",
    }
}

fn scheduler(look: &Look, disk: &Disk) -> Finding {
    const ITEM: &str = "drive.scheduler";
    let at = format!("{}/queue", disk.folder());
    let Some(text) = look.sysfs.text(format!("{at}/scheduler")) else {
        return Finding::unknown(ITEM, format!("{at}/scheduler cannot be read")).of(&disk.name);
    };
    let chosen = text.split(' ').find_map(|word| word.strip_prefix('[')?.strip_suffix(']')).unwrap_or(&text);
    // Virtual disks call themselves turning ones.
    let turns = disk.name.starts_with("sd") && look.sysfs.number(format!("{at}/rotational")) == Some(1);
    let value = format!("{chosen}{}", if turns { " on a turning disk" } else { "" });
    let finding = Finding::hint_unless(chosen == "none" || turns, ITEM, value).of(&disk.name);
    let finding = if disk.is_nvme() { finding.fix("scripts/tune-host.sh apply") } else { finding };
    finding.fix(format!("echo none > {at}/scheduler"))
}

fn write_cache(look: &Look, disk: &Disk) -> Finding {
    const ITEM: &str = "drive.write_cache";
    let at = format!("{}/queue/write_cache", disk.folder());
    let Some(mode) = look.sysfs.text(&at) else {
        return Finding::unknown(ITEM, format!("{at} cannot be read")).of(&disk.name);
    };
    // Drives that keep their cache through a power cut say "write through" as well, and so does the kernel of SCSI
    // disks that show no cache (virtual ones, RAID controllers): only a SATA drive's is known to be off, and takes
    // `hdparm`.
    let vendor = look.sysfs.text(format!("{}/device/vendor", disk.folder()));
    let off = mode == "write through" && vendor.as_deref() == Some("ATA");
    Finding::hint_unless(!off, ITEM, mode).of(&disk.name).fix(format!("hdparm -W1 /dev/{}", disk.name))
}

/// NVMe, and a virtual disk with several queues: each processor has a queue of its own, or one with a few others, whose
/// interrupt the kernel binds there. That is as it should be.
fn interrupts(look: &Look, disk: &Disk) -> Finding {
    const ITEM: &str = "drive.irq";
    let bound = Finding::fine(ITEM, "bound by the kernel to the cores that submit").of(&disk.name);
    if disk.is_nvme() {
        return bound;
    }
    let folder = disk.pci_folder(look.sysfs);
    let finding = pci::irq(look, ITEM, &disk.name, &folder, None);
    match pci::queues_bound_by_virtio(look.sysfs, &folder) {
        0 => finding,
        // It is bound to all processors, and nobody but the kernel may move it.
        1 => Finding { fix: Vec::new(), ..finding }
            .fix("another queue of the disk for each vCPU (QEMU: num-queues=N of virtio-blk-pci), or fewer --cores"),
        _ => bound,
    }
}

fn poll_queues(look: &Look) -> Finding {
    const ITEM: &str = "drive.poll_queues";
    match look.sysfs.number("/sys/module/nvme/parameters/poll_queues") {
        None => Finding::unknown(ITEM, "/sys/module/nvme/parameters/poll_queues cannot be read"),
        Some(count) => Finding::hint_unless(count == 0, ITEM, count.to_string())
            .fix("nvme.poll_queues=0 on the kernel's command line, or options nvme poll_queues=0 in /etc/modprobe.d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::Scope;
    use crate::host::fake::Tree;

    #[test]
    fn of_a_multipath_drive_controller_and_path_are_judged() {
        let tree = Tree::new(&[
            ("/sys/block/nvme0n1/queue/scheduler", "none\n"),
            ("/sys/block/nvme0n1/device/nvme3/device/numa_node", "1\n"),
            ("/sys/block/nvme0c3n1/queue/scheduler", "[mq-deadline] none\n"),
            ("/sys/block/nvme0c3n2/queue/scheduler", "[kyber] none\n"),
            ("/sys/devices/system/node/node0/cpulist", "0\n"),
            ("/sys/devices/system/node/node1/cpulist", "1\n"),
            ("/sys/devices/system/cpu/cpu1/node1/x", ""),
        ]);
        let scope = Scope { cores: vec![1], paths: vec!["/dev/nvme0n1".into()], ..Scope::default() };
        let sysfs = tree.sysfs();
        let found = examine(&Look { sysfs: &sysfs, scope: &scope });
        let of = |item: &str| {
            let mine = found.iter().filter(|finding| finding.item == item);
            mine.map(|one| (one.subject.as_deref().unwrap(), one.value.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(of("drive.numa"), [("nvme0n1", "node 1, as all of 1")]);
        assert_eq!(of("drive.scheduler"), [("nvme0c3n1", "mq-deadline")]);
    }

    /// Nobody may write the affinity of an interrupt that the kernel manages (EIO, since Linux 6.12 EPERM).
    #[test]
    fn no_advice_is_to_move_interrupts_that_the_kernel_keeps() {
        let function = "/sys/devices/pci0000:00/0000:00:05.0";
        for (name, queues, verdict) in
            [("req.", 4, Verdict::Fine), ("req.", 1, Verdict::Hint), ("vqs", 4, Verdict::Hint)]
        {
            let tree = Tree::new(&[
                ("/sys/block/vda/queue/scheduler", "[none] mq-deadline\n"),
                (&format!("{function}/virtio2/x"), ""),
                (&format!("{function}/msi_irqs/39"), "msix\n"),
                ("/proc/irq/39/virtio2-config/x", ""),
                ("/proc/irq/39/smp_affinity_list", "0-3\n"),
                ("/sys/devices/system/cpu/online", "0-3\n"),
                ("/proc/self/status", "Cpus_allowed_list:\t0-3\n"),
            ]);
            let device = tree.sysfs().path("/sys/block/vda/device");
            std::os::unix::fs::symlink(format!("../../devices{}/virtio2", &function[12..]), device).unwrap();
            for queue in 0..queues {
                tree.put(&format!("{function}/msi_irqs/{}", 40 + queue), "msix\n");
                tree.put(&format!("/proc/irq/{}/virtio2-{name}{queue}/x", 40 + queue), "");
                tree.put(&format!("/proc/irq/{}/smp_affinity_list", 40 + queue), &format!("{}\n", (queue + 1) % 4));
            }
            let scope = Scope { cores: vec![1, 2, 3], ..Scope::default() };
            let sysfs = tree.sysfs();
            let found = interrupts(&Look { sysfs: &sysfs, scope: &scope }, &Disk { name: "vda".to_owned() });
            let moves = found.fix.iter().any(|fix| fix.contains("smp_affinity_list"));
            assert_eq!((found.verdict, moves), (verdict, name == "vqs"), "{found:?}");
            assert_eq!(found.fix.is_empty(), verdict == Verdict::Fine, "{found:?}");
        }
    }

    #[test]
    fn a_mapped_device_is_found_by_its_name() {
        let tree = Tree::new(&[
            ("/proc/self/mountinfo", "29 1 0:38 /root / rw - btrfs /dev/mapper/luks-1 rw\n"),
            ("/sys/block/dm-0/dm/name", "swap\n"),
            ("/sys/block/dm-1/dm/name", "luks-1\n"),
            ("/sys/class/block/dm-1/slaves/nvme0n1p3/x", ""),
            ("/sys/block/nvme0n1/nvme0n1p3/partition", "3\n"),
        ]);
        let sysfs = tree.sysfs();
        let partition = sysfs.path("/sys/class/block/nvme0n1p3");
        std::os::unix::fs::symlink("../../block/nvme0n1/nvme0n1p3", partition).unwrap();
        for path in ["/home/", "/dev/mapper/luks-1"] {
            let scope = Scope { paths: vec![path.into()], ..Scope::default() };
            let found = disks(&Look { sysfs: &sysfs, scope: &scope });
            assert_eq!(found, [Disk { name: "nvme0n1".to_owned() }], "{path}");
        }
    }

    #[test]
    fn only_a_sata_drive_has_a_cache_that_is_off() {
        for (vendor, verdict) in
            [(Some("ATA     \n"), Verdict::Hint), (Some("VMware  \n"), Verdict::Fine), (None, Verdict::Fine)]
        {
            let tree = Tree::new(&[("/sys/block/sda/queue/write_cache", "write through\n")]);
            if let Some(vendor) = vendor {
                tree.put("/sys/block/sda/device/vendor", vendor);
            }
            let scope = Scope::default();
            let sysfs = tree.sysfs();
            let found = write_cache(&Look { sysfs: &sysfs, scope: &scope }, &Disk { name: "sda".to_owned() });
            assert_eq!((found.verdict, found.fix.is_empty()), (verdict, verdict == Verdict::Fine), "{vendor:?}");
        }
    }
}
