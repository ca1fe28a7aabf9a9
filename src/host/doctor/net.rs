//! The kernel's settings for TCP.

use super::{Finding, Look};
use crate::base::units::format_size;

/// What `tuning/sysctl.d` sets; at 10 ms it lets one connection carry 6.7 GB/s.
const BUFFER_BYTES: u64 = 64 << 20;
const ROUND_TRIP_SECONDS: f64 = 0.010;

/// `within_host`: the load stays on this host.
pub fn examine(look: &Look, within_host: bool) -> Vec<Finding> {
    vec![
        buffer(look, "net.tcp_wmem", "tcp_wmem", "4096 65536 67108864"),
        buffer(look, "net.tcp_rmem", "tcp_rmem", "4096 131072 67108864"),
        core_max(look),
        slow_start(look),
        congestion_control(look, within_host),
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

/// Of those in Linux BBR alone has TCP pace by timers of its own (`SK_PACING_NEEDED`); its variants begin with its name.
fn congestion_control(look: &Look, within_host: bool) -> Finding {
    const ITEM: &str = "net.congestion_control";
    let at = "/proc/sys/net/ipv4/tcp_congestion_control";
    let Some(name) = look.sysfs.text(at).filter(|name| !name.is_empty()) else {
        return Finding::unknown(ITEM, format!("{at} cannot be read"));
    };
    if within_host && !look.scope.rskafka {
        let but = "not with --kafka-client rskafka";
        return Finding::fine(ITEM, format!("{name}; reno to this host's own addresses ({but})"));
    }
    let others = look.sysfs.text("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    // The one is most kernels' default, the other is always there.
    let other = others.split_whitespace().find(|other| *other == "cubic").unwrap_or("reno");
    Finding::hint_unless(!name.starts_with("bbr"), ITEM, name)
        .fix(format!("sysctl net.ipv4.tcp_congestion_control={other}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::{Scope, Verdict};
    use crate::host::fake::Tree;

    fn judged(name: &str, available: &str, within_host: bool) -> (Verdict, String, Vec<String>) {
        judged_in(Scope::default(), name, available, within_host)
    }

    fn judged_in(scope: Scope, name: &str, available: &str, within_host: bool) -> (Verdict, String, Vec<String>) {
        let tree = Tree::new(&[
            ("/proc/sys/net/ipv4/tcp_congestion_control", name),
            ("/proc/sys/net/ipv4/tcp_available_congestion_control", available),
        ]);
        let sysfs = tree.sysfs();
        let found = congestion_control(&Look { sysfs: &sysfs, scope: &scope }, within_host);
        (found.verdict, found.value, found.fix)
    }

    #[test]
    fn bbr_is_a_hint_wherever_the_load_leaves_the_host() {
        let set = |other: &str| vec![format!("sysctl net.ipv4.tcp_congestion_control={other}")];
        for name in ["bbr", "bbr3"] {
            assert_eq!(judged(name, "reno bbr cubic", false), (Verdict::Hint, name.to_owned(), set("cubic")));
            assert_eq!(judged(name, "reno bbr", false), (Verdict::Hint, name.to_owned(), set("reno")));
        }
        let (verdict, value, fix) = judged("bbr", "reno bbr cubic", true);
        assert!(value.starts_with("bbr; reno to this host's own addresses"), "{value}");
        assert_eq!((verdict, fix), (Verdict::Fine, vec![]));
    }

    #[test]
    fn the_compatible_kafka_client_has_the_default_within_the_host_too() {
        let judged = |name| judged_in(Scope { rskafka: true, ..Scope::default() }, name, "reno bbr cubic", true);
        let set = "sysctl net.ipv4.tcp_congestion_control=cubic".to_owned();
        assert_eq!(judged("bbr"), (Verdict::Hint, "bbr".to_owned(), vec![set]));
        assert_eq!(judged("cubic"), (Verdict::Fine, "cubic".to_owned(), vec![]));
    }

    #[test]
    fn what_does_not_pace_by_timers_of_its_own_is_fine() {
        for name in ["cubic", "reno", "dctcp", "cdg"] {
            assert_eq!(judged(name, "reno cubic", false), (Verdict::Fine, name.to_owned(), vec![]));
        }
        assert_eq!(judged("", "", false).0, Verdict::Unknown);
    }
}
