//! How a card queues what it has to send.

use super::{Finding, Look};
use crate::host::network;

/// They only hand packets on: what lies below them, one for each send queue, is what counts.
const ONE_FOR_EACH_QUEUE: &[&str] = &["mq", "mqprio"];
/// `noqueue` is a virtual card's, where nothing waits.
const GOOD: &[&str] = &["fq", "noqueue"];

pub fn of_card(look: &Look, name: &str) -> Finding {
    const ITEM: &str = "net.qdisc";
    let default = look.sysfs.text("/proc/sys/net/core/default_qdisc");
    let default = default.map(|kind| format!(" (default {kind})")).unwrap_or_default();
    let kinds = network::qdiscs(look.sysfs, name);
    let counting: Vec<_> = kinds.iter().filter(|kind| !ONE_FOR_EACH_QUEUE.contains(&kind.as_str())).collect();
    if counting.is_empty() {
        return Finding::unknown(ITEM, format!("the kernel does not tell how it queues{default}")).of(name);
    }
    let good = counting.iter().all(|kind| GOOD.contains(&kind.as_str()));
    Finding::hint_unless(good, ITEM, format!("{}{default}", kinds.join(", "))).of(name).fix(command(look, name))
}

/// A new mq gives each queue what is the default then. One that somebody has put there the kernel does not make anew,
/// unless something else was in its place.
fn command(look: &Look, name: &str) -> String {
    let paced = format!("sysctl -w net.core.default_qdisc=fq && tc qdisc replace dev {name} root fq");
    match network::send_queues(look.sysfs, name).len() {
        0 | 1 => paced,
        _ => format!("{paced} && tc qdisc replace dev {name} root mq"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::doctor::{Scope, Verdict};
    use crate::host::fake::Tree;

    fn judged(default: &str, kinds: &str, queues: usize) -> Finding {
        let tree = Tree::new(&[
            ("/proc/sys/net/core/default_qdisc", default),
            ("/ethtool/eth0", &format!("ring.tx: 256\nqdisc: {kinds}\n")),
        ]);
        for queue in 0..queues {
            tree.put(&format!("/sys/class/net/eth0/queues/tx-{queue}/x"), "");
        }
        let (sysfs, scope) = (tree.sysfs(), Scope::default());
        of_card(&Look { sysfs: &sysfs, scope: &scope }, "eth0")
    }

    #[test]
    fn what_a_card_has_counts_and_not_what_it_would_get() {
        let default_only = judged("fq", "mq pfifo_fast", 4);
        assert_eq!((default_only.verdict, default_only.value.as_str()), (Verdict::Hint, "mq, pfifo_fast (default fq)"));
        let card_only = judged("fq_codel", "mq fq", 4);
        assert_eq!((card_only.verdict, card_only.value.as_str()), (Verdict::Fine, "mq, fq (default fq_codel)"));
        assert_eq!(card_only.subject.as_deref(), Some("eth0"));
        for (kinds, verdict) in [
            ("fq", Verdict::Fine),
            ("noqueue", Verdict::Fine),
            ("mq fq fq_codel", Verdict::Hint),
            ("htb fq", Verdict::Hint),
            ("mq", Verdict::Unknown),
            ("", Verdict::Unknown),
        ] {
            assert_eq!(judged("fq", kinds, 4).verdict, verdict, "{kinds}");
        }
    }

    #[test]
    fn the_command_names_the_card_and_fits_its_queues() {
        let one = "sysctl -w net.core.default_qdisc=fq && tc qdisc replace dev eth0 root fq";
        assert_eq!(judged("fq_codel", "fq_codel", 1).fix, [one]);
        let several = format!("{one} && tc qdisc replace dev eth0 root mq");
        assert_eq!(judged("fq_codel", "mq fq_codel", 4).fix, [several]);
    }
}
