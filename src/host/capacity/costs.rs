//! What each path costs, as measured on two machines. To refit one: `perf/run.py plan` prints new rows for it.

use crate::host::capacity::MEASURED_SPREAD;
use serde::Serialize;

/// The way of the bytes out of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    Null,
    Stdout,
    File,
    Tmpfs,
    Tcp,
    Http,
    Kafka,
}

impl Route {
    pub const ALL: [Self; 7] = [Self::Null, Self::Stdout, Self::File, Self::Tmpfs, Self::Tcp, Self::Http, Self::Kafka];

    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Stdout => "stdout",
            Self::File => "file",
            Self::Tmpfs => "tmpfs",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Kafka => "kafka",
        }
    }

    pub fn is_network(self) -> bool {
        matches!(self, Self::Tcp | Self::Http | Self::Kafka)
    }
}

/// What a calibration measures to scale a route by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Core,
    Head,
    Tmpfs,
    Loopback,
    Exchange,
}

/// One row: time of one core is `record_ns` for each record and `byte_ns` for each byte (1 ns for each byte is
/// 1 s for each GB). Blocks, batches and system calls are inside these, at the sizes that the engine chooses itself;
/// over HTTP a record is a request, so its cost is in `record_ns`. To `null` no byte is touched but those of heads:
/// `byte_ns` is what blocks and turns cost the loop, `record_ns` what a record does that lies as the reference's.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub route: Route,
    pub record_ns: f64,
    pub byte_ns: f64,
    /// Bytes that cross the memory bus for each byte sent.
    pub memory_crossings: f64,
    /// What `record_ns` and `byte_ns` scale as.
    pub record_probe: Probe,
    pub byte_probe: Probe,
    /// Whether points that it was not fitted to were within 20 %.
    pub checked: bool,
    pub source: &'static str,
}

/// Whose processor: what a byte costs beside its probe differs by up to a half between the two that were measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    Amd,
    Intel,
}

/// What was measured on one machine, and what the calibration saw there meanwhile.
#[derive(Debug)]
pub struct Table {
    pub machine: &'static str,
    /// Which the processor's model name does not tell.
    pub clock_ghz: f64,
    pub reference: Probes,
    costs: &'static [Cost],
}

impl Table {
    pub fn cost(&self, route: Route) -> &Cost {
        self.costs.iter().find(|cost| cost.route == route).expect("each route has a row, a test sees to it")
    }
}

/// Of the machine most like it; one that was never measured is given the slower.
pub fn table(vendor: Option<Vendor>) -> &'static Table {
    match vendor {
        Some(Vendor::Amd) => &AMD,
        Some(Vendor::Intel) | None => &INTEL,
    }
}

const XEON: &str = "mean of fits on two days to 512 B, 4 KiB and 64 KiB records, 2-vCPU VM, Xeon \
    (perf/runs/2026-11-27-2cpu-intel-xeon and 2026-11-30-2cpu-intel-xeon, row plan)";
const XEON_NOW: &str = "fitted to 512 B, 4 KiB and 64 KiB records, 2-vCPU VM, Xeon \
    (perf/runs/2026-11-30-2cpu-intel-xeon, plan-fit)";
const XEON_NULL: &str = "fitted to 512 B, 4 KiB and 64 KiB records, 2-vCPU VM, Xeon \
    (perf/runs/2026-11-30-2cpu-intel-xeon, plan-3)";
const EPYC: &str =
    "fitted to 512 B, 4 KiB and 64 KiB records, 2-vCPU VM, EPYC (perf/runs/2026-11-27-2cpu-amd-epyc, row plan)";

/// What a core makes for nobody moved by half within two hours, as its caches were shared, and heads were not timed.
const THREE: &str = "mean of three fits, 2-vCPU VM, EPYC (perf/runs/2026-11-27-2cpu-amd-epyc, row plan); heads as long \
    beside it as on the Xeon";

#[rustfmt::skip]
static INTEL: Table = Table {
    machine: "Intel Xeon",
    clock_ghz: 2.5,
    reference: Probes {
        core_ns: Some(1.6205),
        head_ns: Some(11.91),
        head_record_bytes: Some(4096),
        head_ring_bytes: Some(64 << 20),
        head_rings: Some(1),
        tmpfs_byte_ns: Some(0.2516),
        loopback_byte_ns: Some(0.1442),
        loopback_connections: Some(1),
        exchange_ns: Some(5883.0),
        reach: None,
    },
    costs: &[
        Cost { route: Route::Null, record_ns: 12.6, byte_ns: 0.00017, memory_crossings: 0.1, record_probe: Probe::Head, byte_probe: Probe::Core, checked: false, source: XEON_NULL },
        Cost { route: Route::Stdout, record_ns: 8.0, byte_ns: 0.442, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Core, checked: false, source: "row stdout-stamped of perf/runs, 2-vCPU VM, Xeon, 2026-11-23" },
        Cost { route: Route::File, record_ns: 8.0, byte_ns: 0.0277, memory_crossings: 1.1, record_probe: Probe::Core, byte_probe: Probe::Core, checked: false, source: "O_DIRECT, row file of perf/runs, 2-vCPU VM, Xeon, 2026-11-23" },
        Cost { route: Route::Tmpfs, record_ns: 13.5, byte_ns: 0.2464, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Tmpfs, checked: true, source: XEON_NOW },
        Cost { route: Route::Tcp, record_ns: 13.3, byte_ns: 0.1387, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Loopback, checked: true, source: XEON },
        Cost { route: Route::Http, record_ns: 6873.0, byte_ns: 0.0913, memory_crossings: 3.0, record_probe: Probe::Exchange, byte_probe: Probe::Loopback, checked: true, source: XEON },
        Cost { route: Route::Kafka, record_ns: 58.2, byte_ns: 0.1553, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Loopback, checked: true, source: XEON },
    ],
};

#[rustfmt::skip]
static AMD: Table = Table {
    machine: "AMD EPYC",
    clock_ghz: 2.6,
    reference: Probes {
        core_ns: Some(1.3534),
        head_ns: Some(9.6),
        head_record_bytes: Some(4096),
        head_ring_bytes: Some(64 << 20),
        head_rings: Some(1),
        tmpfs_byte_ns: Some(0.1702),
        loopback_byte_ns: Some(0.1047),
        loopback_connections: Some(1),
        exchange_ns: Some(6225.0),
        reach: None,
    },
    costs: &[
        Cost { route: Route::Null, record_ns: 9.4, byte_ns: 0.00033, memory_crossings: 0.1, record_probe: Probe::Head, byte_probe: Probe::Core, checked: false, source: THREE },
        Cost { route: Route::Stdout, record_ns: 6.7, byte_ns: 0.417, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Core, checked: false, source: "row stdout-stamped of perf/runs, 2-vCPU VM, EPYC, 2026-11-25" },
        Cost { route: Route::File, record_ns: 6.7, byte_ns: 0.0155, memory_crossings: 1.1, record_probe: Probe::Core, byte_probe: Probe::Core, checked: false, source: "O_DIRECT, row file of perf/runs, 2-vCPU VM, EPYC, 2026-11-25" },
        Cost { route: Route::Tmpfs, record_ns: 8.5, byte_ns: 0.1720, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Tmpfs, checked: true, source: "system calls, plan-fit of perf/runs, 2-vCPU VM, EPYC, 2026-11-29" },
        Cost { route: Route::Tcp, record_ns: 8.8, byte_ns: 0.1072, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Loopback, checked: true, source: EPYC },
        Cost { route: Route::Http, record_ns: 5888.0, byte_ns: 0.0818, memory_crossings: 3.0, record_probe: Probe::Exchange, byte_probe: Probe::Loopback, checked: true, source: EPYC },
        Cost { route: Route::Kafka, record_ns: 33.1, byte_ns: 0.1027, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Loopback, checked: true, source: EPYC },
    ],
};

/// Of each core, that the row of HTTP was fitted with.
pub const HTTP_CONNECTIONS: u32 = 8;

/// Costs of small loops, of those that a plan needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// A dependent multiplication and rotation: what the engine's own work scales as.
    pub core_ns: Option<f64>,
    /// A record's head written, with its part of what the loop notes of its block.
    pub head_ns: Option<f64>,
    /// How far apart the heads lay, in rings of how many bytes, and in how many: as in a run of the plan, or with less
    /// memory, where that is scarce.
    pub head_record_bytes: Option<u64>,
    pub head_ring_bytes: Option<u64>,
    pub head_rings: Option<u32>,
    /// A byte copied to tmpfs by `pwrite`, overwriting.
    pub tmpfs_byte_ns: Option<f64>,
    /// A byte sent over loopback, where TCP does not pace it, to a receiver that truncates.
    pub loopback_byte_ns: Option<f64>,
    /// How many took turns in that, as many as one core of the plan has producers.
    pub loopback_connections: Option<u32>,
    /// A request of 4 KiB and its answer over loopback, unpaced as well, several connections at once.
    pub exchange_ns: Option<f64>,
    /// The lowest and the highest rate of the repetitions, as parts of the median, which the figures above are.
    #[serde(skip)]
    pub reach: Option<(f64, f64)>,
}

impl Probes {
    fn ns(&self, probe: Probe) -> Option<f64> {
        match probe {
            Probe::Core => self.core_ns,
            Probe::Head => self.head_ns,
            Probe::Tmpfs => self.tmpfs_byte_ns,
            Probe::Loopback => self.loopback_byte_ns,
            Probe::Exchange => self.exchange_ns,
        }
    }

    /// The reach, where it is more than a prediction may be off by.
    pub fn busy(&self) -> Option<(f64, f64)> {
        self.reach.filter(|(low, high)| *low < MEASURED_SPREAD.0 || *high > MEASURED_SPREAD.1)
    }

    /// How many times as long as on the machine of the table; `None`: one of them was not asked.
    pub fn slowness(&self, reference: &Probes, probe: Probe) -> Option<f64> {
        Some(self.ns(probe)? / reference.ns(probe)?)
    }
}
