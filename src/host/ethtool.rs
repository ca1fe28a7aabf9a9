//! What a network card says only when its driver is asked: rings, coalescing, channels, offloads.

use crate::host::Sysfs;
use crate::sys;
use std::collections::BTreeMap;

/// By name (`ring.tx`, `offload.tso`; see `sys::ethtool`); what the driver does not tell is not there. Of a recorded
/// host they are lines `name: number` in the file `ethtool/NIC` below its root.
pub fn facts(sysfs: &Sysfs, nic: &str) -> BTreeMap<String, u64> {
    if sysfs.is_live() {
        return sys::ethtool::facts(nic).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }
    let text = sysfs.text(format!("/ethtool/{nic}")).unwrap_or_default();
    let fact = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(fact).collect()
}
