//! The kernel's command line, changed as the host's boot loader wants it.

use crate::host::Sysfs;

const GRUBBY: &[&str] = &["/usr/sbin/grubby", "/sbin/grubby", "/usr/bin/grubby"];
const UPDATE_GRUB: &[&str] = &["/usr/sbin/update-grub", "/sbin/update-grub"];

/// The command that adds arguments, for the next boot. Fedora, RHEL and their kin have grubby, Debian and its kin
/// update-grub.
pub fn add(sysfs: &Sysfs, arguments: &str) -> String {
    let has = |places: &[&str]| places.iter().any(|at| sysfs.path(at).exists());
    if has(GRUBBY) {
        return format!("grubby --update-kernel=ALL --args='{arguments}' && reboot");
    }
    if has(UPDATE_GRUB) {
        let line = format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {arguments}\"");
        let folder = "/etc/default/grub.d";
        return format!("mkdir -p {folder} && echo '{line}' >> {folder}/95-host.cfg && update-grub && reboot");
    }
    format!("add to the kernel's command line, as the boot loader has it, and reboot: {arguments}")
}

/// What lets devices reach memory without a look-up for each page.
pub fn passthrough(sysfs: &Sysfs) -> &'static str {
    // Only ARM's cpuinfo names an implementer.
    let arm = sysfs.field("/proc/cpuinfo", "CPU implementer").is_some();
    if arm { "iommu.passthrough=1" } else { "iommu=pt" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn each_family_has_its_own_command() {
        let on = |file: &str| add(&Tree::new(&[(file, "")]).sysfs(), "nohz_full=1-3 rcu_nocbs=1-3");
        assert_eq!(on("/usr/sbin/grubby"), "grubby --update-kernel=ALL --args='nohz_full=1-3 rcu_nocbs=1-3' && reboot");
        assert_eq!(
            on("/usr/sbin/update-grub"),
            "mkdir -p /etc/default/grub.d && echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX nohz_full=1-3 \
             rcu_nocbs=1-3\"' >> /etc/default/grub.d/95-host.cfg && update-grub && reboot"
        );
        assert!(on("/boot/loader/loader.conf").ends_with("and reboot: nohz_full=1-3 rcu_nocbs=1-3"));
    }

    #[test]
    fn arm_has_its_own_word_for_passthrough() {
        let of = |line: &str| passthrough(&Tree::new(&[("/proc/cpuinfo", line)]).sysfs());
        assert_eq!(
            (of("CPU implementer\t: 0x41\n"), of("vendor_id\t: AuthenticAMD\n")),
            ("iommu.passthrough=1", "iommu=pt")
        );
    }
}
