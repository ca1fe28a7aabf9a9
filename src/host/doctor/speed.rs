//! What a way out of this host carries: the speed of its cards together, and the size of its packets.

use super::{Finding, Look};
use crate::host::Sysfs;
use crate::host::capacity::tcp_goodput_bytes_per_second;
use crate::host::network::{Way, folder};

const REFERENCE_BITS_PER_SECOND: u64 = 100_000_000_000;
const MTU_LARGE: u64 = 9000;
/// Clouds stop a little below 9000; what that costs is a tenth of a percent.
const MTU_LARGE_MIN: u64 = 8800;
/// What the networks behind these drivers take at most.
const MTU_OF_CLOUDS: &[(&str, u64)] = &[("ena", 9001), ("gve", 8896)];

/// Of a bond it is that of all its cards: none of them has to be fast enough by itself.
pub fn speed(look: &Look, way: &Way, mtu: Option<u64>) -> Finding {
    const ITEM: &str = "nic.speed";
    let Some(bits) = way.bits_per_second(look.sysfs) else {
        return Finding::unknown(ITEM, "the card does not say its speed (virtual ones do not, or make one up)")
            .of(&way.top);
    };
    let (gigabits, mtu) = (bits as f64 / 1e9, mtu.unwrap_or(1500).min(1 << 20));
    let carries = tcp_goodput_bytes_per_second(gigabits, mtu as u32) / 1e9;
    let worth = format!("at MTU {mtu} it carries {carries:.2} GB/s of payload");
    let ask: Vec<_> = way.cards.iter().map(|card| format!("ethtool {card}")).collect();
    let ask = ask.join(", ");
    Finding::hint_unless(bits >= REFERENCE_BITS_PER_SECOND, ITEM, format!("{gigabits} Gbit/s"))
        .of(&way.top)
        .worth(worth, "calculated")
        .fix(format!("a faster link: 8 GB/s from one host need 100 Gbit/s (what was negotiated: {ask})"))
}

/// Of what the route has: a VLAN or bridge over a large one may have a small one.
pub fn mtu(sysfs: &Sysfs, way: &Way, mtu: Option<u64>) -> Finding {
    const ITEM: &str = "nic.mtu";
    let name = &way.top;
    let Some(mtu) = mtu else {
        return Finding::unknown(ITEM, format!("{}/mtu cannot be read", folder(name))).of(name);
    };
    let wanted = mtu_large(sysfs, way);
    let finding = Finding::hint_unless(mtu >= MTU_LARGE_MIN, ITEM, mtu.to_string()).of(name);
    let steps = way.upwards(sysfs);
    let finding = match steps.as_slice() {
        [_] => finding.fix(format!("scripts/tune-host.sh apply --nic {name} --mtu {wanted}")),
        _ => finding,
    };
    let set: Vec<_> = steps.iter().map(|name| format!("ip link set {name} mtu {wanted}")).collect();
    finding.fix(format!("{} # if every switch and the peer take it", set.join(" && ")))
}

/// What all the cards take.
fn mtu_large(sysfs: &Sysfs, way: &Way) -> u64 {
    let of_card = |card: &String| {
        let facts = sysfs.text(format!("{}/device/uevent", folder(card)))?;
        let driver = facts.lines().find_map(|line| line.strip_prefix("DRIVER="))?;
        MTU_OF_CLOUDS.iter().find(|(name, _)| *name == driver).map(|(_, mtu)| *mtu)
    };
    way.cards.iter().map(|card| of_card(card).unwrap_or(MTU_LARGE)).min().unwrap_or(MTU_LARGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_gigabits_carry_what_the_bounds_say() {
        let gigabytes = |mtu| tcp_goodput_bytes_per_second(100.0, mtu) / 1e9;
        assert!((gigabytes(1500) - 11.77).abs() < 0.01 && (gigabytes(9000) - 12.38).abs() < 0.01);
    }
}
