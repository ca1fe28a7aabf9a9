//! Which processors each thread of a run may use.

use crate::harness::{Live, Scratch, poll};
use crate::receive::Receiver;
use engine::host::{Sysfs, cpu};
use serde_json::Value;
use std::net::TcpStream;

/// Name and processors of each thread of a process.
pub fn threads(pid: u32) -> Vec<(String, String)> {
    facts_of_threads(pid, "Cpus_allowed_list:")
}

/// Whether a thread whose name begins so waits in the kernel.
pub fn is_asleep(pid: u32, name: &str) -> bool {
    facts_of_threads(pid, "State:").iter().any(|(of, state)| of.starts_with(name) && state.starts_with('S'))
}

/// Name and another field of the status of each thread of a process.
fn facts_of_threads(pid: u32, wanted: &str) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let facts = |status: String| {
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
        Some((field("Name:")?, field(wanted)?))
    };
    // A thread that has ended since is none.
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok())
        .filter_map(facts)
        .collect()
}

/// What a run leaves free: the processor that is best for a helper, and all of them, as the kernel writes them.
fn free_cpus(scratch: &Scratch, words: &str) -> (String, String) {
    let ended = scratch.run(&format!("{words} --dry-run"));
    assert_eq!(ended.code(), 0, "{ended}");
    let plan: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let free = plan["free_cpus"].as_str().unwrap();
    let first = free.split([',', '-']).next().unwrap().to_owned();
    (first, cpu::format_list(&cpu::parse_list(free).unwrap()))
}

#[test]
fn a_core_has_its_processor_and_nobody_else_is_confined_to_it() {
    let usable = cpu::usable_cpus(&Sysfs::default());
    assert!(usable.contains(&1) && usable.len() > 1, "this test needs processor 1 and another one, not {usable:?}");
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "--listen tcp://:0 --report -");
    // What io_uring starts for itself is not ours to place.
    let tcp = format!("tcp://{} --io syscall", receiver.address);
    for (target, dialer) in [("null", None), (tcp.as_str(), Some("dialer"))] {
        let words = format!("--target {target} --cores 1 --rate 1MB/s --duration inf --metrics-addr 127.0.0.1:0");
        let (first, free) = free_cpus(&scratch, &words);
        let mut engine = Live::start(&mut scratch.engine(&words));
        let address = engine.event("metrics")["address"].as_str().unwrap().to_owned();
        engine.event("start");
        let is_on = |name: &str, cpus: &str| threads(engine.pid()).iter().any(|(of, on)| of == name && on == cpus);
        let helpers = [("metrics", &first), ("log", &first), ("metrics-http", &free)];
        for (name, cpus) in helpers.into_iter().chain(dialer.map(|name| (name, &free))) {
            // A thread takes its name when it first runs, and its processors after that.
            poll(&format!("{name} on {cpus}"), || is_on(name, cpus).then_some(()));
        }
        // Held from one look to the next: who asks nothing is sent away after a while.
        let mut asking = None;
        poll(&format!("metrics-conn on {free}"), || {
            let is_there = asking.is_some() && is_on("metrics-conn", &free);
            asking = TcpStream::connect(&address).ok();
            is_there.then_some(())
        });
        let (cores, others): (Vec<_>, Vec<_>) =
            threads(engine.pid()).into_iter().partition(|(name, _)| name.starts_with("core-"));
        assert_eq!(cores, [("core-1".to_owned(), "1".to_owned())], "{others:?}");
        assert!(others.iter().all(|(_, cpus)| cpus != "1"), "{others:?}");
        engine.signal("INT");
        let ended = engine.ended();
        assert_eq!(ended.code(), 0, "{ended}");
    }
}

/// As with `isolcpus`: what a thread inherits is no limit, only the cpuset is.
#[test]
fn a_thread_can_be_pinned_beyond_what_it_inherits() {
    let pinned = |id: usize| {
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id }), "processor {id}");
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    let (first, second) = std::thread::spawn(move || (pinned(0), pinned(1))).join().unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("0", "1"));
}
