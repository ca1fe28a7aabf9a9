//! What each path costs, as measured. The one table to refit: `perf/run.py plan` prints new rows for it.

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
/// over HTTP a record is a request, so its cost is in `record_ns`.
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

const FITTED: &str = "fitted to 512 B, 4 KiB and 64 KiB records, 2-vCPU VM, Xeon (perf/runs/2026-11-26, row plan)";
/// How a byte's cost relates to its probe differs by up to a fifth between two processors; these are in the middle.
const BETWEEN: &str = "between the fits of two 2-vCPU VMs, Xeon and EPYC (perf/runs/2026-11-25 and -26, row plan)";

#[rustfmt::skip]
pub const COSTS: &[Cost] = &[
    Cost { route: Route::Null, record_ns: 18.3, byte_ns: 0.00034, memory_crossings: 0.1, record_probe: Probe::Head, byte_probe: Probe::Head, checked: true, source: FITTED },
    Cost { route: Route::Stdout, record_ns: 8.0, byte_ns: 0.442, memory_crossings: 3.0, record_probe: Probe::Core, byte_probe: Probe::Core, checked: false, source: "row stdout-stamped of perf/runs, 2-vCPU VM, Xeon, 2026-11-23" },
    Cost { route: Route::File, record_ns: 8.0, byte_ns: 0.0277, memory_crossings: 1.1, record_probe: Probe::Core, byte_probe: Probe::Core, checked: false, source: "O_DIRECT, row file of perf/runs, 2-vCPU VM, Xeon, 2026-11-23" },
    Cost { route: Route::Tmpfs, record_ns: 11.8, byte_ns: 0.377, memory_crossings: 3.0, record_probe: Probe::Head, byte_probe: Probe::Tmpfs, checked: true, source: BETWEEN },
    Cost { route: Route::Tcp, record_ns: 9.4, byte_ns: 0.1321, memory_crossings: 3.0, record_probe: Probe::Head, byte_probe: Probe::Loopback, checked: true, source: BETWEEN },
    Cost { route: Route::Http, record_ns: 5270.0, byte_ns: 0.1044, memory_crossings: 3.0, record_probe: Probe::Exchange, byte_probe: Probe::Loopback, checked: true, source: BETWEEN },
    Cost { route: Route::Kafka, record_ns: 68.3, byte_ns: 0.1376, memory_crossings: 3.0, record_probe: Probe::Head, byte_probe: Probe::Loopback, checked: true, source: BETWEEN },
];

/// Of each core, that the row of HTTP was fitted with.
pub const HTTP_CONNECTIONS: u32 = 8;

/// What the calibration saw on the machine of the table while that was measured. `None`: that has not been done, and a
/// calibration is shown but scales nothing.
pub const REFERENCE: Option<Probes> = Some(Probes {
    core_ns: Some(1.6205),
    head_ns: Some(13.11),
    tmpfs_byte_ns: Some(0.2483),
    loopback_byte_ns: Some(0.1337),
    loopback_connections: Some(1),
    exchange_ns: Some(4873.0),
});
/// Its clock, which the processor's model name does not tell.
pub const REFERENCE_CLOCK_GHZ: f64 = 2.5;

/// Costs of small loops, of those that a plan needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// A dependent multiplication and rotation.
    pub core_ns: Option<f64>,
    /// A record's head stamped in memory that is not in the cache.
    pub head_ns: Option<f64>,
    /// A byte copied to tmpfs by `pwrite`, overwriting.
    pub tmpfs_byte_ns: Option<f64>,
    /// A byte sent over loopback to a receiver that truncates.
    pub loopback_byte_ns: Option<f64>,
    /// How many took turns in that, as many as one core of the plan has producers.
    pub loopback_connections: Option<u32>,
    /// A request of 4 KiB and its answer over loopback, several connections at once.
    pub exchange_ns: Option<f64>,
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

    /// How many times as long as on the machine of the table; `None`: one of them was not asked.
    pub fn slowness(&self, reference: &Probes, probe: Probe) -> Option<f64> {
        Some(self.ns(probe)? / reference.ns(probe)?)
    }
}

pub fn cost(route: Route) -> &'static Cost {
    COSTS.iter().find(|cost| cost.route == route).expect("each route has a row, a test sees to it")
}
