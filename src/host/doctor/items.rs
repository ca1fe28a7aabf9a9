//! The table of items: what each is, why it matters, what it is worth and who says so.

/// One row.
pub struct Item {
    pub name: &'static str,
    pub why: &'static str,
    pub worth: &'static str,
    pub source: &'static str,
}

const fn item(name: &'static str, why: &'static str, worth: &'static str, source: &'static str) -> Item {
    Item { name, why, worth, source }
}

const CALCULATED: &str = "calculated";
const ESTIMATE: &str = "estimate, not tested";
const DESIGN: &str = "follows from how the engine works";

/// In the order in which findings of one verdict are shown.
#[rustfmt::skip]
pub const ITEMS: &[Item] = &[
    item("cpu.cores", "a thread that cannot be pinned does not start", "the run itself", DESIGN),
    item("cpu.clock_source", "due times and latencies are read from the time-stamp counter; a kernel that gave it up has seen it run wrong", "every latency figure", DESIGN),
    item("container.cpu_quota", "a busy-polling thread beyond the quota is stopped for the rest of each period, usually 100 ms", "stalls of tens of ms, in every latency figure", CALCULATED),
    item("container.memory", "rings count against the group's limit and take a quarter of what is left of it; page cache makes way for them", "smaller rings; the run itself where not even the smallest fit", DESIGN),
    item("drive.mount", "direct, preallocated writes want a file system of the drive's own, without synchronous or journalled data; with discard, each block that is freed becomes a command to the drive, amid the writes; with strictatime, each read of a file is noted in it", "ext4 and XFS hand direct writes to the drive; others copy, or wait for each", DESIGN),
    item("drive.pcie", "a drive in a slow or narrow slot writes no faster than its link", "the ratio of the two links, if the drive fills it", CALCULATED),
    item("drive.numa", "data and completions cross the link between sockets", "1.05 to 2 times, with interrupts and queues in place", ESTIMATE),
    item("drive.scheduler", "a scheduler reorders what lies in order already, under a lock", "processor time at high operation rates; little with 1 MiB blocks", ESTIMATE),
    item("drive.write_cache", "a drive without its cache answers each write from the medium", "depends on the drive; fsync is the honest figure in both cases", DESIGN),
    item("drive.irq", "interrupts of the drive on a polling core stop its loop", "1.05 to 2 times, with memory and queues in place", ESTIMATE),
    item("drive.poll_queues", "queues for polled I/O take interrupt queues away, and the engine has no use for them", "polled I/O is worth at most 11 % with other tools; here nothing", "published; follows from how the engine works"),
    item("nic.peers", "a run does not start while its target has no address, and no card is known to lead there", "the run itself", DESIGN),
    item("nic.link", "without a link nothing is sent", "the run itself", DESIGN),
    item("nic.speed", "the link bounds what can be offered", "8 GB/s of payload are 68 % of 100 Gbit/s at MTU 1500", CALCULATED),
    item("nic.pcie", "a card in a slow or narrow slot sends no faster than its link", "the ratio of the two links, if the card fills it", CALCULATED),
    item("nic.offloads", "without segmentation in the card, the kernel builds and sends each segment by itself", "45 passes for each 64 KiB at MTU 1500 instead of one", CALCULATED),
    item("nic.numa", "every byte and every completion crosses the link between sockets", "1.05 to 2 times, with interrupts and queues in place", ESTIMATE),
    item("nic.irq", "interrupts and acknowledgements on a polling core stop its loop", "1.05 to 2 times, with memory and queues in place", ESTIMATE),
    item("nic.queues", "threads that share a send queue wait for its lock", "1.05 to 2 times, with interrupts and memory in place", ESTIMATE),
    item("nic.xps", "without a map, a core's packets go to queues by hash, and are completed on other cores", "1.05 to 2 times, with interrupts and memory in place", ESTIMATE),
    item("nic.mtu", "each packet has 90 bytes on the wire that are no payload, and costs a pass", "100 Gbit/s carry 11.77 GB/s of payload at MTU 1500, 12.38 at 9000: 5 %, and a sixth of the packets", CALCULATED),
    item("nic.rings", "a short ring overflows in a burst; what the receiver drops is sent again", "no lost bursts", ESTIMATE),
    item("nic.coalescing", "an interrupt for each packet costs processor time; one that waits long delays acknowledgements", "processor time, against a delay of that many µs", DESIGN),
    item("net.tcp_wmem", "a connection has at most so much unacknowledged; over the round-trip time that is its rate", "64 MiB are 6.7 GB/s at 10 ms", CALCULATED),
    item("net.tcp_rmem", "what engine receive, or a broker on this host, announces as its window", "64 MiB are 6.7 GB/s at 10 ms", CALCULATED),
    item("net.core_max", "caps buffers that a program asks for itself; the engine leaves sizes to tcp_wmem", "nothing for the engine; brokers and iperf3 -w want it", DESIGN),
    item("net.slow_start_after_idle", "a paced or bursting connection starts from a small window after each pause", "round trips at the start of each burst", DESIGN),
    item("net.congestion_control", "BBR sends by timers, at the rate that it saw delivered, and hardly yields to loss: what a target sustains, and at which latency, is another figure than with cubic, unless its real producers have BBR as well; within a host the engine has reno, whatever the default, but not with --kafka-client rskafka", "a connection that is never idle and saw no shorter round trip for 10 s sends 4 packets for each during 200 ms: 2 % of the time, and 200 ms in the highest latencies", "published (Linux, net/ipv4/tcp_bbr.c)"),
    item("net.qdisc", "fq paces each connection; pfifo_fast lets bursts overflow the path", "zero-copy with pacing up to 35 % on long paths", "published (ESnet, SC24)"),
    item("process.kernel", "from 6.1 on io_uring leaves what completes to the thread that asks (deferred task work), where it interrupted the loop before; some distributions brought that to older kernels", "fewer interruptions of a core; nothing where system calls are used", ESTIMATE),
    item("process.io_uring", "one system call for many operations, registered buffers, zero-copy sends", "2.05 to 2.31 times a naive loop for drives, where plain use gives 1.06 to 1.10", "published (Jasny 2025)"),
    item("process.memlock", "unregistered buffers cost a page look-up for each block", "part of the above", "published (Jasny 2025)"),
    item("process.nofile", "each connection, file and ring takes a descriptor", "the run itself, with many connections", DESIGN),
    item("process.seccomp", "a filter may forbid io_uring and other calls; it says so only when they are tried", "see process.io_uring", DESIGN),
    item("iommu.mode", "in strict mode each buffer is mapped and unmapped for each operation", "0.57 M operations/s strict, 1.93 M lazy, 5.01 M passthrough; 8 GB/s in 1 MiB blocks are 7,600", "published (linux-nvme, November 2025)"),
    item("memory.thp", "rings ask for huge pages with madvise", "zero-copy of one flow: 55 Gbit/s from small pages, 100 from huge ones, 65 when copied", "published (Linux commit 394fcd8a)"),
    item("memory.huge_pages", "reserved 2 MiB pages are taken first, and are there when memory is fragmented", "the same as transparent ones, for certain", "published (Linux commit 394fcd8a)"),
    item("memory.available", "rings take a quarter of what is available at most", "the run itself", DESIGN),
    item("memory.swap", "a page of the engine's that was swapped out stalls its core", "milliseconds, when memory is short", DESIGN),
    item("memory.numa_balancing", "the kernel unmaps pages to see who uses them: faults in the loop", "tail latency", ESTIMATE),
    item("cpu.governor", "a core that clocks down sends less, and differently each time", "the ratio of the two clocks", CALCULATED),
    item("cpu.idle_states", "waking from a deep state takes as long as it says; a polling core never enters one", "that time, at low rates with --poll adaptive and on cores that take interrupts", "the kernel's own figure for each state"),
    item("cpu.load", "a thread of the load waits wherever another one runs on its core", "the share that others take, and milliseconds in latencies", DESIGN),
    item("cpu.smt", "two threads of one core share its units", "a busy sibling takes up to half of a core", ESTIMATE),
    item("cpu.isolation", "other tasks, timers and RCU callbacks interrupt the loop; nothing runs on isolated cores afterwards but what is pinned to them, and all else on the host shares the others", "the tail only; nohz_full adds 300 ns to each kernel entry on average", "published (cyclictest, PREEMPT_RT)"),
];

/// # Panics
/// When there is no such item: a mistake in a check, found by the first test that runs it.
pub fn row(name: &str) -> &'static Item {
    &ITEMS[place(name)]
}

pub fn place(name: &str) -> usize {
    ITEMS.iter().position(|item| item.name == name).expect("every check's item has its row")
}
