//! Through io_uring or by system calls: what `--io auto` comes to.

use crate::base::fatal::Fatal;
use crate::config::resolve::target::Targets;
use crate::config::values::Wanted;
use crate::host::fs as host_fs;
use crate::plan::{Fsync, Io, KafkaClient, Poll, SinkKind};
use std::collections::BTreeMap;

/// What decides, besides what was asked for.
pub struct Facts<'a> {
    pub targets: &'a Targets,
    /// Of each producer.
    pub core_of: &'a [usize],
    /// Files are written past the page cache.
    pub direct: bool,
    pub poll: Poll,
}

/// The back end that works here. Standard output, and a target that writes nothing, have none.
pub fn choose(
    wanted: &Wanted,
    facts: &Facts,
    uring_probe: fn() -> Result<(), String>,
    notes: &mut Vec<String>,
    errors: &mut Vec<Fatal>,
) -> Io {
    let is_asked_for = wanted.io == Some(Io::Syscall);
    if is_asked_for || !has_ring(wanted, facts.targets.kind) || (wanted.io.is_none() && calls_are_faster(wanted, facts))
    {
        return Io::Syscall;
    }
    match uring_probe() {
        Ok(()) => Io::Uring,
        Err(why) if wanted.io == Some(Io::Uring) => {
            let mend = "sysctl kernel.io_uring_disabled=0 and a seccomp profile that allows io_uring, or --io=auto";
            errors.push(Fatal::host(format!("--io uring: {why}")).mend(mend));
            Io::Syscall
        }
        Err(why) => {
            notes.push(format!("io_uring cannot be used here ({why}); system calls are used instead"));
            Io::Syscall
        }
    }
}

/// rskafka has sockets of its own.
fn has_ring(wanted: &Wanted, kind: SinkKind) -> bool {
    match kind {
        SinkKind::Null | SinkKind::Stdout => false,
        SinkKind::Kafka => wanted.network.kafka.client != Some(KafkaClient::Rskafka),
        SinkKind::File | SinkKind::Tcp | SinkKind::Http => true,
    }
}

fn calls_are_faster(wanted: &Wanted, facts: &Facts) -> bool {
    let is_cached = facts.targets.kind == SinkKind::File && !facts.direct;
    let holds_up_nobody = || facts.poll == Poll::Busy && calls_hold_up_nobody(wanted, facts);
    is_cached && (is_in_memory(facts.targets) || holds_up_nobody())
}

/// Copying takes the same time for whoever does it, and handing it to io_uring's worker thread comes on top. Where the
/// name of a device lies says nothing of it.
fn is_in_memory(targets: &Targets) -> bool {
    targets.places.iter().all(|place| !place.is_device() && host_fs::is_in_memory(place.path()))
}

/// io_uring hands what goes to the page cache to a worker thread, which has to share the core with one of ours that
/// polls. A system call is faster, where the core has nothing else to do while it waits for the drive.
fn calls_hold_up_nobody(wanted: &Wanted, facts: &Facts) -> bool {
    let places = facts.targets.count();
    let mut place_of = BTreeMap::new();
    let is_the_only_place = |(k, core): (usize, &usize)| {
        let place = k % places;
        *place_of.entry(*core).or_insert(place) == place
    };
    wanted.fsync != Fsync::Each && facts.core_of.iter().enumerate().all(is_the_only_place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Settings;
    use crate::config::resolve::target;
    use crate::config::values;
    use crate::host::Sysfs;

    fn wanted() -> Wanted {
        values::read(&Settings::default(), &mut Vec::new())
    }

    fn targets(urls: &[&str]) -> Targets {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        target::resolve(&urls, &Sysfs::default(), &mut Vec::new())
    }

    #[test]
    fn a_core_with_two_places_is_held_up_by_a_call() {
        let two = targets(&["file:/a/", "file:/b/"]);
        let alone = |core_of: &[usize], fsync| {
            let facts = Facts { targets: &two, core_of, direct: false, poll: Poll::Busy };
            calls_hold_up_nobody(&Wanted { fsync, ..wanted() }, &facts)
        };
        assert!(alone(&[0, 1, 0, 1], Fsync::End), "each core has one of the places");
        assert!(!alone(&[0, 1, 1, 0], Fsync::End));
        assert!(!alone(&[0, 1], Fsync::Each), "it waits for the drive itself");
    }

    #[test]
    fn io_uring_is_probed_only_where_it_would_be_used() {
        let chosen = |urls: &[&str], direct, probe: fn() -> Result<(), String>| {
            let (targets, mut notes, mut errors) = (targets(urls), Vec::new(), Vec::new());
            let facts = Facts { targets: &targets, core_of: &[0], direct, poll: Poll::Busy };
            let io = choose(&wanted(), &facts, probe, &mut notes, &mut errors);
            assert!(errors.is_empty(), "{errors:?}");
            (io, notes.len())
        };
        let unused: fn() -> Result<(), String> = || panic!("nobody needs it");
        for url in ["null", "stdout", "file:/a/"] {
            assert_eq!(chosen(&[url], false, unused), (Io::Syscall, 0), "{url}");
        }
        for (url, direct) in [("tcp://h:1", false), ("http://h/", false), ("kafka://h/t", false), ("file:/a/", true)] {
            assert_eq!(chosen(&[url], direct, || Ok(())), (Io::Uring, 0), "{url}");
            assert_eq!(chosen(&[url], direct, || Err("EPERM".to_owned())), (Io::Syscall, 1), "{url}");
        }
    }
}
