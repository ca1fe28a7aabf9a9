//! The kernel's settings for TCP.

use super::{Finding, Look};
use crate::base::units::format_size;

/// What `tuning/sysctl.d` sets; at 10 ms it lets one connection carry 6.7 GB/s.
const BUFFER_BYTES: u64 = 64 << 20;
const ROUND_TRIP_SECONDS: f64 = 0.010;

pub fn examine(look: &Look) -> Vec<Finding> {
    vec![
        buffer(look, "net.tcp_wmem", "tcp_wmem", "4096 65536 67108864"),
        buffer(look, "net.tcp_rmem", "tcp_rmem", "4096 131072 67108864"),
        core_max(look),
        slow_start(look),
    ]
}

fn buffer(look: &Look, item: &str, name: &str, wanted: &str) -> Finding {
    let at = format!("/proc/sys/net/ipv4/{name}");
    let text = look.sysfs.text(&at).unwrap_or_default();
    let Some(max) = text.split_whitespace().nth(2).and_then(|number| number.parse::<u64>().ok()) else {
        return Finding::unknown(item, format!("{at} does not say its maximum"));
    };
    let rate = max as f64 / ROUND_TRIP_SECONDS / 1e9;
    let worth = format!("{} are {rate:.2} GB/s for each connection at a round trip of 10 ms", format_size(max));
    Finding::hint_unless(max >= BUFFER_BYTES, item, format!("at most {}", format_size(max)))
        .worth(worth, "calculated")
        .fix("scripts/tune-host.sh apply")
        .fix(format!("sysctl net.ipv4.{name}=\"{wanted}\""))
}

fn core_max(look: &Look) -> Finding {
    const ITEM: &str = "net.core_max";
    let number = |name: &str| look.sysfs.number(format!("/proc/sys/net/core/{name}"));
    match (number("wmem_max"), number("rmem_max")) {
        (Some(sent), Some(received)) => {
            Finding::fine(ITEM, format!("wmem_max {}, rmem_max {}", format_size(sent), format_size(received)))
        }
        _ => Finding::unknown(ITEM, "/proc/sys/net/core/wmem_max and rmem_max are not shown in this namespace"),
    }
}

fn slow_start(look: &Look) -> Finding {
    const ITEM: &str = "net.slow_start_after_idle";
    let at = "/proc/sys/net/ipv4/tcp_slow_start_after_idle";
    match look.sysfs.number(at) {
        None => Finding::unknown(ITEM, format!("{at} cannot be read")),
        Some(on) => Finding::hint_unless(on == 0, ITEM, on.to_string())
            .fix("scripts/tune-host.sh apply")
            .fix("sysctl net.ipv4.tcp_slow_start_after_idle=0"),
    }
}
