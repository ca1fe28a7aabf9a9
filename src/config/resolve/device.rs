//! What must be true before a block device may be written over.

use crate::base::fatal::Fatal;
use crate::base::program;
use crate::host::{Sysfs, block};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Everything that speaks against it, each with what was found; nothing is ever written here.
pub fn check(path: &Path, device: &str, allowed: &[String], sysfs: &Sysfs, errors: &mut Vec<Fatal>) {
    let shown = path.display();
    let Some(serial) = block::serial(sysfs, device) else {
        let what = format!("{shown} has no serial number in sysfs, so it cannot be named beyond doubt");
        errors.push(Fatal::host(what).mend(format!("make a file system on {shown} and use a file: target in it")));
        return;
    };
    let model = block::model(sysfs, device).unwrap_or_else(|| "unknown model".to_owned());
    if allowed.is_empty() {
        errors.push(
            Fatal::usage(format!("{shown} ({model}) is a block device; all its data would be lost"))
                .mend(format!("--overwrite-device={}", program::quoted(&serial))),
        );
    } else if !names(allowed, &serial) {
        let given = allowed.join("', '");
        let what = format!("--overwrite-device '{given}' is not the serial of {shown} ({model}), which is '{serial}'");
        errors.push(Fatal::usage(what).mend("check that it is the drive you mean; each needs an --overwrite-device"));
    }
    for user in block::users(sysfs, device) {
        errors.push(Fatal::host(format!("{shown} {user}")).mend(format!("lsblk {shown}, then release it")));
    }
    let exclusive = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path);
    if let Err(why) = exclusive {
        errors.push(
            Fatal::host(format!("{shown} cannot be opened for exclusive use: {why}")).mend(format!("fuser -v {shown}")),
        );
        return;
    }
    match block::signature(path) {
        Ok(None) => {}
        Ok(Some(what)) => {
            errors.push(Fatal::host(format!("{shown} holds {what}")).mend(format!("wipefs --all {shown}")))
        }
        Err(why) => errors.push(Fatal::host(format!("{shown} cannot be read: {why}"))),
    }
}

fn names(allowed: &[String], serial: &str) -> bool {
    allowed.iter().any(|given| given.trim() == serial)
}

/// A serial number that no target has, where all of them are named: it was meant for another drive.
pub fn reject_strangers(devices: &[&str], allowed: &[String], sysfs: &Sysfs, errors: &mut Vec<Fatal>) {
    let serials: Vec<_> = devices.iter().filter_map(|device| block::serial(sysfs, device)).collect();
    if serials.len() < devices.len() || !serials.iter().all(|serial| names(allowed, serial)) {
        return;
    }
    for given in allowed.iter().filter(|given| !serials.iter().any(|serial| given.trim() == serial)) {
        let what = format!("--overwrite-device '{given}' is the serial of no target");
        errors.push(Fatal::usage(what).mend("--target=file:/dev/DEVICE of that drive, or leave it out"));
    }
}

/// What has the name of a data file and is none, itself or behind a link: PATH and a number may make a device's name.
pub fn in_place_of_file(data: &Path, sysfs: &Sysfs) -> Option<Fatal> {
    let facts = std::fs::metadata(data).ok().filter(|facts| !facts.is_file())?;
    let end = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let shown = data.display();
    let behind = if end == data { String::new() } else { format!(" ({})", end.display()) };
    let kind = facts.file_type();
    let target = program::quoted_path(&end);
    let (what, mend) = if kind.is_block_device() {
        let (major, minor) = block::split_device(facts.rdev());
        let serial = block::serial(sysfs, &format!("{major}:{minor}")).unwrap_or_else(|| "SERIAL".to_owned());
        let mend = format!("--target=file:{target} --overwrite-device={}", program::quoted(&serial));
        (format!("{shown} is a block device{behind}, not a data file; all its data would be lost"), mend)
    } else if kind.is_char_device() {
        (format!("{shown} is a character device{behind}, not a data file"), format!("--target=file:{target}"))
    } else {
        let kind = if kind.is_dir() { "a folder" } else { "a pipe or socket" };
        (format!("{shown} is {kind}{behind}, not a data file"), "another PATH".to_owned())
    };
    Some(Fatal::usage(what).mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::host::fake::Tree;

    fn named(serials: &[&str]) -> Vec<String> {
        serials.iter().map(|serial| (*serial).to_owned()).collect()
    }

    fn found(image: &Path, allowed: Option<&str>, tree: &Tree) -> Vec<Fatal> {
        let mut errors = Vec::new();
        check(image, "8:16", &named(allowed.as_slice()), &tree.sysfs(), &mut errors);
        errors
    }

    #[test]
    fn each_of_several_drives_has_a_serial_of_its_own() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let tree = Tree::new(&[("/sys/dev/block/8:16/serial", "S1"), ("/sys/dev/block/8:32/serial", "S2")]);
        let told = |serials: &[&str]| {
            let (allowed, devices, mut errors) = (named(serials), ["8:16", "8:32"], Vec::new());
            devices.iter().for_each(|device| check(image.path(), device, &allowed, &tree.sysfs(), &mut errors));
            reject_strangers(&devices, &allowed, &tree.sysfs(), &mut errors);
            errors.into_iter().map(|fatal| fatal.what).collect::<Vec<_>>()
        };
        assert_eq!(told(&["S2", " S1"]), [""; 0]);
        let one = told(&["S1"]);
        assert!(one.len() == 1 && one[0].contains("'S1' is not the serial") && one[0].ends_with("'S2'"), "{one:?}");
        assert_eq!(told(&["S1", "S2", "S3"]), ["--overwrite-device 'S3' is the serial of no target"]);
    }

    #[test]
    fn only_the_named_idle_empty_drive_passes() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let tree = Tree::new(&[("/sys/dev/block/8:16/device/model", "M"), ("/sys/dev/block/8:16/serial", "S1")]);
        assert!(found(image.path(), Some("S1"), &tree).is_empty());
        let missing = found(image.path(), None, &tree);
        assert!(missing[0].exit == Exit::Usage && missing[0].mend.as_deref() == Some("--overwrite-device=S1"));
        assert!(found(image.path(), Some("S2"), &tree)[0].what.contains("'S1'"));
        tree.put("/sys/dev/block/8:16/holders/md0", "");
        std::fs::write(image.path(), b"LUKS\xba\xbe").unwrap();
        let errors = found(image.path(), Some("S1"), &tree);
        let all = errors.iter().map(|e| e.what.as_str()).collect::<Vec<_>>().join("\n");
        assert!(all.contains("md0") && all.contains("LUKS") && errors.iter().all(|e| e.exit == Exit::Host), "{all}");
        assert!(found(image.path(), Some("S1"), &Tree::new(&[]))[0].what.contains("no serial"));
    }

    #[test]
    fn what_is_no_file_is_none_behind_a_link_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("/dev/null", path("null")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("lost")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        for (name, words, mended) in [
            ("null", "is a character device (/dev/null)", "--target=file:/dev/null"),
            ("folder", "is a folder", "another PATH"),
            ("pipe", "is a pipe or socket", "another PATH"),
        ] {
            let fatal = in_place_of_file(&path(name), &Sysfs::default()).unwrap();
            assert!(fatal.exit == Exit::Usage && fatal.what.contains(words), "{fatal}");
            assert_eq!(fatal.mend.as_deref(), Some(mended));
        }
        for name in ["file", "link", "lost", "nothing"] {
            assert_eq!(in_place_of_file(&path(name), &Sysfs::default()), None, "{name}");
        }
    }

    #[test]
    fn a_serial_with_blanks_is_one_word_of_the_shell() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let serial = "t10.ATA     QEMU HARDDISK   QM00001";
        let tree = Tree::new(&[("/sys/dev/block/8:16/device/wwid", serial)]);
        let mend = found(image.path(), None, &tree).remove(0).mend;
        assert_eq!(mend, Some(format!("--overwrite-device='{serial}'")));
        assert!(found(image.path(), Some(serial), &tree).is_empty());
    }
}
