//! Block devices: model, serial, and everything that speaks against writing over one.

use crate::host::Sysfs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// `st_dev` or `st_rdev` as major and minor (glibc's encoding).
pub fn split_device(number: u64) -> (u64, u64) {
    let major = (number >> 8 & 0xfff) | (number >> 32 & 0xffff_f000);
    let minor = (number & 0xff) | (number >> 12 & 0xffff_ff00);
    (major, minor)
}

fn folder(device: &str) -> String {
    format!("/sys/dev/block/{device}")
}

/// The first of these files that says something; a partition is answered for by its disk.
fn attribute(sysfs: &Sysfs, device: &str, names: &[&str]) -> Option<String> {
    let of = |at: &str| names.iter().find_map(|name| sysfs.text(format!("{at}/{name}")).filter(|t| !t.is_empty()));
    let own = folder(device);
    of(&own).or_else(|| sysfs.path(&own).join("partition").exists().then(|| of(&format!("{own}/.."))).flatten())
}

/// `nvme0n1`, `vda1`.
pub fn name(sysfs: &Sysfs, device: &str) -> Option<String> {
    let text = sysfs.text(format!("{}/uevent", folder(device)))?;
    text.lines().find_map(|line| line.strip_prefix("DEVNAME=").map(str::to_owned))
}

pub fn model(sysfs: &Sysfs, device: &str) -> Option<String> {
    attribute(sysfs, device, &["device/model", "dm/name", "md/level", "loop/backing_file"])
}

/// What identifies this very drive.
pub fn serial(sysfs: &Sysfs, device: &str) -> Option<String> {
    attribute(sysfs, device, &["device/serial", "serial", "device/wwid", "wwid", "dm/uuid", "md/uuid"])
}

pub fn capacity_bytes(sysfs: &Sysfs, device: &str) -> Option<u64> {
    sysfs.number(format!("{}/size", folder(device)))?.checked_mul(512)
}

/// Who uses the device, in words: holders (LVM, RAID, dm-crypt), partitions, mounts, swap. Empty: nobody.
pub fn users(sysfs: &Sysfs, device: &str) -> Vec<String> {
    let at = folder(device);
    let mut found = Vec::new();
    found.extend(sysfs.names(format!("{at}/holders")).iter().map(|holder| format!("is held by {holder}")));
    for part in sysfs.names(&at) {
        if sysfs.path(format!("{at}/{part}/partition")).exists() {
            found.push(format!("has the partition {part}"));
        }
    }
    let mounts = sysfs.text("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields.get(2) == Some(&device)).then(|| format!("is mounted on {}", fields.get(4).unwrap_or(&"?")))
    });
    found.extend(mounted);
    if let Some(name) = name(sysfs, device) {
        let swaps = sysfs.text("/proc/swaps").unwrap_or_default();
        let mut used = swaps.lines().filter_map(|line| line.split_whitespace().next());
        if used.any(|swap| swap == format!("/dev/{name}")) {
            found.push("is in use as swap".to_owned());
        }
    }
    found
}

/// (offset, bytes, what it means)
const SIGNATURES: &[(u64, &[u8], &str)] = &[
    (0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "an f2fs file system"),
    (0x8000, b"JFS1", "a JFS file system"),
    (0x1_0034, b"ReIsEr", "a ReiserFS file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"LABELONE", "an LVM physical volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (1024, b"LABELONE", "an LVM physical volume"),
    (1536, b"LABELONE", "an LVM physical volume"),
    (0, b"bluestore block device", "a Ceph BlueStore device"),
    (32, b"ORCLDISK", "an Oracle ASM disk"),
    (4086, b"SWAPSPACE2", "swap space"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (510, &[0x55, 0xaa], "a boot sector or partition table"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a RAID member"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a RAID member"),
    (3, b"NTFS    ", "an NTFS file system"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (4096 + 24, &[0xc6, 0x85, 0x73, 0xf6], "a bcache device"),
    // What hosts share: it may be mounted elsewhere.
    (1 << 10, b"OCFSV2", "an OCFS2 file system"),
    (2 << 10, b"OCFSV2", "an OCFS2 file system"),
    (4 << 10, b"OCFSV2", "an OCFS2 file system"),
    (8 << 10, b"OCFSV2", "an OCFS2 file system"),
    (64 << 10, &[0x01, 0x16, 0x19, 0x70], "a GFS2 file system"),
    (1 << 20, &[0x0d, 0xd0, 0x01, 0xc0], "a VMFS volume"),
    (2 << 20, &[0x5e, 0xf1, 0xab, 0x2f], "a VMFS file system"),
    // The magic numbers of NILFS2 and HFS+ are two bytes: with their versions they are hardly there by chance.
    (0x400, &[2, 0, 0, 0, 0, 0, 0x34, 0x34], "a NILFS2 file system"),
    (0x400, b"H+\x00\x04", "an HFS+ file system"),
    (0x400, b"HX\x00\x05", "an HFS+ file system"),
    (0x400, &[0xe2, 0xe1, 0xf5, 0xe0], "an EROFS file system"),
    (32, b"NXSB", "an APFS container"),
    (0x8001, b"BEA01", "a UDF file system"),
    (0, b"dmvdo001", "a VDO volume"),
    (0x204, b"!Stra0tis\x86\xff\x02^\x41rh", "a Stratis pool member"),
];

/// The last of them lies a little beyond 2 MiB.
const HEAD_BYTES: u64 = (2 << 20) + 4096;

/// ZFS keeps 128 uberblocks from 128 KiB on in each of its labels; any one of them is enough.
const ZFS_UBERBLOCKS: std::ops::Range<usize> = 128 << 10..256 << 10;
const ZFS_MAGIC: [[u8; 8]; 2] = [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()];

/// What lies at the start (and, for old RAID, the end) of a device or image; `None`: nothing that is known.
pub fn signature(device: &Path) -> io::Result<Option<&'static str>> {
    let mut file = std::fs::File::open(device)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let known = SIGNATURES.iter().find(|(at, magic, _)| head.get(*at as usize..).is_some_and(|b| b.starts_with(magic)));
    if let Some((_, _, what)) = known {
        return Ok(Some(what));
    }
    let uberblocks = head.get(ZFS_UBERBLOCKS.start..ZFS_UBERBLOCKS.end.min(head.len())).unwrap_or_default();
    if uberblocks.chunks(1024).any(|block| ZFS_MAGIC.iter().any(|magic| block.starts_with(magic))) {
        return Ok(Some("a ZFS pool member"));
    }
    let length = file.seek(SeekFrom::End(0))?;
    let tail_at = length.saturating_sub(128 << 10);
    file.seek(SeekFrom::Start(tail_at))?;
    let mut tail = Vec::new();
    file.take(128 << 10).read_to_end(&mut tail)?;
    // Version 0.90 and 1.0 superblocks sit 64 KiB aligned, or 8 KiB, before the end.
    let raid = tail.chunks(4096).any(|block| block.starts_with(&[0xfc, 0x4e, 0x2b, 0xa9]));
    Ok(raid.then_some("a RAID member"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;
    use std::io::Write;

    fn tree() -> Tree {
        Tree::new(&[
            ("/sys/dev/block/259:0/uevent", "MAJOR=259\nDEVNAME=nvme0n1\n"),
            ("/sys/dev/block/259:0/size", "2048\n"),
            ("/sys/dev/block/259:0/device/model", "FAST 9000   \n"),
            ("/sys/dev/block/259:0/device/serial", "S3R1AL\n"),
            ("/proc/self/mountinfo", "27 1 254:0 / / rw - ext4 /dev/vda rw\n"),
        ])
    }

    #[test]
    fn an_idle_drive_is_named() {
        let tree = tree();
        let sysfs = tree.sysfs();
        assert_eq!(name(&sysfs, "259:0").as_deref(), Some("nvme0n1"));
        assert_eq!(model(&sysfs, "259:0").as_deref(), Some("FAST 9000"));
        assert_eq!(serial(&sysfs, "259:0").as_deref(), Some("S3R1AL"));
        assert_eq!(capacity_bytes(&sysfs, "259:0"), Some(1 << 20));
        assert!(users(&sysfs, "259:0").is_empty());
        assert_eq!(serial(&sysfs, "7:0"), None);
    }

    #[test]
    fn every_kind_of_use_is_found() {
        let tree = tree();
        tree.put("/sys/dev/block/259:0/holders/dm-0", "");
        tree.put("/sys/dev/block/259:0/nvme0n1p1/partition", "1\n");
        tree.put("/proc/self/mountinfo", "27 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n");
        tree.put("/proc/swaps", "Filename Type\n/dev/nvme0n1 partition 1 0 -2\n");
        let found = users(&tree.sysfs(), "259:0").join(", ");
        for word in ["dm-0", "nvme0n1p1", "/data", "swap"] {
            assert!(found.contains(word), "{word} in {found}");
        }
    }

    const IMAGE_BYTES: u64 = 4 << 20;

    /// What is seen of a device that holds nothing but these bytes.
    fn seen_of(at: u64, magic: &[u8]) -> Option<&'static str> {
        let mut image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(IMAGE_BYTES).unwrap();
        image.seek(SeekFrom::Start(at)).unwrap();
        image.write_all(magic).unwrap();
        image.flush().unwrap();
        signature(image.path()).unwrap()
    }

    #[test]
    fn each_signature_is_seen_and_an_empty_image_is_not() {
        assert_eq!(seen_of(0, b""), None);
        let zfs = (ZFS_UBERBLOCKS.start as u64 + 5 * 1024, &ZFS_MAGIC[0][..], "a ZFS pool member");
        let old_raid = (IMAGE_BYTES - (64 << 10), &[0xfc, 0x4e, 0x2b, 0xa9][..], "a RAID member");
        for (at, magic, what) in SIGNATURES.iter().copied().chain([zfs, old_raid]) {
            assert!(at + magic.len() as u64 <= HEAD_BYTES || what == old_raid.2, "{what} is never looked at");
            assert_eq!(seen_of(at, magic), Some(what));
        }
    }

    /// The numbers are those that the kernel's headers and libblkid have.
    #[test]
    fn file_systems_that_other_hosts_may_have_mounted_are_known() {
        for block in [1 << 10, 2 << 10, 4 << 10, 8 << 10] {
            assert_eq!(seen_of(block, b"OCFSV2\0\0"), Some("an OCFS2 file system"));
        }
        assert_eq!(seen_of(65536, &0x0116_1970_u32.to_be_bytes()), Some("a GFS2 file system"));
        assert_eq!(seen_of(1 << 20, &0xc001_d00d_u32.to_le_bytes()), Some("a VMFS volume"));
        assert_eq!(seen_of(2 << 20, &0x2fab_f15e_u32.to_le_bytes()), Some("a VMFS file system"));
        assert_eq!(seen_of(1024, &0xe0f5_e1e2_u32.to_le_bytes()), Some("an EROFS file system"));
        assert_eq!(seen_of(32, b"NXSB"), Some("an APFS container"));
        assert_eq!(seen_of(32769, b"BEA01\x01"), Some("a UDF file system"));
        let revision: [&[u8]; 3] = [&2u32.to_le_bytes(), &0u16.to_le_bytes(), &0x3434_u16.to_le_bytes()];
        assert_eq!(seen_of(1024, &revision.concat()), Some("a NILFS2 file system"));
        for (name, version) in [(b"H+", 4u16), (b"HX", 5)] {
            assert_eq!(seen_of(1024, &[&name[..], &version.to_be_bytes()].concat()), Some("an HFS+ file system"));
        }
        // Text at that place is no file system, nor are numbers of ZFS where it has none.
        assert_eq!((seen_of(1030, b"44"), seen_of(1024, b"H+ is text")), (None, None));
        assert_eq!(seen_of(300 << 10, &ZFS_MAGIC[0]), None);
    }

    #[test]
    fn device_numbers_split_as_glibc_packs_them() {
        assert_eq!(split_device(0xfe00), (254, 0));
        assert_eq!(split_device(0x10_3a01), (0x3a, 0x101));
    }
}
