//! The IOMMU: how it treats the cards and drives in the scope.

use super::drive::Disk;
use super::{Finding, Look, Verdict, boot};

pub fn examine(look: &Look, nics: &[String], disks: &[Disk]) -> Vec<Finding> {
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
            // No more than this one argument: tune-host.sh --boot would isolate processors, too, or no longer.
            .fix(boot::add(look.sysfs, boot::passthrough(look.sysfs)))
    };
    modes.into_iter().map(judge).collect()
}
