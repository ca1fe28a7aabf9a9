//! What must be true before a block device may be written over.

use crate::base::fatal::Fatal;
use crate::base::program;
use crate::host::{Sysfs, block};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Everything that speaks against it, each with what was found; nothing is ever written here.
pub fn check(path: &Path, device: &str, allowed: Option<&str>, sysfs: &Sysfs, errors: &mut Vec<Fatal>) {
    let shown = path.display();
    let Some(serial) = block::serial(sysfs, device) else {
        let what = format!("{shown} has no serial number in sysfs, so it cannot be named beyond doubt");
        errors.push(Fatal::host(what).mend(format!("make a file system on {shown} and use a file: target in it")));
        return;
    };
    let model = block::model(sysfs, device).unwrap_or_else(|| "unknown model".to_owned());
    match allowed {
        None => errors.push(
            Fatal::usage(format!("{shown} ({model}) is a block device; all its data would be lost"))
                .mend(format!("--overwrite-device={}", program::quoted(&serial))),
        ),
        Some(given) if given.trim() != serial => {
            let what =
                format!("--overwrite-device '{given}' is not the serial of {shown} ({model}), which is '{serial}'");
            errors.push(Fatal::usage(what).mend("check that it is the drive you mean"));
        }
        Some(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fatal::Exit;
    use crate::host::fake::Tree;

    fn found(image: &Path, allowed: Option<&str>, tree: &Tree) -> Vec<Fatal> {
        let mut errors = Vec::new();
        check(image, "8:16", allowed, &tree.sysfs(), &mut errors);
        errors
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
